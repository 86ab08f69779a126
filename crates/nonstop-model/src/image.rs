//! Base images: what `nonstop image build` leaves and what a machine is started from.
//!
//! A built image is a folder `images/<name>/<digest>/` holding the files below and
//! `image.json` (this manifest); the symlink `images/<name>/current` points to the digest
//! that new environments use. Nothing in such a folder changes after it was built.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Name of an image: that of its folder in `images/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName(String);

impl ImageName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ImageName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let starts = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        if starts && text.len() <= 32 && text.bytes().all(letters) {
            Ok(ImageName(text.into()))
        } else {
            Err(format!(
                "`{text}` is not an image name: use a lower-case letter, then up to 31 lower-case letters, digits or `-`"
            ))
        }
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> String {
        name.0
    }
}

impl TryFrom<String> for ImageName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFile {
    /// Plain name inside the image's folder: no `/`.
    pub file: String,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// What a built image consists of and what its guest offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageManifest {
    /// Version of this format: 1.
    pub version: u32,
    /// The image's name.
    pub name: ImageName,
    /// Base disk, qcow2, read-only; None for a guest that lives in its initrd.
    pub disk: Option<ImageFile>,
    /// Virtual size of the disk in bytes; 0 without one.
    pub disk_bytes: u64,
    /// Kernel for direct boot.
    pub kernel: ImageFile,
    /// Initial RAM disk for direct boot.
    pub initrd: ImageFile,
    /// Kernel command line, without anything of one machine.
    pub cmdline: String,
    /// Whether its disk starts by UEFI firmware too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub uefi: bool,
    /// Whether a qemu-guest-agent answers on the port `org.nonstop.agent.0`.
    pub agent: bool,
    /// Whether a root shell answers on the port `org.nonstop.test.0`: test images only.
    #[serde(default)]
    pub test_channel: bool,
    /// Whether it puts what comes by the port `org.nonstop.card.N` onto its card N: canaries only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub card_ports: bool,
    /// The guest's user whose password is made anew for each machine; None without an agent.
    pub user: Option<String>,
    /// TCP port of the guest's own RDP server.
    pub rdp_port: Option<u16>,
    /// Name and version of each package inside, sorted.
    pub packages: Vec<String>,
}

/// Left out where it says nothing, so that images built before keep their digests.
fn is_false(flag: &bool) -> bool {
    !flag
}

impl ImageManifest {
    /// The files it consists of.
    pub fn files(&self) -> impl Iterator<Item = &ImageFile> {
        self.disk.iter().chain([&self.kernel, &self.initrd])
    }
}
