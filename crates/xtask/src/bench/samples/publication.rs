//! A day published by ours, and copied and hashed by its peers.

use super::store::{Domain, Programs, day};
use crate::{run::run, workspace};
use anyhow::{Context, Result, ensure};
use nonstop_testkit::interrupt;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Measured in turn; one round more warms all up.
const ROUNDS: usize = 5;

/// The times of ours, of 20,000 files, and of the tar as it is.
pub(super) fn measure(programs: &Programs) -> Result<[Vec<Duration>; 3]> {
    let mut all: [Vec<Duration>; 3] = Default::default();
    let files = Files::new()?;
    for round in 0..=ROUNDS {
        interrupt::check()?;
        let domain = Domain::new(programs)?;
        let day = day(0);
        let tar = domain.arrives(&day);
        programs.generate(&day, 0, true, &tar)?;
        if round == 0 {
            let unpacked = files.unpacked();
            run("tar", Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(unpacked))?;
        }
        let mut times = [Duration::ZERO; 3];
        // Ours takes the tar away, so it is after the tar's own peer; who is first goes round.
        let order = match round % 2 {
            0 => [2, 0, 1],
            _ => [1, 2, 0],
        };
        for which in order {
            run("sync", Command::new("sync").arg("-f").arg(&files.0))?;
            times[which] = match which {
                0 => domain.publish(Some(&day))?,
                1 => files.copy(round)?,
                _ => whole(&tar, &domain.beside("copied.tar"))?,
            };
        }
        let counted = if round == 0 { " (not counted)" } else { "" };
        let [ours, files, tar] = times.map(|time| time.as_millis());
        eprintln!("    round {round}{counted}: {ours} ms / {files} ms as files, {tar} ms as a tar");
        if round > 0 {
            all.iter_mut().zip(times).for_each(|(all, time)| all.push(time));
        }
    }
    Ok(all)
}

/// The samples and reports as files, and what was copied of them; until it is dropped.
struct Files(PathBuf);

impl Files {
    fn new() -> Result<Files> {
        let files = Files(workspace::target()?.join("bench-samples-files"));
        if files.0.exists() {
            fs::remove_dir_all(&files.0)
                .with_context(|| format!("remove {}", files.0.display()))?;
        }
        fs::create_dir_all(files.unpacked())?;
        Ok(files)
    }

    fn unpacked(&self) -> PathBuf {
        self.0.join("unpacked")
    }

    /// Copies and hashes all, and shows the copy in one step once it is on the disk.
    fn copy(&self, round: usize) -> Result<Duration> {
        let to = self.0.join(format!("copied{round}"));
        let took = timed(
            "set -e; cp -r \"$1\" \"$2.new\"; cd \"$2.new\"; \
             find . -type f -print0 | xargs -0 openssl dgst -sha256 -r >sums; \
             sync -f sums; mv \"$2.new\" \"$2\"; sync \"${2%/*}\"",
            &self.unpacked(),
            &to,
        )?;
        // They stay as empty files: ext4 looks long for inodes where many were removed of late, and
        // the next copy would take three times as long.
        let script = "find \"$1\" -type f -print0 | xargs -0 truncate -s 0";
        run("truncate", Command::new("sh").args(["-c", script, "sh"]).arg(to))?;
        Ok(took)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _left_for_the_next_run = fs::remove_dir_all(&self.0);
    }
}

/// Copies and hashes the file `from`.
fn whole(from: &Path, to: &Path) -> Result<Duration> {
    let took = timed(
        "set -e; cp \"$1\" \"$2.new\"; openssl dgst -sha256 -r \"$2.new\" >\"$2.sum\"; \
         sync \"$2.new\" \"$2.sum\"; mv \"$2.new\" \"$2\"; sync \"${2%/*}\"",
        from,
        to,
    )?;
    fs::remove_file(to).context("remove a copy")?;
    Ok(took)
}

/// How long `script` takes with `from` and `to`.
fn timed(script: &str, from: &Path, to: &Path) -> Result<Duration> {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(from).arg(to);
    let begun = Instant::now();
    let ended = command.stdin(Stdio::null()).status().context("start a peer")?;
    let took = begun.elapsed();
    ensure!(ended.success(), "copying and hashing ended with {ended}");
    Ok(took)
}
