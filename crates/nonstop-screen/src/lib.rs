//! The checks of one file, and its preview, each in a process of its own that `nonstopd` starts and
//! whose answer it takes itself.
//!
//! Each holds the file, open for reading, as standard input, and nothing else of the lab: it gives up
//! its rights, files, network and processes before it reads the first byte. What it finds it
//! [says](said) on standard output, in one bounded line; that it says nothing good about a file that it
//! could not read to the end is the daemon's care, not its own.

pub mod child;
pub mod input;
pub mod look;
pub mod mapped;
pub mod measure;
pub mod preview;
pub mod rules;
pub mod run;
pub mod said;
