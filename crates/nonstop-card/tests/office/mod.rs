//! The lab's part, with OpenSSL instead of nonstopd: signatures are checked, certificates real.

use anyhow::{Context, Result, ensure};
use nonstop_card::{
    Pin,
    chuid::Guid,
    issue::{self, Begun, Issued},
    key::CardKey,
    management::ManagementKey,
};
use nonstop_testkit::place::Place;
use std::{fs, path::PathBuf};

/// The lab said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused;

/// One record of a card.
pub(crate) struct Office {
    dir: PathBuf,
    guid: Option<Guid>,
    /// Whether the card is in.
    pub(crate) active: bool,
    /// Says no to this.
    pub(crate) refuse: Option<&'static str>,
    /// Knows no card again.
    pub(crate) forgetful: bool,
    count: u8,
}

impl Office {
    pub(crate) fn new(dir: &std::path::Path) -> Result<Office> {
        let office = Office {
            dir: dir.into(),
            guid: None,
            active: false,
            refuse: None,
            forgetful: false,
            count: 0,
        };
        if !office.dir.join("ca.pem").exists() {
            let (key, cert) = (office.file("ca.key"), office.file("ca.pem"));
            let mut words =
                vec!["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-subj", "/CN=ca"];
            words.extend(["-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", &key, "-out", &cert]);
            Place::here().run(&words)?;
            let request = office.file("request");
            Place::here().run(&[
                "openssl",
                "req",
                "-new",
                "-key",
                &key,
                "-subj",
                "/CN=alice",
                "-out",
                &request,
            ])?;
        }
        Ok(office)
    }

    pub(crate) fn puk(&self) -> Pin {
        Pin::parse("27182818").expect("digits")
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn no(&self, step: &str) -> Result<(), Refused> {
        if self.refuse == Some(step) { Err(Refused) } else { Ok(()) }
    }

    /// Checks a signature as anybody would.
    pub(crate) fn check(&self, key: &CardKey, message: &[u8], signature: &[u8]) -> Result<()> {
        let [public, text, signed] = ["public.der", "message", "signature"].map(|n| self.file(n));
        fs::write(&public, &key.spki)?;
        fs::write(&text, message)?;
        fs::write(&signed, signature)?;
        let words = [
            "openssl",
            "dgst",
            "-sha256",
            "-keyform",
            "DER",
            "-verify",
            &public,
            "-signature",
            &signed,
            &text,
        ];
        Place::here().run(&words).map(drop)
    }

    /// The key as OpenSSH writes it.
    pub(crate) fn openssh_key(&self, key: &CardKey) -> Result<String> {
        let [public, pem] = ["public.der", "public.pem"].map(|n| self.file(n));
        fs::write(&public, &key.spki)?;
        Place::here()
            .run(&["openssl", "pkey", "-pubin", "-inform", "DER", "-in", &public, "-out", &pem])?;
        let line = Place::here().run(&["ssh-keygen", "-i", "-m", "PKCS8", "-f", &pem])?;
        Ok(line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
    }

    fn certificate(&self, key: &CardKey) -> Result<Vec<u8>> {
        let [public, pem, ca, ca_key, request, out] =
            ["public.der", "public.pem", "ca.pem", "ca.key", "request", "card.der"]
                .map(|n| self.file(n));
        fs::write(&public, &key.spki)?;
        Place::here()
            .run(&["openssl", "pkey", "-pubin", "-inform", "DER", "-in", &public, "-out", &pem])?;
        let mut words =
            vec!["openssl", "x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key];
        words.extend(["-force_pubkey", &pem, "-outform", "DER", "-out", &out, "-days", "9"]);
        Place::here().run(&words)?;
        let certificate = fs::read(&out).context("read the certificate")?;
        ensure!(CardKey::of_certificate(&certificate)? == *key, "it is about another key");
        Ok(certificate)
    }
}

impl issue::Office for Office {
    type Error = Refused;

    fn begin(&mut self, guid: Option<Guid>) -> Result<Begun, Refused> {
        self.no("begin")?;
        let known = self.guid.filter(|known| Some(*known) == guid && !self.forgetful);
        self.count += 1;
        let guid = known.unwrap_or([self.count; 16]);
        self.guid = Some(guid);
        Ok(Begun {
            guid,
            management: ManagementKey::derived([guid[0] ^ 0x5A; 32]),
            puk: self.puk(),
            challenge: b"thirty-two bytes of a challenge.".to_vec(),
            expires: "20301231".into(),
        })
    }

    fn certify(&mut self, key: &CardKey, signature: &[u8]) -> Result<Vec<u8>, Refused> {
        self.no("certify")?;
        self.check(key, b"thirty-two bytes of a challenge.", signature).expect("a good signature");
        Ok(self.certificate(key).expect("a certificate"))
    }

    fn activate(&mut self, _issued: &Issued) -> Result<(), Refused> {
        self.no("activate")?;
        self.active = true;
        Ok(())
    }

    fn step(&mut self, _what: &str) {}
}
