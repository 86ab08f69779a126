//! The recorder and the player as they run, confined, with this test in the place of the broker.

use nonstop_display::{
    link::{Button, Cursor, Input, Rect, Show, Told},
    recording::{Frame, Moment, Playback},
    setup::{PlayerSetup, RecorderSetup},
    wire::{self, WireError},
};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const WIDTH: u16 = 200;
const HEIGHT: u16 = 100;

/// A recorder, and the broker's end of its link.
struct Recorder {
    child: Child,
    link: OwnedFd,
}

/// A child with `setup` on its descriptor 2.
fn start<S: serde::Serialize>(role: &str, setup: &S, stdin: Stdio, stdout: Stdio) -> Child {
    let (read, mut write) = std::io::pipe().expect("a pipe");
    write.write_all(&serde_json::to_vec(setup).expect("json")).expect("written");
    drop(write);
    Command::new(env!("CARGO_BIN_EXE_nonstop-rdp"))
        .args([role, "71077"])
        .stdin(stdin)
        .stdout(stdout)
        .stderr(Stdio::from(read))
        .spawn()
        .expect("a child")
}

impl Recorder {
    fn start(file: &Path, identity: &age::x25519::Identity, max_bytes: u64) -> Recorder {
        let (link, theirs) = wire::pair().expect("a pair");
        let file = File::options().create(true).append(true).open(file).expect("a file");
        let setup = RecorderSetup { recipient: identity.to_public().to_string(), max_bytes };
        let child = start("recorder", &setup, theirs.into(), file.into());
        Recorder { child, link }
    }

    fn show(&self, show: &Show, file: Option<&OwnedFd>) {
        wire::send(&self.link, show, file.map(AsFd::as_fd)).expect("shown");
    }

    fn picture(&self, memory: &OwnedFd, width: u16, height: u16) {
        let stride = u32::from(width) * 4;
        self.show(&Show::Picture { width, height, stride }, Some(memory));
    }

    /// Waits until it is ready for more, and says how long that took.
    fn ready(&self, serial: u64) -> Duration {
        let began = Instant::now();
        loop {
            match wire::receive::<Told>(&self.link) {
                Ok((told, _)) => {
                    assert_eq!(told, Told::Ready { serial });
                    return began.elapsed();
                }
                Err(WireError::Empty) if began.elapsed() < Duration::from_secs(10) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(e) => panic!("the recorder is not ready: {e}"),
            }
        }
    }

    /// Ends the link; the recorder must end well.
    fn end(self) {
        let Recorder { mut child, link } = self;
        drop(link);
        assert!(child.wait().expect("ended").success());
    }
}

fn memory(width: u16, height: u16) -> OwnedFd {
    let memory = rustix::fs::memfd_create("picture", rustix::fs::MemfdFlags::CLOEXEC);
    let memory = memory.expect("memory");
    let length = u64::from(width) * u64::from(height) * 4;
    rustix::fs::ftruncate(&memory, length).expect("its length");
    memory
}

/// Paints a rectangle; gives back what a player should have of the pixel.
fn paint(memory: &OwnedFd, width: u16, rect: Rect, [r, g, b]: [u8; 3]) {
    let row = [b, g, r, 0].repeat(rect.width.into());
    for y in rect.y..rect.y + rect.height {
        let at = (u64::from(y) * u64::from(width) + u64::from(rect.x)) * 4;
        assert_eq!(rustix::io::pwrite(memory, &row, at).expect("painted"), row.len());
    }
}

/// Everything that the player gives of `file`.
fn play(file: &Path, identity: &age::x25519::Identity) -> Vec<u8> {
    use age::secrecy::ExposeSecret;
    let setup = PlayerSetup { identity: identity.to_string().expose_secret().into() };
    let file = File::open(file).expect("the recording");
    let mut child = start("player", &setup, file.into(), Stdio::piped());
    let mut plain = Vec::new();
    child.stdout.take().expect("a pipe").read_to_end(&mut plain).expect("read");
    assert!(child.wait().expect("ended").success());
    plain
}

/// The pictures and the typed input in `plain`, and whether it is full at its end.
fn moments(plain: &[u8]) -> (Vec<Frame>, Vec<Input>, bool) {
    let mut playback = Playback::new(plain);
    let (mut frames, mut typed, mut full, mut last) = (Vec::new(), Vec::new(), false, 0);
    while let Some(moment) = playback.next_moment().expect("a good recording") {
        assert!(!full, "nothing follows the bound");
        match moment {
            Moment::Shown { at_ms, .. } => {
                assert!(at_ms >= last, "times do not go back");
                last = at_ms;
                frames.push(playback.with_pointer());
            }
            Moment::Typed { input, .. } => typed.push(input),
            Moment::Full => full = true,
            Moment::Lost => panic!("nothing was lost"),
        }
    }
    (frames, typed, full)
}

fn pixel(frame: &Frame, x: u16, y: u16) -> [u8; 3] {
    let at = (usize::from(y) * usize::from(frame.width) + usize::from(x)) * 3;
    frame.rgb[at..at + 3].try_into().expect("three bytes")
}

const RED: [u8; 3] = [255, 0, 0];
const BLUE: [u8; 3] = [0, 0, 255];

#[test]
fn what_was_shown_and_typed_is_played_back_and_nothing_can_be_read_without_the_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("1.age");
    let identity = age::x25519::Identity::generate();
    let recorder = Recorder::start(&file, &identity, 1 << 20);
    let picture = memory(WIDTH, HEIGHT);
    let corner = Rect { x: 190, y: 90, width: 10, height: 10 };
    paint(&picture, WIDTH, Rect { x: 0, y: 0, width: 50, height: 50 }, RED);
    recorder.picture(&picture, WIDTH, HEIGHT);
    recorder.ready(0);
    let status = std::fs::read_to_string(format!("/proc/{}/status", recorder.child.id()));
    let status = status.expect("it runs");
    for confined in
        ["Uid:\t71077\t71077", "Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"]
    {
        assert!(status.contains(confined), "{confined} is missing in {status}");
    }
    let key = Input::Key { qnum: 30, down: true };
    let click = Input::Button { button: Button::Left, down: true };
    recorder.show(&Show::Typed(key), None);
    for x in 0..150 {
        recorder.show(&Show::Typed(Input::Pointer { x, y: 80 }), None);
    }
    recorder.show(&Show::Typed(click), None);
    let pixels = [255, 0, 0, 255].repeat(4);
    recorder.show(
        &Show::Cursor(Some(Cursor { width: 2, height: 2, hot_x: 0, hot_y: 0, pixels })),
        None,
    );
    paint(&picture, WIDTH, corner, BLUE);
    recorder.show(&Show::Damage { serial: 1, rects: vec![corner] }, None);
    let pace = recorder.ready(1);
    assert!(pace > Duration::from_millis(400), "two pictures a second, not one in {pace:?}");
    // Named, but the same: no picture.
    recorder.show(&Show::Damage { serial: 2, rects: vec![corner] }, None);
    recorder.ready(2);
    // The guest changes its mode.
    let small = memory(64, 64);
    paint(&small, 64, Rect { x: 0, y: 0, width: 64, height: 64 }, BLUE);
    recorder.picture(&small, 64, 64);
    recorder.ready(0);
    recorder.end();

    let bytes = std::fs::read(&file).expect("the recording");
    for telling in [&[255_u8, 0, 0].repeat(8)[..], &[0, 0, 255].repeat(8)] {
        assert!(!bytes.windows(telling.len()).any(|w| w == telling), "a picture in the clear");
    }
    let (frames, typed, full) = moments(&play(&file, &identity));
    let sizes: Vec<_> = frames.iter().map(|f| (f.width, f.height)).collect();
    assert_eq!(sizes, [(WIDTH, HEIGHT), (WIDTH, HEIGHT), (64, 64)]);
    assert_eq!((pixel(&frames[0], 49, 49), pixel(&frames[0], 195, 95)), (RED, [0, 0, 0]));
    assert_eq!((pixel(&frames[1], 49, 49), pixel(&frames[1], 195, 95)), (RED, BLUE));
    assert_eq!(pixel(&frames[1], 150, 81), BLUE, "the pointer is drawn where it was");
    assert_eq!(pixel(&frames[2], 63, 63), BLUE);
    assert_eq!(typed, [key, Input::Pointer { x: 149, y: 80 }, click]);
    assert!(!full);
    assert!(play(&file, &age::x25519::Identity::generate()).is_empty(), "another key reads none");
}

#[test]
fn a_killed_recorder_loses_two_seconds_at_most_and_another_goes_on_in_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("1.age");
    let identity = age::x25519::Identity::generate();
    let mut recorder = Recorder::start(&file, &identity, 1 << 20);
    let picture = memory(WIDTH, HEIGHT);
    paint(&picture, WIDTH, Rect { x: 0, y: 0, width: WIDTH, height: HEIGHT }, RED);
    recorder.picture(&picture, WIDTH, HEIGHT);
    std::thread::sleep(Duration::from_millis(2500));
    recorder.child.kill().expect("killed");
    recorder.child.wait().expect("ended");
    let (frames, ..) = moments(&play(&file, &identity));
    assert_eq!(frames.len(), 1);
    // In the middle of its next chunk.
    let whole = std::fs::read(&file).expect("read");
    std::fs::write(&file, [&whole[..], &whole[..whole.len() / 2]].concat()).expect("written");
    let second = Recorder::start(&file, &identity, 1 << 20);
    second.picture(&picture, WIDTH, HEIGHT);
    second.ready(0);
    second.end();
    let plain = play(&file, &identity);
    let (mut shown, mut lost) = (0, 0);
    let mut playback = Playback::new(&plain[..]);
    while let Some(moment) = playback.next_moment().expect("good") {
        match moment {
            Moment::Shown { .. } => shown += 1,
            Moment::Lost => lost += 1,
            other => panic!("{other:?}"),
        }
        assert_eq!(pixel(playback.frame(), 10, 10), RED);
    }
    // The chunk that was cut, and what was shown until the second began.
    assert_eq!((shown, lost), (2, 2));
}

#[test]
fn at_its_bound_a_recording_says_so_and_ends_and_is_not_gone_on_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("1.age");
    let identity = age::x25519::Identity::generate();
    let bound = 400_000;
    let mut recorder = Recorder::start(&file, &identity, bound);
    let picture = memory(WIDTH, HEIGHT);
    recorder.picture(&picture, WIDTH, HEIGHT);
    recorder.ready(0);
    // Noise, which nothing makes smaller: 60,000 bytes each time.
    let whole = Rect { x: 0, y: 0, width: WIDTH, height: HEIGHT };
    let mut noise = 1_u32;
    let ended = (1..40).any(|serial| {
        let pixels: Vec<u8> = (0..u32::from(WIDTH) * u32::from(HEIGHT) * 4)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                noise.to_be_bytes()[0]
            })
            .collect();
        rustix::io::pwrite(&picture, &pixels, 0).expect("painted");
        let damage = Show::Damage { serial, rects: vec![whole] };
        let shown = wire::send(&recorder.link, &damage, None);
        std::thread::sleep(Duration::from_millis(550));
        let _ready = wire::receive::<Told>(&recorder.link);
        shown.is_err() || recorder.child.try_wait().expect("looked").is_some()
    });
    assert!(ended, "it went on past its bound");
    assert!(recorder.child.wait().expect("ended").success());
    let length = std::fs::metadata(&file).expect("there").len();
    assert!(length <= bound, "{length} bytes");
    let (frames, _, full) = moments(&play(&file, &identity));
    assert!(full && !frames.is_empty());
    let again = Recorder::start(&file, &identity, length + 100);
    let Recorder { mut child, link: _link } = again;
    assert!(child.wait().expect("ended").success());
    assert_eq!(std::fs::metadata(&file).expect("there").len(), length);
}

#[test]
fn a_broker_that_lies_ends_the_recording_and_what_there_was_stays() {
    let identity = age::x25519::Identity::generate();
    let lies: [fn(&Recorder); 4] = [
        |r| r.show(&Show::Picture { width: 64, height: 64, stride: 256 }, None),
        |r| r.show(&Show::Picture { width: 0, height: 64, stride: 256 }, Some(&memory(64, 64))),
        |r| {
            r.picture(&memory(64, 63), 64, 64);
        },
        |r| {
            r.picture(&memory(64, 64), 64, 64);
            let outside = Rect { x: 60, y: 0, width: u16::MAX, height: 1 };
            r.show(&Show::Damage { serial: 1, rects: vec![outside] }, None);
        },
    ];
    for (number, lie) in lies.iter().enumerate() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("1.age");
        let mut recorder = Recorder::start(&file, &identity, 1 << 20);
        recorder.show(&Show::Typed(Input::Key { qnum: 30, down: true }), None);
        lie(&recorder);
        let ended = recorder.child.wait().expect("ended");
        assert_eq!(ended.code(), Some(1), "lie {number}");
        let (_, typed, _) = moments(&play(&file, &identity));
        assert_eq!(typed.len(), 1, "lie {number}");
    }
}
