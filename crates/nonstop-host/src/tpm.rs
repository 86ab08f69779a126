//! TPMs: a swtpm for each machine that has one, under the uid of the machine's QEMU.
//!
//! libvirt would start swtpm as one user for all machines, whose socket no QEMU of ours can open
//! (libvirt 11.3 with `relabel='no'`). So we start it, before QEMU, which connects to its socket;
//! it ends when that connection does, and so with QEMU, whatever ends that. It is no child of
//! this process: guests outlive the daemon, and so do their TPMs.

use crate::{HostError, socket::connect_at_once};
use nonstop_model::MachineId;
use rustix::process::geteuid;
use std::{
    fs::{self, DirBuilder, Permissions},
    io::{self, ErrorKind, Read, Write},
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt, chown},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// Where the sockets of TPMs are.
#[derive(Debug)]
pub struct Tpms {
    dir: PathBuf,
}

const ANEW: &str = "revert the machine: `nonstop environment revert`";

/// How long one that lost its connection may take to end; seen: 10 ms.
const LIMIT: Duration = Duration::from_secs(3);

impl Tpms {
    /// Sockets are made in folders below `dir`, one a machine.
    pub fn new(dir: PathBuf) -> Tpms {
        Tpms { dir }
    }

    fn folder(&self, machine: MachineId) -> PathBuf {
        self.dir.join(machine.to_string())
    }

    /// The socket to which the QEMU of `machine` connects.
    pub fn socket(&self, machine: MachineId) -> PathBuf {
        self.folder(machine).join("control")
    }

    /// Whether something may be left of a TPM of `machine`.
    pub fn known(&self, machine: MachineId) -> bool {
        self.folder(machine).exists()
    }

    /// Starts the TPM of `machine`, whose state lies in `state` and belongs to `uid`. The guest
    /// must not run. Repeatable: one that waits for its QEMU since an earlier try is ended first.
    ///
    /// Errors: swtpm is not installed or refuses its state.
    pub fn start(&self, machine: MachineId, uid: u32, state: &Path) -> Result<(), HostError> {
        let doing = || format!("start the TPM of {machine}");
        self.end(machine)?;
        let folder = self.folder(machine);
        self.make(&folder, uid).map_err(|e| HostError::new(doing(), e))?;
        // swtpm itself would say so to QEMU, which says something else.
        fs::read_dir(state).map_err(|e| {
            let source = format!("look into {}: {e}", state.display());
            HostError::new(doing(), source).help(ANEW)
        })?;
        let socket = self.socket(machine);
        // libvirt's own way of starting it, and nothing that it could need root for.
        let output = Command::new("setpriv")
            .args([format!("--reuid={uid}"), format!("--regid={uid}")])
            .args(as_root_only(&["--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]))
            .args(["--no-new-privs", "--", "swtpm", "socket", "--tpm2", "--daemon"])
            .args(["--terminate", "--seccomp", "action=kill"])
            .arg("--tpmstate")
            .arg(format!("dir={},mode=0600", state.display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={},mode=0600", socket.display()))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .output()
            .map_err(|e| HostError::new(doing(), e))?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        // What setpriv answers where the program is not there.
        let help = if output.status.code() == Some(127) {
            "run `apt-get install swtpm swtpm-tools`"
        } else {
            ANEW
        };
        Err(HostError::new(doing(), format!("swtpm: {said} ({})", output.status)).help(help))
    }

    fn make(&self, folder: &Path, uid: u32) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o711).create(&self.dir)?;
        fs::set_permissions(&self.dir, Permissions::from_mode(0o711))?;
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e),
            _ => chown(folder, Some(uid), Some(uid)),
        }
    }

    /// Makes nothing be left of the TPM of `machine`, whose guest must not run any more; what it
    /// keeps stays where it is. Repeatable.
    pub fn end(&self, machine: MachineId) -> Result<(), HostError> {
        let doing = || format!("end the TPM of {machine}");
        let (folder, socket) = (self.folder(machine), self.socket(machine));
        let begun = Instant::now();
        loop {
            // One that has ended leaves its socket.
            match connect_at_once(&socket) {
                Ok(connection) => tell_to_end(connection),
                Err(e)
                    if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
                {
                    break;
                }
                // It listens to nobody just now.
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(HostError::new(doing(), e)),
            }
            if begun.elapsed() > LIMIT {
                let source = "it does not end when told to";
                return Err(HostError::new(doing(), source)
                    .help(format!("end the program that `fuser {}` names", socket.display())));
            }
            thread::sleep(Duration::from_millis(5));
        }
        match fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(HostError::new(doing(), e)),
            _ => Ok(()),
        }
    }
}

/// Says CMD_SHUTDOWN over the control channel. One whose QEMU is still connected hears nothing
/// of it and ends with QEMU.
fn tell_to_end(mut connection: UnixStream) {
    let told = connection
        .set_read_timeout(Some(Duration::from_millis(100)))
        .and_then(|()| connection.write_all(&3u32.to_be_bytes()))
        .and_then(|()| connection.read(&mut [0; 4]));
    // The caller looks whether it has ended.
    drop(told);
}

/// `words`, which only root may say; tests run as anybody.
fn as_root_only<'a>(words: &'a [&'a str]) -> &'a [&'a str] {
    if geteuid().is_root() { words } else { &[] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::{
        io::IoSlice,
        mem::MaybeUninit,
        os::{fd::AsFd, unix::fs::MetadataExt},
    };

    fn uid() -> u32 {
        if geteuid().is_root() { 80_007 } else { geteuid().as_raw() }
    }

    struct Place {
        dir: tempfile::TempDir,
        tpms: Tpms,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().expect("a folder");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).expect("a mode");
        let state = dir.path().join("state");
        DirBuilder::new().mode(0o700).create(&state).expect("a folder");
        chown(&state, Some(uid()), Some(uid())).expect("root, or ours");
        Place { tpms: Tpms::new(dir.path().join("run")), dir }
    }

    impl Place {
        fn start(&self) {
            let state = self.dir.path().join("state");
            self.tpms.start(MachineId(7), uid(), &state).expect("started");
        }

        /// Gives it the channel for commands, as QEMU does (CMD_SET_DATAFD), and starts it (CMD_INIT).
        fn connect(&self) -> (UnixStream, UnixStream) {
            let mut control = UnixStream::connect(self.tpms.socket(MachineId(7))).expect("there");
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let fds = [theirs.as_fd()];
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
            let command = 0x10_u32.to_be_bytes();
            let words = [IoSlice::new(&command)];
            sendmsg(&control, &words, &mut ancillary, SendFlags::empty()).expect("heard");
            let mut answer = [0; 4];
            control.read_exact(&mut answer).expect("answered");
            assert_eq!(answer, [0; 4], "the channel is taken");
            control.write_all(&[2_u32.to_be_bytes(), [0; 4]].concat()).expect("heard");
            control.read_exact(&mut answer).expect("answered");
            assert_eq!(answer, [0; 4], "it starts");
            (control, ours)
        }

        fn processes(&self) -> Vec<u32> {
            let state = self.dir.path().join("state").display().to_string();
            let processes = procfs::process::all_processes().expect("procfs").flatten();
            processes
                .filter(|p| p.cmdline().is_ok_and(|words| words.concat().contains(&state)))
                .map(|p| p.uid().expect("it runs"))
                .collect()
        }

        fn gone(&self) {
            let begun = Instant::now();
            while !self.processes().is_empty() {
                assert!(begun.elapsed() < LIMIT, "it goes on");
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    #[test]
    fn a_tpm_runs_as_its_machines_user_and_ends_with_its_connection() {
        let place = place();
        place.start();
        assert_eq!(place.processes(), [uid()]);
        let connections = place.connect();
        let kept = place.dir.path().join("state/tpm2-00.permall");
        assert_eq!(fs::metadata(&kept).expect("kept").mode() & 0o777, 0o600);
        drop(connections);
        place.gone();
        place.tpms.end(MachineId(7)).expect("nothing to do");
        assert_eq!(fs::read_dir(place.dir.path().join("run")).expect("there").count(), 0);
    }

    #[test]
    fn one_that_was_left_waiting_is_replaced_and_none_is_left_over() {
        let place = place();
        place.start();
        place.start();
        assert_eq!(place.processes().len(), 1, "the first has ended");
        place.tpms.end(MachineId(7)).expect("ended");
        place.gone();
        place.tpms.end(MachineId(7)).expect("repeatable");
    }

    #[test]
    fn a_state_that_cannot_be_used_is_named() {
        let place = place();
        let nowhere = place.dir.path().join("nowhere");
        let error = place.tpms.start(MachineId(7), uid(), &nowhere).expect_err("no such folder");
        let cause = error.source.expect("a cause").to_string();
        assert!(cause.contains("nowhere"), "{cause}");
    }
}
