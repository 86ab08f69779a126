//! To be written.
/// The host that this program runs on.
pub struct RealHost;
