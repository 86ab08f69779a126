//! How this host reaches Debian's packages: a build takes the same way.

use crate::tools;
use std::process::Command;

/// What this host's apt is set up with: its mirror and its way out.
pub(crate) struct HostApt {
    /// Debian's archive.
    pub(crate) mirror: String,
    /// Debian's security updates.
    pub(crate) security: String,
    /// Proxies, as apt options.
    pub(crate) options: Vec<String>,
}

impl HostApt {
    /// Asks apt; what it does not say is Debian's own address.
    pub(crate) fn read() -> HostApt {
        let run = |program: &str, args: &[&str]| {
            let output = Command::new(program).args(args).env("PATH", tools::PATH).output();
            output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
        };
        let targets = run(
            "apt-get",
            &["indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages"],
        );
        let of = |label: &str| {
            let uri = targets.lines().find_map(|l| l.strip_prefix(label)?.strip_prefix('|'));
            uri.map(|u| u.trim_end_matches('/').to_owned())
        };
        let options = run("apt-config", &["dump"])
            .lines()
            .filter(|l| l.starts_with("Acquire::http") && l.contains("::Proxy"))
            .map(|l| l.trim_end_matches(';').to_owned())
            .collect();
        HostApt {
            mirror: of("Debian").unwrap_or_else(|| "http://deb.debian.org/debian".into()),
            security: of("Debian-Security")
                .unwrap_or_else(|| "http://deb.debian.org/debian-security".into()),
            options,
        }
    }
}
