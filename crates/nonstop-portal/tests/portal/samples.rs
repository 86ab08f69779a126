//! Samples: choosing them without scripts, putting them before a debuggee, and what became of it.

use crate::{
    World,
    canned::{HOSTILE, samples::hash},
};
use insta::assert_snapshot;
use nonstop_api::{ApiError, ErrorCode, Request};
use nonstop_model::InjectBy;

#[test]
fn a_researcher_searches_chooses_and_says_how() {
    let world = World::new();
    let mut alice = world.alice();
    assert_snapshot!("sample_choice", alice.get("/environments/e4/samples").main());
    let chosen = format!("s-{}=1&s-{}=1", hash("a"), hash("b"));
    let searched = alice.get(&format!("/environments/e4/samples?{chosen}&hash=CCC&family=")).body;
    for kept in ["a", "b"] {
        let ticked = format!("name=\"s-{}\" value=\"1\" checked", hash(kept));
        assert!(searched.contains(&ticked), "{kept} stays ticked: {searched}");
    }
    assert!(!searched.contains(&format!("name=\"s-{}\"", hash("c"))), "its bytes are not here");
    let how = format!("/environments/e4/samples?{chosen}&go=1");
    assert_snapshot!("sample_inject", alice.get(&how).main());
    assert_snapshot!("sample_inject_ja", world.alice().japanese().get(&how).main());
    let name = format!("n-{}", hash("a"));
    let (a, b) = (format!("s-{}", hash("a")), format!("s-{}", hash("b")));
    let form =
        [(a.as_str(), "1"), (&b, "1"), (&name, "invoice (2).exe"), ("by", "agent"), ("zip", "1")];
    let sent = alice.post(&how, "/environments/e4/inject", &form);
    assert_eq!(sent.header("location"), "/environments/e4?done=injecting#injections");
    let sent = alice.post("/environments/e4", "/environments/e4/eject", &[]);
    assert_eq!(sent.header("location"), "/environments/e4?done=ejecting#injections");
    let asked: Vec<_> = world.daemon.done();
    assert_snapshot!("sample_asked", format!("{asked:#?}"));
}

#[test]
fn nothing_is_put_in_that_was_not_chosen_and_a_wrong_question_is_not_asked() {
    let world = World::new();
    let mut alice = world.alice();
    let none = alice.get("/environments/e4/samples?go=1").body;
    assert!(none.contains("Tick at least one sample"), "{none}");
    let many: Vec<_> = (0..17).map(|n| format!("s-{n:064x}=1")).collect();
    let many = alice.get(&format!("/environments/e4/samples?go=1&{}", many.join("&"))).body;
    assert!(many.contains("At most 16 samples"), "{many}");
    let odd = alice.get("/environments/e4/samples?go=1&s-../../etc=1&s-%22%3E%3Cscript%3E=1").body;
    assert!(odd.contains("Tick at least one sample") && !odd.contains("<script"), "{odd}");
    let wrong = alice.get("/environments/e4/samples?hash=xyz&from=tomorrow&until=2030-02-30").body;
    assert!(wrong.contains("Only the digits") && wrong.contains("Not a date"), "{wrong}");
    assert!(wrong.contains("value=\"xyz\""), "what was typed stays: {wrong}");
    let odd = alice.get("/environments/e4/samples?text=(");
    assert_eq!(odd.status, 400);
    for part in ["cannot be looked for &#60;b&#62;", "write words alone", "value=\"(\""] {
        assert!(odd.body.contains(part), "{part}: {}", odd.body);
    }
    let order = alice.get("/environments/e4/samples?from=2030-01-02&until=2030-01-01").body;
    assert!(order.contains("must not come before"), "{order}");
    assert_eq!(alice.post("/environments/e4", "/environments/e4/inject", &[]).status, 400);
    assert_eq!(world.daemon.done(), []);
}

#[test]
fn only_the_owner_of_an_environment_with_a_debuggee_is_offered_it() {
    let world = World::new();
    let (mut alice, mut sato) = (world.alice(), world.sato());
    assert_eq!(alice.get("/environments/e1/samples").status, 404, "it has no debuggee");
    assert!(!alice.get("/environments/e1").body.contains("/samples"));
    assert!(alice.get("/environments/e4").body.contains("/environments/e4/samples"));
    assert_eq!(sato.get("/environments/e4/samples").status, 403);
    let seen = sato.get("/environments/e4").body;
    assert!(seen.contains("invoice.exe"), "staff see what was put in");
    assert!(!seen.contains("/environments/e4/samples") && !seen.contains("/eject"), "{seen}");
    for path in ["/samples", "/injections"] {
        assert_eq!(alice.get(path).status, 403, "{path}");
    }
    let form = [("by", "disc")];
    assert_eq!(sato.post("/environments/e4", "/environments/e4/inject", &form).status, 403);
    for path in ["inject", "eject"] {
        let answer = alice.get(&format!("/environments/e4/{path}"));
        assert_eq!(answer.status, 405, "{path} changes, so it is no link");
        let path = format!("/environments/e4/{path}");
        assert_eq!(alice.post_raw(&path, &form, true).status, 403, "a form needs its token");
    }
    assert_eq!(world.daemon.done(), []);
}

#[test]
fn what_is_refused_is_said_with_the_way_to_mend_it_and_what_was_typed_stays() {
    let world = World::new();
    let mut alice = world.alice();
    let refusal = ApiError::new(ErrorCode::Conflict, "the debuggee of e4 is off <b>\u{202e}");
    let refusal = refusal.help("switch it on first");
    *world.daemon.refuse.lock().expect("no panic") = Some(refusal);
    let (a, name) = (format!("s-{}", hash("a")), format!("n-{}", hash("a")));
    let form = [(a.as_str(), "1"), (&name, "\"><script>.exe"), ("by", "agent"), ("zip", "1")];
    let answer = alice.post("/environments/e4", "/environments/e4/inject", &form);
    assert_eq!(answer.status, 409);
    assert_snapshot!("sample_refused", answer.main());
    assert!(!answer.body.contains("<script") && !answer.body.contains('\u{202e}'));
}

#[test]
fn a_sample_that_the_store_has_not_is_named_where_it_was_chosen() {
    let world = World::new();
    let mut alice = world.alice();
    let message = "there is no sample aa in the data domain `lab`";
    let refusal = ApiError::new(ErrorCode::NotFound, message).help("look at `nonstop sample list`");
    *world.daemon.refuse.lock().expect("no panic") = Some(refusal);
    let (a, name) = (format!("s-{}", hash("a")), format!("n-{}", hash("a")));
    let form = [(a.as_str(), "1"), (&name, "invoice.exe"), ("by", "disc")];
    let answer = alice.post("/environments/e4", "/environments/e4/inject", &form);
    assert_eq!(answer.status, 404);
    for part in [message, "look at `nonstop sample list`", "invoice.exe", "It was not put in"] {
        assert!(answer.body.contains(part), "{part}: {}", answer.main());
    }
    assert!(!answer.body.contains("There is no such page"), "{}", answer.main());
    // What is no page at all is told as before.
    let nowhere = alice.get("/environments/e4/nowhere");
    assert_eq!(nowhere.status, 404);
    assert!(nowhere.body.contains("There is no such page"), "{}", nowhere.main());
}

#[test]
fn what_a_source_or_a_guest_says_is_text_and_marked_as_theirs() {
    let world = World::new();
    let mut alice = world.alice();
    let page = alice.get("/environments/e4").main();
    let from = page.find("<section class=\"panel\" aria-labelledby=\"injections\"").expect("there");
    let to = page[from..].find("</section>").expect("whole") + from;
    assert_snapshot!("injections_of_environment", &page[from..to]);
    assert!(page.contains("<strong>The guest says:</strong>"), "{page}");
    for path in ["/environments/e4", "/environments/e4/samples", "/injections/j3"] {
        let html = alice.get(path).body;
        for bad in ["<script", "<b>", "<i>", "<u>", "\u{202e}", "\u{1b}", "onfocus=\"x"] {
            assert!(!html.contains(bad), "{path}: {bad:?}");
        }
        assert!(html.contains("<mark>U+202E</mark>"), "{path} shows what hides");
    }
}

#[test]
fn a_record_is_a_page_to_print_and_a_file_to_cite() {
    let world = World::new();
    let mut alice = world.alice();
    assert_snapshot!("injection_record", alice.get("/injections/j3").main());
    assert_snapshot!("injection_record_ja", world.alice().japanese().get("/injections/j3").main());
    let file = alice.get("/injections/j3/record");
    assert_eq!(file.header("content-type"), "application/json");
    let named = "attachment; filename=\"nonstop-j3-record.json\"";
    assert_eq!(file.header("content-disposition"), named);
    let read: serde_json::Value = serde_json::from_str(&file.body).expect("the file as it is");
    assert!(read["record"]["guest_says"].as_str().expect("words").contains(HOSTILE));
    for path in ["/injections/j99", "/injections/j99/record"] {
        assert_eq!(alice.get(path).status, 404, "{path}");
    }
}

#[test]
fn staff_see_the_store_and_the_injections_of_all() {
    let world = World::new();
    let mut sato = world.sato();
    assert_snapshot!("samples", sato.get("/samples").main());
    assert_snapshot!("samples_ja", world.sato().japanese().get("/samples?kind=pe").main());
    assert_snapshot!("injections", sato.get("/injections").main());
    assert_eq!(sato.get("/samples?hash=xyz").status, 422);
    assert!(sato.get("/data").body.contains("href=\"/samples\""));
}

#[test]
fn a_sample_goes_in_as_a_disc_unless_the_agent_is_asked_for() {
    let world = World::new();
    let mut alice = world.alice();
    let a = format!("s-{}", hash("a"));
    let form = [(a.as_str(), "1"), ("by", "disc")];
    assert_eq!(alice.post("/environments/e4", "/environments/e4/inject", &form).status, 303);
    let asked = world.daemon.done();
    let [(_, Request::SampleInject { samples, by: InjectBy::Disc, zip: false, .. })] = &asked[..]
    else {
        panic!("{asked:?}")
    };
    assert_eq!((samples.len(), samples[0].name.as_deref()), (1, None));
}
