//! The desk where cards are issued, and the gateway where they are shown.

use crate::lab::{TestLab, account};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use nonstop_api::{ApiError, CardBegunView, CardCertifiedView, CardView, Reply, Request};
use nonstop_host::Host;
use nonstop_model::{CardAct, CardGuid, CardId, lab::ACCOUNT_UIDS};
use nonstop_store::NewSession;
use nonstopd::{Clock, desired::desired};
use rcgen::{KeyPair, PublicKeyData, SigningKey};

/// Alice's uid.
const ALICE: u32 = ACCOUNT_UIDS + 1;

impl TestLab {
    pub(crate) fn begin(
        &self,
        name: &str,
        act: CardAct,
        guid: Option<CardGuid>,
    ) -> Result<CardBegunView, ApiError> {
        match self.admin(Request::CardBegin { account: account(name), act, guid })? {
            Reply::CardBegun(begun) => Ok(begun),
            other => panic!("{other:?}"),
        }
    }

    /// What a card with `key` answers to `challenge`.
    pub(crate) fn certify(
        &self,
        card: CardId,
        challenge: &str,
        key: &KeyPair,
    ) -> Result<CardCertifiedView, ApiError> {
        match self.admin(signed(card, challenge, key))? {
            Reply::CardCertified(certified) => Ok(certified),
            other => panic!("{other:?}"),
        }
    }

    /// An active card of `name` with a key of its own.
    pub(crate) fn issue(&self, name: &str) -> (CardBegunView, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let begun = self.begin(name, CardAct::Issue, None).expect("begun");
        self.certify(begun.card, &begun.challenge, &key).expect("certified");
        self.admin(Request::CardActivate { card: begun.card }).expect("active");
        (begun, key)
    }

    pub(crate) fn cards(&self, name: &str) -> Vec<CardView> {
        let account = Some(account(name));
        match self.admin(Request::CardList { account }).expect("listed") {
            Reply::Cards(cards) => cards,
            other => panic!("{other:?}"),
        }
    }

    /// Key lines that the gateway shall have for `name`, as a pass would want them now.
    pub(crate) fn wanted_keys(&self, name: &str) -> Vec<String> {
        let now = self.clock.now();
        let wanted = self.daemon.db.read(|r| desired(r, &self.lab, now)).expect("read");
        let gate = &wanted.accounts[&account(name)];
        gate.keys.iter().map(|key| key.key.0.clone()).collect()
    }

    /// Passes until nothing is to be done; says when the next one is due.
    pub(crate) fn settle(&self) -> Option<Timestamp> {
        for _ in 0..20 {
            let plan = self.daemon.reconciler.pass(&mut |_, _| {}).expect("a pass");
            if plan.is_empty() {
                return plan.wake_at;
            }
        }
        panic!("the lab does not settle")
    }

    /// Alice comes in from `source` by the card `card`; sshd's process is `pid`.
    pub(crate) fn logs_in(&self, card: CardId, source: &str, pid: u32) {
        let card = self.cards("alice").into_iter().find(|other| other.id == card).expect("hers");
        let new = NewSession {
            account: card.account,
            source: source.into(),
            port: 50_000,
            fingerprint: card.fingerprint.expect("it has a key"),
            client: String::new(),
            pid,
            run: self.host.observe().expect("light").run.0,
        };
        let now = self.clock.now();
        self.daemon.db.write("sshd", now, |w| w.open_session(&new)).expect("recorded");
        self.host.logs_in(ALICE, pid);
    }

    /// The processes of sessions that are open on the host.
    pub(crate) fn sessions(&self) -> Vec<u32> {
        self.host.observe().expect("light").gate.sessions.into_keys().collect()
    }

    /// Key lines that the gateway has for `name`.
    pub(crate) fn gate_keys(&self, name: &str) -> Vec<String> {
        let seen = self.host.observe().expect("light").gate;
        let gate = seen.accounts.get(&account(name));
        gate.map_or(Vec::new(), |gate| gate.keys.iter().map(|key| key.key.0.clone()).collect())
    }
}

pub(crate) fn signed(card: CardId, challenge: &str, key: &KeyPair) -> Request {
    let challenge = hex::decode(challenge).expect("hexadecimal");
    Request::CardCertify {
        card,
        public_key: BASE64_STANDARD.encode(key.subject_public_key_info()),
        signature: BASE64_STANDARD.encode(key.sign(&challenge).expect("signed")),
    }
}
