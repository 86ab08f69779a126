//! The initial RAM disk: busybox, a few kernel modules in the order they must be loaded, and
//! the recipe's `initrd/`, as an uncompressed cpio archive (the guest need not unpack it twice).

use crate::{
    error::{At, ImageError},
    kernel::filter,
    recipe::{Kind, files_below},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// A cpio archive of the kind the kernel reads ("newc"): root owns all, one time, fixed inodes.
struct Archive {
    bytes: Vec<u8>,
    mtime: u32,
    count: u32,
}

impl Archive {
    fn add(&mut self, name: &[u8], mode: u32, content: &[u8]) {
        self.count += 1;
        let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        let size = u32::try_from(content.len()).expect("a file of an initrd is below 4 GiB");
        let name_size = name.len() as u32 + 1;
        let fields = [self.count, mode, 0, 0, links, self.mtime, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn folder(&mut self, name: &str) {
        self.add(name.as_bytes(), 0o040_755, b"");
    }

    fn file(&mut self, name: &str, runs: bool, content: &[u8]) {
        self.add(name.as_bytes(), if runs { 0o100_755 } else { 0o100_644 }, content);
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(self) -> Vec<u8> {
        let mut end = Archive { bytes: self.bytes, mtime: 0, count: 0 };
        end.add(b"TRAILER!!!", 0, b"");
        end.bytes.resize(end.bytes.len().next_multiple_of(512), 0);
        end.bytes
    }
}

/// Builds the initrd from the files that the stage `customise` left in `boot` (busybox, modules
/// and programs) and the recipe's folder `initrd`.
pub(crate) fn build(
    image: &str,
    boot: &Path,
    initrd: &Path,
    modules: &[String],
    mtime: u32,
) -> Result<Vec<u8>, ImageError> {
    let mut archive = Archive { bytes: Vec::new(), mtime, count: 0 };
    let mut folders = BTreeSet::new();
    for folder in ["bin", "dev", "modules", "proc", "sys"] {
        archive.folder(folder);
        folders.insert(PathBuf::from(folder));
    }
    let busybox = boot.join("busybox");
    archive.file("bin/busybox", true, &fs::read(&busybox).at("read", &busybox)?);
    archive.add(b"bin/sh", 0o120_777, b"busybox");

    let available = Modules::read(image, boot)?;
    for (at, module) in available.in_order(modules)?.into_iter().enumerate() {
        let name = format!("modules/{at:02}-{}.ko", module.name);
        archive.file(&name, false, &module.content);
    }
    let programs = boot.join("programs");
    for file in files_below(&programs)? {
        let path = programs.join(&file.path);
        let name = file.path.to_string_lossy();
        match file.kind {
            Kind::Folder if folders.contains(&file.path) => {}
            Kind::Folder => {
                archive.folder(&name);
                folders.insert(file.path.clone());
            }
            Kind::File { .. } | Kind::Link => {
                archive.file(&name, true, &fs::read(&path).at("read", &path)?);
            }
        }
    }
    for file in files_below(initrd)? {
        let path = initrd.join(&file.path);
        let name = file.path.as_os_str().as_bytes();
        match file.kind {
            Kind::Folder if folders.contains(&file.path) => {}
            Kind::Folder => archive.add(name, 0o040_755, b""),
            Kind::Link => {
                let to = fs::read_link(&path).at("read link", &path)?;
                archive.add(name, 0o120_777, to.as_os_str().as_bytes());
            }
            Kind::File { runs } => {
                let mode = if runs { 0o100_755 } else { 0o100_644 };
                archive.add(name, mode, &fs::read(&path).at("read", &path)?);
            }
        }
    }
    Ok(archive.finish())
}

/// The kernel's modules by name, and the names of those built into it.
struct Modules<'a> {
    image: &'a str,
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

/// A module, unpacked.
struct Module {
    name: String,
    content: Vec<u8>,
}

impl Modules<'_> {
    fn read<'a>(image: &'a str, boot: &Path) -> Result<Modules<'a>, ImageError> {
        let root = boot.join("modules");
        let mut files = BTreeMap::new();
        for file in files_below(&root)? {
            if let (Kind::File { .. }, Some(name)) = (file.kind, module_name(&file.path)) {
                files.insert(name, root.join(&file.path));
            }
        }
        let list = boot.join("modules.builtin");
        let text = fs::read_to_string(&list).at("read", &list)?;
        let builtin = text.lines().filter_map(|l| module_name(Path::new(l))).collect();
        Ok(Modules { image, files, builtin })
    }

    /// The modules asked for and all they need, each after what it needs.
    fn in_order(&self, wanted: &[String]) -> Result<Vec<Module>, ImageError> {
        let (mut loaded, mut seen) = (Vec::new(), BTreeSet::new());
        for name in wanted {
            self.load(&name.replace('-', "_"), &mut seen, &mut loaded)?;
        }
        Ok(loaded)
    }

    fn load(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        loaded: &mut Vec<Module>,
    ) -> Result<(), ImageError> {
        if self.builtin.contains(name) || !seen.insert(name.into()) {
            return Ok(());
        }
        let wrong = |reason| ImageError::Content { name: self.image.into(), reason };
        let path = self.files.get(name).ok_or_else(|| {
            wrong(format!("`{name}` is neither a module of the kernel nor built into it"))
        })?;
        let packed = fs::read(path).at("read", path)?;
        let unpacked = match path.extension().map(|e| e.as_bytes()) {
            Some(b"xz") => filter("xz", &["-dcq"], &packed),
            Some(b"zst") => filter("zstd", &["-dcq"], &packed),
            _ => Ok(packed),
        };
        let content = unpacked.map_err(|reason| wrong(format!("{}: {reason}", path.display())))?;
        for needed in depends(&content) {
            self.load(&needed, seen, loaded)?;
        }
        loaded.push(Module { name: name.into(), content: unsigned(content) });
        Ok(())
    }
}

/// The module without the signature at its end: checking it costs a guest without KVM more than
/// loading it, and the initrd as a whole is covered by the image's digest.
fn unsigned(mut module: Vec<u8>) -> Vec<u8> {
    let mark = b"~Module signature appended~\n";
    // Before the mark: struct module_signature, whose last field is the signature's length.
    let Some(body) = module.strip_suffix(mark) else { return module };
    let Some(&length) = body.last_chunk::<4>() else { return module };
    let signature = 12 + u32::from_be_bytes(length) as usize;
    if let Some(end) = body.len().checked_sub(signature) {
        module.truncate(end);
    }
    module
}

/// `kernel/net/core/failover.ko.xz` is `failover`; `-` and `_` are one letter to the kernel.
fn module_name(path: &Path) -> Option<String> {
    let (name, rest) = path.file_name()?.to_str()?.split_once('.')?;
    (rest == "ko" || rest.starts_with("ko.")).then(|| name.replace('-', "_"))
}

/// What the module says it needs, in its `.modinfo`: NUL-ended `key=value` texts.
fn depends(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(at) = module.windows(key.len()).position(|w| w == key) else { return Vec::new() };
    let rest = &module[at + key.len()..];
    let value = &rest[..rest.iter().position(|&b| b == 0).unwrap_or(0)];
    String::from_utf8_lossy(value)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(modules: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temp dir");
        fs::create_dir(dir.path().join("programs")).expect("mkdir");
        fs::create_dir_all(dir.path().join("modules/kernel")).expect("mkdir");
        fs::write(dir.path().join("busybox"), "busybox").expect("write");
        fs::write(dir.path().join("modules.builtin"), "kernel/drivers/virtio/virtio_pci.ko\n")
            .expect("write");
        for (name, needs) in modules {
            let text = format!("elf\0license=GPL\0depends={needs}\0name={name}\0");
            fs::write(dir.path().join(format!("modules/kernel/{name}.ko")), text).expect("write");
        }
        dir
    }

    #[test]
    fn modules_come_after_what_they_need_and_built_in_ones_are_left_out() {
        let dir = boot(&[
            ("virtio-net", "net_failover,virtio_pci"),
            ("net_failover", "failover"),
            ("failover", ""),
        ]);
        let modules = Modules::read("tiny", dir.path()).expect("read");
        let order = modules
            .in_order(&["virtio_net".into(), "failover".into(), "virtio-pci".into()])
            .expect("all there");
        let names: Vec<_> = order.into_iter().map(|m| m.name).collect();
        assert_eq!(names, ["failover", "net_failover", "virtio_net"]);
    }

    #[test]
    fn a_module_the_kernel_lacks_is_named() {
        let dir = boot(&[("a", "b")]);
        let modules = Modules::read("tiny", dir.path()).expect("read");
        let Err(error) = modules.in_order(&["a".into()]) else { panic!("b lacks") };
        let reason = error.to_string();
        assert!(reason.contains("`b`"), "{reason}");
    }

    #[test]
    fn the_archive_is_the_same_whatever_the_order_of_the_folder() {
        let dir = boot(&[("a", "")]);
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        for (folder, names) in [(&one, ["init", "x", "y"]), (&two, ["y", "x", "init"])] {
            fs::create_dir(folder).expect("mkdir");
            for name in names {
                fs::write(folder.join(name), name).expect("write");
            }
        }
        let of = |folder| build("tiny", dir.path(), folder, &["a".into()], 7).expect("built");
        assert_eq!(of(&one), of(&two));
        let list = std::process::Command::new("cpio")
            .arg("-t")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .and_then(|mut child| {
                std::io::Write::write_all(&mut child.stdin.take().expect("piped"), &of(&one))?;
                child.wait_with_output()
            })
            .expect("run cpio");
        assert_eq!(
            String::from_utf8_lossy(&list.stdout).lines().collect::<Vec<_>>(),
            [
                "bin",
                "dev",
                "modules",
                "proc",
                "sys",
                "bin/busybox",
                "bin/sh",
                "modules/00-a.ko",
                "init",
                "x",
                "y"
            ]
        );
    }
}
