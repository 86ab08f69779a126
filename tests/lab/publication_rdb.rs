//! Days of data with the real PostgreSQL and the real file server: files and tables show the same
//! version, whatever is killed while a day is published, and what is lost is loaded again.

use crate::publication::{DAY, file};
use anyhow::{Context, Result, ensure};
use nonstop_testkit::{lab::Lab, place::wait_for, spec::PROGRAMS};
use serde_json::Value;
use std::{fs, thread, time::Duration};

/// Signal 9.
const KILL: i32 = 9;
const PATIENCE: Duration = Duration::from_secs(100);

const DOMAINS: &str = "\
data_domains:
  files:
    interface: nsd0
    network: 10.80.0.0/24
    utc_offset_minutes: 540
    keep_days: 2
    servers:
      pcap: { address: 10.80.0.3, tcp: [80] }
      rdb: { address: 10.80.0.4, tcp: [5432] }
";

fn lab(name: &str) -> Result<Lab> {
    let services = &["libvirtd", "nonstopd", "data"];
    Ok(Lab::temporary(name)?.data_domains(DOMAINS).only(services))
}

fn publish(lab: &Lab, name: &str, from: u32, packets: u32) -> Result<Value> {
    let path = file(lab, name, from, packets)?.display().to_string();
    lab.cli(&["data", "publish", &path, "--wait", "120"])
}

fn day(lab: &Lab) -> Result<Value> {
    let listed = lab.cli(&["data", "list", "--domain", "files"])?;
    Ok(listed[0]["days"][0].clone())
}

/// What the file server gives, as a program inside of the data domain's network sees it.
fn served(lab: &Lab, path: &str) -> Result<String> {
    let url = format!("http://10.80.0.3/{path}");
    lab.enter(&["ip", "netns", "exec", "nonstop-files", "curl", "-sS", "--fail", &url])
}

/// The days that the tables have, asked of PostgreSQL.
fn tables(lab: &Lab) -> Result<Value> {
    let program = format!("{PROGRAMS}/nonstop-data");
    let socket = "/run/nonstop/data/files/rdb-load";
    let said = lab.enter(&[&program, "days", "--socket", socket])?;
    let days: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
    Ok(days["days"].clone())
}

/// Files, tables and what is listed agree on a single day of `packets`.
fn agree(lab: &Lab, packets: u32) -> Result<()> {
    wait_for("files and tables to agree", PATIENCE, || {
        let (Ok(tables), Ok(note)) = (tables(lab), served(lab, "2025-01-31.pcap.sha256")) else {
            return Ok(None);
        };
        let day = day(lab)?;
        let sum = day["content"]["sha256"].as_str().context("a sum")?;
        let same = note.starts_with(sum) && tables[0]["sha256"] == sum && tables[1].is_null();
        let rows = tables[0]["rows"] == packets && day["content"]["packets"] == packets;
        Ok((same && rows && day["loaded"] == true).then_some(()))
    })
}

#[test]
fn a_day_is_in_files_and_tables_replaced_in_both_and_loaded_again_when_the_tables_are_lost()
-> Result<()> {
    let mut lab = lab("publication-rdb")?;
    lab.start()?;
    publish(&lab, "2025-01-31.pcap", DAY, 100)?;
    agree(&lab, 100)?;
    publish(&lab, "2025-01-31.pcap", DAY, 60)?;
    agree(&lab, 60)?;
    // Older days go from both.
    publish(&lab, "2025-01-30.pcap", DAY - 86400, 10)?;
    publish(&lab, "2025-02-01.pcap", DAY + 86400, 20)?;
    wait_for("the oldest day to go", PATIENCE, || {
        let tables = tables(&lab)?;
        let days: Vec<_> = tables.as_array().into_iter().flatten().map(|d| &d["day"]).collect();
        Ok((days == ["2025-01-31", "2025-02-01"]).then_some(()))
    })?;
    ensure!(served(&lab, "2025-01-30.pcap.sha256").is_err(), "it is served still");

    lab.stop_service("data")?;
    fs::remove_dir_all(lab.state().join("data/files/rdb"))?;
    lab.start_service("data")?;
    wait_for("the loss to be told", PATIENCE, || {
        let listed = lab.cli(&["data", "list"])?;
        Ok(listed[0]["problems"].to_string().contains("nonstop data load").then_some(()))
    })?;
    let loaded = lab.cli(&["data", "load", "--wait", "120"])?;
    ensure!(loaded["publications"].as_array().map(Vec::len) == Some(2), "{loaded}");
    let tables = tables(&lab)?;
    ensure!(tables[0]["rows"] == 60 && tables[1]["rows"] == 20, "{tables}");
    let again = lab.cli(&["data", "load"])?;
    ensure!(again["publications"] == serde_json::json!([]), "{again}");
    Ok(())
}

#[test]
fn servers_and_daemon_killed_while_a_day_is_published_leave_files_and_tables_of_one_version()
-> Result<()> {
    let mut lab = lab("publication-rdb-killed")?;
    lab.start()?;
    publish(&lab, "2025-01-31.pcap", DAY, 1)?;
    for turn in 0..6_u32 {
        let packets = 1400 - turn;
        let path = file(&lab, "2025-01-31.pcap", DAY, packets)?.display().to_string();
        lab.cli(&["data", "publish", "--no-wait", &path])?;
        thread::sleep(Duration::from_millis(u64::from(turn) * 40));
        let killed = if turn % 2 == 0 { "data" } else { "nonstopd" };
        lab.kill_service(killed, KILL)?;
        lab.lab_box()?.wait_ready(Duration::from_secs(60))?;
        agree(&lab, packets).with_context(|| {
            let found = (lab.cli(&["data", "list"]), tables(&lab));
            format!("turn {turn}, {killed} killed: {found:?}; servers: {}", lab.log("data"))
        })?;
    }
    lab.power_cut()?;
    lab.start()?;
    agree(&lab, 1400 - 5)
}
