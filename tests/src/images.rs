//! Images for labs: the built ones, and these in disguise.

use anyhow::{Context, Result};
use nonstop_testkit::lab::Lab;
use sha2::{Digest, Sha256};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// The built images, as `cargo xtask test` names them to its tests.
pub fn built_images() -> Result<PathBuf> {
    std::env::var_os("NONSTOP_IMAGES")
        .map(PathBuf::from)
        .context("NONSTOP_IMAGES is not set: run the tests by `cargo xtask test`")
}

/// Puts an image called `name` into the lab: the files of `micro` under a manifest that `change`
/// has changed. Returns its folder.
pub fn disguised(
    lab: &Lab,
    name: &str,
    change: impl FnOnce(&mut serde_json::Value),
) -> Result<PathBuf> {
    disguised_from(lab, "micro", name, change)
}

/// The same, from the image `base`.
pub fn disguised_from(
    lab: &Lab,
    base: &str,
    name: &str,
    change: impl FnOnce(&mut serde_json::Value),
) -> Result<PathBuf> {
    disguise(lab, base, name, copy, change)
}

fn disguise(
    lab: &Lab,
    base: &str,
    name: &str,
    place: impl Fn(&Path, &Path) -> Result<()>,
    change: impl FnOnce(&mut serde_json::Value),
) -> Result<PathBuf> {
    let link = built_images()?.join(base).join("current");
    let base = fs::canonicalize(&link).with_context(|| format!("find {}", link.display()))?;
    let json = fs::read(base.join("image.json")).context("read the manifest")?;
    let mut manifest: serde_json::Value = serde_json::from_slice(&json)?;
    manifest["name"] = name.into();
    change(&mut manifest);
    let json = serde_json::to_vec(&manifest)?;
    let digest = hex::encode(Sha256::digest(&json));
    let home = lab.state().join("images").join(name);
    let folder = home.join(&digest);
    fs::create_dir_all(&folder)?;
    for entry in fs::read_dir(&base)? {
        let entry = entry?;
        if entry.file_name() != "image.json" {
            place(&entry.path(), &folder.join(entry.file_name()))?;
        }
    }
    fs::write(folder.join("image.json"), json)?;
    let link = home.join("current");
    let _absent = fs::remove_file(&link);
    symlink(&digest, link)?;
    Ok(folder)
}

/// Puts an image called `name` into the lab: the desktop as it is, on whose test channel root's shell
/// answers. Nothing else is other than researchers have it; the shell comes by the initrd.
pub fn desktop_with_shell(lab: &Lab, name: &str) -> Result<PathBuf> {
    let current = built_images()?.join("desktop/current");
    let mut initrd = fs::read(current.join("initrd")).context("read the desktop's initrd")?;
    let init = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/desktop/initrd/init");
    let init = fs::read_to_string(init).context("read the desktop's init")?;
    let last = init.rfind("exec $b switch_root").context("the init hands over to no system")?;
    let init = format!("{}{SHELL}{}", &init[..last], &init[last..]);
    // A later archive's files replace those of an earlier one.
    initrd.extend(archive("init", init.as_bytes()));
    let digest = hex::encode(Sha256::digest(&initrd));
    let folder = disguise(lab, "desktop", name, link, |manifest| {
        manifest["test_channel"] = true.into();
        manifest["initrd"]["sha256"] = digest.into();
        manifest["initrd"]["size_bytes"] = initrd.len().into();
    })?;
    // The one there is the built image's own file.
    fs::remove_file(folder.join("initrd"))?;
    fs::write(folder.join("initrd"), &initrd)?;
    Ok(folder)
}

/// Lines of the initrd's init: a unit that opens a shell on the port of tests.
const SHELL: &str = r#"
units=/root/run/systemd/system
$b mkdir -p $units/nonstop.target.wants
printf '[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sh /run/test-shell\n' \
    >$units/test-shell.service
$b ln -s ../test-shell.service $units/nonstop.target.wants/
$b cat >/root/run/test-shell <<'END'
for port in /sys/class/virtio-ports/*; do
    [ "$(cat "$port/name")" = org.nonstop.test.0 ] || continue
    while :; do
        bash <>"/dev/${port##*/}" >&0 2>&1
        sleep 0.2
    done
done
END
"#;

/// A cpio archive of one program, as the kernel reads it.
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, mode, name, content) in [(1, 0o100_755, name, content), (0, 0, "TRAILER!!!", b"")]
    {
        let fields = [number, mode, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        bytes.extend(b"070701");
        bytes.extend(fields.iter().flat_map(|f: &usize| format!("{f:08X}").into_bytes()));
        for part in [[name.as_bytes(), b"\0"].concat().as_slice(), content] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    bytes
}

/// For who writes to none of the files: a desktop's disk is a gigabyte.
fn link(from: &Path, to: &Path) -> Result<()> {
    if to.exists() || fs::hard_link(from, to).is_ok() { Ok(()) } else { copy(from, to) }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}
