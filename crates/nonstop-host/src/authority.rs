//! The lab's certificate authority: one key that signs the certificates of displays and of cards,
//! and the profiles that researchers take home. Beside it lies the secret from which what manages
//! the lab's cards derives.
//!
//! All of it lies in one folder of the lab's state, root's alone, and lasts.

mod card;
mod key;
mod secret;

pub use card::CardSubject;
pub use key::{CardKeyError, PresentedKey};
pub use secret::CardSecret;

use crate::HostError;
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CidrSubnet, DnType, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData, SigningKey, date_time_ymd,
};
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

/// The authority of a lab.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    lab: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("lab", &self.lab).finish_non_exhaustive()
    }
}

impl Authority {
    /// The authority in `at`, which is made for the lab called `lab` if there is none.
    ///
    /// Written whole or not at all, certificate last: after a power cut in between it is made anew,
    /// which nobody has seen before.
    pub fn open(at: &Path, lab: &str) -> Result<Authority, HostError> {
        let doing = || format!("open the lab's certificate authority in {}", at.display());
        folder(at).map_err(|e| HostError::new(doing(), e))?;
        let (key_file, certificate_file) = (at.join("ca.key"), at.join("ca.crt"));
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
                let certificate = own_params(lab)
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
        Ok(Authority { issuer, certificate, lab: lab.into() })
    }

    /// Its certificate, in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// Its public key: SubjectPublicKeyInfo in DER.
    pub fn public_key(&self) -> Vec<u8> {
        self.issuer.key().subject_public_key_info()
    }

    /// `SHA256:…` over [`Authority::public_key`], in base64 without padding as OpenSSH writes such.
    pub fn fingerprint(&self) -> String {
        let hash = Sha256::digest(self.public_key());
        format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(hash))
    }

    /// What its key says to `message`: ECDSA on P-256 with SHA-256, in DER.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, HostError> {
        let doing = "sign with the key of the lab's authority";
        self.issuer.key().sign(message).map_err(|e| HostError::new(doing, e))
    }

    /// Signs that `params` are those of whoever has `key`.
    pub(crate) fn certify(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<Certificate, rcgen::Error> {
        params.signed_by(key, &self.issuer)
    }

    /// Its certificate: DER in base64.
    pub(crate) fn certificate_base64(&self) -> Result<String, HostError> {
        let body = self.certificate.split("-----BEGIN CERTIFICATE-----").nth(1);
        let body = body
            .and_then(|rest| rest.split("-----END").next())
            .ok_or_else(|| HostError::new("read the authority's certificate", "it is no PEM"))?;
        Ok(body.split_ascii_whitespace().collect())
    }
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

/// Makes a folder of root's alone.
pub(crate) fn folder(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Writes a file of root's alone: after a power cut it is there whole or not at all.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(content)?;
    new.as_file().sync_all()?;
    new.persist(path).map_err(|e| e.error)?;
    fs::File::open(folder)?.sync_all()
}

/// DER in base64 as PEM reads it, for tests with other programs.
#[cfg(test)]
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let body = base64::prelude::BASE64_STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_the_same_after_a_restart_and_signs_what_its_public_key_checks() {
        let at = tempfile::tempdir().expect("a folder");
        let first = Authority::open(at.path(), "test").expect("made");
        let again = Authority::open(at.path(), "test").expect("read");
        assert_eq!(again.certificate_pem(), first.certificate_pem());
        assert_eq!(again.fingerprint(), first.fingerprint());
        for file in ["ca.key", "ca.crt"] {
            let mode = fs::metadata(at.path().join(file)).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        let signature = first.sign(b"a profile").expect("signed");
        let key = PresentedKey::parse(&again.public_key()).expect("P-256");
        key.check(b"a profile", &signature).expect("its own");
        assert!(key.check(b"another", &signature).is_err());
    }

    #[test]
    fn an_authority_without_its_key_is_an_error_that_says_how_to_mend_it() {
        let at = tempfile::tempdir().expect("a folder");
        Authority::open(at.path(), "test").expect("made");
        fs::remove_file(at.path().join("ca.key")).expect("removed");
        let error = Authority::open(at.path(), "test").expect_err("refused");
        assert!(error.help.contains("from a backup"), "{error}: {}", error.help);
    }
}
