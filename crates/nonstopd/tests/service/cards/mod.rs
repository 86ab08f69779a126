//! Cards as the daemon deals with them: who may do what, what a card has to show, and what of it
//! the gateway gets.

mod office;

use crate::lab::{TestLab, account};
use nonstop_api::{ApiError, ErrorCode, Reply, Request};
use nonstop_model::{CardAct, CardGuid, CardId, CardKind, CardState};
use nonstop_profile::{Fingerprint, Sealed};
use office::signed;
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use std::sync::atomic::Ordering;

fn code(answer: Result<Reply, ApiError>) -> ErrorCode {
    answer.expect_err("refused").code
}

#[test]
fn a_card_is_issued_step_by_step_and_opens_the_gate_with_the_last_one() {
    let lab = TestLab::new("");
    let key = KeyPair::generate().expect("a key");
    let begun = lab.begin("alice", CardAct::Issue, None).expect("begun");
    let secret = begun.management_secret.as_ref().expect("it is issued");
    assert_eq!((secret.len(), begun.puk.as_ref().expect("likewise").len()), (64, 8));
    assert_eq!(begun.name, "alice");
    let certified = lab.certify(begun.card, &begun.challenge, &key).expect("certified");
    assert!(certified.fingerprint.starts_with("SHA256:"), "{}", certified.fingerprint);
    lab.settle();
    assert!(lab.gate_keys("alice").is_empty(), "not before everything is on the card");
    lab.admin(Request::CardActivate { card: begun.card }).expect("active");
    lab.settle();
    assert_eq!(lab.gate_keys("alice"), [certified.key]);
    let card = &lab.cards("alice")[0];
    assert_eq!((card.state, card.proven, card.expired), (CardState::Active, true, false));
    let rows = lab.daemon.db.read(|r| r.trace_rows(100)).expect("read");
    let (puk, challenge) = (begun.puk.expect("it is issued"), begun.challenge);
    for row in rows {
        let detail = row.detail.to_string();
        let secrets = [secret, &puk, &challenge];
        assert!(!secrets.iter().any(|secret| detail.contains(*secret)), "{detail}");
    }
}

#[test]
fn only_an_admin_issues_cards_and_a_researcher_sees_the_own_ones() {
    let lab = TestLab::new("");
    let (begun, key) = lab.issue("alice");
    let (card, guid) = (begun.card, begun.guid.expect("given"));
    let begin = Request::CardBegin { account: account("bob"), act: CardAct::Issue, guid: None };
    for request in [
        begin,
        signed(card, &begun.challenge, &key),
        Request::CardActivate { card },
        Request::CardUnblock { guid },
    ] {
        for person in ["alice", "sato"] {
            assert_eq!(code(lab.person(person, request.clone())), ErrorCode::Forbidden, "{person}");
        }
    }
    let line = "ssh-ed25519 AAAA".to_string();
    for request in [
        Request::CardRevoke { card, reason: "x".into() },
        Request::CardAdd { account: account("alice"), line: line.clone() },
        Request::AccountSources {
            name: account("alice"),
            sources: vec!["0.0.0.0/0".parse().expect("any")],
            reason: "x".into(),
        },
    ] {
        assert_eq!(code(lab.person("alice", request)), ErrorCode::Forbidden);
    }
    let of = |name: &str| Request::CardList { account: Some(account(name)) };
    assert_eq!(code(lab.person("bob", of("alice"))), ErrorCode::NotFound);
    let Reply::Cards(own) = lab.person("bob", Request::CardList { account: None }).expect("own")
    else {
        panic!("no cards")
    };
    assert!(own.is_empty());
    let Reply::Cards(all) = lab.person("sato", Request::CardList { account: None }).expect("all")
    else {
        panic!("no cards")
    };
    assert_eq!(all.len(), 1);
    // A member of the staff who entered a key for another would act in that one's name.
    let for_staff = Request::CardAdd { account: account("sato"), line };
    assert_eq!(code(lab.person("sato", for_staff)), ErrorCode::Forbidden);
}

#[test]
fn what_a_card_says_is_taken_once_and_only_by_its_own_key() {
    let lab = TestLab::new("");
    let (key, other) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let begun = lab.begin("alice", CardAct::Issue, None).expect("begun");
    // The signature of another key, one over something else, and none at all.
    let Request::CardCertify { card, public_key, .. } = signed(begun.card, &begun.challenge, &key)
    else {
        panic!("no request")
    };
    let Request::CardCertify { signature: others, .. } =
        signed(begun.card, &begun.challenge, &other)
    else {
        panic!("no request")
    };
    let elsewhere = signed(begun.card, &"ab".repeat(32), &key);
    let none = Request::CardCertify { card, public_key: public_key.clone(), signature: "".into() };
    let forged = Request::CardCertify { card, public_key, signature: others };
    for request in [forged, elsewhere, none] {
        assert_eq!(code(lab.admin(request)), ErrorCode::Invalid);
    }
    assert_eq!(code(lab.admin(Request::CardActivate { card })), ErrorCode::Conflict);
    lab.certify(card, &begun.challenge, &key).expect("a wrong answer uses nothing up");
    assert_eq!(code(lab.admin(signed(card, &begun.challenge, &key))), ErrorCode::Conflict);
    lab.admin(Request::CardActivate { card }).expect("active");
    // The same key on a second card, of the same person or another.
    for person in ["alice", "bob"] {
        let second = lab.begin(person, CardAct::Enrol, Some(CardGuid([9; 16]))).expect("begun");
        let taken = lab.admin(signed(second.card, &second.challenge, &key));
        assert_eq!(code(taken), ErrorCode::Conflict);
        let give_up = Request::CardRevoke { card: second.card, reason: "a test".into() };
        lab.admin(give_up).expect("given up");
    }
    assert_eq!(code(lab.admin(Request::CardActivate { card: CardId(99) })), ErrorCode::NotFound);
}

#[test]
fn a_revoked_and_an_expired_card_open_nothing_and_end_what_was_open() {
    let lab = TestLab::new("card_days: 1");
    let (first, _) = lab.issue("alice");
    let (second, _) = lab.issue("alice");
    lab.settle();
    assert_eq!(lab.gate_keys("alice").len(), 2);
    lab.logs_in(first.card, "192.0.2.7", 100);
    lab.logs_in(second.card, "192.0.2.7", 200);
    lab.settle();
    assert_eq!(lab.sessions(), [100, 200]);
    let revoke = Request::CardRevoke { card: first.card, reason: "lost".into() };
    lab.person("sato", revoke).expect("revoked");
    let wake_at = lab.settle().expect("the lease");
    assert_eq!(lab.gate_keys("alice").len(), 1);
    assert_eq!(lab.sessions(), [200], "that of the other card goes on");
    let end = lab.cards("alice")[0].expires_at.expect("one day");
    assert!(wake_at <= end, "the pass at its end is not missed");
    lab.clock.0.store(end.as_second(), Ordering::SeqCst);
    lab.settle();
    assert!(lab.gate_keys("alice").is_empty() && lab.sessions().is_empty());
    let card = lab.cards("alice").into_iter().find(|card| card.id == second.card);
    assert!(card.is_some_and(|card| card.expired && card.state == CardState::Active));
}

#[test]
fn a_network_that_is_taken_away_ends_who_came_from_it() {
    let lab = TestLab::new("");
    let (card, _) = lab.issue("alice");
    lab.settle();
    let sources = |nets: &[&str]| {
        let sources = nets.iter().map(|net| net.parse().expect("a network")).collect();
        let name = account("alice");
        lab.person("sato", Request::AccountSources { name, sources, reason: "moved".into() })
    };
    lab.logs_in(card.card, "192.0.2.7", 100);
    sources(&["192.0.2.0/24", "198.51.100.0/24"]).expect("wider");
    lab.settle();
    lab.logs_in(card.card, "198.51.100.7", 200);
    assert_eq!(lab.sessions(), [100, 200]);
    sources(&["198.51.100.0/24"]).expect("narrower");
    lab.settle();
    assert_eq!(lab.sessions(), [200], "from where she still comes");
    assert_eq!(code(sources(&[])), ErrorCode::Invalid);
    let bits = sources(&["192.0.2.7/24"]).expect_err("bits behind its prefix");
    assert!(bits.help.contains("192.0.2.0/24"), "{}", bits.help);
}

#[test]
fn a_daemon_killed_between_any_two_steps_has_given_nothing_half() {
    for killed_after in ["begin", "certify", "activate", "revoke"] {
        let mut lab = TestLab::new("");
        let key = KeyPair::generate().expect("a key");
        let begun = lab.begin("alice", CardAct::Issue, None).expect("begun");
        if killed_after == "begin" {
            lab = lab.restart();
        }
        let certified = lab.certify(begun.card, &begun.challenge, &key).expect("goes on");
        if killed_after == "certify" {
            lab = lab.restart();
            let again = lab.admin(signed(begun.card, &begun.challenge, &key));
            assert_eq!(code(again), ErrorCode::Conflict, "a lost answer is not given twice");
            let anew = lab.begin("alice", CardAct::Issue, begun.guid).expect("goes on");
            assert_eq!((anew.card, &anew.puk), (begun.card, &begun.puk), "the same card");
            assert_eq!(anew.management_secret, begun.management_secret);
            lab.certify(anew.card, &anew.challenge, &key).expect("its own key");
        }
        assert!(lab.wanted_keys("alice").is_empty(), "{killed_after}");
        lab.admin(Request::CardActivate { card: begun.card }).expect("active");
        if killed_after == "activate" {
            lab = lab.restart();
        }
        lab.settle();
        assert_eq!(lab.gate_keys("alice"), [certified.key], "{killed_after}");
        let revoke = Request::CardRevoke { card: begun.card, reason: "lost".into() };
        lab.admin(revoke).expect("revoked");
        if killed_after == "revoke" {
            lab = lab.restart();
        }
        lab.settle();
        assert!(lab.gate_keys("alice").is_empty(), "{killed_after}");
    }
}

#[test]
fn a_card_is_unblocked_by_its_guid_and_what_this_lab_did_not_issue_is_not() {
    let lab = TestLab::new("");
    let (begun, _) = lab.issue("alice");
    let unblock = |guid| lab.admin(Request::CardUnblock { guid });
    let Reply::CardPuk(puk) = unblock(begun.guid.expect("given")).expect("ours") else {
        panic!("no PUK")
    };
    assert_eq!(Some(puk.puk), begun.puk);
    assert_eq!(code(unblock(CardGuid([1; 16]))), ErrorCode::NotFound);
    let enrolled = lab.begin("bob", CardAct::Enrol, Some(CardGuid([2; 16]))).expect("begun");
    assert_eq!((enrolled.management_secret, enrolled.puk), (None, None));
    assert_eq!(code(unblock(CardGuid([2; 16]))), ErrorCode::NotFound);
    // Cards that nobody named say zeros: these are not one card.
    let blank = lab.begin("bob", CardAct::Issue, Some(CardGuid([0; 16]))).expect("begun");
    assert!(blank.guid.is_some_and(|guid| !guid.is_unset()));
}

#[test]
fn a_public_key_of_a_card_is_entered_by_staff_and_shown_as_not_proven() {
    let lab = TestLab::new("");
    let key = KeyPair::generate().expect("a key");
    let presented = nonstop_host::authority::PresentedKey::parse(&key.subject_public_key_info());
    let line = format!("{} alice's card", presented.expect("P-256").openssh());
    let add = |line: &str| {
        let request = Request::CardAdd { account: account("alice"), line: line.into() };
        lab.person("sato", request)
    };
    let soft = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4mgl+VnJWxyUMGJvGdmoIPRBbKzQm5k2cRP+k9HTkU";
    for bad in ["", "x", soft, &format!("command=\"sh\" {line}"), &format!("{line}\n{line}")] {
        assert_eq!(code(add(bad)), ErrorCode::Invalid, "{bad:?}");
    }
    add(&line).expect("added");
    assert_eq!(code(add(&line)), ErrorCode::Conflict, "twice");
    let card = &lab.cards("alice")[0];
    assert_eq!((card.kind, card.proven), (CardKind::Piv, false));
    assert_eq!(lab.wanted_keys("alice").len(), 1);
}

#[test]
fn key_files_log_in_only_where_lab_yaml_allows_them() {
    let lab = TestLab::new("software_keys: true");
    let add = Request::AccountAdd {
        name: account("carol"),
        full_name: "c".into(),
        affiliation: "x".into(),
        role: nonstop_model::Role::Researcher,
        edition: None,
        sources: vec!["0.0.0.0/0".parse().expect("any")],
        keys: vec![
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4mgl+VnJWxyUMGJvGdmoIPRBbKzQm5k2cRP+k9HTkU"
                .into(),
        ],
    };
    lab.admin(add).expect("a demo");
    assert_eq!(lab.cards("carol")[0].kind, CardKind::KeyFile);
    lab.settle();
    assert_eq!(lab.gate_keys("carol").len(), 1);
    let mut lab = lab;
    lab.lab.software_keys = false;
    let lab = lab.restart();
    lab.settle();
    assert!(lab.gate_keys("carol").is_empty(), "the lab takes cards alone now");
}

#[test]
fn a_profile_is_the_persons_own_and_signed_by_the_lab() {
    let lab = TestLab::new("");
    let ask = |name: &str| Request::ProfileShow { account: Some(account(name)) };
    let Reply::Profile(file) =
        lab.person("alice", Request::ProfileShow { account: None }).expect("her own")
    else {
        panic!("no profile")
    };
    let sealed = Sealed::read(file.as_bytes()).expect("signed");
    let trusted: Fingerprint =
        lab.daemon.service.authority.fingerprint().parse().expect("a fingerprint");
    let profile = sealed.open(&trusted).expect("by the lab");
    assert_eq!(profile.account.as_str(), "alice");
    assert_eq!(
        (profile.gateway.host.to_string(), profile.gateway.port.get()),
        ("192.0.2.1".into(), 22)
    );
    assert_eq!(profile.portal.to_string(), "127.64.0.1:8080");
    assert_eq!(code(lab.person("bob", ask("alice"))), ErrorCode::NotFound);
    lab.person("sato", ask("alice")).expect("to hand out");
    lab.admin(ask("alice")).expect("to hand out");
    assert_eq!(code(lab.admin(Request::ProfileShow { account: None })), ErrorCode::Invalid);
    let key = KeyPair::generate().expect("a key");
    assert!(Sealed::read(file.replace(&file[20..24], "AAAA").as_bytes()).is_err());
    let other = Sealed::write(&profile, &key.subject_public_key_info(), |bytes| key.sign(bytes));
    let other = Sealed::read(other.expect("sealed").as_bytes()).expect("signed");
    assert!(other.open(&trusted).is_err(), "another lab's");
}
