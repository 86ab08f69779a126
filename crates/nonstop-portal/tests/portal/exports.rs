//! Files on their way: what a researcher is told outside, and what staff see and decide.

use crate::{
    World,
    canned::{HOSTILE, HOSTILE_NAME},
};
use insta::assert_snapshot;
use nonstop_api::{ApiError, ErrorCode};

#[test]
fn a_researcher_is_told_number_state_and_rules_and_the_rest_once_it_is_released() {
    let world = World::new();
    let mut alice = world.alice();
    assert_snapshot!("transfers", alice.get("/transfers").main());
    assert_snapshot!("export_released", alice.get("/exports/x1").main());
    assert_snapshot!("export_held", alice.get("/exports/x2").main());
    let mut alice = world.alice().japanese();
    assert_snapshot!("transfers_ja", alice.get("/transfers?environment=e1&all=1").main());
    assert_snapshot!("export_blocked_ja", alice.get("/exports/x3").main());
    for path in ["/exports/x2", "/exports/x3"] {
        let html = alice.get(path).body;
        for secret in ["gpj.zip", ">.svg", &"ab".repeat(32), "application/zip", "preview.png"] {
            assert!(!html.contains(secret), "{path}: {secret}");
        }
    }
    let list = alice.get("/transfers?all=1").body;
    assert!(!list.contains("gpj.zip") && list.contains("scans by port.csv"));
    let receipt = alice.get("/exports/x1/receipt");
    assert_eq!(receipt.header("content-type"), "application/json");
    let named = "attachment; filename=\"nonstop-x1-receipt.json\"";
    assert_eq!(
        (receipt.header("content-disposition"), receipt.body.as_str()),
        (named, "{\"export\":\"x1\"}")
    );
    assert_eq!(alice.get("/exports/x99").status, 404);
}

#[test]
fn staff_see_the_queue_the_file_and_what_was_found() {
    let world = World::new();
    let mut sato = world.sato();
    assert_snapshot!("exports", sato.get("/exports").main());
    assert_snapshot!(
        "exports_any_ja",
        world.sato().japanese().get("/exports?state=any&account=alice").main()
    );
    assert_snapshot!("export_review", sato.get("/exports/x2").main());
    assert_snapshot!("export_review_ja", world.sato().japanese().get("/exports/x2").main());
    assert_snapshot!("export_decided", sato.get("/exports/x7").main());
    assert_snapshot!("imports", sato.get("/imports").main());
    let blocked = sato.get("/exports?state=blocked").body;
    assert!(blocked.contains("/exports/x3") && !blocked.contains("/exports/x2"), "{blocked}");
    assert!(sato.get("/exports").body.contains("Blocked lately"), "an attempt is seen unasked");
    assert!(sato.get("/exports?account=bob").body.contains("Nothing waits"), "none of bob's");
    let wrong = sato.get("/exports?environment=nowhere").body;
    assert!(wrong.contains("such as e12") && wrong.contains("value=\"nowhere\""), "{wrong}");
    assert!(sato.get("/").body.contains("<span class=\"unseen\">4 waiting</span>"));
    assert_eq!(sato.get("/transfers").header("location"), "/exports");
}

#[test]
fn nothing_of_a_file_is_active_and_nothing_in_it_hides() {
    let world = World::new();
    let mut sato = world.sato();
    let html = sato.get("/exports/x2").body;
    for shown in
        ["plots<mark>U+202E</mark>gpj.zip", "<mark>U+200B</mark>1500", "<mark>U+001B</mark>"]
    {
        assert!(html.contains(shown), "{shown}: {html}");
    }
    assert!(!html.contains('\u{202e}') && !html.contains('\u{200b}') && !html.contains('\u{1b}'));
    assert!(html.contains("2 characters that do not show") && !html.contains("<script"));
    let table = sato.get("/exports/x7").body;
    assert!(
        table.contains("&#60;b&#62;192.0.2.7") && table.contains("192.0.2.9<mark>U+202E</mark>")
    );
    assert!(!sato.get("/exports/x3").body.contains(HOSTILE_NAME));
    assert!(sato.get("/exports/x6").body.contains("src=\"/exports/x6/preview.png\""));

    let picture = sato.get("/exports/x6/preview.png");
    assert_eq!((picture.status, picture.header("content-type")), (200, "image/png"));
    assert!(picture.body.contains("PNG") && !picture.body.contains(HOSTILE), "pixels alone");
    assert_eq!(picture.header("x-content-type-options"), "nosniff");
    assert_eq!(picture.header("cache-control"), "no-store");
    assert_eq!(picture.header("cross-origin-resource-policy"), "same-origin");
    assert!(picture.header("content-security-policy").starts_with("default-src 'none'"));
    for none in ["x2", "x3"] {
        let status = sato.get(&format!("/exports/{none}/preview.png")).status;
        assert_eq!(status, 404, "{none}: a text, and what has no preview, have no picture");
    }
}

#[test]
fn staff_decide_once_with_a_reason_and_a_researcher_not_at_all() {
    let world = World::new();
    let (mut alice, mut sato) = (world.alice(), world.sato());
    let why = [("reason", " plots of counts ")];
    let sent = sato.post("/exports/x2", "/exports/x2/release", &why);
    assert_eq!(sent.header("location"), "/exports?done=export_released");
    let sent = sato.post("/exports/x6", "/exports/x6/refuse", &[("reason", "addresses in it")]);
    assert_eq!(sent.header("location"), "/exports?done=export_refused");
    let sent = sato.post("/exports/x1", "/exports/x1/revoke", &[("reason", "by mistake")]);
    assert_eq!(sent.header("location"), "/exports/x1?done=export_revoked");
    let sent = alice.post("/exports/x2", "/exports/x2/note", &[("note", "line 1\r\nline 2")]);
    assert_eq!(sent.header("location"), "/exports/x2?done=noted");
    for act in ["release", "refuse", "revoke"] {
        let path = format!("/exports/x2/{act}");
        assert_eq!(alice.post("/exports/x2", &path, &why).status, 403, "{act}");
        assert_eq!(sato.get(&path).status, 405, "{act} changes, so it is no link");
    }
    for path in ["/exports", "/imports", "/exports/x6/preview.png"] {
        assert_eq!(alice.get(path).status, 403, "{path}");
    }
    let asked: Vec<String> = world.daemon.done().iter().map(|d| format!("{d:?}")).collect();
    assert_snapshot!(asked.join("\n"));
    let own = sato.get("/exports/x5").body;
    assert!(own.contains("it is an export of your own") && !own.contains("/exports/x5/release"));
}

#[test]
fn what_somebody_else_decided_meanwhile_is_said_and_leads_on() {
    let world = World::new();
    let mut sato = world.sato();
    let said = "x2 was refused by tanaka at 2030-01-01T03:29:00Z <b>";
    let refusal = ApiError::new(ErrorCode::Conflict, said).help("look at it as it is now");
    *world.daemon.refuse.lock().expect("no panic") = Some(refusal);
    let answer = sato.post("/exports/x2", "/exports/x2/release", &[("reason", "fine")]);
    assert_eq!(answer.status, 409);
    for part in [
        "x2 was refused by tanaka at 2030-01-01T03:29:00Z &#60;b&#62;",
        "Your decision was not taken",
        "href=\"/exports\"",
        "look at it as it is now",
    ] {
        assert!(answer.body.contains(part), "{part}: {}", answer.body);
    }
    assert!(!answer.body.contains("http-equiv"), "it would be sent again");
    let gone = sato.post("/exports", "/exports/x99/release", &[("reason", "fine")]);
    assert_eq!(gone.status, 404);
    let mut alice = world.alice();
    let kept = alice.post("/exports/x2", "/exports/x2/note", &[("note", "what was typed")]);
    assert_eq!(kept.status, 409);
    assert!(kept.body.contains("what was typed</textarea>"), "{}", kept.body);
}

#[test]
fn a_preview_that_cannot_be_made_keeps_nobody_from_deciding() {
    let world = World::new();
    world.daemon.no_preview.store(true, std::sync::atomic::Ordering::SeqCst);
    let html = world.sato().get("/exports/x2").body;
    assert!(
        html.contains("the program ended early") && html.contains("/exports/x2/release"),
        "{html}"
    );
}
