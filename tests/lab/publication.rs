//! Days of data: brought, published, replaced and told of, with the daemon killed, the power cut and
//! the disk full meanwhile. What readers see is whole, or not there.

use anyhow::{Context, Result, ensure};
use nonstop_testkit::{lab::Lab, place::wait_for};
use nonstop_tests::write_pcap;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

/// Signal 9.
const KILL: i32 = 9;
/// The beginning of 2025-01-31 in Japan, in seconds since 1970.
pub(crate) const DAY: u32 = 1_738_249_200;
const PATIENCE: Duration = Duration::from_secs(60);

/// Files alone: days of `files` begin as in Japan and three are kept; `elsewhere` is the lab's own.
const DOMAINS: &str = "\
data_domains:
  files:
    interface: nsd0
    network: 10.80.0.0/24
    utc_offset_minutes: 540
    keep_days: 3
    servers:
      pcap: { address: 10.80.0.3, tcp: [80] }
  more:
    interface: nsd1
    network: 10.81.0.0/24
    servers:
      pcap: { address: 10.81.0.3, tcp: [80] }
  elsewhere:
    interface: outside0
    network: 10.82.0.0/24
    here: false
    servers:
      pcap: { address: 10.82.0.3, tcp: [80] }
";

fn lab(name: &str) -> Result<Lab> {
    let lab = Lab::temporary(name)?.data_domains(DOMAINS).only(&["libvirtd", "nonstopd"]);
    Ok(lab)
}

/// A file to bring, outside of every inbox.
pub(crate) fn file(lab: &Lab, name: &str, from: u32, packets: u32) -> Result<PathBuf> {
    let folder = lab.dir().join("brought");
    fs::create_dir_all(&folder)?;
    let path = folder.join(name);
    write_pcap(&path, from, packets)?;
    Ok(path)
}

fn publish(lab: &Lab, path: &Path) -> Result<Value> {
    lab.cli(&["data", "publish", "--domain", "files", &path.display().to_string()])
}

fn domain(lab: &Lab) -> Result<Value> {
    Ok(lab.cli(&["data", "list", "--domain", "files"])?[0].clone())
}

fn shown(lab: &Lab) -> PathBuf {
    lab.state().join("data/files/published/pcap")
}

/// The days that are seen, each looked at as a reader would: opened once, and read.
fn whole(folder: &Path) -> Result<Vec<(String, u64)>> {
    let mut days = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        // Through one handle, so that all of it is of one version.
        let Ok(handle) = File::open(entry.path()) else { continue };
        use std::os::fd::AsRawFd;
        let inside = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
        let Ok(note) = fs::read(inside.join("day.json")) else {
            // A version that was replaced meanwhile is being removed.
            ensure!(is_gone(&handle, &entry.path())?, "{name} has no note");
            continue;
        };
        let note: Value = serde_json::from_slice(&note).context("a torn note")?;
        let file = note["file"].as_str().context("no file")?;
        let Ok(bytes) = fs::read(inside.join(file)) else {
            ensure!(is_gone(&handle, &entry.path())?, "{name} has no file");
            continue;
        };
        let sum = hex::encode(Sha256::digest(&bytes));
        ensure!(note["sha256"] == sum, "{name} is not what its note says");
        days.push((name, note["packets"].as_u64().context("no packets")?));
    }
    days.sort();
    Ok(days)
}

/// Whether the folder behind `handle` is no longer the one at `path`.
fn is_gone(handle: &File, path: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let own = handle.metadata()?.ino();
    Ok(fs::metadata(path).map_or(true, |now| now.ino() != own))
}

fn nothing_left_over(lab: &Lab) -> Result<()> {
    let data = lab.state().join("data/files");
    wait_for("the rest to be cleared away", PATIENCE, || {
        let names = |folder: &str| -> Result<Vec<String>> {
            let entries = fs::read_dir(data.join(folder))?;
            Ok(entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
        };
        let hidden = names("published/pcap")?.iter().any(|name| name.starts_with('.'));
        let left = [names("taking")?, names("inbox/pcap")?].concat();
        Ok((!hidden && left.is_empty()).then_some(()))
    })
}

#[test]
fn days_are_brought_replaced_and_told_of_and_what_is_not_fit_is_put_aside_with_its_reason()
-> Result<()> {
    let mut lab = lab("publication")?;
    lab.start()?;
    let path = file(&lab, "2025-01-31.pcap", DAY, 100)?;
    let said = publish(&lab, &path)?;
    let row = &said["publications"][0];
    ensure!(row["state"] == "published" && row["content"]["packets"] == 100, "{said}");
    ensure!(path.exists(), "the file that was brought stays where it was");
    ensure!(whole(&shown(&lab))? == [("2025-01-31".to_string(), 100)]);
    let folder = shown(&lab).join("2025-01-31").display().to_string();
    let here = format!("cd {folder} && sha256sum -c 2025-01-31.pcap.sha256");
    lab.enter(&["sh", "-c", &here])?;
    let as_user = |user: &str, line: &str| {
        let words = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "sh", "-c"];
        Ok::<_, anyhow::Error>(
            lab.inside()?.output(&[&words[..], &[line]].concat())?.status.success(),
        )
    };
    let read = format!("cat {folder}/2025-01-31.pcap >/dev/null");
    ensure!(as_user("nonstop-data", &read)?, "its server reads it");
    ensure!(!as_user("nonstop-data", &format!("echo > {folder}/2025-01-31.pcap"))?);
    ensure!(!as_user("nonstop-data", &format!("rm -r {folder}"))?);
    ensure!(!as_user("nonstop-portal", &read)?, "others do not");

    // Who had it open goes on with what it had.
    let mut old = File::open(shown(&lab).join("2025-01-31/2025-01-31.pcap"))?;
    let longer = file(&lab, "20250131.pcapng", DAY, 150)?;
    let said = publish(&lab, &longer)?;
    ensure!(said["publications"][0]["state"] == "published", "{said}");
    ensure!(whole(&shown(&lab))? == [("2025-01-31".to_string(), 150)]);
    let copied = std::io::copy(&mut old, &mut std::io::sink())?;
    ensure!(copied == fs::metadata(&path)?.len(), "{copied}");

    // Each wrong in its way; each said to whoever brought it, and kept.
    let torn = file(&lab, "2025-02-01.pcap", DAY + 86400, 10)?;
    let length = fs::metadata(&torn)?.len();
    File::options().write(true).open(&torn)?.set_len(length - 3)?;
    let brought = lab.dir().join("brought");
    let wrong = |name: &str, bytes: &[u8]| fs::write(brought.join(name), bytes);
    wrong("2025-02-02.pcap", b"")?;
    wrong("2025-02-03.pcap", b"\x1f\x8b\x08\x00 as gzip begins, and so on and on")?;
    file(&lab, "2025-02-04.pcap", DAY, 10)?;
    file(&lab, "yesterday.pcap", DAY, 10)?;
    file(&lab, "2025-02-05.pcap", DAY + 5 * 86400, 0)?;
    for (name, why) in [
        ("2025-02-01.pcap", "record 10"),
        ("2025-02-02.pcap", "empty"),
        ("2025-02-03.pcap", "gzip"),
        ("2025-02-04.pcap", "2025-01-30T15:00"),
        ("yesterday.pcap", "no day"),
        ("2025-02-05.pcap", "no packet"),
    ] {
        let path = brought.join(name).display().to_string();
        let said = lab.cli_refuses(&["data", "publish", "--domain", "files", &path])?;
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(said.contains(why) && said.contains(name), "{name}: {said}");
    }
    let listed = domain(&lab)?;
    let rejected = listed["rejected"].as_array().context("a list")?;
    // What is named after no day is not even brought.
    ensure!(rejected.len() == 5, "{listed}");
    for row in rejected {
        let (id, name) = (row["id"].as_str().context("id")?, row["file"].as_str().context("file")?);
        let folder = lab.state().join("data/files/rejected/pcap");
        ensure!(folder.join(format!("{id}-{name}")).exists(), "{name} is kept");
        let note = fs::read_to_string(folder.join(format!("{id}.txt")))?;
        ensure!(Some(note.trim()) == row["reason"].as_str(), "{note}");
    }
    ensure!(whole(&shown(&lab))? == [("2025-01-31".to_string(), 150)], "nothing else is seen");

    // The watcher takes what has settled, and says of the rest why not.
    let inbox = lab.state().join("data/files/inbox/pcap");
    for (name, days) in [("2025-02-01.pcap", 1), ("2025-02-02.pcap", 2), ("2025-02-03.pcap", 3)] {
        let path = file(&lab, name, DAY + days * 86400, 10 + days)?;
        let put = inbox.join(format!("{name}.part"));
        fs::copy(path, &put)?;
        let minute_ago = SystemTime::now() - Duration::from_secs(60);
        File::options().write(true).open(&put)?.set_modified(minute_ago)?;
        fs::rename(put, inbox.join(name))?;
    }
    symlink("/etc/passwd", inbox.join("2025-01-01.pcap"))?;
    wait_for("three more days, and the oldest to go", PATIENCE, || {
        let days = whole(&shown(&lab))?;
        let expected = [("2025-02-01", 11), ("2025-02-02", 12), ("2025-02-03", 13)];
        let expected = expected.map(|(day, packets)| (day.to_string(), packets));
        Ok((days == expected).then_some(()))
    })?;
    let listed = domain(&lab)?;
    let left = &listed["inbox"][0];
    ensure!(
        left["name"] == "2025-01-01.pcap" && left["note"].to_string().contains("link"),
        "{left}"
    );
    fs::remove_file(inbox.join("2025-01-01.pcap"))?;
    nothing_left_over(&lab)?;

    // What somebody does by hand is told, and mended by publishing again.
    fs::remove_dir_all(shown(&lab).join("2025-02-02"))?;
    wait_for("that to be told", PATIENCE, || {
        let problems = domain(&lab)?["problems"].to_string();
        Ok(problems.contains("2025-02-02: its folder was removed").then_some(()))
    })?;
    publish(&lab, &file(&lab, "2025-02-02.pcap", DAY + 2 * 86400, 20)?)?;
    ensure!(domain(&lab)?["problems"] == serde_json::json!([]), "{}", domain(&lab)?);

    // Where nothing is published, that is said.
    let path = path.display().to_string();
    let said = lab.cli_refuses(&["data", "publish", "--domain", "elsewhere", &path])?;
    ensure!(said.contains("here: false"), "{said}");
    let said = lab.cli_refuses(&["data", "publish", &path])?;
    ensure!(said.contains("--domain files or --domain more"), "{said}");
    let said = lab.cli_refuses(&["data", "load", "--domain", "files"])?;
    ensure!(said.contains("rdb"), "{said}");
    let rows = lab.cli(&["trace", "list", "--limit", "500"])?;
    let count = |action: &str| {
        rows.as_array().into_iter().flatten().filter(|row| row["action"] == action).count()
    };
    let counts = ["data.taken", "data.published", "data.rejected", "data.expired"].map(count);
    ensure!(counts == [11, 6, 5, 1], "{counts:?}");
    Ok(())
}

/// Looks at what is published over and over, until it is dropped.
struct Reader {
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicU32>,
    thread: Option<thread::JoinHandle<Result<()>>>,
}

impl Reader {
    fn of(folder: PathBuf) -> Reader {
        let (stop, looks) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let (until, count) = (Arc::clone(&stop), Arc::clone(&looks));
        let thread = thread::spawn(move || {
            while !until.load(Ordering::SeqCst) {
                whole(&folder)?;
                count.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        });
        Reader { stop, looks, thread: Some(thread) }
    }

    /// What it saw was whole each time.
    fn end(mut self) -> Result<u32> {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().context("it runs")?;
        thread.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        Ok(self.looks.load(Ordering::SeqCst))
    }
}

/// Publishes a day again and again, and has `cut` done a little later each time.
fn sweep(name: &str, cut: fn(&mut Lab) -> Result<()>) -> Result<()> {
    let mut lab = lab(name)?;
    lab.start()?;
    publish(&lab, &file(&lab, "2025-01-31.pcap", DAY, 1)?)?;
    let reader = Reader::of(shown(&lab));
    for turn in 0..14_u32 {
        let packets = 1400 - turn;
        let path = file(&lab, "2025-01-31.pcap", DAY, packets)?.display().to_string();
        lab.cli(&["data", "publish", "--domain", "files", "--no-wait", &path])?;
        thread::sleep(Duration::from_millis(u64::from(turn) * 4));
        cut(&mut lab)?;
        wait_for("the day", PATIENCE, || {
            let days = whole(&shown(&lab))?;
            Ok((days == [("2025-01-31".to_string(), u64::from(packets))]).then_some(()))
        })?;
        nothing_left_over(&lab)?;
    }
    let looks = reader.end()?;
    ensure!(looks > 50, "only {looks} looks");
    let listed = domain(&lab)?;
    ensure!(listed["rejected"] == serde_json::json!([]), "{listed}");
    Ok(())
}

#[test]
fn the_daemon_killed_while_a_day_is_published_leads_it_on() -> Result<()> {
    sweep("publication-killed", |lab| {
        lab.kill_service("nonstopd", KILL)?;
        lab.lab_box()?.wait_ready(Duration::from_secs(30))
    })
}

#[test]
fn the_power_cut_while_a_day_is_published_leaves_it_whole_or_away_and_then_leads_it_on()
-> Result<()> {
    sweep("publication-power", |lab| {
        lab.power_cut()?;
        whole(&shown(lab))?;
        lab.start()
    })
}

#[test]
fn on_a_full_disk_a_day_waits_with_the_reason_and_goes_on_when_there_is_room() -> Result<()> {
    // More than any disk has: nothing may be written.
    let mut lab = lab("publication-full")?.reserve(1 << 40);
    lab.start()?;
    let inbox = lab.state().join("data/files/inbox/pcap");
    let path = file(&lab, "2025-01-31.pcap", DAY, 100)?;
    let said =
        lab.cli_refuses(&["data", "publish", "--domain", "files", &path.display().to_string()])?;
    ensure!(said.contains("kept in reserve"), "{said}");
    ensure!(fs::read_dir(&inbox)?.count() == 0, "nothing was copied");
    fs::copy(&path, inbox.join("2025-01-31.pcap"))?;
    let begun = lab.cli(&["data", "publish", "--domain", "files", "--no-wait"])?;
    ensure!(begun["publications"][0]["id"] == "p1", "{begun}");
    wait_for("the reason", PATIENCE, || {
        let row = domain(&lab)?["under_way"][0].clone();
        let why = row["problem"]["message"].as_str().unwrap_or_default();
        Ok(why.contains("kept in reserve").then_some(()))
    })?;
    ensure!(whole(&shown(&lab))?.is_empty());
    lab.power_cut()?;
    let mut lab = lab.reserve(1);
    lab.start()?;
    wait_for("the day", PATIENCE, || Ok((whole(&shown(&lab))?.len() == 1).then_some(())))?;
    nothing_left_over(&lab)
}
