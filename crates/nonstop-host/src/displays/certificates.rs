//! The certificates of displays, which the lab's authority signs.
//!
//! A display's key lies on the tmpfs and lasts as long as the host runs. It is root's alone.

use crate::{
    HostError,
    authority::{Authority, folder, write_whole},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use nonstop_display::setup::WorkerSetup;
use nonstop_model::MachineId;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The certificates of displays.
pub(super) struct Certificates {
    authority: Arc<Authority>,
    at: PathBuf,
}

/// What a display shows to its clients.
pub(super) struct Shown {
    /// For its worker, as JSON.
    pub(super) setup: Vec<u8>,
    /// SHA-256 of the certificate, in hex.
    pub(super) fingerprint: String,
}

impl Certificates {
    /// Those in `at`, by `authority`.
    pub(super) fn open(at: &Path, authority: Arc<Authority>) -> Result<Certificates, HostError> {
        let doing = || format!("make the folder of displays' certificates {}", at.display());
        folder(at).map_err(|e| HostError::new(doing(), e))?;
        Ok(Certificates { authority, at: at.into() })
    }

    /// The key and certificate of `machine`'s display: the same until [`Certificates::forget`] or
    /// until the host is started anew.
    pub(super) fn of(&self, machine: MachineId) -> Result<Shown, HostError> {
        let doing = || format!("make a certificate for the display of {machine}");
        let file = self.file(machine);
        let known = fs::read(&file).ok().and_then(|setup| {
            let fingerprint = fingerprint(&serde_json::from_slice(&setup).ok()?)?;
            Some(Shown { setup, fingerprint })
        });
        if let Some(known) = known {
            return Ok(known);
        }
        let key = KeyPair::generate().map_err(|e| HostError::new(doing(), e))?;
        let leaf = params(machine)
            .and_then(|params| self.authority.certify(&params, &key))
            .map_err(|e| HostError::new(doing(), e))?;
        let authority = self.authority.certificate_base64()?;
        let setup = WorkerSetup {
            certificates: vec![BASE64_STANDARD.encode(leaf.der()), authority],
            key: BASE64_STANDARD.encode(key.serialize_der()),
        };
        let fingerprint = hex::encode(Sha256::digest(leaf.der()));
        let setup = serde_json::to_vec(&setup).map_err(|e| HostError::new(doing(), e))?;
        write_whole(&file, &setup).map_err(|e| HostError::new(doing(), e))?;
        Ok(Shown { setup, fingerprint })
    }

    /// Removes the key of `machine`'s display.
    pub(super) fn forget(&self, machine: MachineId) {
        let _absent_is_fine = fs::remove_file(self.file(machine));
    }

    /// Machines for which a key is kept.
    pub(super) fn kept(&self) -> Vec<MachineId> {
        let Ok(entries) = fs::read_dir(&self.at) else { return Vec::new() };
        let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
        entries.flatten().filter_map(name).filter_map(|name| name.parse().ok()).collect()
    }

    fn file(&self, machine: MachineId) -> PathBuf {
        self.at.join(machine.to_string())
    }
}

fn fingerprint(setup: &WorkerSetup) -> Option<String> {
    let der = BASE64_STANDARD.decode(setup.certificates.first()?).ok()?;
    Some(hex::encode(Sha256::digest(der)))
}

/// A client sees the near end of its tunnel: the names that has.
fn params(machine: MachineId) -> Result<CertificateParams, rcgen::Error> {
    let names = ["localhost".to_string(), "127.0.0.1".to_string(), format!("{machine}.nonstop")];
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, format!("display of {machine}"));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2055, 1, 1));
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_displays_certificate_lasts_over_a_restart_and_fits_the_labs_authority() {
        let folder = tempfile::tempdir().expect("a folder");
        let (lasting, passing) = (folder.path().join("authority"), folder.path().join("displays"));
        let open = || {
            let authority = Arc::new(Authority::open(&lasting, "test").expect("read or made"));
            Certificates::open(&passing, authority).expect("made")
        };
        let (m7, m8) = (MachineId(7), MachineId(8));
        let first = open();
        let shown = first.of(m7).expect("made");
        assert_ne!(shown.fingerprint, first.of(m8).expect("made").fingerprint);
        let again = open();
        assert_eq!(again.of(m7).expect("read").fingerprint, shown.fingerprint);
        let mode = fs::metadata(passing.join("m7")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let setup: WorkerSetup = serde_json::from_slice(&shown.setup).expect("ours");
        let pem =
            |der: &str| format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n");
        let leaf = folder.path().join("leaf.pem");
        fs::write(&leaf, pem(&setup.certificates[0])).expect("written");
        let output = std::process::Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", "sslserver"])
            .args(["-verify_hostname", "localhost", "-CAfile"])
            .args([lasting.join("ca.crt"), leaf])
            .output()
            .expect("openssl runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");

        again.forget(m7);
        assert_eq!(again.kept(), [m8]);
        assert_ne!(again.of(m7).expect("made").fingerprint, shown.fingerprint);
    }
}
