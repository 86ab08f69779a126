//! The lab's own rules: a folder of YARA rules and programs, read anew for each file, so that a change
//! counts from the next one on.

use super::{Child, Looked, failed, heard};
use nonstop_model::screening::{Failure, Kind, Measured, RuleId, Screening};
use ring::digest::{Context, SHA256};
use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

/// The largest rule or program that counts, in bytes.
const LARGEST: u64 = 64 << 20;
/// How many rules and programs there may be.
const MOST: usize = 1000;

/// The rules of a lab at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabRules {
    folder: PathBuf,
    seen: Vec<RulesSeen>,
    broken: Vec<String>,
}

/// One file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesSeen {
    /// Its path below the folder.
    pub name: String,
    /// SHA-256 of what it says, in hex.
    pub sha256: String,
    /// Whether it is a program.
    pub program: bool,
}

impl LabRules {
    /// Reads `folder`. That there is none is no fault; a file that cannot be taken is told and left
    /// out.
    ///
    /// Taken are `*.yar` and `*.yara` of the folder itself and what can be run in `programs/`:
    /// regular files that root alone can write.
    pub fn read(folder: &Path) -> LabRules {
        let mut rules = LabRules { folder: folder.into(), ..LabRules::default() };
        rules.take(folder, "", |name| name.ends_with(".yar") || name.ends_with(".yara"));
        rules.take(&folder.join("programs"), "programs/", |name| !name.starts_with('.'));
        rules.seen.sort_by(|a, b| a.name.cmp(&b.name));
        rules
    }

    fn take(&mut self, folder: &Path, below: &str, wanted: impl Fn(&str) -> bool) {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return,
            Err(e) => return self.broken.push(format!("read {}: {e}", folder.display())),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => return self.broken.push(format!("read {}: {e}", folder.display())),
            };
            let (name, path) = (entry.file_name(), entry.path());
            if !wanted(&name.to_string_lossy()) {
                continue;
            }
            let Some(name) = name.to_str() else {
                self.broken.push(format!("{}: its name is not UTF-8", path.display()));
                continue;
            };
            if self.seen.len() >= MOST {
                return self.broken.push(format!("{}: more than {MOST} rules", folder.display()));
            }
            match seen(&path, format!("{below}{name}"), !below.is_empty()) {
                Ok(seen) => self.seen.push(seen),
                Err(why) => self.broken.push(format!("{}: {why}", path.display())),
            }
        }
    }

    /// The files that count.
    pub fn seen(&self) -> &[RulesSeen] {
        &self.seen
    }

    /// What could not be taken.
    pub(super) fn failures(&self) -> Vec<Failure> {
        let rule: RuleId = RuleId::BROKEN.parse().expect("a rule of ours");
        let failure = |what: &String| Failure { rule: rule.clone(), what: what.clone() };
        self.broken.iter().map(failure).collect()
    }

    /// SHA-256, in hex, over the version of our own checks, the lab's policy and every file of rules.
    pub fn digest(&self, policy: &Screening) -> String {
        let mut hash = Context::new(&SHA256);
        hash.update(format!("nonstop screening 1\n{}\n", env!("CARGO_PKG_VERSION")).as_bytes());
        hash.update(&serde_json::to_vec(policy).expect("a policy is plain data"));
        for seen in &self.seen {
            hash.update(format!("\n{} {}", seen.sha256, seen.name).as_bytes());
        }
        hex::encode(hash.finish())
    }

    /// Looks into `file`, which begins as a `kind` does, with all of them, and into what it is from
    /// within. A program that fails, or is not done in time, is a failure; the others count.
    pub(super) fn look(
        &self,
        child: &Child,
        policy: &Screening,
        file: &OwnedFd,
        measured: &Measured,
    ) -> Looked {
        let patience = policy.patience(measured.bytes);
        let (programs, yara): (Vec<_>, Vec<_>) = self.seen.iter().partition(|seen| seen.program);
        let path = |seen: &RulesSeen| self.folder.join(&seen.name).display().to_string();
        let kind = measured.kind.word();
        let yara: Vec<String> = yara.into_iter().map(path).collect();
        let mut words = vec!["rules", "--kind", kind];
        words.extend(yara.iter().flat_map(|path| ["--rule", path]));
        let said = child.run(&words, Some(file), heard::LONGEST, patience);
        let mut all = match said.and_then(|said| heard::found(&said, "yara")) {
            Ok(mut looked) => {
                looked.kind = looked.kind.filter(|kind| refines(measured.kind, *kind));
                looked
            }
            Err(what) => Looked { failures: vec![failed("rules", &what)], ..Looked::default() },
        };
        let kind = all.kind.unwrap_or(measured.kind).word();
        for program in programs {
            let path = path(program);
            let words = ["run", "--program", &path, "--kind", kind, "--sha256", &measured.sha256];
            let said = child.run(&words, Some(file), heard::LONGEST, patience);
            match said.and_then(|said| heard::found(&said, &speaks_as(&program.name))) {
                Ok(looked) => all.remarks.extend(looked.remarks),
                Err(what) => all.failures.push(failed(&program.name, &what)),
            }
        }
        all
    }
}

/// What the rules of the program at `name` begin with: its name without ending.
fn speaks_as(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    let stem = file.split('.').next().unwrap_or(file);
    let fine = |c: &char| c.is_ascii_alphanumeric() || "_-".contains(*c);
    format!("program.{}", stem.chars().filter(fine).take(40).collect::<String>())
}

/// Whether a container that begins as a `begin` does may be a `within` from within.
fn refines(begin: Kind, within: Kind) -> bool {
    match begin.word() {
        "zip" => {
            ["docx", "xlsx", "pptx", "ooxml-macro", "odf", "epub", "jar"].contains(&within.word())
        }
        "ole" => within.word() == "msi",
        _ => false,
    }
}

/// What `path` is, if it can be taken.
fn seen(path: &Path, name: String, program: bool) -> Result<RulesSeen, String> {
    let told = |e: io::Error| e.to_string();
    let about = fs::metadata(path).map_err(told)?;
    if !about.is_file() {
        return Err("is no file".into());
    }
    if about.uid() != 0 || about.permissions().mode() & 0o022 != 0 {
        return Err("others than root can write it: `chown root`, `chmod go-w`".into());
    }
    if program && about.permissions().mode() & 0o111 == 0 {
        return Err("cannot be run: `chmod +x`, or move it elsewhere".into());
    }
    if about.len() > LARGEST {
        return Err(format!("has more than {} MiB", LARGEST >> 20));
    }
    let says = fs::read(path).map_err(told)?;
    let sha256 = hex::encode(ring::digest::digest(&SHA256, &says));
    Ok(RulesSeen { name, sha256, program })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    #[test]
    fn a_rule_whose_name_cannot_be_said_is_told_of_and_what_is_no_rule_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in [&b"a\xff.yar"[..], b"notes\xff.txt"] {
            fs::write(folder.path().join(OsStr::from_bytes(name)), b"rule a {}").expect("written");
        }
        let rules = LabRules::read(folder.path());
        assert!(rules.seen().is_empty());
        let told: Vec<String> = rules.failures().into_iter().map(|failure| failure.what).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].ends_with(".yar: its name is not UTF-8"), "{told:?}");
    }
}
