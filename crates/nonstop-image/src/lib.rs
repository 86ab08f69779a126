//! Base images of machines: built from a recipe, kept by digest, checked before use.
//!
//! A recipe is a folder `images/<name>/` with `recipe.yaml`, an `initrd/` whose `init` is the
//! guest's first program, and, for guests with a disk of their own, an `overlay/` copied over
//! the installed packages and a program `customise` that has the last word. [`build`] turns it
//! into `STATE/images/<name>/<digest>/{image.json,kernel,initrd,disk.qcow2}`, and only when all
//! of that is on the disk does the symlink `current` move to it. Nothing there changes later.
//!
//! The same recipe and the same package versions give the same digest, wherever the build ran:
//! every time, order, identity and random seed that a tool would take from its surroundings is
//! given to it. Programs used are listed in [`tools::TOOLS`].

mod apt;
mod build;
mod error;
mod ext4;
mod initrd;
mod kernel;
mod publish;
mod recipe;
mod reproduce;
mod stage;
mod store;
pub mod tools;

pub use build::{BuildOptions, Built, Progress, build};
pub use error::ImageError;
pub use recipe::Recipe;
pub use reproduce::build_twice;
pub use store::{Checked, ImageStore, StoredImage};
