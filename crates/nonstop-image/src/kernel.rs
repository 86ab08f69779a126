//! Takes the bare ELF kernel out of Debian's compressed one.
//!
//! QEMU starts an ELF with a PVH note at once; the packed one would first unpack itself in the
//! guest, which under TCG takes longer than all of the kernel's own start.

use std::{
    io::Write,
    process::{Command, Stdio},
    thread,
};

/// The ELF inside the bzImage `packed`, or why there is none.
pub(crate) fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    let payload = payload(packed)?;
    let program = match payload {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        _ => return Err("its payload is packed neither by zstd nor by xz".into()),
    };
    let elf = filter(program, &["-dcq"], payload)?;
    if !elf.starts_with(b"\x7fELF") {
        return Err(format!("what {program} took out of it is no ELF file"));
    }
    // The note that lets QEMU start it in PVH mode: type 18 of "Xen".
    if !elf.windows(8).any(|w| w == b"\x12\0\0\0Xen\0") {
        return Err("it has no PVH entry (CONFIG_PVH), so QEMU cannot start it as ELF".into());
    }
    Ok(elf)
}

/// The packed kernel's payload, by the boot protocol's header (version 2.08 on).
fn payload(packed: &[u8]) -> Result<&[u8], String> {
    let word = |at: usize| {
        let bytes = packed.get(at..at + 4).ok_or("it is shorter than a kernel's header")?;
        Ok::<_, String>(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    };
    if packed.get(0x202..0x206) != Some(b"HdrS") {
        return Err("it is no bzImage".into());
    }
    let setup_sectors = match packed[0x1f1] {
        0 => 4,
        n => usize::from(n),
    };
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    // The build of a kernel appends the unpacked size in four bytes, which no tool expects.
    let length = word(0x24c)?.saturating_sub(4);
    packed.get(start..start + length).ok_or_else(|| "it is cut short".into())
}

/// Runs `program` over `input`.
pub(crate) fn filter(program: &str, args: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
    let mut child = Command::new(program)
        .args(args)
        .env("PATH", crate::tools::PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot run {program}: {e}"))?;
    let mut stdin = child.stdin.take().expect("stdin was asked to be a pipe");
    let output = thread::scope(|scope| {
        // A program that stops early closes the pipe; its exit status tells.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output()
    })
    .map_err(|e| format!("cannot run {program}: {e}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bzImage as small as the header allows, its payload packed by `program`.
    fn bzimage(program: &str, elf: &[u8]) -> Vec<u8> {
        let packed = filter(program, &["-cq"], elf).expect("pack");
        let mut image = vec![0; 1024];
        image[0x1f1] = 1; // one sector of setup code
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(packed.len() as u32 + 4).to_le_bytes());
        image.extend([0x90; 16]);
        image.extend(packed);
        image.extend((elf.len() as u32).to_le_bytes());
        image
    }

    const ELF: &[u8] = b"\x7fELF.....\x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0........";

    #[test]
    fn the_elf_comes_out_of_either_packing() {
        for program in ["zstd", "xz"] {
            assert_eq!(unpack(&bzimage(program, ELF)).expect("unpacked"), ELF, "{program}");
        }
    }

    #[test]
    fn what_qemu_could_not_start_is_refused_with_the_reason() {
        let reason = |image: &[u8]| unpack(image).expect_err("refused");
        assert!(reason(b"MZ").contains("no bzImage"));
        assert!(reason(&bzimage("zstd", b"\x7fELF but no note")).contains("PVH"));
        assert!(reason(&bzimage("zstd", b"no ELF")).contains("no ELF file"));
        let whole = bzimage("xz", ELF);
        assert!(reason(&whole[..whole.len() - 20]).contains("cut short"));
        let mut damaged = bzimage("zstd", ELF);
        let payload = 1024 + 16;
        damaged[payload + 6..payload + 20].fill(0xff);
        assert!(reason(&damaged).starts_with("zstd: "), "{}", reason(&damaged));
    }
}
