//! Days in a folder, made by the program itself.

use anyhow::{Context, Result, ensure};
use nonstop_samples::digest::Digest;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_nonstop-samples");
/// Who may read samples, and who may read the rest, on the machine that runs these tests.
pub(crate) const SAMPLES: u32 = 64301;
pub(crate) const DATA: u32 = 64302;

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// A sample as a member of a day.
pub(crate) fn sample(bytes: &[u8]) -> (String, Vec<u8>) {
    (format!("samples/{}", digest(bytes)), bytes.to_vec())
}

/// A report of `of`, in which the mutex `word` is made, as a member.
pub(crate) fn report(of: Digest, word: &str) -> (String, Vec<u8>) {
    let text = json!({
        "info": { "version": "2.4-CAPE", "started": "2026-11-27 10:00:00" },
        "target": { "file": { "sha256": of.to_string() } },
        "behavior": { "summary": { "mutexes": [word] } },
        "network": { "domains": [{ "domain": "c2.example.com" }] },
    });
    (format!("reports/{of}.json"), text.to_string().into_bytes())
}

/// A tar of `members`.
pub(crate) fn tar_of(members: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, &bytes[..])?;
    }
    Ok(tar.into_inner()?)
}

/// A folder of published days.
pub(crate) struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    pub(crate) fn new() -> Result<Ground> {
        let dir = tempfile::Builder::new().prefix("samples-").tempdir()?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let ground = Ground { dir };
        fs::create_dir(ground.published())?;
        own(&ground.published(), DATA, 0o750)?;
        Ok(ground)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn published(&self) -> PathBuf {
        self.path().join("published")
    }

    /// What `check-samples` says last of the archive `tar`, whose files become those of `folder`.
    pub(crate) fn check(&self, tar: &[u8], folder: &Path) -> Result<String> {
        fs::write(self.path().join("day.tar"), tar)?;
        let line = format!(
            "cd {} && exec {PROGRAM} check-samples --day 2026-11-27 --from 2026-11-27T00:00:00Z \
             --until 2026-11-28T00:00:00Z --uid {DATA} --gid {DATA} \
             <{}/day.tar 3<>samples.pack 4<>reports.pack 5<>index.db 6<>hashes",
            folder.display(),
            self.path().display()
        );
        said(Command::new("sh").args(["-c", &line]), "")
    }

    /// Publishes `members` as `day`, as `nonstopd` does.
    pub(crate) fn publish(&self, day: &str, members: &[(String, Vec<u8>)]) -> Result<()> {
        let folder = self.path().join("new");
        fs::create_dir(&folder)?;
        let last = self.check(&tar_of(members)?, &folder)?;
        ensure!(last.contains("\"packed\""), "{last}");
        own(&folder.join("samples.pack"), SAMPLES, 0o440)?;
        own(&folder.join("reports.pack"), DATA, 0o440)?;
        own(&folder.join("index.db"), DATA, 0o440)?;
        own(&folder, DATA, 0o750)?;
        Ok(fs::rename(&folder, self.published().join(day))?)
    }

    /// What `verb` answers to `asked`, run as the user and in the groups `who`.
    pub(crate) fn ask(&self, verb: &str, who: &[&str], asked: &str) -> Result<String> {
        let out = self.path().join("out");
        File::create(&out)?;
        let line = format!(
            "exec {PROGRAM} {verb} --data {} \"$@\" 3<>{}",
            self.published().display(),
            out.display()
        );
        said(Command::new("sh").args(["-c", &line, "sh"]).args(who), asked)
    }
}

/// Gives `path` to the group `gid` with `mode`.
pub(crate) fn own(path: &Path, gid: u32, mode: u32) -> Result<()> {
    chown(path, Some(0), Some(gid))?;
    Ok(fs::set_permissions(path, Permissions::from_mode(mode))?)
}

/// The last line that `command` says, given `input`.
fn said(command: &mut Command, input: &str) -> Result<String> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut to) = child.stdin.take() {
        use std::io::Write as _;
        // One that does not read is no fault of ours.
        let _ = to.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    let last = text.lines().last().map(String::from);
    last.with_context(|| {
        format!("it said nothing ({}): {}", output.status, String::from_utf8_lossy(&output.stderr))
    })
}
