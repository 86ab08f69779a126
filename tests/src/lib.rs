//! What the end-to-end tests share: labs with images, people in them, and a shell in a guest.
//!
//! Everything in these tests is real: libvirt, QEMU, nftables, sshd, and our programs, in a box
//! of namespaces. Guests are `micro` wherever a desktop is not what is tried.

mod guest;
mod images;
mod people;

pub use guest::GuestShell;
pub use images::{built_images, disguised, disguised_from};
pub use people::{Environment, World};
