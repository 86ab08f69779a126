//! A desktop served from the hypervisor's own display: what leaves is pictures that we drew.
//!
//! Four kinds of process, each under a user of its own, started by `nonstopd`:
//!
//! - the **broker** of a desktop alone speaks D-Bus with QEMU. It copies what changed into a
//!   picture of its own, and types what viewers may type;
//! - a **worker** alone speaks RDP with a client. It reads that picture and tells typed input;
//! - a **recorder** is a worker without a client: it keeps what was shown, encrypted; a **player**
//!   decrypts that for staff.
//!
//! None of them opens a file, a socket or a process once it is confined. The broker never waits
//! for a worker: what changed is gathered until the worker says that it is ready for more.

pub mod broker;
pub mod given;
pub mod recorder;
pub mod worker;

pub use nonstop_display::{control, link, recording, setup, wire};
