//! The certificate on a card. The gateway does not look at it, it knows keys; PKCS#11 modules show
//! a card's key only beside one, and it says to whoever holds the card whose it is.

use super::{Authority, PresentedKey};
use crate::HostError;
use jiff::Timestamp;
use nonstop_model::AccountName;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SerialNumber,
    SubjectPublicKeyInfo, date_time_ymd,
};
use std::time::Duration;

/// Whom a card's certificate names, and for how long.
#[derive(Debug, Clone)]
pub struct CardSubject {
    /// Whose card it is.
    pub account: AccountName,
    /// From when on.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// Clocks of readers' PCs go a little wrong.
const EARLIER: Duration = Duration::from_secs(300);

impl Authority {
    /// A certificate that `key` is that of `subject`, for client authentication: DER.
    ///
    /// It has no name that a site or a PC's own log-on would take.
    pub fn card(&self, subject: &CardSubject, key: &PresentedKey) -> Result<Vec<u8>, HostError> {
        let doing = || format!("make the certificate of a card of {}", subject.account);
        let failed = |e: rcgen::Error| HostError::new(doing(), e);
        let spki = SubjectPublicKeyInfo::from_der(key.spki()).map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, self.lab.as_str());
        params.distinguished_name.push(DnType::CommonName, subject.account.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        let at = |time: Timestamp| {
            let seconds = u64::try_from(time.as_second()).unwrap_or_default();
            date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
        };
        (params.not_before, params.not_after) = (at(subject.from) - EARLIER, at(subject.until));
        Ok(self.certify(&params, &spki).map_err(failed)?.der().to_vec())
    }
}

/// A number that no certificate of the lab had before: a key may be certified twice.
fn serial() -> SerialNumber {
    let mut bytes = *uuid::Uuid::new_v4().as_bytes();
    bytes[0] = bytes[0] & 0x7f | 0x40; // positive, and of the same length always
    SerialNumber::from_slice(&bytes)
}

#[cfg(test)]
mod tests {
    use super::{super::pem, *};
    use rcgen::{KeyPair, PublicKeyData};
    use std::{fs, process::Command};

    #[test]
    fn a_cards_certificate_fits_the_authority_for_clients_and_for_nothing_else() {
        let at = tempfile::tempdir().expect("a folder");
        let authority = Authority::open(at.path(), "test").expect("made");
        let pair = KeyPair::generate().expect("a key");
        let key = PresentedKey::parse(&pair.subject_public_key_info()).expect("P-256");
        let subject = CardSubject {
            account: "alice-2".parse().expect("a name"),
            from: Timestamp::now(),
            until: Timestamp::now() + jiff::SignedDuration::from_hours(24 * 1095),
        };
        let der = authority.card(&subject, &key).expect("made");
        assert_ne!(authority.card(&subject, &key).expect("made"), der, "the same serial number");
        let leaf = at.path().join("leaf.pem");
        fs::write(&leaf, pem("CERTIFICATE", &der)).expect("written");
        let verify = |purpose: &str| {
            let output = Command::new("openssl")
                .args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"])
                .args([&at.path().join("ca.crt"), &leaf])
                .output()
                .expect("openssl runs");
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (good, said) = verify("sslclient");
        assert!(good, "{said}");
        assert!(!verify("sslserver").0, "a card is no server");
        let output = Command::new("openssl")
            .args(["x509", "-noout", "-subject", "-issuer", "-ext", "keyUsage,extendedKeyUsage"])
            .arg("-in")
            .arg(&leaf)
            .output()
            .expect("openssl runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let said: Vec<_> = said.lines().map(str::trim).collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        subject=O = test, CN = alice-2
        issuer=CN = NONSTOP lab test
        X509v3 Key Usage: critical
        Digital Signature
        X509v3 Extended Key Usage:
        TLS Web Client Authentication
        ");
    }
}
