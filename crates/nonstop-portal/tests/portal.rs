//! The portal as a browser meets it: real sockets on both sides, a daemon of invented answers.

mod browser;
mod daemon;

use browser::{Browser, Page};
use daemon::{ALICE, Asked, HOSTILE, SATO};
use jiff::tz::TimeZone;
use nonstop_api::{PowerAction, Request};
use nonstop_model::{EnvironmentId, MachineRole, RequestId};
use nonstop_portal::{App, keep_listening};
use std::net::Ipv4Addr;

/// A running portal and the daemon behind it.
struct World {
    port: u16,
    asked: Option<Asked>,
    _dir: tempfile::TempDir,
}

impl World {
    fn start(demo: bool) -> World {
        let dir = tempfile::tempdir().expect("a folder");
        let lab = daemon::lab(dir.path(), demo);
        let (port, asked) = (lab.portal.port, daemon::serve(&lab));
        let zone = TimeZone::fixed(jiff::tz::offset(9));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(keep_listening(App::new(lab, zone, daemon::now)))
        });
        World { port, asked: Some(asked), _dir: dir }
    }

    fn browser(&self, address: Ipv4Addr) -> Browser {
        Browser::new(address, self.port)
    }

    /// What changes something, of all that was asked.
    fn changes(&self) -> Vec<(Ipv4Addr, Request)> {
        let asked = self.asked.as_ref().expect("a daemon").lock().expect("not poisoned");
        let reads = |r: &Request| {
            matches!(
                r,
                Request::WhoAmI
                    | Request::RequestList
                    | Request::TemplateList
                    | Request::EnvironmentList { .. }
                    | Request::EnvironmentShow { .. }
                    | Request::Stats
            )
        };
        asked.iter().filter(|(_, r)| !reads(r)).cloned().collect()
    }
}

const RESEARCHERS: [&str; 10] = [
    "/",
    "/requests",
    "/requests/new",
    "/requests/3",
    "/environments/e1",
    "/environments/e2",
    "/environments/e1/end",
    "/environments/e1/revert/analyst",
    "/sessions?all=1",
    "/about",
];
const STAFFS: [&str; 6] = [
    "/accounts",
    "/accounts/new",
    "/accounts/boris",
    "/trace?verify=1",
    "/requests/r3",
    "/environments/e4",
];

/// Pages of both roles: who asks, and what for.
fn pages() -> impl Iterator<Item = (Ipv4Addr, &'static str)> {
    let own = RESEARCHERS.iter().filter(|path| **path != "/requests/3").map(|p| (ALICE, *p));
    own.chain(STAFFS.iter().chain(&["/", "/sessions"]).map(|p| (SATO, *p)))
}

#[test]
fn each_person_is_whom_the_daemon_sees_behind_the_connection() {
    let world = World::start(false);
    assert!(world.browser(ALICE).get("/").has("Alice Arisawa"));
    assert!(world.browser(SATO).get("/").has("佐藤 花子"));
    for path in STAFFS.iter().filter(|p| !p.contains("/requests") && !p.contains("/env")) {
        assert_eq!(world.browser(ALICE).get(path).status, 403, "{path}");
    }
    assert!(world.changes().is_empty(), "{:?}", world.changes());
}

#[test]
fn every_page_is_there_in_both_languages_and_passes_the_rules_of_its_frame() {
    let world = World::start(true);
    for (who, path) in pages() {
        for (lang, demo) in [("en", "Demo lab"), ("ja", "デモ環境")] {
            let page = world.browser(who).speaks(lang).get(path);
            assert_eq!(page.status, 200, "{path}: {}", page.text);
            assert!(page.has(&format!("<html lang=\"{lang}\"")), "{path} in {lang}");
            assert!(page.has(demo), "{path}: no word of a demo");
            page.is_well_made(path);
        }
    }
}

#[test]
fn what_a_person_types_is_text_wherever_it_is_shown() {
    let world = World::start(false);
    for (who, path) in pages() {
        let page = world.browser(who).get(path);
        for bad in ["<script", "<img src=x", "<b>Brand", "onmouseover='x'"] {
            assert!(!page.has(bad), "{path} holds {bad}: {}", page.text);
        }
    }
    let shown = world.browser(SATO).get("/requests/r3");
    assert!(shown.has("alert(1)") && shown.has("{}"), "{}", shown.text);
    // A form that has errors gives back what was typed, as text.
    let mut alice = world.browser(ALICE);
    let again =
        alice.send("/requests/new", &[("template", "desktop"), ("hours", "x"), ("purpose", HOSTILE)]);
    assert_eq!(again.status, 422);
    assert!(again.has("alert(1)") && !again.has("<script") && !again.has("</textarea></td>"));
    assert!(again.has("value=\"x\""), "{}", again.text);
    assert!(again.has("aria-invalid=\"true\""), "{}", again.text);
    assert!(world.changes().is_empty(), "{:?}", world.changes());
}

#[test]
fn forms_do_what_they_say_as_the_person_behind_the_connection() {
    let world = World::start(false);
    let (mut alice, mut sato) = (world.browser(ALICE), world.browser(SATO));
    let applied = alice.send(
        "/requests/new",
        &[
            ("template", "desktop"),
            ("from", "2030-01-09T09:00"),
            ("hours", "8"),
            ("purpose", "To see\r\nwhat K does"),
        ],
    );
    assert_eq!((applied.status, applied.header("location")), (303, "/requests/r3?done=applied"));
    let path = "/environments/e1";
    let power = alice.submit(path, "/environments/e1/power", &[("machine", "analyst"), ("action", "reset")]);
    assert_eq!((power.status, power.header("location")), (303, "/environments/e1?done=power"));
    assert_eq!(alice.send("/environments/e1/revert/analyst", &[]).status, 303);
    assert_eq!(alice.send("/environments/e1/end", &[]).status, 303);
    let approved = sato.submit("/requests/r3", "/requests/r3/approve", &[]);
    assert_eq!(approved.header("location"), "/environments/e1?done=approved");
    let refused = sato.submit("/requests/r3", "/requests/r3/refuse", &[("reason", "too long")]);
    assert_eq!(refused.header("location"), "/requests/r3?done=refused");
    let conflict = sato.submit("/requests/r3", "/requests/r1/approve", &[]);
    assert_eq!(conflict.status, 409);
    assert!(conflict.has("request r1 was already approved"), "{}", conflict.text);

    let changes = world.changes();
    let (analyst, e1, r3) = (Some(MachineRole::Analyst), EnvironmentId(1), RequestId(3));
    let Some((ALICE, Request::RequestApply { account: None, period, purpose, .. })) = changes.first()
    else {
        panic!("{changes:?}")
    };
    assert_eq!(purpose, "To see\nwhat K does");
    assert_eq!(period.from(), daemon::at_time("2030-01-09T00:00:00Z"));
    assert_eq!(period.until(), daemon::at_time("2030-01-09T08:00:00Z"));
    assert_eq!(
        changes[1..],
        [
            (ALICE, Request::EnvironmentPower { id: e1, role: analyst, action: PowerAction::Reset }),
            (ALICE, Request::EnvironmentRevert { id: e1, role: analyst }),
            (ALICE, Request::EnvironmentEnd { id: e1 }),
            (SATO, Request::RequestApprove { id: r3 }),
            (SATO, Request::RequestRefuse { id: r3, reason: "too long".into() }),
            (SATO, Request::RequestApprove { id: RequestId(1) }),
        ]
    );
}

#[test]
fn a_foreign_name_or_page_or_a_form_without_its_token_changes_nothing() {
    let world = World::start(false);
    let mut alice = world.browser(ALICE);
    for host in ["evil.example", "evil.example:8080", "127.64.0.2", "localhost.evil.example"] {
        let page = alice.clone().host(host).get("/");
        assert_eq!(page.status, 421, "{host}");
        assert!(!page.has("Alice Arisawa"), "{host}");
    }
    let end = "/environments/e1/end";
    let form = alice.get(end);
    let token = form.token().to_string();
    let good = [("token", token.as_str())];
    for (name, value) in [
        ("Origin", "http://evil.example"),
        ("Origin", "null"),
        ("Origin", "http://localhost:1"),
        ("Referer", "http://evil.example/http://localhost/"),
        ("Sec-Fetch-Site", "cross-site"),
        ("X-Nothing", "neither Origin nor Referer"),
    ] {
        let page = alice.clone().from_page(name, value).post(end, &good);
        assert_eq!(page.status, 403, "{name}: {value}");
    }
    for bad in ["", "00", &token.replace(|c: char| c.is_ascii_digit(), "0")] {
        assert_eq!(alice.post(end, &[("token", bad)]).status, 403, "{bad}");
    }
    // The token of another visitor, and that of the same cookie at another address.
    let theirs = world.browser(ALICE).get(end).token().to_string();
    assert_eq!(alice.post(end, &[("token", &theirs)]).status, 403);
    let mut elsewhere = alice.clone().at(SATO);
    assert_eq!(elsewhere.post(end, &good).status, 403);
    assert_eq!(alice.get("/language").status, 405);
    assert!(world.changes().is_empty(), "{:?}", world.changes());
    assert_eq!(alice.post(end, &good).status, 303, "the form itself works");
}

#[test]
fn a_form_larger_than_allowed_is_refused_and_says_so() {
    let world = World::start(false);
    let page = world.browser(ALICE).send("/requests/new", &[("purpose", &"x".repeat(70_000))]);
    assert_eq!(page.status, 413);
    assert!(page.has("64 KiB"), "{}", page.text);
}

#[test]
fn the_language_is_chosen_once_and_kept() {
    let world = World::start(false);
    let mut alice = world.browser(ALICE).speaks("en");
    let chosen = alice.submit("/about", "/language", &[("to", "ja"), ("back", "/about")]);
    assert_eq!((chosen.status, chosen.header("location")), (303, "/about"));
    assert!(alice.get("/about").has("このラボについて"));
}

#[test]
fn the_desktop_file_turns_every_redirection_off_and_the_page_names_the_way_in_and_out() {
    let world = World::start(false);
    let mut alice = world.browser(ALICE);
    let file = alice.get("/environments/e1/rdp/analyst");
    assert_eq!(file.header("content-type"), "application/x-rdp");
    assert!(file.header("content-disposition").starts_with("attachment;"));
    let page = alice.get("/environments/e1");
    let line = page.text.lines().find(|l| l.contains("ssh -N")).expect("the tunnel's command");
    let near = line.split("-L ").nth(1).and_then(|l| l.split(':').next()).expect("a port");
    assert!(line.contains(&format!("-L {near}:10.77.0.18:3389 -p 2222 alice@lab.example.ac.jp")));
    for setting in [
        format!("full address:s:localhost:{near}").as_str(),
        "username:s:analyst",
        "redirectclipboard:i:0",
        "redirectdrives:i:0",
        "drivestoredirect:s:",
        "redirectprinters:i:0",
        "redirectcomports:i:0",
        "redirectsmartcards:i:0",
        "redirectwebauthn:i:0",
        "redirectposdevices:i:0",
        "redirectlocation:i:0",
        "devicestoredirect:s:",
        "usbdevicestoredirect:s:",
        "camerastoredirect:s:",
        "audiomode:i:2",
        "audiocapturemode:i:0",
    ] {
        assert!(file.text.split("\r\n").any(|line| line == setting), "{setting}: {}", file.text);
    }
    assert!(page.has("k7pq2mzx9rtv4bnw8hdc"), "the owner reads the password");
    assert!(page.has("rdp: guest") && page.has("any byte"), "the warning: {}", page.text);
    let staff = world.browser(SATO).get("/environments/e1");
    assert!(staff.status == 200 && !staff.has("k7pq2mzx9rtv4bnw8hdc"));
}

#[test]
fn without_the_daemon_pages_say_so_and_listeners_stay() {
    let mut world = World::start(false);
    assert_eq!(world.browser(ALICE).get("/").status, 200);
    std::fs::remove_file(world._dir.path().join("portal.sock")).expect("removed");
    world.asked = None;
    // Longer than the portal waits between its questions.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let page = world.browser(ALICE).get("/");
    assert_eq!(page.status, 503);
    assert!(page.has("http-equiv=\"refresh\""), "{}", page.text);
    page.is_well_made("503");
}

#[test]
fn an_environment_that_is_being_prepared_shows_itself_again_until_told_not_to() {
    let world = World::start(false);
    let mut alice = world.browser(ALICE);
    assert!(alice.get("/environments/e2").has("http-equiv=\"refresh\" content=\"2"));
    assert!(!alice.get("/environments/e2?still=1").has("http-equiv=\"refresh\""));
    assert!(!alice.get("/environments/e1").has("http-equiv=\"refresh\""));
}

#[test]
fn pages_reviewed_by_eye() {
    let world = World::start(true);
    let shown = |page: Page| page.main();
    insta::assert_snapshot!("environment_en", shown(world.browser(ALICE).get("/environments/e1")));
    insta::assert_snapshot!(
        "request_ja",
        shown(world.browser(SATO).speaks("ja").get("/requests/r3"))
    );
}
