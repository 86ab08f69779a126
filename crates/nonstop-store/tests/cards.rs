//! Cards as the database knows them: what goes on, what is refused, and that no key comes twice.

use jiff::Timestamp;
use nonstop_model::{
    AccountName, AccountState, Card, CardAct, CardGuid, CardId, CardKind, CardState, KeyAlgorithm,
    PublicKey, Role,
};
use nonstop_store::{BeginCard, Db, NewAccount, NewKey, StoreError, Write};
use std::path::Path;

const GUID: CardGuid = CardGuid(*b"0123456789abcdef");
const OTHER: CardGuid = CardGuid(*b"0123456789abcdeg");

fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().expect("a time")
}

fn end() -> Timestamp {
    "2033-01-01T00:00:00Z".parse().expect("a time")
}

fn name(text: &str) -> AccountName {
    text.parse().expect("a name")
}

fn key(text: &str) -> NewKey {
    NewKey {
        key: PublicKey(format!("ecdsa-sha2-nistp256 {text}")),
        fingerprint: format!("SHA256:{text}"),
        algorithm: KeyAlgorithm::EcP256,
    }
}

struct Lab {
    db: Db,
    _dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().expect("a folder");
        let lab = Lab { db: open(dir.path()), _dir: dir };
        for account in ["alice", "bob"] {
            let new = NewAccount {
                name: name(account),
                full_name: "Somebody".into(),
                affiliation: "Somewhere".into(),
                role: Role::Researcher,
                edition: None,
                sources: Vec::new(),
                keys: Vec::new(),
            };
            lab.write(|w| w.add_account(&new)).expect("added");
        }
        lab
    }

    fn write<T>(
        &self,
        change: impl FnOnce(&mut Write<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.db.write("admin:root", now(), change)
    }

    fn begin(&self, account: &str, guid: Option<CardGuid>, n: u8) -> Result<Card, StoreError> {
        let begin = BeginCard {
            account: name(account),
            act: CardAct::Issue,
            guid,
            new_guid: Some(CardGuid([n; 16])),
            challenge: [n; 32],
            expires_at: end(),
        };
        self.write(|w| w.begin_card(&begin))
    }

    fn certify(&self, card: CardId, n: u8, of: &str) -> Result<Card, StoreError> {
        self.write(|w| w.certify_card(card, &[n; 32], &key(of)))
    }

    /// An active card of `account` with the key `of`.
    fn issue(&self, account: &str, n: u8, of: &str) -> CardId {
        let card = self.begin(account, None, n).expect("begun").id;
        self.certify(card, n, of).expect("certified");
        self.write(|w| w.activate_card(card)).expect("active");
        card
    }

    fn card(&self, id: CardId) -> Card {
        self.db.read(|r| r.card(id)).expect("there")
    }

    /// Fingerprints that log in.
    fn keys(&self, account: &str) -> Vec<String> {
        let account = self.db.read(|r| r.account(&name(account))).expect("there");
        account.keys.into_iter().map(|key| key.fingerprint).collect()
    }

    fn traced(&self) -> Vec<String> {
        let rows = self.db.read(|r| r.trace_rows(100)).expect("read");
        let mut rows: Vec<_> = rows.into_iter().map(|row| row.action).collect();
        rows.reverse();
        rows.retain(|action| action.starts_with("card."));
        rows
    }
}

fn open(dir: &Path) -> Db {
    Db::open(&dir.join("nonstop.db"), now()).expect("opens")
}

#[test]
fn a_card_opens_nothing_before_it_is_active_and_nothing_after_it_is_revoked() {
    let lab = Lab::new();
    let card = lab.begin("alice", None, 7).expect("begun");
    assert_eq!((card.state, card.guid), (CardState::Issuing, Some(CardGuid([7; 16]))));
    assert!(lab.keys("alice").is_empty());
    let early = lab.write(|w| w.activate_card(card.id));
    assert!(matches!(early, Err(StoreError::NotCertified(_))), "{early:?}");
    let certified = lab.certify(card.id, 7, "k").expect("certified");
    assert!(certified.proven && lab.keys("alice").is_empty());
    lab.write(|w| w.activate_card(card.id)).expect("active");
    lab.write(|w| w.activate_card(card.id)).expect("the answer was lost: once more");
    assert_eq!(lab.keys("alice"), ["SHA256:k"]);
    lab.write(|w| w.revoke_card(card.id, "lost")).expect("revoked");
    lab.write(|w| w.revoke_card(card.id, "lost again")).expect("it is");
    assert!(lab.keys("alice").is_empty());
    let card = lab.card(card.id);
    assert_eq!(card.reason.as_deref(), Some("lost"));
    assert_eq!((card.revoked_by.as_deref(), card.revoked_at), (Some("admin:root"), Some(now())));
    let again = lab.write(|w| w.activate_card(card.id));
    assert!(matches!(again, Err(StoreError::CardNotThatFar { .. })), "{again:?}");
    assert_eq!(lab.traced(), ["card.begin", "card.certify", "card.active", "card.revoke"]);
}

#[test]
fn a_challenge_is_good_for_one_signature_and_one_that_was_replaced_for_none() {
    let lab = Lab::new();
    let card = lab.begin("alice", None, 1).expect("begun").id;
    let guid = lab.card(card).guid;
    let same = lab.begin("alice", guid, 2).expect("goes on");
    assert_eq!(same.id, card, "the same row");
    let stale = lab.certify(card, 1, "k");
    assert!(matches!(stale, Err(StoreError::ChallengeUsed(_))), "{stale:?}");
    lab.certify(card, 2, "k").expect("the one that was asked");
    let replayed = lab.certify(card, 2, "k");
    assert!(matches!(replayed, Err(StoreError::ChallengeUsed(_))), "{replayed:?}");
    // Begun anew after its key was known: what it has now has to be shown again.
    lab.begin("alice", guid, 3).expect("goes on");
    let early = lab.write(|w| w.activate_card(card));
    assert!(matches!(early, Err(StoreError::NotCertified(_))), "{early:?}");
    lab.certify(card, 3, "other").expect("another key was made on it");
    lab.write(|w| w.activate_card(card)).expect("active");
    assert_eq!(lab.keys("alice"), ["SHA256:other"]);
    let active = lab.certify(card, 3, "third");
    assert!(matches!(active, Err(StoreError::CardNotThatFar { .. })), "{active:?}");
}

#[test]
fn a_key_that_any_card_had_is_taken_for_no_other() {
    let lab = Lab::new();
    let first = lab.issue("alice", 1, "k");
    let (mine, others) = (lab.begin("alice", None, 2), lab.begin("bob", None, 3));
    let (mine, others) = (mine.expect("begun").id, others.expect("begun").id);
    for revoked in [false, true] {
        for (card, n) in [(mine, 2), (others, 3)] {
            let taken = lab.certify(card, n, "k");
            assert!(matches!(taken, Err(StoreError::KeyTaken { .. })), "{taken:?} {revoked}");
        }
        let added = lab.write(|w| w.add_card(&name("bob"), &key("k"), end()));
        assert!(matches!(added, Err(StoreError::KeyTaken { .. })), "{added:?}");
        lab.write(|w| w.revoke_card(first, "lost")).expect("revoked");
    }
    lab.certify(mine, 2, "fresh").expect("the challenge was not used up");
    // One that was given up before it ever opened anything leaves its key to the same person.
    lab.write(|w| w.revoke_card(mine, "torn")).expect("given up");
    let taken = lab.certify(others, 3, "fresh");
    assert!(matches!(taken, Err(StoreError::KeyTaken { .. })), "{taken:?}");
    let again = lab.begin("alice", None, 4).expect("begun").id;
    lab.certify(again, 4, "fresh").expect("her own");
}

#[test]
fn a_card_in_a_reader_is_one_card_here_and_is_issued_again_once_it_is_revoked() {
    let lab = Lab::new();
    let half = lab.begin("alice", Some(GUID), 1).expect("begun").id;
    let other = lab.begin("bob", Some(GUID), 2);
    assert!(matches!(other, Err(StoreError::CardInHand { .. })), "{other:?}");
    lab.certify(half, 1, "k").expect("certified");
    lab.write(|w| w.activate_card(half)).expect("active");
    for account in ["alice", "bob"] {
        let used = lab.begin(account, Some(GUID), 2).expect_err("it is in use");
        assert_eq!(used.to_string(), "the card in the reader is c1 of `alice`, which is active");
    }
    lab.write(|w| w.revoke_card(half, "back")).expect("revoked");
    let again = lab.begin("bob", Some(GUID), 2).expect("the plastic is free");
    assert_eq!((again.id, again.guid), (CardId(2), Some(GUID)), "a new card under its old name");
    assert!(lab.db.read(|r| r.card_called(GUID)).expect("read").is_some_and(|c| c.id == again.id));
}

#[test]
fn two_who_begin_at_once_have_a_card_each_or_one_of_them_the_challenge() {
    let lab = Lab::new();
    let cards: Vec<CardId> = std::thread::scope(|scope| {
        let begin = |n: u8| lab.begin("alice", None, n).expect("begun").id;
        let begun = [1, 2].map(|n| scope.spawn(move || begin(n)));
        begun.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_ne!(cards[0], cards[1]);
    let same: Vec<(u8, CardId)> = std::thread::scope(|scope| {
        let begin = |n: u8| (n, lab.begin("bob", Some(OTHER), n).expect("begun").id);
        let begun = [3, 4].map(|n| scope.spawn(move || begin(n)));
        begun.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(same[0].1, same[1].1, "one card in the reader");
    let good = same.iter().filter(|(n, card)| lab.certify(*card, *n, "k").is_ok()).count();
    assert_eq!(good, 1, "the later challenge alone");
}

#[test]
fn a_card_without_a_name_is_enrolled_on_and_its_secrets_are_not_ours() {
    let lab = Lab::new();
    let enrol = |account: &str, guid, n: u8| {
        let begin = BeginCard {
            account: name(account),
            act: CardAct::Enrol,
            guid,
            new_guid: None,
            challenge: [n; 32],
            expires_at: end(),
        };
        lab.write(|w| w.begin_card(&begin))
    };
    let first = enrol("alice", None, 1).expect("begun").id;
    assert_eq!(enrol("alice", None, 2).expect("goes on").id, first);
    assert_ne!(enrol("bob", None, 3).expect("another's").id, first);
    let named = enrol("alice", Some(GUID), 4).expect("begun").id;
    let changed = lab.begin("alice", Some(GUID), 5);
    assert!(matches!(changed, Err(StoreError::CardInHand { .. })), "{changed:?}");
    lab.certify(named, 4, "k").expect("certified");
    lab.write(|w| w.activate_card(named)).expect("active");
    for guid in [GUID, OTHER] {
        let refused = lab.write(|w| w.unblock_card(guid));
        assert!(matches!(refused, Err(StoreError::NotOurCard(_))), "{refused:?}");
    }
    let ours = lab.issue("bob", 6, "ours");
    let guid = lab.card(ours).guid.expect("given");
    assert_eq!(lab.write(|w| w.unblock_card(guid)).expect("ours").id, ours);
    assert_eq!(lab.traced().last().map(String::as_str), Some("card.unblock"));
}

#[test]
fn a_removed_account_has_no_card_that_opens_and_gets_none() {
    let lab = Lab::new();
    let active = lab.issue("alice", 1, "k");
    let half = lab.begin("alice", None, 2).expect("begun").id;
    lab.certify(half, 2, "half").expect("certified");
    lab.write(|w| w.set_account_state(&name("alice"), AccountState::Removed, "left"))
        .expect("removed");
    for card in [active, half] {
        assert_eq!(lab.card(card).state, CardState::Revoked);
    }
    assert!(lab.keys("alice").is_empty());
    let refused = lab.begin("alice", None, 3);
    assert!(matches!(refused, Err(StoreError::AccountRemoved(_))), "{refused:?}");
    let refused = lab.write(|w| w.add_card(&name("alice"), &key("new"), end()));
    assert!(matches!(refused, Err(StoreError::AccountRemoved(_))), "{refused:?}");
}

#[test]
fn key_files_of_labs_from_before_cards_go_on_as_cards_of_their_own_kind() {
    let dir = tempfile::tempdir().expect("a folder");
    let raw = rusqlite::Connection::open(dir.path().join("nonstop.db")).expect("opens");
    // ssh-keygen's own, of 2048 and 3072 bits: 279 and 407 bytes each.
    let rsa = |bytes: usize| {
        let base64 = "A".repeat(bytes.div_ceil(3) * 4 - (3 - bytes % 3) % 3);
        let padding = "=".repeat((3 - bytes % 3) % 3);
        format!("ssh-rsa {base64}{padding}")
    };
    for sql in [
        include_str!("../migrations/0001_lab.sql"),
        include_str!("../migrations/0002_pool.sql"),
        include_str!("../migrations/0003_desktops.sql"),
        include_str!("../migrations/0004_snapshots.sql"),
        include_str!("../migrations/0005_publications.sql"),
        include_str!("../migrations/0006_editions.sql"),
        "PRAGMA user_version = 6;
        INSERT INTO accounts (name, full_name, affiliation, role, state, sources, added_at) VALUES
            ('alice', 'a', 'a', 'researcher', 'active', '[]', 0);",
    ] {
        raw.execute_batch(sql).expect("as it was");
    }
    let lines = ["ssh-ed25519 AAAA".into(), "ecdsa-sha2-nistp384 BBBB".into(), rsa(279), rsa(407)];
    for (n, line) in lines.iter().enumerate() {
        let sql = "INSERT INTO keys (account, line, fingerprint, added_at) VALUES (1, ?1, ?2, 5)";
        raw.execute(sql, (line, format!("SHA256:{n}"))).expect("as it was");
    }
    drop(raw);
    let db = open(dir.path());
    let cards = db.read(|r| r.cards(Some(&name("alice")))).expect("read");
    let algorithms: Vec<_> = cards.iter().rev().map(|c| c.algorithm).collect();
    let expected = [
        KeyAlgorithm::Ed25519,
        KeyAlgorithm::EcP384,
        KeyAlgorithm::Rsa(2048),
        KeyAlgorithm::Rsa(3072),
    ];
    assert_eq!(algorithms, expected.map(Some));
    for card in &cards {
        assert_eq!((card.kind, card.state), (CardKind::KeyFile, CardState::Active));
        assert!(!card.proven && card.expires_at.is_none());
    }
    let account = db.read(|r| r.account(&name("alice"))).expect("read");
    assert!(account.keys[0].opens(now(), true) && !account.keys[0].opens(now(), false));
    let taken = NewKey { fingerprint: "SHA256:0".into(), ..key("x") };
    let taken = db.write("x", now(), |w| w.add_card(&name("alice"), &taken, end()));
    assert!(matches!(taken, Err(StoreError::KeyTaken { .. })), "{taken:?}");
}
