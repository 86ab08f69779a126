//! The world inside a box: its own /proc, /sys and /run, its own libvirt folders, PAM
//! service and system users. Run by PID 1 before anything else; nothing of it is seen
//! outside, and all of it is gone with the box.

use crate::{
    cgroup::Cgroup,
    place::Place,
    spec::{BoxSpec, PROGRAMS},
};
use anyhow::{Context, Result, bail};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    unmount,
};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

/// Builds the world of `spec` around the calling PID 1.
///
/// Errors: a package is missing on the host, or the kernel refused a mount.
pub(crate) fn build(spec: &BoxSpec) -> Result<()> {
    let cgroup = Cgroup::find()?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("keep the box's mounts private")?;
    remove_stale_labels(&spec.dir)?;
    // Else the host's cgroup mounts stay in the table, hidden, and libvirt looks for them.
    unmount("/sys", UnmountFlags::DETACH).context("unmount the host's /sys")?;
    let none = MountFlags::empty();
    mount("proc", "/proc", "proc", none, None).context("mount /proc")?;
    mount("sysfs", "/sys", "sysfs", none, None).context("mount /sys")?;
    if let Some(cgroup) = cgroup {
        cgroup.mount_inside()?;
    }
    // Stale pid and XML files of a killed run confuse libvirt, so /run is always new.
    mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")
        .context("mount /run")?;
    for folder in [
        "lock",
        "sshd",
        "userdb",
        "libvirt",
        "pcscd",
        "nonstop-box",
        "nonstop-box/pam.d",
        "nonstop-box/bin",
    ] {
        fs::create_dir(Path::new("/run").join(folder))
            .with_context(|| format!("make /run/{folder}"))?;
    }
    libvirt_folders(spec)?;
    bind(&spec.programs, Path::new(PROGRAMS))?;
    pam(spec)?;
    name_service()?;
    for (name, uid) in &spec.users {
        user(name, *uid)?;
    }
    reach_for_all(&spec.reachable)?;
    kvm()?;
    rustix::system::sethostname(b"lab").context("name the box")?;
    Place::here().line("ip link set lo up")?;
    Ok(())
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    mount_bind_recursive(from, to)
        .with_context(|| format!("bind {} on {}", from.display(), to.display()))
}

fn libvirt_folders(spec: &BoxSpec) -> Result<()> {
    let own = spec.dir.join("libvirt");
    for (folder, target) in [
        (own.join("lib"), "/var/lib/libvirt"),
        (own.join("log"), "/var/log/libvirt"),
        (own.join("etc"), "/etc/libvirt"),
        (spec.libvirt_cache.clone(), "/var/cache/libvirt"),
    ] {
        if !Path::new(target).is_dir() {
            bail!("{target} is missing: install libvirt-daemon-system");
        }
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        bind(&folder, Path::new(target))?;
    }
    fs::write("/etc/libvirt/libvirtd.conf", LIBVIRTD_CONF).context("write libvirtd.conf")?;
    fs::write("/etc/libvirt/qemu.conf", QEMU_CONF).context("write qemu.conf")?;
    Ok(())
}

// No polkit and no systemd in a box: root alone reaches the socket.
const LIBVIRTD_CONF: &str = r#"auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
max_client_requests = 50
log_filters = "3:util 4:object 4:json"
log_outputs = "3:stderr"
"#;

// virtlogd would be one daemon more. AppArmor needs a securityfs that a box does not have.
const QEMU_CONF: &str = r#"stdio_handler = "file"
cgroup_controllers = [ "cpu" ]
security_driver = "none"
"#;

fn pam(spec: &BoxSpec) -> Result<()> {
    let folder = Path::new("/run/nonstop-box/pam.d");
    for entry in fs::read_dir("/etc/pam.d").context("read /etc/pam.d")? {
        let entry = entry?;
        fs::copy(entry.path(), folder.join(entry.file_name()))
            .with_context(|| format!("copy {}", entry.path().display()))?;
    }
    for (name, text) in &spec.pam {
        fs::write(folder.join(name), text)
            .with_context(|| format!("write the PAM service {name}"))?;
    }
    bind(folder, Path::new("/etc/pam.d"))
}

/// Accounts are records in /run/userdb, found through libnss-systemd; a host that does not
/// ask it gets a private nsswitch.conf that does.
fn name_service() -> Result<()> {
    let text = fs::read_to_string("/etc/nsswitch.conf").context("read /etc/nsswitch.conf")?;
    let asked = with_systemd(&text);
    if asked != text {
        fs::write("/run/nonstop-box/nsswitch.conf", asked).context("write nsswitch.conf")?;
        bind(Path::new("/run/nonstop-box/nsswitch.conf"), Path::new("/etc/nsswitch.conf"))?;
    }
    Ok(())
}

fn with_systemd(nsswitch: &str) -> String {
    let mut out = String::new();
    for line in nsswitch.lines() {
        out.push_str(line);
        let ours = ["passwd:", "group:", "shadow:", "gshadow:"].iter().any(|k| line.starts_with(k));
        if ours && !line.split_whitespace().any(|w| w == "systemd") {
            out.push_str(" systemd");
        }
        out.push('\n');
    }
    out
}

fn user(name: &str, uid: u32) -> Result<()> {
    let folder = Path::new("/run/userdb");
    let user = format!(
        r#"{{"userName":"{name}","uid":{uid},"gid":{uid},"homeDirectory":"/","shell":"/usr/sbin/nologin","disposition":"system"}}"#
    );
    let group = format!(r#"{{"groupName":"{name}","gid":{uid},"disposition":"system"}}"#);
    for (kind, text) in [("user", user), ("group", group)] {
        fs::write(folder.join(format!("{name}.{kind}")), text).context("write a user record")?;
        symlink(format!("{name}.{kind}"), folder.join(format!("{uid}.{kind}")))
            .context("link a user record")?;
    }
    Ok(())
}

/// QEMU and the portal run under uids of their own, and a checkout often lies under /root:
/// every closed folder on the way to `paths` is covered with an empty one that leads only
/// there. Their names stay what they are outside.
fn reach_for_all(paths: &[PathBuf]) -> Result<()> {
    let mut covers: BTreeSet<PathBuf> = BTreeSet::new();
    for path in paths {
        let mut ancestors: Vec<&Path> = path.ancestors().skip(1).collect();
        ancestors.reverse();
        for ancestor in ancestors {
            let mode =
                fs::metadata(ancestor).with_context(|| format!("look at {}", ancestor.display()));
            if mode?.permissions().mode() & 0o001 == 0 {
                covers.insert(ancestor.into());
                break;
            }
        }
    }
    for cover in covers {
        let below: Vec<&PathBuf> = paths.iter().filter(|p| p.starts_with(&cover)).collect();
        let kept = Path::new("/run/nonstop-box").join(format!("covered-{}", line_of(&cover)));
        for (n, path) in below.iter().enumerate() {
            let hold = kept.join(n.to_string());
            fs::create_dir_all(&hold).context("make a place to hold a folder")?;
            bind(path, &hold)?;
        }
        mount("tmpfs", &cover, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")
            .with_context(|| format!("cover {}", cover.display()))?;
        for (n, path) in below.iter().enumerate() {
            fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
            bind(&kept.join(n.to_string()), path)?;
        }
    }
    Ok(())
}

fn line_of(path: &Path) -> String {
    path.to_string_lossy().replace('/', "-")
}

/// Where QEMU's group cannot open it, libvirt asks QEMU for its abilities at every start: 67 s
/// instead of 0.35. The file is the machine's: a Debian in a chroot may have given it a group that
/// has another number here.
fn kvm() -> Result<()> {
    let kvm = Path::new("/dev/kvm");
    let Ok(meta) = fs::metadata(kvm) else { return Ok(()) };
    let group = Place::here().line("getent group kvm")?;
    let ours = group.split(':').nth(2).and_then(|gid| gid.parse().ok()) == Some(meta.gid());
    if ours && meta.permissions().mode() & 0o060 == 0o060 {
        return Ok(());
    }
    Place::here().line("chgrp kvm /dev/kvm")?;
    fs::set_permissions(kvm, fs::Permissions::from_mode(0o660))
        .context("open /dev/kvm to its group")
}

/// A killed libvirt leaves its notes of who owned a file on the file; under another uid the
/// next start then fails with "already in use".
fn remove_stale_labels(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            remove_stale_labels(&entry.path())?;
        } else if kind.is_file() {
            let mut names = vec![0; 4096];
            let Ok(n) = rustix::fs::llistxattr(entry.path(), &mut names) else { continue };
            for name in names[..n].split(|b| *b == 0) {
                if name.starts_with(b"trusted.libvirt.security.") {
                    rustix::fs::lremovexattr(entry.path(), name)
                        .with_context(|| format!("free {}", entry.path().display()))?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_account_databases_ask_systemd() {
        assert_eq!(
            with_systemd("passwd: files\ngroup: files systemd\nhosts: files dns\n"),
            "passwd: files systemd\ngroup: files systemd\nhosts: files dns\n"
        );
    }
}
