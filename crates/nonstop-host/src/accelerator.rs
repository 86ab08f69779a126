//! Whether guests can run on the processor itself.
//!
//! `/dev/kvm` may exist and hang every guest (seen in nested virtualisation), so a small guest
//! is booted under it and must speak within a few seconds.

use crate::domain::Accelerator;
use nonstop_model::ImageManifest;
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// How long the guest's kernel may take to say its first words; a working KVM needs 0.2 s.
const LIMIT: Duration = Duration::from_secs(5);

/// What guests run on here. Boots `image`, which lies in `image_dir`, under KVM where there is
/// a `/dev/kvm`; takes at most a few seconds, and none without.
pub fn probe_accelerator(image_dir: &Path, image: &ImageManifest) -> Accelerator {
    match boots_under_kvm(Path::new("/dev/kvm"), image_dir, image) {
        Ok(()) => Accelerator::Kvm,
        Err(why) => Accelerator::Tcg { why },
    }
}

fn boots_under_kvm(kvm: &Path, image_dir: &Path, image: &ImageManifest) -> Result<(), String> {
    File::options()
        .read(true)
        .write(true)
        .open(kvm)
        .map_err(|e| format!("{} cannot be used: {e}", kvm.display()))?;
    let mut qemu = Command::new("qemu-system-x86_64")
        .args(["-machine", "q35,accel=kvm", "-cpu", "host", "-m", "128", "-nodefaults"])
        .args(["-display", "none", "-no-reboot", "-serial", "stdio", "-sandbox", "on"])
        .arg("-kernel")
        .arg(image_dir.join(&image.kernel.file))
        .arg("-initrd")
        .arg(image_dir.join(&image.initrd.file))
        .args(["-append", "console=ttyS0 panic=-1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("qemu-system-x86_64 cannot be started: {e}"))?;
    let spoke = first_words(&mut qemu);
    // A guest that hangs in KVM may take long to die: nobody waits for it.
    let _ = qemu.kill();
    thread::spawn(move || qemu.wait());
    spoke
}

/// Waits for the kernel's banner on the guest's serial line.
fn first_words(qemu: &mut Child) -> Result<(), String> {
    let mut out = qemu.stdout.take().ok_or("QEMU's output is not ours")?;
    let mut err = qemu.stderr.take().ok_or("QEMU's errors are not ours")?;
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let _ = tell.send(banner(&mut out));
    });
    match told.recv_timeout(LIMIT) {
        Ok(Ok(true)) => Ok(()),
        Ok(_) => {
            let mut said = String::new();
            let _ = err.read_to_string(&mut said);
            Err(format!("a small guest ended under KVM before it spoke: {}", said.trim()))
        }
        Err(_) => {
            let seconds = LIMIT.as_secs();
            Err(format!("a small guest said nothing under KVM within {seconds} s"))
        }
    }
}

fn banner(out: &mut impl Read) -> io::Result<bool> {
    let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match out.read(&mut buffer)? {
            0 => return Ok(false),
            n => heard.extend_from_slice(&buffer[..n]),
        }
        // Far behind decompression, page tables and the first drivers.
        if heard.windows(4).any(|w| w == b"Run ") || heard.windows(8).any(|w| w == b"micro up") {
            return Ok(true);
        }
        if heard.len() > 1 << 20 {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_device_nothing_is_booted() {
        let file = nonstop_model::image::ImageFile {
            file: "kernel".into(),
            sha256: String::new(),
            size_bytes: 0,
        };
        let image = ImageManifest {
            version: 1,
            name: "micro".parse().expect("a name"),
            disk: None,
            disk_bytes: 0,
            kernel: file.clone(),
            initrd: file,
            cmdline: String::new(),
            uefi: false,
            agent: false,
            test_channel: false,
            card_ports: false,
            user: None,
            rdp_port: None,
            packages: Vec::new(),
        };
        let why = boots_under_kvm(Path::new("/nonexistent"), Path::new("/"), &image);
        assert!(why.expect_err("there is none").starts_with("/nonexistent cannot be used"));
    }

    #[test]
    fn a_guest_that_dies_silently_has_not_spoken() {
        assert!(!banner(&mut &b"SeaBIOS\n"[..]).expect("read"));
        assert!(banner(&mut &b"Linux version 6\nRun /init as init process\n"[..]).expect("read"));
    }
}
