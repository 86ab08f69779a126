//! What has to be installed: a pure function of what a machine is and has.

use super::version::compare;
use std::{cmp::Ordering, collections::BTreeMap};

/// Debian's releases on which a lab runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Debian {
    /// Debian 12, with libvirt, QEMU, OpenSSH and FreeRDP from bookworm-backports.
    Bookworm,
    /// Debian 13.
    Trixie,
}

/// A package, and the version it must at least have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) at_least: Option<&'static str>,
}

const fn any(name: &'static str) -> Package {
    Package { name, at_least: None }
}

/// Debian 13's version, which Debian 12 has in backports.
const fn new(name: &'static str, at_least: &'static str) -> Package {
    Package { name, at_least: Some(at_least) }
}

/// What a lab, its build and its tests need.
pub(crate) const PACKAGES: &[Package] = &[
    new("qemu-system-x86", "1:10.0"),
    new("qemu-utils", "1:10.0"),
    new("qemu-system-modules-opengl", "1:10.0"),
    new("libvirt-daemon-system", "11.3"),
    new("libvirt-clients", "11.3"),
    new("libvirt-dev", "11.3"),
    new("openssh-server", "1:10.0"),
    new("openssh-client", "1:10.0"),
    new("freerdp3-x11", "3"),
    any("ovmf"),
    any("swtpm"),
    // Ours does not use it; without it libvirt 11.3 believes that no TPM can be had.
    any("swtpm-tools"),
    any("nftables"),
    any("dnsmasq-base"),
    any("libnss-systemd"),
    any("iproute2"),
    any("util-linux"),
    any("procps"),
    any("mmdebstrap"),
    any("e2fsprogs"),
    any("fdisk"),
    any("dosfstools"),
    any("mtools"),
    any("cpio"),
    any("xz-utils"),
    any("zstd"),
    any("busybox-static"),
    any("gcc"),
    any("libc6-dev"),
    any("pkg-config"),
    any("xvfb"),
    any("xdotool"),
    any("curl"),
    any("tcpdump"),
    any("tshark"),
    any("wget"),
    any("socat"),
    any("netcat-openbsd"),
    any("python3"),
    any("python3-venv"),
    // Its own cluster, which it makes when it is installed, is not used.
    any("postgresql"),
    // Cards: readers, virtual ones for tests among them, and what a researcher's ssh asks them by.
    any("pcscd"),
    any("libpcsclite-dev"),
    any("vsmartcard-vpcd"),
    any("opensc"),
    any("opensc-pkcs11"),
    any("openssl"),
    // The applet that others wrote, which tests of cards build, reads a C header by it.
    any("libclang-dev"),
    // Steps the clock of one program of a test.
    any("libfaketime"),
    // What opens discs and archives of samples, as guests do.
    any("unzip"),
    any("p7zip-full"),
    any("genisoimage"),
    any("libarchive-tools"),
    // Clients of the file transfer, and what tests a WebDAV server.
    any("davfs2"),
    any("cadaver"),
    any("rclone"),
    any("litmus"),
];

/// What a lab needs, and `more`.
pub(crate) fn wanted(more: &[&'static str]) -> Vec<Package> {
    PACKAGES.iter().copied().chain(more.iter().map(|name| any(name))).collect()
}

/// What is to be done, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    /// Text of an apt source to be added.
    pub(crate) source: Option<String>,
    /// Release that apt is told to prefer. All packages come by one command: Debian 12's own
    /// curl and libnss-systemd do not go with what backports' packages bring along.
    pub(crate) release: Option<&'static str>,
    /// To be installed.
    pub(crate) packages: Vec<&'static str>,
    /// Of those, the ones that are there in a version too old, with that version.
    pub(crate) upgrades: Vec<(&'static str, String)>,
}

/// Plans for a machine with `installed` packages (name and version) that is to have `wanted`.
/// `backports_known` says whether apt has bookworm-backports already; if it must be added, from
/// `mirror`.
pub(crate) fn plan(
    debian: Debian,
    wanted: &[Package],
    installed: &BTreeMap<String, String>,
    backports_known: bool,
    mirror: &str,
) -> Plan {
    let mut plan = Plan::default();
    for package in wanted {
        let have = installed.get(package.name);
        let good = have.is_some_and(|have| {
            package.at_least.is_none_or(|least| compare(have, least) != Ordering::Less)
        });
        if good {
            continue;
        }
        if let Some(have) = have {
            plan.upgrades.push((package.name, have.clone()));
        }
        plan.packages.push(package.name);
    }
    if debian == Debian::Bookworm && !plan.packages.is_empty() {
        plan.release = Some("bookworm-backports");
        if !backports_known {
            plan.source = Some(format!(
                "# Added by `cargo xtask` of NONSTOP: Debian 12's libvirt, QEMU and OpenSSH are \
                 too old.\nTypes: deb\nURIs: {mirror}\nSuites: bookworm-backports\n\
                 Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
            ));
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIRROR: &str = "http://deb.debian.org/debian";

    fn machine(packages: &[(&str, &str)]) -> BTreeMap<String, String> {
        packages.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect()
    }

    fn everything() -> BTreeMap<String, String> {
        PACKAGES.iter().map(|p| (p.name.into(), p.at_least.unwrap_or("1").into())).collect()
    }

    #[test]
    fn a_bare_debian_12_gets_the_backports_source() {
        let plan = plan(Debian::Bookworm, PACKAGES, &machine(&[]), false, MIRROR);
        let source = plan.source.expect("added");
        assert!(
            source.contains("URIs: http://deb.debian.org/debian\nSuites: bookworm-backports\n")
        );
        assert_eq!(plan.release, Some("bookworm-backports"));
        assert_eq!(plan.packages.len(), PACKAGES.len());
    }

    #[test]
    fn a_bare_debian_13_gets_no_source() {
        let plan = plan(Debian::Trixie, PACKAGES, &machine(&[]), false, MIRROR);
        assert_eq!((plan.source, plan.release), (None, None));
        assert_eq!(plan.packages.len(), PACKAGES.len());
    }

    #[test]
    fn a_machine_that_has_everything_is_left_alone() {
        for debian in [Debian::Bookworm, Debian::Trixie] {
            assert_eq!(plan(debian, PACKAGES, &everything(), false, MIRROR), Plan::default());
        }
    }

    #[test]
    fn debian_12s_own_libvirt_is_too_old_and_named_as_an_upgrade() {
        let mut has = everything();
        has.insert("libvirt-clients".into(), "9.0.0-4+deb12u2".into());
        let plan = plan(Debian::Bookworm, PACKAGES, &has, true, MIRROR);
        assert_eq!(plan.packages, ["libvirt-clients"]);
        assert_eq!(plan.upgrades, [("libvirt-clients", "9.0.0-4+deb12u2".to_string())]);
        assert_eq!(plan.source, None);
    }
}
