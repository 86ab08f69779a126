//! A control group for each box, so that libvirt's `<cputune>` takes effect inside it and
//! what libvirt leaves there goes with the box.
//!
//! Debian boots with cgroup v2; containers and older setups have v1 with `cpu` mounted on
//! its own. A host without either still runs labs: without CPU weights.

use crate::place::wait_for_end;
use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount};
use std::{
    ffi::CString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// The hierarchy that carries the cpu controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cgroup {
    /// v1: its mount point and the controllers mounted together.
    V1(PathBuf, String),
    /// v2.
    V2(PathBuf),
}

impl Cgroup {
    /// Finds the hierarchy of the cpu controller on this host.
    pub fn find() -> Result<Option<Cgroup>> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("read mountinfo")?;
        Ok(parse(&mounts, |path| {
            fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default()
        }))
    }

    fn folder(&self, name: &str) -> PathBuf {
        let (Cgroup::V1(root, _) | Cgroup::V2(root)) = self;
        root.join(format!("nonstop-box-{name}"))
    }

    /// Puts the calling process into the group of the box `name`, made when missing.
    pub fn enter(&self, name: &str) -> Result<()> {
        let folder = self.folder(name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        if let Cgroup::V2(root) = self {
            // The kernel gives a group only what its parent hands down.
            fs::write(root.join("cgroup.subtree_control"), "+cpu").context("hand cpu down")?;
        }
        fs::write(folder.join("cgroup.procs"), std::process::id().to_string())
            .with_context(|| format!("enter {}", folder.display()))
    }

    /// Moves the calling process into a leaf of the box's group, where v2 needs that: no group
    /// may hold processes and hand controllers down at once.
    pub fn settle(&self, name: &str) -> Result<()> {
        if let Cgroup::V2(_) = self {
            let leaf = self.folder(name).join("init");
            fs::create_dir_all(&leaf).with_context(|| format!("make {}", leaf.display()))?;
            fs::write(leaf.join("cgroup.procs"), std::process::id().to_string())
                .with_context(|| format!("enter {}", leaf.display()))?;
        }
        Ok(())
    }

    /// Mounts the box's own part at `/sys/fs/cgroup` of a fresh /sys.
    ///
    /// Called in the box's cgroup namespace, whose root is the box's group.
    pub fn mount_inside(&self) -> Result<()> {
        let root = Path::new("/sys/fs/cgroup");
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        match self {
            Cgroup::V1(_, controllers) => {
                mount("tmpfs", root, "tmpfs", flags, c"mode=0755").context("mount cgroup root")?;
                let folder = root.join(controllers);
                fs::create_dir(&folder).context("make the cgroup's mount point")?;
                let options = CString::new(controllers.as_str())?;
                mount("cgroup", &folder, "cgroup", flags, options.as_c_str())
                    .context("mount cgroup v1")?;
            }
            Cgroup::V2(_) => {
                mount("cgroup2", root, "cgroup2", flags, None).context("mount cgroup v2")?;
                if let Err(e) = fs::write(root.join("cgroup.subtree_control"), "+cpu") {
                    eprintln!("nonstop-box: machines will have no CPU weights: {e}");
                }
            }
        }
        Ok(())
    }

    /// Removes the group of the ended box `name` with all below it. Repeatable.
    pub fn remove(&self, name: &str) -> Result<()> {
        fn remove_tree(folder: &Path) -> std::io::Result<()> {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    remove_tree(&entry.path())?;
                }
            }
            fs::remove_dir(folder)
        }
        // A group stays busy for a moment after its last process was buried.
        wait_for_end("the box's control group to empty", Duration::from_secs(10), || {
            match remove_tree(&self.folder(name)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    Err(e).with_context(|| format!("remove {}", self.folder(name).display()))
                }
                _ => Ok(Some(())),
            }
        })
    }
}

fn parse(mountinfo: &str, controllers_at: impl Fn(&Path) -> String) -> Option<Cgroup> {
    let mut v2 = None;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(point) = left.split_whitespace().nth(4).map(PathBuf::from) else { continue };
        let mut right = right.split_whitespace();
        match right.next() {
            Some("cgroup") => {
                let options = right.nth(1).unwrap_or_default();
                let words: Vec<&str> =
                    options.split(',').filter(|w| ["cpu", "cpuacct"].contains(w)).collect();
                if words.contains(&"cpu") {
                    return Some(Cgroup::V1(point, words.join(",")));
                }
            }
            Some("cgroup2") if controllers_at(&point).split_whitespace().any(|c| c == "cpu") => {
                v2 = Some(Cgroup::V2(point));
            }
            _ => {}
        }
    }
    v2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_host_are_recognised() {
        let v1 = "31 30 0:26 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                  40 30 0:39 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            parse(v1, |_| String::new()),
            Some(Cgroup::V1("/sys/fs/cgroup/cpu,cpuacct".into(), "cpu,cpuacct".into()))
        );
        let v2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            parse(v2, |_| "cpuset cpu io memory pids".into()),
            Some(Cgroup::V2("/sys/fs/cgroup".into()))
        );
        assert_eq!(parse(v2, |_| "io".into()), None);
    }
}
