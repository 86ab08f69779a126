//! `nonstop-screen run`: one program of the lab's folder looks at the file. See `RULES.md`.
//!
//! Nobody knows what such a program needs, so it is not filtered to a few system calls as ours are. It
//! gets a root of its own that holds the system's programs and libraries, read-only, and nothing of the
//! lab; no network, no sockets, no other process to see, no rights, and bounds of memory, time,
//! processes and files. What it says is read here, by a process that has given up everything by then.

use crate::{
    child::Given,
    input::Stdin,
    said::{Found, MOST_REMARKS, Remark, Said, plain},
};
use nonstop_confine::{Left, confine_in_place, refuse};
use rustix::{
    fs::Mode,
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change,
        mount_remount, unmount,
    },
    process::{
        Resource, Rlimit, Signal, chdir, pivot_root, set_parent_process_death_signal, setrlimit,
        umask,
    },
    thread::{
        UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid, unshare_unsafe,
    },
};
use serde::Deserialize;
use std::{
    fs,
    io::{self, Read},
    os::unix::{fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

/// Lets a program look at the file on standard input, and says what it found. Run as root.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    given: Given,
    /// The program.
    #[arg(long)]
    program: PathBuf,
    /// What the file is.
    #[arg(long, default_value = "unknown")]
    kind: String,
    /// Its SHA-256, in hex.
    #[arg(long, default_value = "")]
    sha256: String,
}

/// The second half, in the program's own root.
#[derive(Debug, clap::Args)]
pub struct InsideArgs {
    #[command(flatten)]
    given: Given,
    /// The program.
    program: PathBuf,
}

/// The longest answer, in bytes.
const LONGEST: u64 = 64 << 10;
/// Bytes that a program may write to its own /tmp, in all.
const SCRATCH: u64 = 64 << 20;
/// Processes that all programs of a lab may have at once.
const PROCESSES: u64 = 256;
/// Open files.
const FILES: u64 = 256;
/// Where this program and the lab's programs stand in the root of the one that looks.
const SELF: &str = "/run/nonstop-screen";
const PROGRAMS: &str = "/run/programs";

/// What a program says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    findings: Vec<Finding>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Finding {
    rule: String,
    #[serde(default)]
    verdict: Option<String>,
    says: String,
    #[serde(default)]
    says_ja: String,
    #[serde(default)]
    mend: String,
    #[serde(default)]
    mend_ja: String,
}

/// Runs the program, and says what it found.
pub fn run(args: &Args) -> ExitCode {
    match looked(args) {
        Ok(found) => Said::Found(found).say(),
        Err(reason) => Said::failed(reason).say(),
    }
}

fn looked(args: &Args) -> Result<Found, String> {
    let input = Stdin::open()?;
    let folder = args.program.parent().ok_or("the program has no folder")?;
    let name = args.program.file_name().and_then(|name| name.to_str()).ok_or("no name")?;
    own_root(folder, args.given).map_err(|e| format!("make a root for {name}: {e}"))?;
    let given = args.given;
    let mut child = Command::new(SELF)
        .arg("run-inside")
        .args(["--uid", &given.uid.to_string(), "--gid", &given.gid.to_string()])
        .args(["--memory-mib", &given.memory_mib.to_string()])
        .args(["--cpu-seconds", &given.cpu_seconds.to_string()])
        .arg(Path::new(PROGRAMS).join(name))
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/tmp")
        .env("LANG", "C.UTF-8")
        .env("NONSTOP_KIND", &args.kind)
        .env("NONSTOP_SHA256", &args.sha256)
        .env("NONSTOP_BYTES", crate::input::Bytes::size(&input).to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("start {name}: {e}"))?;
    let output = child.stdout.take().ok_or("no output")?;
    let left = Left {
        uid: given.uid,
        gid: given.gid,
        memory_bytes: 64 << 20,
        file_bytes: 1 << 20,
        files: 16,
        threads: 0,
        cpu_seconds: Some(given.cpu_seconds),
        calls: &[WAITING],
    };
    confine_in_place(left).map_err(|e| format!("give up rights: {e}"))?;
    let mut said = Vec::new();
    output.take(LONGEST + 1).read_to_end(&mut said).map_err(|e| format!("hear {name}: {e}"))?;
    if said.len() as u64 > LONGEST {
        return Err(format!("{name} said more than {LONGEST} bytes"));
    }
    let ended = child.wait().map_err(|e| format!("wait for {name}: {e}"))?;
    if !ended.success() {
        return Err(format!("{name} ended with {ended}"));
    }
    answer(name, &said)
}

/// Waiting for a child, and letting go of its output.
const WAITING: &[i64] = &[
    61,  // wait4
    72,  // fcntl
    247, // waitid
    318, // getrandom
];

/// What `said` says, of the program `name`.
fn answer(name: &str, said: &[u8]) -> Result<Found, String> {
    let answer: Answer = serde_json::from_slice(said)
        .map_err(|e| format!("{name} said what is no answer (RULES.md): {e}"))?;
    if answer.findings.len() > MOST_REMARKS {
        return Err(format!("{name} said more than {MOST_REMARKS} findings"));
    }
    let word = |text: &str| -> String {
        let fine = |c: &char| c.is_ascii_alphanumeric() || "_-".contains(*c);
        text.chars().filter(fine).take(40).collect()
    };
    // Its name without ending: `links.py` finds as `program.links`.
    let own = word(name.split('.').next().unwrap_or(name));
    let remarks = answer.findings.into_iter().map(|finding| {
        let verdict = finding.verdict.unwrap_or_else(|| "hold".into());
        if !["pass", "hold", "block"].contains(&verdict.as_str()) {
            return Err(format!("{name} said a verdict that is none of pass, hold and block"));
        }
        Ok(Remark {
            rule: format!("program.{own}.{}", word(&finding.rule)),
            verdict,
            says: plain(&finding.says),
            says_ja: plain(&finding.says_ja),
            mend: plain(&finding.mend),
            mend_ja: plain(&finding.mend_ja),
        })
    });
    Ok(Found { remarks: remarks.collect::<Result<_, _>>()?, ..Found::default() })
}

/// Puts this process, and what it starts, into a root of the system's own programs and libraries,
/// without network and other processes.
fn own_root(programs: &Path, given: Given) -> io::Result<()> {
    let flags = UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWPID;
    #[expect(unsafe_code, reason = "rustix marks it so for CLONE_FILES and CLONE_VM alone")]
    // SAFETY: neither descriptors nor memory are unshared, and there is one thread.
    unsafe {
        unshare_unsafe(flags)?;
    }
    // Its folders are for a user without rights, whatever the daemon makes.
    umask(Mode::from_raw_mode(0o022));
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let own = std::env::current_exe()?;
    // In this mount namespace alone; any folder that is there would do.
    let root = Path::new("/tmp");
    let sealed = MountFlags::NOSUID | MountFlags::NODEV;
    let programs = fs::canonicalize(programs)?;
    let keep = |path: &Path| fs::File::open(path);
    // Held open: what lies below /tmp is hidden by the new root.
    let (own, programs) = (keep(&own)?, keep(&programs)?);
    mount("tmpfs", root, "tmpfs", sealed, c"size=1m,mode=755")?;
    let within = |path: &str| root.join(path.trim_start_matches('/'));
    for folder in ["run", "tmp", "proc", "dev", "etc", "old", "run/programs"] {
        fs::create_dir(within(folder))?;
    }
    for path in ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"] {
        match fs::symlink_metadata(path) {
            Ok(about) if about.is_symlink() => symlink(fs::read_link(path)?, within(path))?,
            Ok(about) if about.is_dir() => {
                fs::create_dir(within(path))?;
                bind(Path::new(path), &within(path))?;
            }
            _ => {}
        }
    }
    for path in ["/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/etc/magic"] {
        let Ok(about) = fs::metadata(path) else { continue };
        match about.is_dir() {
            true => fs::create_dir(within(path))?,
            false => drop(fs::File::create(within(path))?),
        }
        bind(Path::new(path), &within(path))?;
    }
    fs::File::create(within(SELF))?;
    bind(&descriptor(&own), &within(SELF))?;
    bind(&descriptor(&programs), &within(PROGRAMS))?;
    devices(&within("dev"))?;
    let scratch = format!("size={SCRATCH},mode=700,uid={},gid={}", given.uid, given.gid);
    let scratch = std::ffi::CString::new(scratch).map_err(io::Error::other)?;
    mount("tmpfs", within("tmp"), "tmpfs", sealed | MountFlags::NOEXEC, scratch.as_c_str())?;
    mount_remount(root, MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID, c"")?;
    chdir(root)?;
    pivot_root(".", "old")?;
    chdir("/")?;
    unmount("/old", UnmountFlags::DETACH)?;
    Ok(())
}

/// The path by which an open file can be mounted.
fn descriptor(file: &fs::File) -> PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Shows `from` at `to`, read-only, without what is mounted below it.
fn bind(from: &Path, to: &Path) -> io::Result<()> {
    mount_bind(from, to)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount_remount(to, flags, c"")?)
}

/// Shows the three devices that programs expect, and names of what is open.
fn devices(folder: &Path) -> io::Result<()> {
    for name in ["null", "zero", "urandom"] {
        let path = folder.join(name);
        fs::File::create(&path)?;
        mount_bind(Path::new("/dev").join(name), path)?;
    }
    for (name, to) in [("stdin", "0"), ("stdout", "1"), ("stderr", "2")] {
        symlink(format!("/proc/self/fd/{to}"), folder.join(name))?;
    }
    symlink("/proc/self/fd", folder.join("fd"))
}

/// System calls that no program needs to look at a file.
#[rustfmt::skip]
const REFUSED: &[i64] = &[
    41, 53,                  // socket, socketpair
    101,                     // ptrace
    134, 135, 139,           // uselib, personality, sysfs
    153, 154, 155,           // vhangup, modify_ldt, pivot_root
    161, 163, 165, 166,      // chroot, acct, mount, umount2
    167, 168, 169, 170, 171, // swapon, swapoff, reboot, sethostname, setdomainname
    172, 173, 175, 176,      // iopl, ioperm, init_module, delete_module
    179, 180,                // quotactl, nfsservctl
    246, 248, 249, 250,      // kexec_load, add_key, request_key, keyctl
    256, 279,                // migrate_pages, move_pages
    272, 298, 300, 301,      // unshare, perf_event_open, fanotify_init, fanotify_mark
    303, 304, 308,           // name_to_handle_at, open_by_handle_at, setns
    310, 311, 312, 313,      // process_vm_readv, process_vm_writev, kcmp, finit_module
    320, 321, 323,           // kexec_file_load, bpf, userfaultfd
    425, 426, 427,           // io_uring_setup, io_uring_enter, io_uring_register
    428, 429, 430, 431, 432, // open_tree, move_mount, fsopen, fsconfig, fsmount
    433, 442, 443,           // fspick, mount_setattr, quotactl_fd
];

/// Gives up what the program must not have, and becomes it.
pub fn run_inside(args: &InsideArgs) -> ExitCode {
    let failed = |e: &dyn std::fmt::Display| {
        eprintln!("nonstop-screen: {e}");
        ExitCode::FAILURE
    };
    if let Err(e) = give_up(args.given) {
        return failed(&e);
    }
    if let Err(e) = refuse(REFUSED, EPERM) {
        return failed(&e);
    }
    failed(&Command::new(&args.program).exec())
}

const EPERM: u32 = 1;

fn give_up(given: Given) -> io::Result<()> {
    let sealed = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    mount("proc", "/proc", "proc", sealed, c"hidepid=2")?;
    for (resource, limit) in [
        (Resource::As, given.memory_mib << 20),
        (Resource::Fsize, SCRATCH),
        (Resource::Core, 0),
        (Resource::Nproc, PROCESSES),
        (Resource::Nofile, FILES),
        (Resource::Cpu, given.cpu_seconds),
    ] {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    let user = rustix::fs::Uid::from_raw(given.uid);
    let group = rustix::fs::Gid::from_raw(given.gid);
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_is_its_own_and_bounded() {
        let said =
            br#"{"findings": [{"rule": "a b!", "says": "x\ny"}, {"rule": "c", "verdict": "block",
            "says": "z", "mend": "m"}]}"#;
        let found = answer("links.py", said).expect("an answer");
        let shown: Vec<_> =
            found.remarks.iter().map(|r| format!("{} {} {}", r.rule, r.verdict, r.says)).collect();
        assert_eq!(shown, ["program.links.ab hold x y", "program.links.c block z"]);
        assert_eq!(answer("p", br#"{"findings": []}"#).expect("an answer"), Found::default());
        for bad in [
            &b""[..],
            b"{}",
            b"[]",
            br#"{"findings": [{"rule": "a"}]}"#,
            br#"{"findings": [{"rule": "a", "says": "x", "verdict": "release"}]}"#,
            br#"{"findings": [], "verdict": "pass"}"#,
        ] {
            assert!(answer("p", bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
