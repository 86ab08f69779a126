//! See crates/ARCHITECTURE.md.
fn main() {}
