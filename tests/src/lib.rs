//! End-to-end tests against the real libvirt, nft and sshd.
