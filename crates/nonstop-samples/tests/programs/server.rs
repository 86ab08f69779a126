//! The servers of a data domain, asked by the tools that people have in their machines.

use crate::ground::{DATA, Ground, PROGRAM, SAMPLES, digest, own, report, sample};
use anyhow::{Context, Result, ensure};
use nonstop_api::{
    fetch::Fetch,
    samples::{SamplePage, SampleView},
};
use nonstop_testkit::{net::Namespace, place::wait_for};
use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A data domain whose three servers run; gone when dropped.
struct Servers {
    ground: Ground,
    net: Namespace,
    running: Vec<Child>,
}

const NAMES: [(&str, &str); 3] =
    [("samples", "10.80.0.5"), ("reports", "10.80.0.6"), ("catalogue", "10.80.0.7")];

impl Servers {
    fn new() -> Result<Servers> {
        let (ground, net) = (Ground::new()?, Namespace::new()?);
        let (at, here) = (ground.path().display().to_string(), net.place());
        here.line("ip link set lo up")?;
        for (_, address) in NAMES {
            here.line(&format!("ip address add {address}/32 dev lo"))?;
        }
        let lab = format!(
            "version: 1\nname: a test\nstate: {at}/state\nrun: {at}/run\ndata_domains:\n  \
             intermediate:\n    interface: nsd0\n    network: 10.80.0.0/24\n    servers:\n      \
             samples: {{ address: 10.80.0.5, tcp: [80] }}\n      \
             reports: {{ address: 10.80.0.6, tcp: [80] }}\n      \
             catalogue: {{ address: 10.80.0.7, tcp: [80], resource: samples, bytes: false }}\n"
        );
        fs::write(ground.path().join("lab.yaml"), lab)?;
        let published = ground.path().join("state/data/intermediate/published");
        fs::create_dir_all(&published)?;
        let mut users = fs::read_to_string("/etc/passwd")?;
        for (name, id) in [("nonstop-data", DATA), ("nonstop-samples", SAMPLES)] {
            users.push_str(&format!("{name}:x:{id}:{id}::/:/usr/sbin/nologin\n"));
        }
        fs::write(ground.path().join("passwd"), users)?;
        fs::rename(ground.published(), published.join("samples"))?;
        let mut servers = Servers { ground, net, running: Vec::new() };
        for (name, address) in NAMES {
            servers.start(name)?;
            wait_for("a server to answer", Duration::from_secs(20), || {
                Ok(servers.curl(&format!("http://{address}/")).ok())
            })
            .with_context(|| servers.log(name))?;
        }
        Ok(servers)
    }

    fn published(&self) -> PathBuf {
        self.ground.path().join("state/data/intermediate/published/samples")
    }

    fn start(&mut self, name: &str) -> Result<()> {
        let at = self.ground.path().display();
        let script = format!(
            "mount --make-rprivate / && mount --bind {at}/passwd /etc/passwd && \
             exec {PROGRAM} serve --server {name} --lab {at}/lab.yaml --domain intermediate \
             >{at}/{name}.out 2>{at}/{name}.log"
        );
        let mut command = self.net.place().command("unshare");
        command.args(["-m", "--", "sh", "-c", &script]).stdin(Stdio::null());
        self.running.push(command.spawn().context("start a server")?);
        Ok(())
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.ground.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// What the server `name` told of who took what.
    fn fetches(&self, name: &str) -> Result<Vec<Fetch>> {
        let told = fs::read_to_string(self.ground.path().join(format!("{name}.out")))?;
        told.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// What `curl` gets with `words`, where the answer is no error.
    fn curl(&self, words: &str) -> Result<Vec<u8>> {
        let line = format!("curl -sS --fail -m 10 {words}");
        let output = self.net.place().output(&["sh", "-c", &line])?;
        ensure!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }

    fn text(&self, words: &str) -> Result<String> {
        Ok(String::from_utf8(self.curl(words)?)?)
    }

    /// The status and fields of what `curl` gets with `words`.
    fn head(&self, words: &str) -> Result<String> {
        let line = format!("curl -sS -m 10 -o /dev/null -D - {words}");
        self.net.place().run(&["sh", "-c", &line])
    }

    fn publish(&self, day: &str, members: &[(String, Vec<u8>)]) -> Result<()> {
        fs::create_dir_all(self.ground.published())?;
        self.ground.publish(day, members)?;
        let to = self.published().join(day);
        Ok(fs::rename(self.ground.published().join(day), to)?)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            NAMES.iter().for_each(|(name, _)| eprintln!("{name}: {}", self.log(name)));
        }
        for child in &mut self.running {
            let _ended_already = child.kill();
            let _ = child.wait();
        }
    }
}

fn bytes() -> Vec<u8> {
    (0..150_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn begun() -> Result<Servers> {
    let servers = Servers::new()?;
    let one = digest(&bytes());
    servers.publish("2026-11-26", &[sample(&bytes()), report(one, "first")])?;
    servers.publish("2026-11-27", &[sample(b"#!/bin/sh\n"), report(one, "<script>x</script>")])?;
    Ok(servers)
}

#[test]
fn a_sample_is_found_taken_and_is_what_its_name_says() -> Result<()> {
    let (servers, hash) = (begun()?, digest(&bytes()).to_string());
    let at = "http://10.80.0.5";
    let page: SamplePage =
        serde_json::from_str(&servers.text(&format!("{at}/search.json?text=first"))?)?;
    assert_eq!(page.samples[0].sha256, hash);
    let by_accept =
        servers.text(&format!("-H 'Accept: application/json' '{at}/search?q={}'", &hash[..12]))?;
    assert!(by_accept.contains(&hash), "{by_accept}");
    let view: SampleView =
        serde_json::from_str(&servers.text(&format!("{at}/samples/{hash}.json"))?)?;
    assert_eq!((view.bytes, view.reports, view.days.len()), (Some(600_000), 2, 2));
    assert!(servers.curl(&format!("-L {at}/samples/{}/plain", &hash[..10]))? == bytes());
    let url = format!("{at}/samples/{hash}/plain");
    assert!(servers.curl(&format!("-r 1000-200999 {url}"))? == bytes()[1000..201_000]);
    assert!(servers.curl(&format!("-r -5 {url}"))? == bytes()[599_995..]);
    let head = servers.head(&format!("-I {url}"))?;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("Content-Length: 600000"), "{head}");
    assert!(head.contains(&format!("ETag: \"{hash}\"")), "{head}");
    let again = servers.head(&format!("-H 'If-None-Match: \"{hash}\"' {url}"))?;
    assert!(again.starts_with("HTTP/1.1 304"), "{again}");
    let beyond = servers.head(&format!("-r 600000- {url}"))?;
    assert!(beyond.starts_with("HTTP/1.1 416"), "{beyond}");
    let zip = servers.ground.path().join("x.zip");
    fs::write(&zip, servers.curl(&format!("{at}/samples/{hash}/zip"))?)?;
    let open = Command::new("unzip").args(["-P", "infected", "-p"]).arg(&zip).output()?;
    assert!(open.status.success() && open.stdout == bytes());
    let fetches = servers.fetches("samples")?;
    assert!(!fetches.is_empty());
    for fetch in &fetches {
        assert_eq!(
            (fetch.what.clone(), fetch.sha256.clone()),
            (format!("sample {hash}"), Some(hash.clone()))
        );
        assert_eq!((fetch.server.as_str(), fetch.requests), ("samples", 1));
    }
    Ok(())
}

#[test]
fn the_reports_server_gives_reports_and_cannot_read_a_sample() -> Result<()> {
    let (servers, hash) = (begun()?, digest(&bytes()).to_string());
    let at = "http://10.80.0.6";
    let list = servers.text(&format!("-H 'Accept: application/json' {at}/reports/{hash}"))?;
    assert_eq!(list.matches("\"run\":1").count(), 2, "{list}");
    let original = servers.curl(&format!("{at}/reports/{hash}/2026-11-26"))?;
    assert!(original == report(digest(&bytes()), "first").1);
    let told = servers.fetches("reports")?;
    assert_eq!(told[0].what, format!("report {hash} 2026-11-26"));
    for server in ["10.80.0.6", "10.80.0.7"] {
        for way in ["plain", "zip"] {
            let head = servers.head(&format!("http://{server}/samples/{hash}/{way}"))?;
            assert!(head.starts_with("HTTP/1.1 403"), "{server} {way}: {head}");
        }
        let known = servers.text(&format!("http://{server}/samples/{hash}.json"))?;
        assert!(known.contains("600000"), "{known}");
    }
    // Not by its word alone: its user has no way to them.
    let pack = servers.published().join("2026-11-26/samples.pack");
    let data = DATA.to_string();
    let read = Command::new("setpriv")
        .args(["--reuid", &data, "--regid", &data, "--clear-groups", "cat"])
        .arg(&pack)
        .output()?;
    assert!(!read.status.success() && read.stdout.is_empty());
    let none = servers.head(&format!("http://10.80.0.7/reports/{hash}/2026-11-26"))?;
    assert!(none.starts_with("HTTP/1.1 404"), "{none}");
    Ok(())
}

#[test]
fn a_page_shows_what_others_wrote_as_text_and_odd_requests_end_nothing() -> Result<()> {
    let (servers, hash) = (begun()?, digest(&bytes()).to_string());
    let page =
        servers.text("-H 'Accept-Language: ja' 'http://10.80.0.5/search?family=%3Cscript%3E'")?;
    assert!(page.contains("lang=\"ja\"") && !page.contains("<script>"), "{page}");
    for (target, status) in [
        ("/nothing", "404"),
        ("/samples/zz", "404"),
        ("/samples/abc", "404"),
        ("/samples/../../etc/passwd", "404"),
        ("/search?text=***", "400"),
        ("/search?from=x", "400"),
        ("/search?after=x", "400"),
        ("/search?limit=-1", "400"),
        ("/%00", "400"),
    ] {
        let head = servers.head(&format!("--path-as-is 'http://10.80.0.5{target}'"))?;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{target}: {head}");
    }
    let post = servers.head("-X POST http://10.80.0.5/")?;
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
    // What is broken on the disk is never given as whole.
    let pack = servers.published().join("2026-11-26/samples.pack");
    let mut broken = fs::read(&pack)?;
    broken[100_000] ^= 1;
    fs::write(&pack, broken)?;
    assert!(servers.curl(&format!("http://10.80.0.5/samples/{hash}/plain")).is_err());
    let log = servers.log("samples");
    assert!(log.contains("are broken on this disk"), "{log}");
    // A day that is exchanged is served as it is now.
    fs::rename(servers.published().join("2026-11-26"), servers.ground.path().join("old"))?;
    servers.publish("2026-11-26", &[sample(b"another")])?;
    own(&servers.published().join("2026-11-26"), DATA, 0o750)?;
    let other = digest(b"another");
    assert_eq!(servers.curl(&format!("http://10.80.0.5/samples/{other}/plain"))?, b"another");
    assert!(servers.curl(&format!("http://10.80.0.5/samples/{hash}/plain")).is_err());
    Ok(())
}
