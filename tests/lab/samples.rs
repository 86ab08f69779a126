//! Days of samples and reports: brought as a folder or an archive, looked at by the real check,
//! replaced, told of and kept no longer than wanted. The samples are harmless texts.

use anyhow::{Context, Result, ensure};
use nonstop_testkit::{
    lab::{DATA_DOMAINS, Lab},
    place::wait_for,
};
use nonstop_tests::{GuestShell, World};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Samples, reports and packets in one; files alone in the other.
const DOMAINS: &str = "\
data_domains:
  lab:
    interface: nsd0
    network: 10.80.0.0/24
    keep_days: 3
    servers:
      pcap: { address: 10.80.0.3, tcp: [80] }
      samples: { address: 10.80.0.5, tcp: [80] }
      reports: { address: 10.80.0.6, tcp: [80] }
  packets:
    interface: nsd1
    network: 10.81.0.0/24
    servers:
      pcap: { address: 10.81.0.3, tcp: [80] }
";

fn sum(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A folder of a day with one sample and its report, made anew.
pub(crate) fn day(lab: &Lab, name: &str, sample: &[u8]) -> Result<PathBuf> {
    let folder = lab.dir().join("brought").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(folder.join("samples"))?;
    fs::create_dir_all(folder.join("reports"))?;
    let hash = sum(sample);
    fs::write(folder.join("samples").join(&hash), sample)?;
    let report = json!({
        "info": { "version": "2.4-CAPE", "started": "2025-01-31 10:00:00" },
        "target": { "category": "file", "file": { "name": "a.txt", "sha256": hash } },
        "behavior": { "processes": [{ "process_name": "harmless.exe", "pid": 7 }] },
        "signatures": [],
    });
    fs::write(folder.join("reports").join(format!("{hash}.json")), report.to_string())?;
    let metadata = json!({ "sha256": hash, "family": "Harmless", "tags": ["test"] });
    fs::write(folder.join("metadata.jsonl"), format!("{metadata}\n"))?;
    Ok(folder)
}

fn publish(lab: &Lab, path: &Path) -> Result<Value> {
    publish_to(lab, "lab", path)
}

fn publish_to(lab: &Lab, domain: &str, path: &Path) -> Result<Value> {
    lab.cli(&["data", "publish", "--wait", "60", "--domain", domain, &path.display().to_string()])
}

fn shown(lab: &Lab) -> PathBuf {
    lab.state().join("data/lab/published/samples")
}

fn listed(lab: &Lab) -> Result<Vec<(String, String)>> {
    let domain = lab.cli(&["data", "list", "--domain", "lab"])?[0].clone();
    let days = domain["days"].as_array().context("days")?;
    let word = |value: &Value| value.as_str().unwrap_or_default().to_string();
    Ok(days.iter().map(|day| (word(&day["kind"]), word(&day["day"]))).collect())
}

fn holds(path: &Path, bytes: &[u8]) -> Result<bool> {
    let file = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(file.windows(bytes.len()).any(|window| window == bytes))
}

#[test]
fn a_day_of_samples_is_brought_as_a_folder_and_replaced_and_what_is_not_fit_is_put_aside()
-> Result<()> {
    let mut lab = Lab::temporary("samples")?.data_domains(DOMAINS).only(&["libvirtd", "nonstopd"]);
    lab.start()?;
    let sample = b"first harmless sample, told apart by these words";
    let folder = day(&lab, "2025-01-31", sample)?;
    let said = publish(&lab, &folder)?;
    let row = &said["publications"][0];
    ensure!(row["state"] == "published" && row["kind"] == "samples", "{said}");
    ensure!(row["content"]["samples"] == 1 && row["content"]["reports"] == 1, "{said}");

    // What lies there is whole, of who may read it, no program, and not the sample as it was.
    let place = shown(&lab).join("2025-01-31");
    let note: Value = serde_json::from_slice(&fs::read(place.join("day.json"))?)?;
    ensure!(note["sha256"] == row["content"]["sha256"], "{note}");
    for (file, length) in [
        ("samples.pack", "pack_bytes"),
        ("reports.pack", "reports_bytes"),
        ("index.db", "index_bytes"),
        ("hashes", "hashes_bytes"),
    ] {
        let about = fs::metadata(place.join(file))?;
        ensure!(note[length] == about.len() && about.len() > 0, "{file}: {note}");
        ensure!(about.permissions().mode() & 0o7777 == 0o440 && about.uid() == 0, "{file}");
        ensure!(!holds(&place.join(file), sample)?, "{file} holds the sample as it is");
    }
    let reads = |user: &str, groups: &str, file: &str| {
        let line = format!("cat {} >/dev/null", place.join(file).display());
        let words = ["setpriv", "--reuid", user, "--regid", user, groups, "sh", "-c", &line];
        Ok::<_, anyhow::Error>(lab.inside()?.output(&words)?.status.success())
    };
    let none = "--clear-groups";
    let (data, both) = ("nonstop-data", "--groups=64103");
    ensure!(reads(data, none, "index.db")? && reads(data, none, "reports.pack")?);
    ensure!(!reads(data, none, "samples.pack")?, "a catalogue cannot give out a byte");
    ensure!(reads("nonstop-samples", both, "samples.pack")?);
    ensure!(reads("nonstop-samples", both, "index.db")?);
    for other in ["nonstop-portal", "nonstop-rdb", "nonstop-screen"] {
        ensure!(!reads(other, none, "samples.pack")?, "{other}");
    }

    // The same day again, as an archive, in place of the first; beside it one of packets.
    let second = day(&lab, "2025-01-31", b"second harmless sample")?;
    let archive = lab.dir().join("brought/20250131.samples.tar");
    let tar = archive.display().to_string();
    lab.enter(&["tar", "-C", &second.display().to_string(), "-cf", &tar, "samples", "reports"])?;
    let said = publish(&lab, &archive)?;
    ensure!(said["publications"][0]["state"] == "published", "{said}");
    let packets = crate::publication::file(&lab, "2025-01-31.pcap", 1_738_281_600, 3)?;
    publish(&lab, &packets)?;
    let expected = ["pcap", "samples"].map(|kind| (kind.to_string(), "2025-01-31".to_string()));
    ensure!(listed(&lab)? == expected, "{:?}", listed(&lab)?);

    // Each wrong in its way; said to whoever brought it, and kept with the reason.
    let wrong = |name: &str, change: &dyn Fn(&Path) -> Result<()>| -> Result<String> {
        let folder = day(&lab, name, sample)?;
        change(&folder)?;
        let path = folder.display().to_string();
        let said = lab.cli_refuses(&["data", "publish", "--domain", "lab", &path])?;
        // Wrapped for a terminal, with a bar before each line.
        Ok(said.replace('│', " ").split_whitespace().collect())
    };
    let hash = sum(sample);
    let said = wrong("2025-02-01", &|folder| {
        Ok(fs::write(folder.join("samples").join(&hash), "something else")?)
    })?;
    ensure!(said.contains(&format!("samples/{hash}")), "{said}");
    let report = format!("reports/{hash}.json");
    for text in ["{\"target\": {", "{}", &format!("{}1{}", "[".repeat(5000), "]".repeat(5000))] {
        let said = wrong("2025-02-01", &|folder| Ok(fs::write(folder.join(&report), text)?))?;
        ensure!(said.contains(&report), "{said}");
    }
    let said = wrong("2025-02-01", &|folder| Ok(fs::write(folder.join("samples/virus"), "x")?))?;
    ensure!(said.contains("samples/virus"), "{said}");
    let domain = lab.cli(&["data", "list", "--domain", "lab"])?[0].clone();
    let rejected = domain["rejected"].as_array().context("a list")?;
    ensure!(rejected.len() == 5, "{domain}");
    for row in rejected {
        let (id, name) = (row["id"].as_str().context("id")?, row["file"].as_str().context("file")?);
        let folder = lab.state().join("data/lab/rejected/samples");
        ensure!(folder.join(format!("{id}-{name}")).exists(), "{name} is kept");
        let note = fs::read_to_string(folder.join(format!("{id}.txt")))?;
        ensure!(Some(note.trim()) == row["reason"].as_str(), "{note}");
    }
    let path = day(&lab, "2025-02-01", sample)?.display().to_string();
    let said = lab.cli_refuses(&["data", "publish", "--domain", "packets", &path])?;
    ensure!(
        said.replace('│', " ")
            .split_whitespace()
            .collect::<String>()
            .contains("noserverofthisdatadomain"),
        "{said}"
    );
    ensure!(listed(&lab)? == expected, "nothing else is seen");

    // Kept as long as days are, counted by kind; a cut in between leaves nothing behind.
    publish(&lab, &day(&lab, "2025-02-02", sample)?)?;
    lab.power_cut()?;
    lab.start()?;
    publish(&lab, &day(&lab, "2025-02-04", sample)?)?;
    wait_for("the oldest day to go", PATIENCE, || {
        let days = listed(&lab)?;
        let expected =
            [("pcap", "2025-01-31"), ("samples", "2025-02-02"), ("samples", "2025-02-04")];
        Ok((days == expected.map(|(kind, day)| (kind.into(), day.into()))).then_some(()))
    })?;
    wait_for("the rest to be cleared away", PATIENCE, || {
        let taking = fs::read_dir(lab.state().join("data/lab/taking"))?.count();
        let shown = fs::read_dir(shown(&lab))?.count();
        Ok((taking == 0 && shown == 2).then_some(()))
    })
}

/// The shipped templates' reach, with a guest that is up in seconds.
const TEMPLATES: [(&str, &str); 5] = [
    (
        "static",
        "version: 1\ntitle: static\ndomain: intermediate\nmachines:\n\
         - {role: analyst, image: micro, memory_mib: 96, reach: [samples, reports, airlock]}\n",
    ),
    (
        "darknet",
        "version: 1\ntitle: darknet\ndomain: intermediate\nmachines:\n\
         - {role: analyst, image: micro, memory_mib: 96, reach: [live, pcap, rdb, airlock]}\n",
    ),
    (
        "mws",
        "version: 1\ntitle: mws\ndomain: mws\nmachines:\n\
         - {role: analyst, image: micro, memory_mib: 96, reach: [pcap, rdb, airlock]}\n",
    ),
    (
        "dynamic",
        "version: 1\ntitle: dynamic\ndomain: intermediate\nmachines:\n\
         - {role: debugger, image: micro, memory_mib: 96, networks: [access, link], \
         reach: [reports, airlock]}\n\
         - {role: debuggee, image: micro, memory_mib: 96, networks: [link]}\n",
    ),
    (
        "overview",
        "version: 1\ntitle: overview\nrdp: none\ndomain: intermediate\nmachines:\n\
         - {role: analyst, image: micro, memory_mib: 96, reach: [catalogue, airlock]}\n",
    ),
];

/// A server of `intermediate` that only tells of samples.
const CATALOGUE: &str =
    "catalogue: { address: 10.80.0.7, tcp: [80], resource: samples, bytes: false }";

/// What the machine gets at `url`, and whether all of it came.
fn get(shell: &mut GuestShell, url: &str) -> Result<(String, bool)> {
    let said = shell.run(&format!(
        "rm -f /tmp/got; wget -T 5 -qO /tmp/got {url} 2>/dev/null; echo =$?; cat /tmp/got 2>/dev/null"
    ))?;
    let (code, text) = said.split_once('\n').unwrap_or((&said, ""));
    Ok((text.to_string(), code == "=0"))
}

/// The machine `id` of `environment`, once it has its address.
fn shell(world: &World, environment: &str, id: &str, address: &str) -> Result<GuestShell> {
    world.in_state(environment, "ready")?;
    let mut shell = GuestShell::connect(&world.lab, id)?;
    wait_for("the guest's address", PATIENCE, || {
        Ok(shell.run("ip -4 addr show")?.contains(address).then_some(()))
    })?;
    Ok(shell)
}

#[test]
fn samples_and_reports_are_found_and_taken_by_the_right_machines_and_by_no_other() -> Result<()> {
    let mut world = World::off("found", "")?;
    for (name, text) in TEMPLATES {
        fs::write(world.lab.dir().join(format!("templates/{name}.yaml")), text)?;
    }
    let domains = DATA_DOMAINS.replacen("servers:\n", &format!("servers:\n      {CATALOGUE}\n"), 1);
    world.lab = world.lab.data_domains(&domains).with_data();
    world.lab.start()?;
    let sample = b"harmless, and looked for from inside machines";
    publish_to(&world.lab, "intermediate", &day(&world.lab, "2025-01-31", sample)?)?;
    let hash = sum(sample);
    world.lab.researcher("alice", 10)?;
    world.lab.researcher_of("mws", "erin", 11)?;
    for (person, template) in [
        ("alice", "static"),
        ("alice", "darknet"),
        ("erin", "mws"),
        ("alice", "dynamic"),
        ("alice", "overview"),
    ] {
        world.grant(person, template)?;
    }

    // Found by a word of its report, and by how its hash begins; taken, and what it should be.
    let mut analyst = shell(&world, "e1", "m1", "10.77.0.2")?;
    let (found, whole) = get(&mut analyst, "'http://samples/search.json?text=harmless.exe'")?;
    ensure!(whole && found.contains(&hash), "{found}");
    let (known, _) = get(&mut analyst, &format!("http://samples/samples/{}.json", &hash[..12]))?;
    ensure!(known.contains("Harmless"), "{known}");
    let (_, whole) = get(&mut analyst, &format!("http://samples/samples/{hash}/plain"))?;
    let summed = analyst.run("sha256sum /tmp/got")?;
    ensure!(whole && summed.starts_with(&hash), "{summed}");
    let (_, whole) = get(&mut analyst, &format!("http://samples/samples/{hash}/zip"))?;
    let begin = analyst.run("head -c 2 /tmp/got; grep -c looked /tmp/got")?;
    ensure!(whole && begin == "PK0", "a zip, and not readable as it lies: {begin}");
    let (report, _) = get(&mut analyst, &format!("http://reports/reports/{hash}/2025-01-31"))?;
    ensure!(report.contains("harmless.exe") && report.contains(&hash), "{report}");
    let (_, whole) = get(&mut analyst, &format!("http://reports/samples/{hash}/plain"))?;
    ensure!(!whole, "the server of reports has bytes of samples");
    wait_for("the fetch in the trace", PATIENCE, || {
        let rows = world.lab.cli(&["trace", "list", "--limit", "200"])?;
        let rows = rows.as_array().context("rows")?;
        let taken = rows.iter().map(Value::to_string).find(|row| {
            let what = row.contains(&format!("sample {hash}"));
            what && row.contains("\"e1\"") && row.contains("alice")
        });
        Ok(taken.map(drop))
    })?;

    // By name or by address: nobody else gets a byte.
    let urls = ["10.80.0.5", "10.80.0.6"].map(|at| format!("http://{at}/search.json"));
    for (environment, machine, address) in [("e2", "m2", "10.77.0.18"), ("e3", "m3", "10.77.0.34")]
    {
        let mut other = shell(&world, environment, machine, address)?;
        for url in &urls {
            let (said, whole) = get(&mut other, url)?;
            ensure!(!whole && said.is_empty(), "{environment} got {said} of {url}");
        }
    }
    let mut debugger = shell(&world, "e4", "m4", "10.77.0.50")?;
    let (found, whole) = get(&mut debugger, "http://reports/search.json")?;
    ensure!(whole && found.contains(&hash), "reports are a debugger's: {found}");
    let (said, whole) = get(&mut debugger, &urls[0])?;
    ensure!(!whole && said.is_empty(), "and samples are not: {said}");

    // Where the template says so, what is known of samples and never a byte of one.
    let mut overview = shell(&world, "e5", "m6", "10.77.0.66")?;
    let (known, _) = get(&mut overview, &format!("http://catalogue/samples/{hash}.json"))?;
    ensure!(known.contains("Harmless") && known.contains(&hash), "{known}");
    for form in ["plain", "zip"] {
        let url = format!("http://catalogue/samples/{hash}/{form}");
        let (said, whole) = get(&mut overview, &url)?;
        ensure!(!whole && !said.contains("looked for"), "{form}: {said}");
    }
    for url in &urls {
        let (said, whole) = get(&mut overview, url)?;
        ensure!(!whole && said.is_empty(), "{said} of {url}");
    }
    Ok(())
}
