//! Labs in boxes, researchers' PCs, and honest eyes: what `xtask` and the tests share.
//!
//! A [`labbox::LabBox`] is a host of its own: mount, network, pid, ipc, uts and cgroup
//! namespaces with our PID 1 in it ([`init`]), the real libvirtd, nft and sshd, and our
//! programs. Killing its outer process is a power cut of that host; a new box over the same
//! folder is the same host, switched on again. A [`place::Place`] is where a command runs.

pub mod card;
pub mod cgroup;
pub mod control;
pub mod init;
pub mod interrupt;
pub mod inventory;
pub mod judge;
pub mod lab;
pub mod labbox;
pub mod line;
pub mod net;
pub mod pc;
pub mod picture;
pub mod place;
pub mod process;
pub mod rdp;
pub mod reader;
pub mod refusals;
pub mod screen;
pub mod services;
pub mod spec;
pub mod ssh;
pub mod stand_in;
mod supervisor;
pub mod turn;
mod world;
