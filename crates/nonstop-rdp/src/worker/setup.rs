//! What the worker is started with: the certificate that it shows.

use super::WorkerError;
use crate::given::read_setup;
use base64::{Engine, prelude::BASE64_STANDARD};
use nonstop_display::setup::WorkerSetup;
use std::sync::Arc;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
        version::{TLS12, TLS13},
    },
};

/// What descriptor 2 says.
pub(super) fn read() -> Result<TlsAcceptor, WorkerError> {
    let wrong = |e: &dyn std::fmt::Display| WorkerError::Setup(e.to_string());
    let setup: WorkerSetup = read_setup().map_err(|e| wrong(&e))?;
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
