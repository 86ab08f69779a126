//! Issuing over the real pcscd: what a card is afterwards to stock programs, and what is left
//! when it is cut.

mod office;

use anyhow::{Context, Result, bail};
use nonstop_card::{
    CardError, Pin,
    apdu::{Link, LinkError},
    desk::{Content, Desk},
    issue::{self, IssueError, Issued},
    key::KeyAlgorithm,
    management::Algorithm,
    piv::Piv,
};
use nonstop_testkit::{
    card::{Applet, CardFile, CardState, Kind},
    place::Place,
    reader::{Alone, Faults, Reader, SLOTS, alone, pkcs11},
};
use office::{Office, Refused};

const BOTH: [KeyAlgorithm; 2] = [KeyAlgorithm::EcP256, KeyAlgorithm::Rsa2048];

fn issue_at_desk(
    office: &mut Office,
    algorithm: KeyAlgorithm,
) -> Result<Issued, IssueError<Refused>> {
    Desk::open()?.with_card(None, |piv| issue::issue(piv, office, algorithm))
}

#[test]
fn stock_programs_take_an_issued_card_of_every_kind() -> Result<()> {
    if alone("stock_programs_take_an_issued_card_of_every_kind")? == Alone::Done {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let reader = Reader::here(dir.path())?;
    let pkcs11 = pkcs11()?;
    for (n, algorithm) in [0x03, 0x0A, 0x0C, 0x08].into_iter().zip(BOTH.into_iter().cycle()) {
        let factory = CardState::factory().managed_by(n);
        let card = CardFile::create(dir.path().join(format!("{n}.json")), &factory)?;
        let _in = reader.insert(&card)?;
        let mut office = Office::new(dir.path())?;
        let issued = issue_at_desk(&mut office, algorithm)?;
        assert!(office.active && issued.own_management);
        let state = card.read()?;
        assert_eq!(state.management.algorithm, issued.management.number());
        assert_ne!(state.management.key, factory.management.key);
        assert_ne!(state.puk, factory.puk);
        assert_eq!(state.pin.value, issued.pin.reveal());

        let test =
            ["pkcs11-tool", "--module", &pkcs11, "--login", "--pin", issued.pin.reveal(), "--test"];
        let said = Place::here().output(&test)?;
        let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        // OpenSC takes random numbers from the challenge of a 3DES management key, and from no other.
        let good = match issued.management {
            Algorithm::TripleDes => said.contains("No errors"),
            _ => said.contains("1 errors") && said.contains("ERR: C_GenerateRandom failed"),
        };
        assert!(good && said.matches("ERR").count() < 2, "{said}");
        let shown = Place::here().run(&["ssh-keygen", "-D", &pkcs11])?;
        let same = office.openssh_key(&issued.key)?;
        assert!(shown.contains(&same), "{shown} has not {same}");
        let wrong = ["pkcs11-tool", "--module", &pkcs11, "--login", "--pin", "000000", "-O"];
        assert!(!Place::here().output(&wrong)?.status.success());
        let views = Desk::open()?.readers()?;
        assert_eq!(views[0].content, Content::Piv { guid: Some(issued.guid), certificate: true });
        assert_eq!(views[1].content, Content::Empty);
    }
    Ok(())
}

#[test]
fn a_card_that_is_pulled_out_at_any_command_goes_on_with_the_same_command() -> Result<()> {
    if alone("a_card_that_is_pulled_out_at_any_command_goes_on_with_the_same_command")?
        == Alone::Done
    {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let reader = Reader::here(dir.path())?;
    for lose in [false, true] {
        let card =
            CardFile::create(dir.path().join(format!("{lose}.json")), &CardState::factory())?;
        let mut office = Office::new(dir.path())?;
        for n in 1.. {
            let faults = if lose {
                Faults { lose_answer: Some(n), ..Faults::default() }
            } else {
                Faults { pull_at: Some(n), ..Faults::default() }
            };
            let mut inserted = reader.insert_faulty(0, &card, faults)?;
            match issue_at_desk(&mut office, KeyAlgorithm::EcP256) {
                Err(IssueError::Card(CardError::PulledOut { .. })) => {
                    assert!(!office.active && !inserted.is_in(), "command {n}");
                }
                Err(e) => bail!("command {n}: {e:?}"),
                Ok(_) => {
                    assert!(n > 10 && office.active, "only {n} commands");
                    break;
                }
            }
        }
    }
    Ok(())
}

/// A card in this process, that is pulled out at a command.
struct InHand {
    card: Applet,
    left: Option<u64>,
    answers: bool,
}

impl Link for InHand {
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, LinkError> {
        if self.left == Some(0) {
            return Err(LinkError::PulledOut);
        }
        self.left = self.left.map(|n| n - 1);
        let last = self.left == Some(0);
        if last && !self.answers {
            return Err(LinkError::PulledOut);
        }
        let answer = self.card.execute(command).map_err(|e| LinkError::NoAnswer(e.to_string()))?;
        if last { Err(LinkError::PulledOut) } else { Ok(answer) }
    }
}

fn in_hand(
    card: &CardFile,
    office: &mut Office,
    algorithm: KeyAlgorithm,
    left: Option<u64>,
    answers: bool,
) -> Result<Issued, IssueError<Refused>> {
    let card = Applet::open(card).expect("a card's file");
    let mut piv = Piv::select(InHand { card, left, answers }, "a hand")?;
    issue::issue(&mut piv, office, algorithm)
}

#[test]
fn a_fresh_card_that_is_cut_once_anywhere_is_issued_at_the_second_try() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for answers in [false, true] {
        for state in
            [CardState::factory(), CardState::factory().managed_by(0x0C).fixed_management()]
        {
            for n in 1.. {
                let card = CardFile::create(dir.path().join("card.json"), &state)?;
                let mut office = Office::new(dir.path())?;
                let cut = in_hand(&card, &mut office, KeyAlgorithm::EcP256, Some(n), answers);
                if cut.is_ok() {
                    assert!(n > 10, "only {n} commands");
                    break;
                }
                assert!(!office.active, "command {n}");
                let issued = in_hand(&card, &mut office, KeyAlgorithm::EcP256, None, true)?;
                assert!(office.active);
                let now = card.read()?;
                assert_eq!((now.pin.value.as_str(), now.pin.tries), (issued.pin.reveal(), 3));
                assert_eq!(now.puk.tries, 3, "command {n}");
                assert_eq!(issued.own_management, state.management.can_change);
            }
        }
    }
    Ok(())
}

#[test]
fn a_lab_that_says_no_at_any_step_leaves_a_card_that_can_be_issued() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for refuse in ["begin", "certify", "activate"] {
        let card = CardFile::create(dir.path().join("card.json"), &CardState::factory())?;
        let mut office = Office::new(dir.path())?;
        office.refuse = Some(refuse);
        let cut = in_hand(&card, &mut office, KeyAlgorithm::EcP256, None, true);
        assert_eq!(cut.map(drop), Err(IssueError::Office(Refused)));
        assert!(!office.active);
        office.refuse = None;
        in_hand(&card, &mut office, KeyAlgorithm::EcP256, None, true)?;
        assert!(office.active);
    }
    Ok(())
}

#[test]
fn a_card_of_somebody_elses_is_not_changed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut management = CardState::factory();
    management.management.key = "11".repeat(24);
    let mut puk = CardState::factory();
    puk.puk.value = "31415926".into();
    let reader = "a hand".to_string();
    for (state, error) in [
        (management, CardError::ManagementUnknown { reader: reader.clone() }),
        (CardState::of_kind(Kind::Other), CardError::NotPiv { reader }),
    ] {
        let card = CardFile::create(dir.path().join("card.json"), &state)?;
        let said = in_hand(&card, &mut Office::new(dir.path())?, KeyAlgorithm::EcP256, None, true);
        assert_eq!(said.map(drop), Err(IssueError::Card(error)));
        assert_eq!(card.read()?, state);
    }
    let card = CardFile::create(dir.path().join("card.json"), &puk)?;
    let mut office = Office::new(dir.path())?;
    office.forgetful = true;
    for error in [
        CardError::WrongPuk { left: Some(2) },
        CardError::WrongPuk { left: Some(1) },
        CardError::PukBlocked,
    ] {
        let said = in_hand(&card, &mut office, KeyAlgorithm::EcP256, None, true);
        assert_eq!(said.map(drop), Err(IssueError::Card(error)));
    }
    Ok(())
}

#[test]
fn what_is_wrong_at_the_desk_is_told_apart() -> Result<()> {
    if alone("what_is_wrong_at_the_desk_is_told_apart")? == Alone::Done {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    assert_eq!(Desk::open().map(drop), Err(CardError::NoService { doing: "" }));
    let mut reader = Reader::here(dir.path())?;
    let ask = |reader: Option<&str>| Desk::open()?.with_card(reader, |piv| piv.guid().map(drop));
    assert!(matches!(ask(None), Err(CardError::NoCard { .. })));
    assert!(matches!(ask(Some("other")), Err(CardError::NotThisReader { .. })));
    let card = CardFile::create(dir.path().join("a.json"), &CardState::factory())?;
    let other = CardFile::create(dir.path().join("b.json"), &CardState::of_kind(Kind::Other))?;
    let mute = CardFile::create(dir.path().join("c.json"), &CardState::of_kind(Kind::Mute))?;
    let first = reader.insert(&card)?;
    assert_eq!(ask(None), Ok(()));
    {
        let _second = reader.insert_faulty(1, &other, Faults::default())?;
        assert!(matches!(ask(None), Err(CardError::TwoCards { .. })));
        assert_eq!(ask(Some("00 00")), Ok(()));
        assert_eq!(ask(Some(SLOTS[1])), Err(CardError::NotPiv { reader: SLOTS[1].into() }));
        let seen = Desk::open()?.readers()?;
        assert_eq!(seen[1].content, Content::NotPiv);
    }
    drop(first);
    {
        let _in = reader.insert(&mute)?;
        assert_eq!(ask(None), Err(CardError::Mute { reader: SLOTS[0].into() }));
        assert_eq!(Desk::open()?.readers()?[0].content, Content::Mute);
    }
    reader.kill()?;
    reader.start_without_readers()?;
    assert_eq!(ask(None), Err(CardError::NoReader));
    Ok(())
}

#[test]
fn a_wrong_pin_a_blocked_one_and_the_puk_that_opens_it() -> Result<()> {
    if alone("a_wrong_pin_a_blocked_one_and_the_puk_that_opens_it")? == Alone::Done {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let reader = Reader::here(dir.path())?;
    let card = CardFile::create(dir.path().join("card.json"), &CardState::factory())?;
    let _in = reader.insert(&card)?;
    let mut office = Office::new(dir.path())?;
    let issued = issue_at_desk(&mut office, KeyAlgorithm::EcP256)?;
    let sign = |pin: &Pin| {
        Desk::open()?.with_card(None, |piv| issue::enrol::<_, Refused>(piv, pin, b"challenge"))
    };
    let (key, signature) = sign(&issued.pin)?;
    assert_eq!(key, issued.key);
    office.check(&key, b"challenge", &signature)?;
    let wrong = Pin::parse("000000").context("a PIN")?;
    for left in [Some(2), Some(1)] {
        assert_eq!(sign(&wrong).map(drop), Err(CardError::WrongPin { left }.into()));
    }
    for pin in [&wrong, &wrong, &issued.pin] {
        assert_eq!(sign(pin).map(drop), Err(CardError::PinBlocked.into()));
    }
    let fresh = Pin::random();
    let puk = office.puk();
    Desk::open()?.with_card(None, |piv| piv.set_pin(&puk, &fresh))?;
    sign(&fresh)?;
    Ok(())
}

#[test]
fn readers_and_pcscd_that_go_in_the_middle_are_named() -> Result<()> {
    if alone("readers_and_pcscd_that_go_in_the_middle_are_named")? == Alone::Done {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let mut reader = Reader::here(dir.path())?;
    let card = CardFile::create(dir.path().join("card.json"), &CardState::factory())?;
    for vanish in [false, true] {
        let _in = reader.insert(&card)?;
        let cut = Desk::open()?.with_card(None, |piv| {
            piv.guid()?;
            reader.kill().expect("it runs");
            if vanish {
                reader.start_without_readers().expect("it starts");
            }
            piv.guid()
        });
        match (vanish, cut) {
            (false, Err(CardError::NoService { doing })) if !doing.is_empty() => {}
            (true, Err(CardError::ReaderVanished { reader, .. })) if reader == SLOTS[0] => {}
            (_, other) => bail!("vanish {vanish}: {other:?}"),
        }
        if vanish {
            reader.kill()?;
        }
        reader.start()?;
    }
    Ok(())
}
