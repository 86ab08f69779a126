//! Who is taken to be behind a connection, by the kernel's own word.

use crate::lab::{E1, LAB, World, machine_of};
use nonstop_model::{AccountId, lab::ACCOUNT_UIDS};
use nonstopd::{
    publisher::Steady,
    transfers::{ByKernel, Peers, Who},
};
use rustix::{
    net::{AddressFamily, SocketType, bind, connect, socket},
    thread::{UnshareFlags, set_thread_uid, unshare_unsafe},
};
use std::{
    net::{SocketAddrV4, TcpListener, TcpStream},
    os::fd::AsFd,
    process::Command,
    sync::Arc,
    thread,
};

/// A client's connection from `from` to `to`, and the end of whoever listens there.
fn connection(from: &str, to: SocketAddrV4, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    let from = SocketAddrV4::new(from.parse().expect("an address"), 0);
    bind(&client, &from).expect("bound");
    connect(&client, &to).expect("connected");
    (client.into(), listener.accept().expect("accepted").0)
}

/// Does `work` in a network of its own, in which the addresses of the first segment are its own.
fn in_another_network<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let apart = move || {
        enter_network();
        for words in [
            "link set lo up",
            "addr add 10.77.0.1/28 dev lo",
            "addr add 10.77.0.2/28 dev lo",
            "addr add 10.77.0.3/28 dev lo",
            "addr add 10.77.0.9/28 dev lo",
        ] {
            let done = Command::new("ip").args(words.split(' ')).status().expect("ip");
            assert!(done.success(), "ip {words}");
        }
        work()
    };
    thread::scope(|scope| scope.spawn(apart).join().expect("done"))
}

#[allow(unsafe_code)]
fn enter_network() {
    // SAFETY: only this thread's network changes; no descriptor or memory is touched.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("a network of its own");
}

#[test]
fn a_machine_is_its_address_on_its_segment_and_nothing_that_was_made_elsewhere() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let world = World::at(dir.path(), LAB, Arc::new(Steady));
    let peers = ByKernel::new(world.lab.clone(), Arc::clone(&world.db));
    let airlock: SocketAddrV4 = "10.77.0.1:8443".parse().expect("an address");
    let elsewhere = thread::scope(|scope| {
        // Stays in the network of this process.
        let (send, receive) = std::sync::mpsc::channel::<(TcpStream, TcpStream)>();
        let peers = &peers;
        let here = scope.spawn(move || {
            let (client, far) = receive.recv().expect("a connection");
            // The very same connection, seen from the network of this process: somebody made it up.
            let denied = peers.machine(far.as_fd()).expect_err("not of this network");
            assert!(peers.lives(far.as_fd()));
            drop(client);
            let begun = std::time::Instant::now();
            while peers.lives(far.as_fd()) {
                assert!(begun.elapsed().as_secs() < 5, "it is dead");
                thread::yield_now();
            }
            denied.to_string()
        });
        in_another_network(|| {
            let listener = TcpListener::bind(airlock).expect("free");
            let (client, far) = connection("10.77.0.2", airlock, &listener);
            assert_eq!(peers.machine(far.as_fd()).expect("alice's analyst"), machine_of(E1));
            assert!(peers.person(far.as_fd()).is_err());
            // The far end of the machine's own side, a machine without reach, and one that is none.
            assert!(peers.machine(client.as_fd()).is_err());
            for from in ["10.77.0.3", "10.77.0.9", "10.77.0.1"] {
                let (_client, far) = connection(from, airlock, &listener);
                assert!(peers.machine(far.as_fd()).is_err(), "{from}");
            }
            let other: SocketAddrV4 = "10.77.0.1:8444".parse().expect("an address");
            let listener = TcpListener::bind(other).expect("free");
            let (_client, at_other) = connection("10.77.0.2", other, &listener);
            assert!(peers.machine(at_other.as_fd()).is_err(), "another port");
            send.send((client, far)).expect("looked at");
            here.join().expect("looked at")
        })
    });
    assert!(elsewhere.contains("no living TCP connection of this host"), "{elsewhere}");
}

#[test]
fn a_person_is_whoever_has_the_uid_of_the_address() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let listener = TcpListener::bind("127.64.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let lab = LAB.replace("airlock: {", &format!("airlock: {{ outside_port: {port},"));
    let world = World::at(dir.path(), &lab, Arc::new(Steady));
    let peers = ByKernel::new(world.lab.clone(), Arc::clone(&world.db));
    let address = SocketAddrV4::new("127.64.0.1".parse().expect("an address"), port);
    let as_uid = |uid: u32| {
        thread::spawn(move || {
            // Sockets belong to the uid of the thread that makes them.
            set_thread_uid(rustix::process::Uid::from_raw(uid)).expect("another uid");
            TcpStream::connect(address).expect("connected")
        })
    };
    let client = as_uid(ACCOUNT_UIDS + 1).join().expect("done");
    let (far, _) = listener.accept().expect("accepted");
    assert_eq!(peers.person(far.as_fd()).expect("alice"), Who::Person(AccountId(1)));
    assert!(peers.machine(far.as_fd()).is_err());
    drop(client);
    for uid in [ACCOUNT_UIDS + 2, 64108] {
        let _client = as_uid(uid).join().expect("done");
        let (far, _) = listener.accept().expect("accepted");
        assert!(peers.person(far.as_fd()).is_err(), "uid {uid}");
    }
}
