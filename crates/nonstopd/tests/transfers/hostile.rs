//! A program of the airlock in somebody else's hands: what it holds back, forges or lends.

use crate::lab::{E1, World, at, denied, machine_of, wait};
use nonstop_api::airlock::{Answer, Ask, DenialKind, Session};
use nonstop_model::{ExportState, Root};
use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::FileExt, net::UnixStream},
    },
    sync::atomic::Ordering,
    time::Duration,
};

#[test]
fn what_somebody_can_still_write_to_is_not_kept() {
    let world = World::new();
    let machine = world.machine();
    let (ticket, mut file) = machine.create(at(E1, Root::Export, "a"), None).expect("a file");
    file.write_all(b"harmless").expect("written");
    // A copy lies unread in a socket, where nobody holds it.
    let (sender, _receiver) = UnixStream::pair().expect("a pair");
    nonstop_api::send_with_fd(&sender, &"keep this", file.as_fd()).expect("sent");
    drop(file);
    let denial = machine.commit(ticket).expect_err("somebody may write");
    assert_eq!(denial.kind, DenialKind::Busy);
    assert_eq!(machine.names(at(E1, Root::Export, "")), Ok(vec![]));
    drop((sender, _receiver));
    machine.commit(ticket).expect("nobody can write any more");
    let export = world.until(1, ExportState::Released);
    assert_eq!(export.bytes, 8);
}

#[test]
fn a_descriptor_that_is_kept_writes_into_nothing_that_is_released() {
    let world = World::new();
    let machine = world.machine();
    let (ticket, mut file) = machine.create(at(E1, Root::Export, "a"), Some(8)).expect("a file");
    file.write_all(b"harmless").expect("written");
    let kept = file.try_clone().expect("a copy");
    // The file cannot be opened once more, nor mapped to be written: it was opened to write alone.
    assert!(file.read(&mut [0; 8]).is_err());
    drop(file);
    assert_eq!(machine.commit(ticket).expect_err("open").kind, DenialKind::Busy);
    kept.write_all_at(b"malware!", 0).expect("it is still the program's");
    drop(kept);
    machine.commit(ticket).expect("kept");
    world.until(1, ExportState::Released);
    assert_eq!(
        world.alice().get(at(E1, Root::Export, "a")),
        Ok(b"malware!".to_vec()),
        "screened so"
    );
    // What is handed over to be read cannot be written, nor opened again to be.
    let (_, read) = machine
        .session
        .ask_for_file(&Ask::Open { place: at(E1, Root::Export, "a") })
        .expect("opened");
    let read = File::from(read);
    assert!(read.write_all_at(b"x", 0).is_err() && read.set_len(0).is_err());
}

#[test]
fn a_file_that_grows_over_its_bound_is_emptied_and_its_ticket_dies() {
    let world = World::new();
    let machine = world.machine();
    let (ticket, mut file) = machine.create(at(E1, Root::Export, "a"), Some(10)).expect("a file");
    file.write_all(&[b'x'; 100_000]).expect("written");
    wait("the file to be emptied", || (file.metadata().ok()?.len() == 0).then_some(()));
    // It goes on all the same.
    file.write_all(&[b'x'; 100_000]).expect("written");
    wait("the file to be emptied again", || (file.metadata().ok()?.len() == 0).then_some(()));
    drop(file);
    assert_eq!(machine.commit(ticket).expect_err("dead").kind, DenialKind::NotFound);
    assert_eq!(machine.names(at(E1, Root::Export, "")), Ok(vec![]));
    // Room that is set aside without a length counts, too.
    let (_, file) = machine.create(at(E1, Root::Export, "a"), Some(10)).expect("a file");
    let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, flags, 0, 100 << 20).expect("set aside");
    wait("the room to be given back", || {
        use std::os::unix::fs::MetadataExt;
        (file.metadata().ok()?.blocks() == 0).then_some(())
    });
}

#[test]
fn a_ticket_is_good_in_its_own_conversation_alone() {
    let world = World::new();
    let (machine, again) = (world.machine(), world.machine());
    let (ticket, file) = machine.create(at(E1, Root::Export, "a"), None).expect("a file");
    drop(file);
    for forged in [ticket, 0, 1, ticket.wrapping_add(1), u64::MAX] {
        assert_eq!(again.commit(forged).expect_err("not theirs").kind, DenialKind::NotFound);
        assert_eq!(
            world.alice().commit(forged).expect_err("not theirs").kind,
            DenialKind::NotFound
        );
    }
    machine.commit(ticket).expect("its own");
    assert_eq!(machine.commit(ticket).expect_err("used").kind, DenialKind::NotFound);
    let (ticket, file) = machine.create(at(E1, Root::Export, "b"), None).expect("a file");
    drop((file, machine));
    // What a conversation was writing ends with it.
    wait("the conversation to end", || {
        (again.commit(ticket).err()?.kind == DenialKind::NotFound).then_some(())
    });
    assert_eq!(again.names(at(E1, Root::Export, "")), Ok(vec!["a".into()]));
}

#[test]
fn a_socket_that_is_nobodys_opens_no_conversation() {
    let world = World::new();
    let begin = |connection: OwnedFd, door: std::path::PathBuf| {
        let (denied, kind) = match Session::begin(&door, connection.as_fd()) {
            Ok(_) => panic!("somebody was taken to be there"),
            Err(e) => (true, denied(e).kind),
        };
        assert!(denied && kind == DenialKind::Gone, "{kind:?}");
    };
    // A person's connection inside, a machine's outside, and one of the program's own making.
    let (_near, far) =
        world.connection(nonstopd::transfers::Who::Person(nonstop_model::AccountId(1)));
    begin(far.into(), world.lab.inside_socket());
    let (_near, far) = world.connection(machine_of(E1));
    begin(far.into(), world.lab.outside_socket());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let _near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    let (far, _) = listener.accept().expect("accepted");
    begin(far.into(), world.lab.inside_socket());
    // No message before the first, and no second first.
    let socket = UnixStream::connect(world.lab.inside_socket()).expect("connects");
    nonstop_api::send(&socket, &Ask::Environments).expect("sent");
    let answered: nonstop_api::airlock::Answered = nonstop_api::receive(&socket).expect("answered");
    assert_eq!(answered.expect_err("nobody yet").kind, DenialKind::Failed);
    assert!(nonstop_api::receive::<nonstop_api::airlock::Answered>(&socket).is_err(), "it ended");
    let machine = world.machine();
    assert_eq!(machine.ask(Ask::Begin).expect_err("again").kind, DenialKind::Failed);
}

#[test]
fn a_conversation_ends_with_its_clients_connection_and_with_its_right() {
    let world = World::new();
    let (machine, alice) = (world.machine(), world.alice());
    world
        .db
        .write("sato", world.trace()[0].at, |w| {
            let alice = "alice".parse().expect("a name");
            w.set_account_state(&alice, nonstop_model::AccountState::Suspended, "a test")
        })
        .expect("suspended");
    let denial = alice.ask(Ask::Environments);
    assert!(denial.is_err() || denial == Ok(Answer::Environments(vec![])), "{denial:?}");
    for client in [alice, machine] {
        client.near.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let mut byte = [0];
        // The client's own connection is ended, whatever the program does.
        assert_eq!((&client.near).read(&mut byte).expect("ended, not late"), 0);
        assert_eq!(client.ask(Ask::Environments).expect_err("over").kind, DenialKind::Gone);
    }
    let bob = world.bob();
    bob.ask(Ask::Environments).expect("bob is not meant");
    world.peers.dead.store(true, Ordering::SeqCst);
    assert_eq!(bob.ask(Ask::Environments).expect_err("nobody there").kind, DenialKind::Gone);
}

#[test]
fn when_the_reservation_ends_so_do_conversations() {
    let world = World::new();
    let (machine, alice) = (world.machine(), world.alice());
    alice.put(at(E1, Root::Import, "a"), b"x").expect("put");
    world.clock.move_on(3601);
    for client in [machine, alice] {
        client.near.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        assert_eq!((&client.near).read(&mut [0]).expect("ended, not late"), 0);
    }
    let (_near, far) = world.connection(machine_of(E1));
    assert!(Session::begin(&world.lab.inside_socket(), far.as_fd()).is_err());
}

#[test]
fn a_child_that_lies_about_a_hash_puts_no_two_contents_under_one_name() {
    let world = World::new();
    let machine = world.machine();
    machine.put(at(E1, Root::Export, "a"), b"LIES one").expect("put");
    world.until(1, ExportState::Released);
    machine.put(at(E1, Root::Export, "b"), b"LIES two").expect("put");
    let held = world.until(2, ExportState::Held);
    let said = held.screening.expect("screened");
    assert_eq!(said.sha256, hex::encode(crate::lab::digest(b"LIES two")), "the bytes were asked");
    assert!(said.findings.to_string().contains("screening-failed"));
    let store = world.lab.trace_store();
    assert_eq!(fs::read(store.join(hex::encode([7; 32]))).expect("kept"), b"LIES one");
    assert_eq!(fs::read(store.join(said.sha256)).expect("kept"), b"LIES two");
}

#[test]
fn a_file_whose_screening_dies_waits_for_a_person_and_is_whole() {
    let world = World::new();
    world.machine().put(at(E1, Root::Export, "a"), b"DIES").expect("put");
    let held = world.until(1, ExportState::Held);
    assert_eq!(world.alice().names(at(E1, Root::Export, "")), Ok(vec![]));
    let sha256 = hex::encode(crate::lab::digest(b"DIES"));
    assert_eq!(held.screening.expect("screened").sha256, sha256);
    world.transfers.decide("sato", held.id, true, "looked at it").expect("released");
    assert_eq!(world.alice().get(at(E1, Root::Export, "a")), Ok(b"DIES".to_vec()));
}
