//! `nonstop-connect`: takes a researcher from their own PC to their desktops in the lab.
//!
//! It takes a profile (see `nonstop-profile`), finds the card through the system's PKCS#11 module,
//! opens the tunnel with the system's `ssh`, and starts browser and RDP client at its near ends. It
//! has no rights and no secrets: what it may reach is decided by the gateway, for whoever comes.

fn main() -> std::process::ExitCode {
    nonstop_connect::main()
}
