//! The lab's certificate authority, and the certificates of displays that it signs.
//!
//! The authority lies in the lab's state and lasts; a display's key lies on the tmpfs and lasts
//! as long as the host runs. Both are root's alone.

use super::DisplayConfig;
use crate::HostError;
use base64::{Engine, prelude::BASE64_STANDARD};
use nonstop_display::setup::WorkerSetup;
use nonstop_model::MachineId;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, date_time_ymd,
};
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The authority of a lab.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    certificates: PathBuf,
}

/// What a display shows to its clients.
pub(super) struct Shown {
    /// For its worker, as JSON.
    pub(super) setup: Vec<u8>,
    /// SHA-256 of the certificate, in hex.
    pub(super) fingerprint: String,
}

impl Authority {
    /// The authority in `config.authority`, which is made if there is none.
    ///
    /// Written whole or not at all, certificate last: after a power cut in between it is made anew,
    /// which nobody has seen before.
    pub(super) fn open(config: &DisplayConfig) -> Result<Authority, HostError> {
        let doing =
            || format!("open the lab's certificate authority in {}", config.authority.display());
        folder(&config.authority).map_err(|e| HostError::new(doing(), e))?;
        folder(&config.certificates).map_err(|e| HostError::new(doing(), e))?;
        let key_file = config.authority.join("ca.key");
        let certificate_file = config.authority.join("ca.crt");
        let (key, certificate) = match fs::read_to_string(&certificate_file) {
            Ok(certificate) => {
                let key = fs::read_to_string(&key_file).map_err(|e| {
                    HostError::new(doing(), e).help(format!(
                        "restore {} from a backup, or remove {} to make a new authority, whose \
                         certificate researchers must install again",
                        key_file.display(),
                        certificate_file.display()
                    ))
                })?;
                let key = KeyPair::from_pem(&key).map_err(|e| HostError::new(doing(), e))?;
                (key, certificate)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let key = KeyPair::generate().map_err(|e| HostError::new(doing(), e))?;
                let certificate = own_params(&config.lab)
                    .self_signed(&key)
                    .map_err(|e| HostError::new(doing(), e))?
                    .pem();
                write_whole(&key_file, key.serialize_pem().as_bytes())
                    .and_then(|()| write_whole(&certificate_file, certificate.as_bytes()))
                    .map_err(|e| HostError::new(doing(), e))?;
                (key, certificate)
            }
            Err(e) => return Err(HostError::new(doing(), e)),
        };
        let issuer =
            Issuer::from_ca_cert_pem(&certificate, key).map_err(|e| HostError::new(doing(), e))?;
        Ok(Authority { issuer, certificate, certificates: config.certificates.clone() })
    }

    /// Its certificate, in PEM.
    pub(super) fn certificate_pem(&self) -> String {
        self.certificate.clone()
    }

    /// The key and certificate of `machine`'s display: the same until [`Authority::forget`] or
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
            .and_then(|params| params.signed_by(&key, &self.issuer))
            .map_err(|e| HostError::new(doing(), e))?;
        let authority = pem_to_der(&self.certificate)
            .ok_or_else(|| HostError::new(doing(), "the authority's certificate is no PEM"))?;
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
        let Ok(entries) = fs::read_dir(&self.certificates) else { return Vec::new() };
        let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
        entries.flatten().filter_map(name).filter_map(|name| name.parse().ok()).collect()
    }

    fn file(&self, machine: MachineId) -> PathBuf {
        self.certificates.join(machine.to_string())
    }
}

fn fingerprint(setup: &WorkerSetup) -> Option<String> {
    let der = BASE64_STANDARD.decode(setup.certificates.first()?).ok()?;
    Some(hex::encode(Sha256::digest(der)))
}

/// The base64 of the first certificate in a PEM text.
fn pem_to_der(pem: &str) -> Option<String> {
    let body = pem.split("-----BEGIN CERTIFICATE-----").nth(1)?.split("-----END").next()?;
    Some(body.split_ascii_whitespace().collect())
}

fn own_params(lab: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("NONSTOP lab {lab}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    // Whoever installs it trusts it for the near ends of tunnels, and for no site of the world.
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName("localhost".into()),
            GeneralSubtree::DnsName("nonstop".into()),
            GeneralSubtree::IpAddress(CidrSubnet::V4([127, 0, 0, 0], [255, 0, 0, 0])),
        ],
        excluded_subtrees: Vec::new(),
    });
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2055, 1, 1));
    params
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

fn folder(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Writes a file of root's alone: after a power cut it is there whole or not at all.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(content)?;
    new.as_file().sync_all()?;
    new.persist(path).map_err(|e| e.error)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path) -> DisplayConfig {
        DisplayConfig {
            program: "/nowhere".into(),
            authority: folder.join("authority"),
            certificates: folder.join("displays"),
            recordings: folder.join("recordings"),
            lab: "test".into(),
            budget: None,
        }
    }

    #[test]
    fn a_displays_certificate_lasts_over_a_restart_and_fits_the_labs_authority() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config(folder.path());
        let (m7, m8) = (MachineId(7), MachineId(8));
        let first = Authority::open(&config).expect("made");
        let shown = first.of(m7).expect("made");
        assert_ne!(shown.fingerprint, first.of(m8).expect("made").fingerprint);
        let again = Authority::open(&config).expect("read");
        assert_eq!(again.certificate_pem(), first.certificate_pem());
        assert_eq!(again.of(m7).expect("read").fingerprint, shown.fingerprint);
        for path in [config.authority.join("ca.key"), config.certificates.join("m7")] {
            let mode = fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }

        let setup: WorkerSetup = serde_json::from_slice(&shown.setup).expect("ours");
        let pem =
            |der: &str| format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n");
        let leaf = folder.path().join("leaf.pem");
        fs::write(&leaf, pem(&setup.certificates[0])).expect("written");
        let output = std::process::Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", "sslserver"])
            .args(["-verify_hostname", "localhost", "-CAfile"])
            .args([config.authority.join("ca.crt"), leaf])
            .output()
            .expect("openssl runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");

        again.forget(m7);
        assert_eq!(again.kept(), [m8]);
        assert_ne!(again.of(m7).expect("made").fingerprint, shown.fingerprint);
    }

    #[test]
    fn an_authority_without_its_key_is_an_error_that_says_how_to_mend_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config(folder.path());
        Authority::open(&config).expect("made");
        fs::remove_file(config.authority.join("ca.key")).expect("removed");
        let error = Authority::open(&config).err().expect("refused");
        assert!(error.help.contains("from a backup"), "{error}: {}", error.help);
    }
}
