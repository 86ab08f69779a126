//! Every page as it is sent, in both languages.

use crate::{World, canned::HOSTILE};
use insta::assert_snapshot;
use nonstop_api::{ApiError, ErrorCode, PowerAction, Request};

/// Each page that anybody gets to, by role.
const PAGES: [&str; 20] = [
    "/",
    "/data",
    "/requests",
    "/requests/r3",
    "/requests/new",
    "/environments/e1",
    "/environments/e2",
    "/environments/e4",
    "/environments/e4/revert",
    "/environments/e4/snapshots/s1/return",
    "/environments/e4/snapshots/s1/return/debuggee",
    "/environments/e4/snapshots/s1/delete",
    "/environments/e1/end",
    "/environments/e1/revert/analyst",
    "/sessions?all=1",
    "/displays?all=1",
    "/exports/x1",
    "/exports/x2",
    "/exports/x3",
    "/about",
];
const RESEARCHER_PAGES: [&str; 6] = [
    "/transfers",
    "/transfers?environment=e1&all=1",
    "/environments/e4/samples",
    "/environments/e4/samples?hash=b&text=a+%22b%22&from=2029-12-01",
    "/environments/e4/samples?go=1&s-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=1",
    "/injections/j3",
];
const STAFF_PAGES: [&str; 24] = [
    "/samples",
    "/samples?domain=mws&family=%22%3E%3Cscript%3E",
    "/injections",
    "/injections?environment=%22%3E",
    "/accounts",
    "/accounts/new",
    "/accounts/bob",
    "/cards/c4/revoke",
    "/cards/c9/revoke",
    "/trace?verify=1",
    "/reach",
    "/recordings",
    "/recordings/1?at=1",
    "/recordings/1?at=2&film=1",
    "/exports",
    "/exports?state=any&account=alice&environment=e1",
    "/exports?environment=nowhere",
    "/imports",
    "/imports?environment=%22%3E",
    "/exports/x4",
    "/exports/x5",
    "/exports/x6",
    "/exports/x7",
    "/exports/x8",
];

#[test]
fn a_researchers_pages() {
    let world = World::new();
    let mut alice = world.alice();
    assert_snapshot!("home_researcher", alice.get("/").steady());
    assert_snapshot!("environment_ready", alice.get("/environments/e1").main());
    assert_snapshot!("environment_problem", alice.get("/environments/e3").main());
    assert_snapshot!("apply", alice.get("/requests/new").main());
    let mut alice = world.alice().japanese();
    assert_snapshot!("environment_ready_ja", alice.get("/environments/e1").main());
}

#[test]
fn pages_of_the_staff() {
    let world = World::new();
    let mut sato = world.sato();
    assert_snapshot!("home_staff", sato.get("/").main());
    assert_snapshot!("request_to_decide", sato.get("/requests/r3").main());
    assert_snapshot!("accounts", sato.get("/accounts").main());
    assert_snapshot!("trace", sato.get("/trace?verify=1").main());
}

#[test]
fn staff_choose_the_edition_of_an_account() {
    let world = World::new();
    let mut sato = world.sato();
    assert_snapshot!("account_new", sato.get("/accounts/new").main());
    assert_snapshot!("account", sato.get("/accounts/alice").main());
    let person = [
        ("name", "erin"),
        ("full_name", "Erin"),
        ("affiliation", "University"),
        ("sources", "0.0.0.0/0"),
    ];
    let unchosen = sato.post("/accounts/new", "/accounts/new", &person);
    assert!(unchosen.body.contains("Choose an edition."), "{}", unchosen.body);
    let chosen = [&person[..], &[("edition", "mws")]].concat();
    assert_eq!(sato.post("/accounts/new", "/accounts/new", &chosen).status, 303);
    let change = [("edition", "mws"), ("reason", "moved")];
    assert_eq!(sato.post("/accounts/alice", "/accounts/alice/edition", &change).status, 303);
    let asked: Vec<Request> = world.daemon.done().into_iter().map(|(_, asked)| asked).collect();
    let edition = Some("mws".to_string());
    assert!(matches!(&asked[0], Request::AccountAdd { edition: e, .. } if *e == edition));
    assert!(matches!(&asked[1], Request::AccountEdition { edition, .. } if edition == "mws"));
}

#[test]
fn staff_add_and_revoke_cards_with_a_reason_and_say_from_where_a_person_comes() {
    let world = World::new();
    let (mut alice, mut sato) = (world.alice(), world.sato());
    assert_snapshot!("card_revoke", sato.get("/cards/c4/revoke").main());
    assert_snapshot!("card_give_up_ja", world.sato().japanese().get("/cards/c9/revoke").main());
    assert_eq!(sato.get("/cards/c7/revoke").status, 404);
    assert_eq!(alice.get("/cards/c4/revoke").status, 403);
    let lost = [("reason", "lost")];
    let sent = sato.post("/cards/c4/revoke", "/cards/c4/revoke", &lost);
    assert_eq!(sent.header("location"), "/accounts/bob?done=card_revoked");
    let line = [("line", " ssh-rsa AAAA \r\n")];
    let sent = sato.post("/accounts/bob", "/accounts/bob/cards", &line);
    assert_eq!(sent.header("location"), "/accounts/bob?done=card_added");
    let from = [("sources", "192.0.2.0/24\r\n198.51.100.7"), ("reason", "moved")];
    let sent = sato.post("/accounts/bob", "/accounts/bob/sources", &from);
    assert_eq!(sent.header("location"), "/accounts/bob?done=sources");
    let torn = [("sources", "192.0.2.0/24\r\n<b>"), ("reason", "moved")];
    let again = sato.post("/accounts/bob", "/accounts/bob/sources", &torn);
    assert_eq!(again.status, 422);
    assert!(again.body.contains("`&#60;b&#62;` is not a network"), "{}", again.body);
    assert!(again.body.contains("192.0.2.0/24\n&#60;b&#62;</textarea>"), "{}", again.body);
    assert_eq!(alice.post("/about", "/accounts/bob/cards", &line).status, 403);
    let (bob, card) = ("bob".parse().expect("a name"), "c4".parse().expect("a card"));
    let asked: Vec<Request> = world.daemon.done().into_iter().map(|(_, asked)| asked).collect();
    assert_eq!(asked[0], Request::CardRevoke { card, reason: "lost".into() });
    let added = Request::CardAdd { account: bob, line: "ssh-rsa AAAA".into() };
    assert_eq!(asked[1], added);
    assert!(matches!(&asked[2], Request::AccountSources { sources, .. } if sources.len() == 2));

    let no = ApiError::new(ErrorCode::Conflict, "the key <b> is another card's").help("another");
    *world.daemon.refuse.lock().expect("no panic") = Some(no);
    let again = sato.post("/accounts/bob", "/accounts/bob/cards", &line);
    assert_eq!(again.status, 422);
    assert!(again.body.contains("the key &#60;b&#62; is another card&#39;s"), "{}", again.body);
    assert!(again.body.contains(">ssh-rsa AAAA</textarea>"), "what was typed is still there");
    let again = sato.post("/cards/c4/revoke", "/cards/c4/revoke", &lost);
    assert_eq!(again.status, 422);
}

#[test]
fn a_researcher_sees_the_own_cards_and_takes_home_the_own_profile() {
    let world = World::new();
    let (mut alice, mut sato) = (world.alice(), world.sato());
    assert_snapshot!("about", alice.get("/about").main());
    assert_snapshot!("about_ja", world.alice().japanese().get("/about").main());
    let file = alice.get("/profile");
    assert_eq!((file.status, file.header("content-type")), (200, "application/json"));
    assert!(file.header("content-disposition").contains("nonstop-alice.json"));
    assert!(file.body.contains("alice"), "{}", file.body);
    assert_eq!(alice.get("/accounts/bob/profile").status, 403);
    assert!(sato.get("/accounts/bob/profile").body.contains("bob"));
}

#[test]
fn days_of_data_are_told_to_staff_and_offered_to_researchers_with_what_to_type() {
    let world = World::new();
    let (mut alice, mut sato) = (world.alice(), world.sato());
    assert_snapshot!("data", sato.get("/data").main());
    assert_snapshot!("data_ja", world.sato().japanese().get("/data").main());
    assert_snapshot!("offers", alice.get("/data").main());
    assert_snapshot!("offers_ja", world.alice().japanese().get("/data").main());
    assert!(sato.get("/data").body.contains("http-equiv=\"refresh\""), "something is under way");
    let form = [("domain", "intermediate")];
    let sent = sato.post("/data", "/data/publish", &form);
    assert_eq!(sent.header("location"), "/data?done=publishing");
    assert_eq!(alice.post("/data", "/data/publish", &form).status, 403);
    let domain = Some("intermediate".to_string());
    let asked = Request::DataPublish { domain, file: None };
    assert_eq!(world.daemon.done(), [("sato".to_string(), asked)]);
}

#[test]
fn what_is_proven_of_reach_is_for_staff_and_shows_what_it_found_as_text() {
    let world = World::new();
    let (mut alice, mut sato) = (world.alice(), world.sato());
    assert_snapshot!("reach", sato.get("/reach").main());
    assert_snapshot!("reach_ja", world.sato().japanese().get("/reach").main());
    assert!(!sato.get("/reach").body.contains("<script"));
    assert_eq!(alice.get("/reach").status, 403);
    assert!(!alice.get("/").body.contains("/reach"));
    assert_eq!(sato.post("/reach", "/reach/prove", &[]).status, 303);
    // What held half an hour ago is not said to hold.
    world.daemon.old_proof.store(true, std::sync::atomic::Ordering::SeqCst);
    let old = sato.get("/reach").body;
    assert!(old.contains("Out of date") && !old.contains("Proven</span>"), "{old}");
    assert_eq!(world.daemon.done(), [("sato".to_string(), Request::ReachProve)]);
}

#[test]
fn displays_and_recordings() {
    let world = World::new();
    let (mut alice, mut sato) = (world.alice(), world.sato());
    assert_snapshot!("environment_console", alice.get("/environments/e2").main());
    assert_snapshot!("displays_researcher", alice.get("/displays").main());
    assert_snapshot!("displays_staff", sato.get("/displays?all=1").main());
    assert_snapshot!("recordings", sato.get("/recordings").main());
    assert_snapshot!("recording_ja", world.sato().japanese().get("/recordings/1?at=1").main());
    for path in ["/recordings", "/recordings/1", "/recordings/1/picture", "/recordings/1/film"] {
        assert_eq!(alice.get(path).status, 403, "{path}");
    }
    let file = sato.get("/views/4/rdp").body;
    assert!(
        file.contains("full address:s:localhost:23002") && file.contains("redirectclipboard:i:0")
    );
    assert_eq!(alice.get("/views/4/rdp").status, 404, "bob's way is not alice's");
    for path in ["/recordings/1/picture?at=2", "/recordings/1/film?at=1"] {
        let answer = sato.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, "image/png"), "{path}");
    }
    assert_eq!(sato.get("/recordings/1/picture?at=9").status, 404);
    // SHA-1 of what the canned daemon has for a certificate.
    let about = alice.get("/about").body;
    assert!(about.contains("405fe3864badfb7c09428bb8daa3e602c50d9b91"), "{about}");
}

#[test]
fn a_pair_is_switched_as_one_or_each_machine_alone() {
    let world = World::new();
    let mut alice = world.alice();
    assert_snapshot!("environment_pair", alice.get("/environments/e4").main());
    let power = "/environments/e4/power";
    alice.post("/environments/e4", power, &[("machine", ""), ("action", "off")]);
    alice.post("/environments/e4", power, &[("machine", "debuggee"), ("action", "on")]);
    let refused = alice.post("/environments/e4", power, &[("machine", "king"), ("action", "on")]);
    assert_eq!(refused.status, 400);
    alice.post("/environments/e4/revert", "/environments/e4/revert", &[]);
    let asked: Vec<_> = world.daemon.done();
    assert_snapshot!(format!("{asked:#?}"));
}

#[test]
fn snapshots_are_taken_by_name_and_asked_about_before_they_undo_anything() {
    let world = World::new();
    let mut alice = world.alice();
    let page = "/environments/e4";
    assert_snapshot!("snapshot_return", alice.get("/environments/e4/snapshots/s1/return").main());
    let take = "/environments/e4/snapshots";
    let sent = alice.post(page, take, &[("name", " before it "), ("machine", "")]);
    assert_eq!(sent.header("location"), "/environments/e4?done=taking");
    alice.post(page, take, &[("name", "one"), ("machine", "debuggee")]);
    for bad in [("../x", ""), ("", ""), ("a", "king")] {
        let refused = alice.post(page, take, &[("name", bad.0), ("machine", bad.1)]);
        assert_eq!(refused.status, 400, "{bad:?}");
    }
    for act in ["return", "return/debuggee", "delete"] {
        let path = format!("/environments/e4/snapshots/s1/{act}");
        assert_eq!(alice.post(&path, &path, &[]).status, 303, "{act}");
    }
    for missing in ["s9/return", "s9/delete", "s1/return/analyst"] {
        assert_eq!(alice.get(&format!("/environments/e4/snapshots/{missing}")).status, 404);
    }
    let asked: Vec<String> = world.daemon.done().iter().map(|d| format!("{:?}", d.1)).collect();
    assert_snapshot!(asked.join("\n"), @r#"
    SnapshotTake { id: EnvironmentId(4), name: SnapshotName("before it"), role: None }
    SnapshotTake { id: EnvironmentId(4), name: SnapshotName("one"), role: Some(Debuggee) }
    SnapshotReturn { id: EnvironmentId(4), name: SnapshotName("感染前 1"), role: None }
    SnapshotReturn { id: EnvironmentId(4), name: SnapshotName("感染前 1"), role: Some(Debuggee) }
    SnapshotDelete { id: EnvironmentId(4), name: SnapshotName("感染前 1") }
    "#);
}

#[test]
fn who_may_look_and_what_is_recorded_is_asked_of_the_daemon_with_a_reason() {
    let world = World::new();
    let form = [("account", "bob"), ("reason", "help"), ("hours", "2")];
    let sent = world.alice().post("/environments/e2", "/environments/e2/view/analyst", &form);
    assert_eq!(sent.status, 303);
    let mut sato = world.sato();
    let why = [("reason", "to see")];
    sato.post("/recordings", "/recordings/1/play", &why);
    sato.post("/environments/e2", "/environments/e2/record/analyst", &why);
    sato.post("/displays", "/views/4/end", &[]);
    let refused = world.alice().post("/environments/e2", "/environments/e2/record/analyst", &why);
    assert_eq!(refused.status, 403);
    let asked: Vec<_> = world.daemon.done();
    assert_snapshot!(format!("{asked:#?}"));
}

#[test]
fn every_page_is_well_formed_labelled_and_in_one_language() {
    let world = World::new();
    for lang in ["en", "ja"] {
        for (mut browser, pages) in [
            (world.alice(), &PAGES[..]),
            (world.alice(), &RESEARCHER_PAGES),
            (world.sato(), &PAGES),
            (world.sato(), &STAFF_PAGES),
        ] {
            browser.headers.insert("Accept-Language".into(), lang.into());
            for path in pages {
                let answer = browser.get(path);
                assert_eq!(answer.status, 200, "{path}");
                let html = &answer.body;
                for part in ["<main", "<h1", "class=\"skip\"", "</html>", "Demo lab"] {
                    let part = if lang == "ja" {
                        part.replace("Demo lab", "デモ環境")
                    } else {
                        part.into()
                    };
                    assert_eq!(html.matches(&part).count(), 1, "{path} ({lang}): {part}");
                }
                assert!(html.contains(&format!("<html lang=\"{lang}\">")), "{path}");
                for bad in ["<script", " style=", "javascript:", " onclick", "http://fonts", "{}"] {
                    assert!(!html.contains(bad), "{path}: {bad}");
                }
                tags_close(path, html);
                fields_have_labels(path, html);
            }
        }
    }
}

/// Each tag that opens closes, in order.
fn tags_close(path: &str, html: &str) {
    let mut open = Vec::new();
    for piece in html.split('<').skip(1) {
        let tag: String =
            piece.chars().take_while(|c| c.is_alphanumeric() || *c == '/' || *c == '!').collect();
        match tag.as_str() {
            "!doctype" | "meta" | "link" | "img" | "input" | "br" => {}
            close if close.starts_with('/') => {
                assert_eq!(open.pop().as_deref(), close.get(1..), "{path}: </{}", piece)
            }
            _ => open.push(tag),
        }
    }
    assert!(open.is_empty(), "{path}: {open:?}");
}

/// Each field that is seen has a label, or stands in one; each table has headings.
fn fields_have_labels(path: &str, html: &str) {
    for piece in html.split('<').filter(|p| p.starts_with("input ") || p.starts_with("textarea ")) {
        let id = piece.split("id=\"").nth(1).and_then(|rest| rest.split('"').next());
        match id {
            Some(id) => assert!(html.contains(&format!("<label for=\"{id}\"")), "{path}: {id}"),
            None => assert!(
                piece.contains("type=\"hidden\"") || piece.contains("type=\"radio\""),
                "{path}: {piece}"
            ),
        }
    }
    assert_eq!(html.matches("<table").count(), html.matches("<thead").count(), "{path}");
}

#[test]
fn what_somebody_typed_is_text_on_every_page() {
    let world = World::new();
    let mut sato = world.sato();
    for path in [
        "/",
        "/requests",
        "/requests/r3",
        "/trace",
        "/displays",
        "/recordings",
        "/data",
        "/exports?state=any",
        "/exports/x2",
        "/exports/x3",
        "/imports",
        "/environments/e4",
        "/samples",
        "/injections",
        "/injections/j3",
    ] {
        let html = sato.get(path).body;
        assert!(html.contains("alert(1)"), "{path} shows the purpose");
        assert!(!html.contains("<script") && !html.contains("<b>"), "{path}");
    }
    let answer = world.alice().post(
        "/requests/new",
        "/requests/new",
        &[("template", "\"><script>"), ("purpose", HOSTILE), ("until", "\"><img src=x>")],
    );
    assert_eq!(answer.status, 422);
    assert!(!answer.body.contains("<script") && !answer.body.contains("<img src=x"));
}

#[test]
fn a_wrong_form_keeps_what_was_typed_and_says_what_is_wrong_beside_it() {
    let world = World::new();
    let answer = world.alice().japanese().post(
        "/requests/new",
        "/requests/new",
        &[("template", "micro"), ("hours", "0"), ("purpose", "23/tcp の調査")],
    );
    assert_eq!(answer.status, 422);
    assert_snapshot!("apply_wrong_ja", answer.main());
    assert_eq!(world.daemon.done(), []);
}

#[test]
fn what_the_lab_refuses_is_shown_with_its_help_and_the_input_kept() {
    let world = World::new();
    let full = "the lab has 2048 MiB for machines, 1536 MiB of it are taken";
    let refusal = ApiError::new(ErrorCode::Capacity, full).help("choose another period");
    *world.daemon.refuse.lock().expect("no panic") = Some(refusal);
    let mut alice = world.alice();
    let answer = alice.post(
        "/requests/new",
        "/requests/new",
        &[("template", "macro"), ("hours", "8"), ("purpose", "scans on 23/tcp")],
    );
    assert_eq!(answer.status, 422);
    for part in [full, "choose another period", "scans on 23/tcp", "value=\"8\""] {
        assert!(answer.body.contains(part), "{part}: {}", answer.body);
    }
    let answer = world.sato().post("/", "/requests/r3/approve", &[]);
    assert_eq!(answer.status, 409);
    assert!(answer.body.contains(full) && answer.body.contains("choose another period"));
}

#[test]
fn each_button_asks_for_what_it_says() {
    let world = World::new();
    let (mut alice, mut sato) = (world.alice(), world.sato());
    let page = "/environments/e1";
    let power = |action| [("machine", "analyst"), ("action", action)];
    for action in ["on", "off", "kill", "reset"] {
        let answer = alice.post(page, "/environments/e1/power", &power(action));
        assert_eq!(answer.header("location"), "/environments/e1?done=power");
    }
    assert_eq!(alice.post(page, "/environments/e1/power", &power("explode")).status, 400);
    alice.post("/environments/e1/revert/analyst", "/environments/e1/revert/analyst", &[]);
    alice.post("/environments/e1/end", "/environments/e1/end", &[]);
    alice.post("/sessions", "/sessions/8/end", &[]);
    sato.post("/requests/r3", "/requests/r3/refuse", &[("reason", "no data named")]);
    sato.post(page, "/environments/e1/extend", &[("until", "2030-01-03T09:00")]);
    sato.post("/accounts/bob", "/accounts/bob/resume", &[("reason", "is back")]);
    let done = world.daemon.done();
    let actions: Vec<PowerAction> = done
        .iter()
        .filter_map(|(_, request)| match request {
            Request::EnvironmentPower { action, .. } => Some(*action),
            _ => None,
        })
        .collect();
    assert_eq!(actions, [PowerAction::On, PowerAction::Off, PowerAction::Kill, PowerAction::Reset]);
    let rest: Vec<String> = done[4..].iter().map(|d| format!("{d:?}")).collect();
    assert_snapshot!(rest.join("\n"), @r#"
    ("alice", EnvironmentRevert { id: EnvironmentId(1), role: Some(Analyst) })
    ("alice", EnvironmentEnd { id: EnvironmentId(1) })
    ("alice", SessionEnd { id: 8 })
    ("sato", RequestRefuse { id: RequestId(3), reason: "no data named" })
    ("sato", EnvironmentExtend { id: EnvironmentId(1), until: 2030-01-03T00:00:00Z })
    ("sato", AccountSuspend { name: AccountName("bob"), suspend: false, reason: "is back" })
    "#);
}

#[test]
fn the_rdp_file_turns_every_redirection_off() {
    let world = World::new();
    let answer = world.alice().get("/environments/e1/rdp/analyst");
    assert_eq!(answer.header("content-type"), "application/x-rdp");
    assert_eq!(
        answer.header("content-disposition"),
        "attachment; filename=\"nonstop-e1-analyst.rdp\""
    );
    assert!(!answer.body.contains("k7mq2xw9ptrn4v8zjh3c"), "no password in a file");
    assert_snapshot!("rdp_file", answer.body.replace("\r\n", "\n"));
}

#[test]
fn the_password_is_for_its_owner_alone() {
    let world = World::new();
    assert!(world.alice().get("/environments/e1").body.contains("k7mq2xw9ptrn4v8zjh3c"));
    let staff = world.sato().get("/environments/e1").body;
    assert!(staff.contains("Shown to the researcher alone") && !staff.contains("k7mq2xw9"));
    assert!(!world.alice().get("/").body.contains("k7mq2xw9"), "no list shows it");
}

#[test]
fn a_page_refreshes_itself_only_while_something_is_on_its_way() {
    let world = World::new();
    let refreshes = |path| world.alice().get(path).body.contains("http-equiv=\"refresh\"");
    assert!(refreshes("/environments/e2") && refreshes("/"));
    assert!(!refreshes("/environments/e1") && !refreshes("/environments/e2?still=1"));
}

#[test]
fn the_language_is_chosen_once_and_kept() {
    let world = World::new();
    let mut alice = world.alice();
    let answer = alice.post("/about", "/language", &[("to", "ja"), ("back", "/about")]);
    assert_eq!((answer.status, answer.header("location")), (303, "/about"));
    assert!(alice.get("/about").body.contains("このラボについて"));
    let answer = alice.post("/", "/language", &[("to", "en"), ("back", "//evil.example/")]);
    assert_eq!(answer.header("location"), "/");
}

#[test]
fn errors_say_what_why_and_what_to_do_in_both_languages() {
    let world = World::new();
    for path in ["/no-such-page", "/environments/e99", "/environments/zz", "/requests/r77"] {
        for mut browser in [world.alice(), world.alice().japanese()] {
            let answer = browser.get(path);
            assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
            assert!(answer.body.contains("<h1>") && answer.body.contains("href=\"/\""), "{path}");
        }
    }
    assert_snapshot!("not_found", world.alice().get("/environments/e99").main());
}
