//! The programs of a lab's host, as PID 1 of a box starts them: what `systemd/` says for a
//! real host.

use crate::{
    card::vpcd,
    spec::{PROGRAMS, Ready, ServiceSpec},
    stand_in,
};
use anyhow::{Context, Result};
use std::{fs, path::Path};

/// All services of a lab, in starting order.
pub const ALL: [&str; 8] =
    ["libvirtd", "nonstopd", "portal", "inside", "outside", "sshd", "data", "stand-in"];

/// A virtual reader at the lab's host, and a test card in it, kept in `card.json` beside `lab.yaml`.
pub const READER: [&str; 2] = ["pcscd", "card"];

/// System users of ours in a box; on a real host they come from `systemd/sysusers.d`.
pub const USERS: [(&str, u32); 11] = [
    ("nonstop-portal", PORTAL_UID),
    ("nonstop-agent", 64102),
    ("nonstop-data", 64103),
    ("nonstop-rdb", 64104),
    ("nonstop-loader", 64105),
    ("nonstop-gate", 64106),
    ("nonstop-inside", INSIDE_UID),
    ("nonstop-outside", OUTSIDE_UID),
    ("nonstop-screen", 64109),
    ("nonstop-heads", 64110),
    ("nonstop-samples", 64111),
];

const PORTAL_UID: u32 = 64101;
/// The uids of the airlock's two programs in a box.
pub const INSIDE_UID: u32 = 64107;
/// See [`INSIDE_UID`].
pub const OUTSIDE_UID: u32 = 64108;

/// Every service of the lab described in `lab_file`; those in `enabled` start with the box.
pub fn all(lab_file: &Path, enabled: &[&str]) -> Vec<ServiceSpec> {
    let ours = |program: &str| {
        let file = lab_file.display().to_string();
        vec![format!("{PROGRAMS}/{program}"), "--lab".into(), file]
    };
    // Each starts as root, and becomes its own user once it listens.
    let airlock = |side: &str, port| ServiceSpec {
        name: side.into(),
        argv: {
            let mut words = ours("nonstop-airlock");
            words.insert(1, side.into());
            words
        },
        uid: None,
        ready: Ready::Listens(port),
        needs: vec!["nonstopd".into()],
        kill_group: true,
        enabled: true,
    };
    let words = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
    let mut services = vec![
        ServiceSpec {
            name: "libvirtd".into(),
            argv: words("/usr/sbin/libvirtd"),
            uid: None,
            ready: Ready::Unix("/run/libvirt/libvirt-sock".into()),
            needs: vec![],
            kill_group: false,
            enabled: true,
        },
        ServiceSpec {
            name: "nonstopd".into(),
            argv: ours("nonstopd"),
            uid: None,
            ready: Ready::Unix("/run/nonstop/admin.sock".into()),
            needs: vec!["libvirtd".into()],
            kill_group: true,
            enabled: true,
        },
        ServiceSpec {
            name: "portal".into(),
            argv: ours("nonstop-portal"),
            uid: Some(PORTAL_UID),
            ready: Ready::Running,
            needs: vec!["nonstopd".into()],
            kill_group: true,
            enabled: true,
        },
        ServiceSpec {
            name: "sshd".into(),
            argv: {
                let sshd = "/usr/sbin/sshd -D -e -f /run/nonstop/gate/sshd_config";
                words(&format!("{PROGRAMS}/nonstop-gate watch -- {sshd}"))
            },
            uid: None,
            ready: Ready::Listens(22),
            needs: vec!["nonstopd".into()],
            kill_group: false,
            enabled: true,
        },
        ServiceSpec {
            name: "data".into(),
            argv: {
                let mut words = ours("nonstop-data");
                words.insert(1, "serve".into());
                words
            },
            uid: None,
            ready: Ready::Serving("/run/nonstop".into()),
            needs: vec!["nonstopd".into()],
            kill_group: true,
            enabled: true,
        },
        airlock("inside", 8443),
        airlock("outside", 8081),
        // Until the other servers of data domains are built.
        ServiceSpec {
            name: "stand-in".into(),
            argv: ours("nonstop-stand-in"),
            uid: None,
            ready: Ready::File(stand_in::marker(Path::new("/run/nonstop"))),
            needs: vec!["nonstopd".into()],
            kill_group: true,
            enabled: true,
        },
        ServiceSpec {
            name: "pcscd".into(),
            argv: words("/usr/sbin/pcscd --foreground"),
            uid: None,
            ready: Ready::Listens(vpcd::PORT),
            needs: vec![],
            kill_group: true,
            enabled: true,
        },
        ServiceSpec {
            name: "card".into(),
            argv: {
                let file = lab_file.with_file_name("card.json").display().to_string();
                let program = format!("{PROGRAMS}/nonstop-testcard");
                vec![program, "--card".into(), file, "--factory".into(), "piv".into()]
            },
            uid: None,
            ready: Ready::Running,
            needs: vec!["pcscd".into()],
            kill_group: true,
            enabled: true,
        },
    ];
    for service in &mut services {
        service.enabled = enabled.contains(&service.name.as_str());
    }
    services
}

/// The gateway's PAM service, with our programs where a box has them.
pub fn pam() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../systemd/pam.d/nonstop-sshd");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.replace("/usr/lib/nonstop", PROGRAMS))
}
