//! A worker with clients, and with a broker, that mean harm: it is bounded, tells nothing but
//! pictures, and serves the next.

mod watch;

use ironrdp_core::{encode_vec, impl_as_any};
use ironrdp_dvc::{DrdynvcClient, DvcMessage, DvcProcessor};
use ironrdp_pdu::{PduResult, gcc::ChannelName, mcs::SendDataRequest, x224::X224};
use ironrdp_svc::{StaticChannelSet, SvcClientProcessor, SvcMessage, SvcProcessor};
use nonstop_display::link::{Cursor, Rect, Show, Told};
use std::{
    io::{Read, Write},
    net::TcpStream,
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, Mutex},
    thread::sleep,
    time::{Duration, Instant},
};
use watch::{
    Watch,
    eyes::Eyes,
    iron::{self, Iron},
    motley, until,
};

/// Kilobytes above which a worker counts as grown: the client's picture, the window of the packer
/// and its places, and what the library and the socket hold.
const MOST_KB: u64 = 60_000;

/// What came on a channel.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

/// A static channel that a client offers.
#[derive(Debug)]
struct Offered<const N: usize>(Heard);

const NAMES: [&[u8; 8]; 5] =
    [b"cliprdr\0", b"rdpdr\0\0\0", b"rdpsnd\0\0", b"rail\0\0\0\0", b"exfil\0\0\0"];

impl<const N: usize> ironrdp_core::AsAny for Offered<N> {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
        self
    }
}

impl<const N: usize> SvcProcessor for Offered<N> {
    fn channel_name(&self) -> ChannelName {
        ChannelName::from_static(NAMES[N])
    }

    fn process(&mut self, payload: &[u8]) -> PduResult<Vec<SvcMessage>> {
        self.0.lock().expect("heard").push(payload.to_vec());
        Ok(Vec::new())
    }
}

impl<const N: usize> SvcClientProcessor for Offered<N> {}

/// A client that says that it draws whatever it is sent, at once and for ever.
struct Liar {
    heard: Heard,
}

impl_as_any!(Liar);

/// Bytes of ours as a message.
struct Words(Vec<u8>);

impl ironrdp_core::Encode for Words {
    fn encode(&self, dst: &mut ironrdp_core::WriteCursor<'_>) -> ironrdp_core::EncodeResult<()> {
        dst.write_slice(&self.0);
        Ok(())
    }

    fn name(&self) -> &'static str {
        "words"
    }

    fn size(&self) -> usize {
        self.0.len()
    }
}

impl ironrdp_dvc::DvcEncode for Words {}

impl DvcProcessor for Liar {
    fn channel_name(&self) -> &str {
        "Microsoft::Windows::RDS::Graphics"
    }

    fn start(&mut self, _: u32) -> PduResult<Vec<DvcMessage>> {
        // The first version of the pipeline, without flags.
        let advertise = [0x12, 0, 0, 0, 22, 0, 0, 0, 1, 0, 4, 0, 8, 0, 4, 0, 0, 0, 0, 0, 0, 0];
        Ok(vec![Box::new(Words(advertise.to_vec()))])
    }

    fn process(&mut self, _: u32, payload: &[u8]) -> PduResult<Vec<DvcMessage>> {
        self.heard.lock().expect("heard").push(payload.to_vec());
        // All frames are drawn, and from now on nothing will be said of them.
        let mut acknowledge = vec![0x0d, 0, 0, 0, 20, 0, 0, 0];
        acknowledge.extend([0xff; 8]);
        acknowledge.extend([0; 4]);
        Ok(vec![Box::new(Words(acknowledge))])
    }
}

/// A packet on a channel of the session.
fn on_channel(channel: u16, parts: &[u8], flags: u32) -> Vec<u8> {
    let mut data = (parts.len() as u32).to_le_bytes().to_vec();
    data.extend(flags.to_le_bytes());
    data.extend_from_slice(parts);
    let request =
        SendDataRequest { initiator_id: 1002, channel_id: channel, user_data: data.into() };
    encode_vec(&X224(request)).expect("a packet")
}

/// A session is served: the worker has outlived the last client.
fn outlives(watch: &mut Watch) {
    let mut iron = Iron::plain(watch, watch.width, watch.height);
    iron.await_same(watch);
    watch.paint(Rect { x: 1, y: 2, width: 30, height: 40 }, motley);
    iron.await_same(watch);
    drop(iron);
    watch.await_closed();
}

#[test]
fn channels_that_a_client_offers_carry_nothing() {
    let mut watch = Watch::new(640, 480);
    let heard = Heard::default();
    let mut channels = StaticChannelSet::new();
    channels.insert(Offered::<0>(Arc::clone(&heard)));
    channels.insert(Offered::<1>(Arc::clone(&heard)));
    channels.insert(Offered::<2>(Arc::clone(&heard)));
    channels.insert(Offered::<3>(Arc::clone(&heard)));
    channels.insert(Offered::<4>(Arc::clone(&heard)));
    channels.insert(DrdynvcClient::new());
    let mut iron = Iron::open(&watch, iron::config(640, 480), channels);
    iron.await_same(&mut watch);
    watch.await_opened();
    iron.look(Duration::from_millis(200)).expect("a session");
    let before = iron.received;
    // A megabyte, over all of them, whole messages that each may be an answer to something.
    for n in 0..800_u32 {
        let words = [&n.to_le_bytes()[..], &[0x5a; 1500]].concat();
        for channel in 1004..1010 {
            if n % 6 == u32::from(channel) % 6 && Some(channel) != iron.result.drdynvc {
                iron.wire.tls.write_all(&on_channel(channel, &words, 3)).expect("sent");
            }
        }
    }
    iron.look(Duration::from_millis(500)).expect("a session");
    let heard = heard.lock().expect("heard");
    assert!(heard.is_empty(), "{heard:?}");
    // The worker's own words of that time: none.
    assert_eq!(iron.received - before, 0);
    watch.listen();
    assert!(watch.told.is_empty(), "{:?}", watch.told);
    watch.paint(Rect { x: 1, y: 2, width: 30, height: 40 }, motley);
    iron.await_same(&mut watch);
}

#[test]
fn dynamic_channels_are_the_known_four_and_no_others() {
    let mut watch = Watch::new(640, 480);
    let words = [
        "/gfx",
        "/size:640x480",
        "+clipboard",
        "/drive:x,/tmp",
        "/sound",
        "/microphone",
        "/printer",
        "/serial:COM1,/dev/null",
        "/smartcard",
        "/dvc:echo",
    ];
    let mut eyes = Eyes::screen(800, 600);
    eyes.trace("com.freerdp.channels.drdynvc.client:TRACE");
    eyes.connect(&watch, watch.address, &words);
    eyes.await_same(&mut watch);
    sleep(Duration::from_millis(500));
    watch.paint(Rect { x: 1, y: 2, width: 30, height: 40 }, motley);
    eyes.await_same(&mut watch);
    let said = eyes.said();
    let mut names: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("ChannelName="))
        .filter_map(|line| line.split("ChannelName=").nth(1)?.split([' ', ',', ']']).next())
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(
        names,
        [
            "ECHO",
            "FreeRDP::Advanced::Input",
            "Microsoft::Windows::RDS::DisplayControl",
            "Microsoft::Windows::RDS::Graphics"
        ],
        "{said}"
    );
    watch.await_metered(|meter| meter.frames > 0);
    assert!(watch.meter.bytes_out < 200_000, "{:?}", watch.meter);
}

#[test]
fn garbage_at_every_step_ends_that_client_alone() {
    let mut watch = Watch::new(640, 480);
    let mut iron = Iron::plain(&watch, 640, 480);
    iron.await_same(&mut watch);
    let mut noise = 7_u32;
    let mut bytes = |length: usize| -> Vec<u8> {
        let next = || {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    };
    let ask = [3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 1, 0, 0, 0];
    for n in 0..60 {
        let mut tcp = TcpStream::connect(watch.address).expect("a connection");
        tcp.set_read_timeout(Some(Duration::from_secs(3))).expect("a limit");
        let words = match n % 6 {
            0 => bytes(n * 37),
            1 => [&ask[..], &bytes(300)].concat(),
            2 => [&[3, 0, 0xff, 0xff][..], &bytes(9000)].concat(),
            3 => [&[3, 0, 0, 4][..], &bytes(10)].concat(),
            // Another security, or none.
            4 => [&ask[..15], &[0, 0, 0, 0]].concat(),
            _ => Vec::new(),
        };
        let _cut = tcp.write_all(&words);
        let _no_more = tcp.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _cut = tcp.read_to_end(&mut answer);
        assert!(answer.len() < 1000);
    }
    // After TLS: none of these may be more than the end of its client.
    for n in 0..40 {
        let mut tls = iron::secured(&watch);
        tls.sock.set_read_timeout(Some(Duration::from_secs(3))).expect("a limit");
        let words = match n % 4 {
            0 => bytes(n * 50),
            1 => [&[3, 0, 0x20, 0, 2, 0xf0, 0x80, 0x7f, 0x65][..], &bytes(0x1ff7)].concat(),
            2 => [&[4, 2, 0, 0][..], &bytes(100)].concat(),
            _ => vec![0; 70_000],
        };
        let _cut = tls.write_all(&words);
        tls.conn.send_close_notify();
        let _cut = tls.flush();
        let mut answer = Vec::new();
        let _cut = tls.read_to_end(&mut answer);
        assert!(answer.len() < 1000);
    }
    // The one that looks has noticed nothing.
    watch.paint(Rect { x: 1, y: 2, width: 30, height: 40 }, motley);
    iron.await_same(&mut watch);
    // Garbage in a session ends it.
    for n in 0..12 {
        let mut iron = Iron::plain(&watch, 640, 480);
        iron.await_same(&mut watch);
        watch.await_opened();
        let words = match n % 4 {
            0 => bytes(5000),
            1 => on_channel(1003, &bytes(400), 3),
            2 => (0..3000).flat_map(|_| on_channel(1004, &[0x30; 1500], 0)).collect(),
            _ => [4, 3, 0xe0].repeat(200),
        };
        let _cut = iron.wire.tls.write_all(&words);
        let _cut = iron.wire.tls.flush();
        let _cut = iron.wire.tls.sock.shutdown(std::net::Shutdown::Write);
        watch.await_closed();
    }
    outlives(&mut watch);
    assert!(watch.rss_kb() < MOST_KB, "{} kB", watch.rss_kb());
    println!("after garbage: {} kB", watch.rss_kb());
}

#[test]
fn half_handshakes_keep_others_waiting_for_ten_seconds_at_most() {
    let mut watch = Watch::new(640, 480);
    let mut iron = Iron::plain(&watch, 640, 480);
    iron.await_same(&mut watch);
    let half: Vec<_> = (0..4).map(|_| TcpStream::connect(watch.address).expect("half")).collect();
    sleep(Duration::from_millis(100));
    // Whoever is there already is served on.
    watch.paint(Rect { x: 1, y: 2, width: 30, height: 40 }, motley);
    iron.await_same(&mut watch);
    drop(iron);
    watch.await_closed();
    let start = Instant::now();
    let mut next = until("a place", || {
        let tcp = TcpStream::connect(watch.address).ok()?;
        let channels = StaticChannelSet::new();
        Iron::over(tcp, watch.certificate.clone(), iron::config(640, 480), channels).ok()
    });
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    next.await_same(&mut watch);
    drop(half);
}

#[test]
fn a_thousand_knocks_a_second_disturb_nobody() {
    let mut watch = Watch::new(640, 480);
    let mut iron = Iron::plain(&watch, 640, 480);
    iron.await_same(&mut watch);
    watch.await_opened();
    let (address, start, cpu) = (watch.address, Instant::now(), watch.cpu_seconds());
    let knocking = std::thread::spawn(move || {
        let mut knocks = 0;
        for n in 0..3000 {
            let due = start + Duration::from_millis(n);
            sleep(due.saturating_duration_since(Instant::now()));
            let limit = Duration::from_millis(20);
            knocks += u32::from(TcpStream::connect_timeout(&address, limit).is_ok());
        }
        knocks
    });
    if let Some(ended) = watch.ended() {
        panic!("{ended}");
    }
    let mut slowest = Duration::ZERO;
    let mut shade = 0;
    while !knocking.is_finished() {
        shade += 1;
        let asked = Instant::now();
        watch.paint(Rect { x: 9, y: 9, width: 9, height: 9 }, |_, _| [shade; 3]);
        iron.await_same(&mut watch);
        slowest = slowest.max(asked.elapsed());
        shade %= 200;
    }
    let (seconds, knocks) = (start.elapsed().as_secs_f64(), knocking.join().expect("knocks"));
    let share = (watch.cpu_seconds() - cpu) / seconds * 100.0;
    println!(
        "{knocks} connects in {seconds:.1} s: {share:.0} % of a processor, {} kB; slowest picture {slowest:?}",
        watch.rss_kb()
    );
    assert!(watch.rss_kb() < MOST_KB);
    assert!(slowest < Duration::from_millis(500));
    drop(iron);
    watch.await_closed();
    outlives(&mut watch);
}

#[test]
fn the_next_client_takes_the_place_of_the_former() {
    let mut watch = Watch::new(640, 480);
    let mut first = Eyes::open(&watch, &["/gfx", "/size:640x480"]);
    first.await_same(&mut watch);
    watch.await_opened();
    let mut second = Eyes::open(&watch, &["/gfx", "/size:640x480"]);
    second.await_same(&mut watch);
    watch.await_closed();
    watch.await_opened();
    until("the first client's end", || first.has_ended().then_some(()));
    watch.paint(Rect { x: 1, y: 2, width: 300, height: 40 }, motley);
    second.await_same(&mut watch);
}

#[test]
fn sessions_leave_nothing_behind() {
    let mut watch = Watch::new(640, 480);
    for _ in 0..10 {
        outlives(&mut watch);
    }
    let before = watch.rss_kb();
    for _ in 0..60 {
        outlives(&mut watch);
    }
    println!("after 10 sessions {before} kB, after 70 {} kB", watch.rss_kb());
    assert!(watch.rss_kb() < before + 6000);
}

#[test]
fn a_client_that_stops_reading_is_waited_for_and_then_left() {
    let mut watch = Watch::new(1280, 800);
    let mut eyes = Eyes::open(&watch, &["/gfx", "/size:1280x800"]);
    eyes.await_same(&mut watch);
    watch.await_opened();
    let pid = rustix::process::Pid::from_raw(eyes.pid().cast_signed()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("stopped");
    let flood = |watch: &mut Watch| {
        let start = Instant::now();
        let mut shade = 0_u8;
        while watch.is_taken() || start.elapsed() < Duration::from_secs(3) {
            if watch.is_taken() {
                shade = shade.wrapping_add(1);
                let whole = watch.whole();
                watch.paint(whole, |x, y| motley(x.wrapping_add(shade.into()), y));
            }
            sleep(Duration::from_millis(5));
        }
    };
    flood(&mut watch);
    let stopped = Instant::now();
    println!("a client that stopped: {} kB", watch.rss_kb());
    assert!(watch.rss_kb() < MOST_KB, "{} kB", watch.rss_kb());
    let limit = Duration::from_secs(40);
    while !watch.told.iter().any(|told| matches!(told, Told::Closed(_))) {
        watch.listen();
        assert!(stopped.elapsed() < limit, "it is still waited for");
        sleep(Duration::from_millis(20));
    }
    assert!(stopped.elapsed() > Duration::from_secs(20), "{:?}", stopped.elapsed());
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("ended");
}

#[test]
fn a_client_that_lies_of_what_it_has_drawn_fills_no_memory() {
    let mut watch = Watch::new(1280, 800);
    let heard = Heard::default();
    let mut channels = StaticChannelSet::new();
    let liar = Liar { heard: Arc::clone(&heard) };
    channels.insert(DrdynvcClient::new().with_dynamic_channel(liar));
    let mut iron = Iron::open(&watch, iron::config(1280, 800), channels);
    until("a frame", || {
        watch.listen();
        iron.look(Duration::from_millis(10)).expect("a session");
        let heard = heard.lock().expect("heard");
        (heard.iter().map(Vec::len).sum::<usize>() > 500).then_some(())
    });
    // It reads no more. What is shown is noise, which nothing can pack.
    let mut noise = 7_u32;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        if watch.is_taken() {
            let mut pixels = watch.pixels.clone();
            for byte in &mut pixels {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (noise >> 24) as u8;
            }
            watch.replace(&pixels);
        }
        sleep(Duration::from_millis(2));
    }
    println!("a client that lies: {} kB", watch.rss_kb());
    assert!(watch.rss_kb() < MOST_KB, "{} kB", watch.rss_kb());
    drop(iron);
    outlives(&mut watch);
}

#[test]
fn a_broker_that_breaks_the_rules_ends_the_worker() {
    let far = Rect { x: 600, y: 0, width: 41, height: 1 };
    let none = Rect { x: 6, y: 6, width: 0, height: 1 };
    let last = Rect { x: u16::MAX, y: u16::MAX, width: u16::MAX, height: u16::MAX };
    let cursor = |width, height, bytes| {
        Some(Cursor { width, height, hot_x: 0, hot_y: 0, pixels: vec![0; bytes] })
    };
    let picture = |width, height, stride| Show::Picture { width, height, stride };
    let damage = |rects: &[Rect]| Show::Damage { serial: 1, rects: rects.to_vec() };
    let wrong = [
        damage(&[far]),
        damage(&[none]),
        damage(&[last]),
        damage(&[Rect { x: 0, y: 0, width: 1, height: 1 }; 33]),
        Show::Cursor(cursor(97, 1, 97 * 4)),
        Show::Cursor(cursor(10, 10, 399)),
        Show::Cursor(cursor(0, 10, 0)),
        picture(0, 10, 40),
        picture(5000, 10, 20_000),
        picture(100, 100, 399),
        picture(100, 100, u32::MAX),
    ];
    for show in wrong {
        let mut watch = Watch::new(640, 480);
        let mut iron = Iron::plain(&watch, 640, 480);
        iron.await_same(&mut watch);
        let file = matches!(show, Show::Picture { .. })
            .then(|| std::fs::File::open("/dev/zero").expect("a file"));
        watch.show(&show, file);
        let ended = until("the worker's end", || watch.ended());
        assert_eq!(ended.code(), Some(1), "{show:?}");
    }
    // A picture without memory, and words of nobody.
    let mut watch = Watch::new(640, 480);
    watch.show(&picture(640, 480, 2560), None);
    assert_eq!(until("the worker's end", || watch.ended()).code(), Some(1));
    let mut watch = Watch::new(640, 480);
    rustix::net::send(watch.link(), &[0xff; 100], rustix::net::SendFlags::empty()).expect("sent");
    assert_eq!(until("the worker's end", || watch.ended()).code(), Some(1));
    // Memory that is shorter than the picture is no harm: what is not there is black.
    let mut watch = Watch::new(64, 48);
    let short = std::fs::File::open("/dev/null").expect("a file");
    watch.show(&picture(640, 480, 2560), Some(short));
    let mut iron = Iron::plain(&watch, 640, 480);
    (watch.width, watch.height) = (640, 480);
    watch.pixels = vec![0; 640 * 480 * 4];
    iron.await_same(&mut watch);
}

#[test]
fn the_worker_has_little_to_lose() {
    let mut watch = Watch::new(640, 480);
    outlives(&mut watch);
    let status = std::fs::read_to_string(format!("/proc/{}/status", watch.pid())).expect("status");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("a field");
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("NoNewPrivs:"), "1");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(&field(set), 16), Ok(0), "{set}");
    }
    let users: Vec<u32> =
        field("Uid:").split(' ').map(|uid| uid.parse().expect("a user")).collect();
    assert!(users.iter().all(|uid| *uid > 72_000), "{users:?}");
    assert!(field("Threads:").parse::<u32>().expect("a number") <= 3);
    let namespace =
        |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("a namespace");
    assert_ne!(namespace(&watch.pid().to_string()), namespace("self"));
    // Its end of the link is closed: it ends, by itself.
    assert!(watch.link().as_fd().as_raw_fd() > 2);
    watch.let_go();
    let ended = until("the worker's end", || watch.ended());
    assert_eq!(ended.code(), Some(1));
}
