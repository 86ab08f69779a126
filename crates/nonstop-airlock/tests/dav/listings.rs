//! Folders of many names, told to clients that take their time.

use crate::{Ground, http::Client};
use nonstop_airlock::target::Side;
use nonstop_api::airlock::ENTRIES_AT_ONCE;
use nonstop_model::Root;
use std::{collections::BTreeSet, fs, io::Read};

/// Fills `export/` with `n` names that end with `end`.
fn fill(ground: &Ground, n: usize, end: &str) {
    for number in 0..n {
        ground.daemon.make_folder(Root::Export, &format!("{number:05}{end}"));
    }
}

/// The names in `text`, as they stand between `before` and `after`.
fn names<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    let all = text.split(before).skip(1);
    all.map(|rest| rest.split(after).next().unwrap_or_default()).collect()
}

#[test]
fn a_folder_of_many_names_is_told_whole_and_each_of_them_once() {
    let ground = Ground::new(Side::Inside);
    for n in [0, 1, ENTRIES_AT_ONCE, 2 * ENTRIES_AT_ONCE + 7] {
        fill(&ground, n, "");
        let mut client = Client::to(ground.address);
        let told = client.ask("PROPFIND", "/export/", &[("Depth", "1")], b"");
        assert_eq!(told.status, 207);
        let text = told.text();
        let hrefs = names(&text, "<D:href>", "</D:href>");
        assert_eq!((hrefs.len(), hrefs[0]), (n + 1, "/export/"));
        assert!(hrefs[1..].is_sorted() && BTreeSet::from_iter(&hrefs).len() == n + 1);
        assert!(text.starts_with("<?xml") && text.ends_with("</D:multistatus>\n"), "{text}");
        let page = client.ask("GET", "/export/", &[("Accept-Language", "en")], b"");
        let text = page.text();
        assert_eq!(names(&text, "<bdi>", "</bdi>").len(), n);
        assert_eq!(text.contains("There is nothing here."), n == 0);
        assert!(text.starts_with("<!DOCTYPE html>") && text.ends_with("</html>\n"));
        assert_eq!(page.field("content-type"), "text/html; charset=utf-8");
        assert_eq!(client.ask("HEAD", "/export/", &[], b"").status, 200);
        assert_eq!(client.ask("OPTIONS", "/", &[], b"").status, 200, "the connection goes on");
    }
}

#[test]
fn a_folder_whose_pages_do_not_go_on_is_not_told_for_ever_or_twice() {
    let ground = Ground::new(Side::Inside);
    fill(&ground, 2 * ENTRIES_AT_ONCE, &"x".repeat(250));
    ground.daemon.lists_begins_alone();
    let mut client = Client::to(ground.address);
    client.send(b"PROPFIND /export/ HTTP/1.1\r\nHost: 127.0.0.1\r\nDepth: 1\r\n\r\n");
    let mut told = Vec::new();
    client.stream.read_to_end(&mut told).expect("an end");
    let text = String::from_utf8_lossy(&told);
    assert!(text.starts_with("HTTP/1.1 207 "), "{text}");
    assert!(
        !text.contains("</D:multistatus>") && !text.ends_with("\r\n0\r\n\r\n"),
        "a whole answer"
    );
    let hrefs = names(&text, "<D:href>", "</D:href>");
    assert!(hrefs.len() <= ENTRIES_AT_ONCE + 1 && hrefs.len() > 10, "{}", hrefs.len());
    assert_eq!(BTreeSet::from_iter(&hrefs).len(), hrefs.len(), "a name twice");
}

#[test]
fn many_clients_that_list_long_names_slowly_do_not_fill_the_memory() {
    let ground = Ground::new(Side::Inside);
    // In URLs each of them has nine bytes.
    fill(&ground, 20_000, &"あ".repeat(83));
    // Half of them by WebDAV, the others as a page. None takes anything before all have asked.
    let mut clients: Vec<Client> = (0..8).map(|_| Client::to(ground.address)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let method = ["PROPFIND", "GET"][number % 2];
        let head = format!("{method} /export/ HTTP/1.1\r\nHost: 127.0.0.1\r\nDepth: 1\r\n\r\n");
        client.send(head.as_bytes());
    }
    for mut client in clients {
        let told = client.answer(false);
        assert!(told.body.len() > 20_000 * 750);
    }
    let status = fs::read_to_string(format!("/proc/{}/status", ground.program.id()));
    let status = status.expect("the program");
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let most: u64 = most.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(most < 80 << 10, "the program had {most} KiB at its peak");
}
