//! The program `nonstop-samples` as `nonstopd` starts it: confined, with descriptors in its hands. Needs
//! root.

mod check;
mod give;
mod ground;
mod server;
