//! What the end-to-end tests share: labs with images, people in them, and a shell in a guest.
//!
//! Everything in these tests is real: libvirt, QEMU, nftables, sshd, and our programs, in a box
//! of namespaces. Guests are `micro` wherever a desktop is not what is tried.

mod capture;
mod guest;
mod images;
mod people;

use nonstop_testkit::picture::Picture;

pub use capture::write_pcap;
pub use guest::GuestShell;
pub use images::{built_images, desktop_with_shell, disguised, disguised_from};
pub use people::{Environment, World};

/// Whether lines of text are shown, light on black, as a screen in text mode has; more than what
/// QEMU itself says of a display that its guest does not drive.
pub fn has_text(picture: &Picture) -> bool {
    picture.count(|[r, g, b]| r > 100 && g > 100 && b > 100) > 2000
}
