//! What the worker is started with: the certificate that it shows.

use super::WorkerError;
use base64::{Engine, prelude::BASE64_STANDARD};
use nonstop_display::setup::{LONGEST, WorkerSetup};
use std::{io, os::fd::AsFd, sync::Arc};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
        version::{TLS12, TLS13},
    },
};

/// Reads descriptor 2 to its end, and puts nothing in its place.
pub(super) fn read() -> Result<TlsAcceptor, WorkerError> {
    let wrong = |e: &dyn std::fmt::Display| WorkerError::Setup(e.to_string());
    let mut text = Vec::new();
    let stderr = io::stderr();
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(stderr.as_fd(), &mut buffer) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&buffer[..n]),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(wrong(&e)),
        }
        if text.len() > LONGEST {
            return Err(wrong(&"it is too long"));
        }
    }
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stderr(&null).map_err(io::Error::from)?;
    let setup: WorkerSetup = serde_json::from_slice(&text).map_err(|e| wrong(&e))?;
    let der = |text: &String| BASE64_STANDARD.decode(text).map_err(|e| wrong(&e));
    let chain = setup.certificates.iter().map(der).collect::<Result<Vec<_>, _>>()?;
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der(&setup.key)?));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|e| wrong(&e))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| wrong(&e))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
