//! What a client sees and types through a worker, by real clients, pixel for pixel.

mod watch;

use ironrdp_pdu::input::{
    MouseXPdu,
    fast_path::{FastPathInputEvent, KeyboardFlags},
    mouse_x::PointerXFlags,
};
use ironrdp_session::ActiveStageOutput;
use ironrdp_svc::StaticChannelSet;
use nonstop_display::link::{Button, Cursor, Input, LARGEST, Rect, Told};
use nonstop_testkit::line::{Kind, Line};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use watch::{
    Watch,
    eyes::Eyes,
    iron::{self, Iron},
    motley,
    terminal::Terminal,
};

#[test]
fn freerdp_shows_the_picture_pixel_for_pixel() {
    let mut watch = Watch::new(1280, 800);
    watch.picture(1280, 800, motley);
    let line = Line::new(None, watch.address, Kind::COUNTING).expect("a line");
    let mut eyes = Eyes::screen(1280, 800);
    eyes.connect(&watch, line.address, &["/gfx", "/size:1280x800"]);
    // The last tile that is drawn.
    eyes.await_pixel(&mut watch, 1279, 799, motley(1279, 799));
    let connected = line.connected().expect("connected");
    println!("accept to the whole picture on the screen: {:?}", connected.elapsed());
    eyes.await_same(&mut watch);
    watch.await_opened();
    watch.paint(Rect { x: 100, y: 50, width: 333, height: 217 }, |x, y| motley(y, x));
    eyes.await_same(&mut watch);
    // Scrolled up by 16 rows, with new ones at the end, and down again.
    let first = watch.pixels.clone();
    let mut second = first[1280 * 4 * 16..].to_vec();
    second.extend(std::iter::repeat_n([200, 100, 50, 0], 1280 * 16).flatten());
    for pixels in [&second, &first] {
        watch.replace(pixels);
        eyes.await_same(&mut watch);
    }
    for shade in 1..6 {
        watch.paint(Rect { x: 3, y: 5, width: 1, height: 1 }, |_, _| [shade; 3]);
        let taken = eyes.await_pixel(&mut watch, 3, 5, [shade; 3]);
        println!("a pixel from the worker to the screen: {taken:?}");
    }
    eyes.await_same(&mut watch);
}

#[test]
fn a_client_without_the_graphics_pipeline_shows_the_same() {
    let mut watch = Watch::new(800, 600);
    watch.picture(800, 600, motley);
    let mut eyes = Eyes::open(&watch, &["-gfx", "/size:800x600"]);
    eyes.await_same(&mut watch);
    watch.paint(Rect { x: 10, y: 50, width: 333, height: 217 }, |x, y| motley(y, x));
    eyes.await_same(&mut watch);
    watch.await_metered(|meter| meter.frames > 1);
    let before = watch.meter.bytes_out;
    let mut terminal = Terminal::new(800, 600);
    watch.replace(terminal.scroll(1));
    eyes.await_same(&mut watch);
    watch.await_metered(|meter| meter.bytes_out > before + 50_000);
    println!("without the pipeline: {} kB", (watch.meter.bytes_out - before) / 1000);
    assert!(watch.meter.bytes_out - before < 1_000_000);
}

#[test]
fn ironrdp_shows_the_same() {
    let mut watch = Watch::new(800, 600);
    watch.picture(800, 600, motley);
    let mut iron = Iron::plain(&watch, 800, 600);
    iron.await_same(&mut watch);
    watch.paint(Rect { x: 10, y: 50, width: 333, height: 217 }, |x, y| motley(y, x));
    iron.await_same(&mut watch);
}

#[test]
fn the_picture_changes_its_size() {
    let mut watch = Watch::new(720, 400);
    let mut piped = Eyes::open(&watch, &["/gfx", "/size:720x400"]);
    piped.await_same(&mut watch);
    for (width, height) in [(1024, 768), (640, 480), (1280, 800)] {
        watch.picture(width, height, |x, y| motley(x + width, y));
        piped.await_same(&mut watch);
    }
    assert!(!piped.has_ended(), "{}", piped.said());
    drop(piped);
    watch.await_closed();
    let mut plain = Eyes::open(&watch, &["-gfx", "/size:640x480"]);
    plain.await_same(&mut watch);
    for (width, height) in [(1024, 768), (640, 480), (720, 400)] {
        watch.picture(width, height, |x, y| motley(x + width, y));
        plain.await_same(&mut watch);
    }
    drop(plain);
    watch.await_closed();
    let mut iron = Iron::plain(&watch, 640, 480);
    iron.await_same(&mut watch);
    watch.picture(1024, 768, |x, y| motley(y, x));
    iron.await_same(&mut watch);
}

#[test]
fn a_picture_of_the_same_size_takes_the_place_of_the_one_before() {
    let mut watch = Watch::new(640, 480);
    let mut piped = Eyes::open(&watch, &["/gfx", "/size:640x480"]);
    piped.await_same(&mut watch);
    watch.picture(640, 480, |x, y| motley(y, x));
    piped.await_same(&mut watch);
    drop(piped);
    watch.await_closed();
    let mut plain = Eyes::open(&watch, &["-gfx", "/size:640x480"]);
    plain.await_same(&mut watch);
    watch.picture(640, 480, |x, y| motley(x + 9, y));
    plain.await_same(&mut watch);
    drop(plain);
    watch.await_closed();
    let mut iron = Iron::plain(&watch, 640, 480);
    iron.await_same(&mut watch);
    watch.picture(640, 480, |x, y| motley(y, x));
    iron.await_same(&mut watch);
}

/// FreeRDP 3.10 makes its desktop anew beside the thread that draws pointers, and dies of one that
/// comes in between.
#[test]
fn a_machine_that_changes_size_and_pointer_at_once_kills_no_client() {
    let mut watch = Watch::new(640, 480);
    let mut eyes = Eyes::open(&watch, &["/gfx", "/size:640x480"]);
    eyes.await_same(&mut watch);
    for round in 0..150 {
        let (width, height) = if round % 2 == 0 { (720, 400) } else { (640, 480) };
        watch.picture(width, height, motley);
        for side in [8, 9, 10, 11, 12, 13, 14, 15] {
            let pixels = vec![round; usize::from(side) * usize::from(side) * 4];
            watch.cursor(Some(Cursor { width: side, height: side, hot_x: 0, hot_y: 0, pixels }));
            std::thread::sleep(Duration::from_millis(3));
        }
        watch.listen();
        assert!(!eyes.has_ended(), "in round {round}: {}", eyes.said());
    }
    eyes.await_same(&mut watch);
}

#[test]
fn a_client_asks_for_the_size_of_its_window_once() {
    let mut watch = Watch::new(720, 400);
    let mut eyes = Eyes::open(&watch, &["/gfx", "/size:1000x700", "/dynamic-resolution"]);
    let wish = |told: &Told| matches!(told, Told::Resize { .. });
    let asked = watch.await_told("a size", wish);
    assert_eq!(asked, Told::Resize { width: 1000, height: 700 });
    watch.picture(1000, 700, motley);
    eyes.await_same(&mut watch);
    // The client is content: no wish follows from its being so.
    std::thread::sleep(Duration::from_millis(700));
    watch.listen();
    assert!(!watch.told.iter().any(wish), "{:?}", watch.told);
    // A person pulls at the window's corner.
    let window = eyes.window();
    for (width, height) in [("900", "600"), ("850", "640"), ("800", "600")] {
        eyes.tool(&["windowsize", &window, width, height]);
    }
    let asked = watch.await_told("a size", wish);
    assert_eq!(asked, Told::Resize { width: 800, height: 600 });
    watch.picture(800, 600, motley);
    eyes.await_same(&mut watch);
    std::thread::sleep(Duration::from_millis(700));
    watch.listen();
    assert!(!watch.told.iter().any(wish), "{:?}", watch.told);
}

#[test]
fn keys_of_a_japanese_keyboard_arrive_and_so_do_buttons() {
    let mut watch = Watch::new(800, 600);
    let mut eyes = Eyes::open(&watch, &["/gfx", "/size:800x600", "/kbd:layout:0x411"]);
    eyes.await_same(&mut watch);
    eyes.tool(&["mousemove", "400", "300"]);
    watch.await_told("the pointer", |told| {
        matches!(told, Told::Input(Input::Pointer { x: 400, y: 300 }))
    });
    // Codes of X for an evdev keyboard, and QEMU's numbers: a, Hankaku/Zenkaku, Muhenkan, Henkan,
    // Hiragana/Katakana, Yen, Ro, Enter, the right Ctrl, the left arrow, Print, Pause.
    for (code, qnum) in [
        ("38", 0x1e),
        ("49", 0x29),
        ("102", 0x7b),
        ("100", 0x79),
        ("101", 0x70),
        ("132", 0x7d),
        ("97", 0x73),
        ("36", 0x1c),
        ("105", 0x9d),
        ("113", 0xcb),
        ("107", 0xb7),
        ("127", 0xc6),
    ] {
        eyes.tool(&["key", code]);
        let key = |down| Input::Key { qnum, down };
        assert_eq!(watch.await_typed(2), [key(true), key(false)], "key {code}");
    }
    for (number, button) in [("1", Button::Left), ("2", Button::Middle), ("3", Button::Right)] {
        eyes.tool(&["click", number]);
        let press = |down| Input::Button { button, down };
        assert_eq!(watch.await_typed(2), [press(true), press(false)], "button {number}");
    }
    for (number, button) in [("4", Button::WheelUp), ("5", Button::WheelDown)] {
        eyes.tool(&["click", number]);
        assert_eq!(watch.await_typed(1), [Input::Button { button, down: true }]);
    }
    watch.await_metered(|meter| meter.keys_in == 12);
}

#[test]
fn ironrdp_types_letters_and_presses_side_buttons() {
    let mut watch = Watch::new(640, 480);
    let mut iron = Iron::plain(&watch, 640, 480);
    iron.await_same(&mut watch);
    let letter = |letter: char| {
        FastPathInputEvent::UnicodeKeyboardEvent(KeyboardFlags::empty(), letter as u16)
    };
    let side = |flags| {
        FastPathInputEvent::MouseEventEx(MouseXPdu { flags, x_position: 65_000, y_position: 9 })
    };
    let button = PointerXFlags::BUTTON2;
    iron.input(&[letter('A'), letter('あ'), side(button | PointerXFlags::DOWN), side(button)]);
    let key = |qnum, down| Input::Key { qnum, down };
    let press = |down| Input::Button { button: Button::Extra, down };
    let shifted = [key(0x2a, true), key(0x1e, true), key(0x1e, false), key(0x2a, false)];
    assert_eq!(watch.await_typed(6), [&shifted[..], &[press(true), press(false)]].concat());
}

#[test]
fn the_pointer_looks_as_the_guest_wants() {
    let cursor = |width, height| {
        let shade = |x: u16, y: u16| if y >= x { [x as u8, 80, y as u8, 255] } else { [0; 4] };
        let points = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let pixels = points.flat_map(|(x, y)| shade(x, y)).collect();
        Cursor { width, height, hot_x: 2, hot_y: 1, pixels }
    };
    let mut watch = Watch::new(640, 480);
    let mut iron = Iron::plain(&watch, 640, 480);
    iron.await_same(&mut watch);
    for (size, seen) in [((24, 24), (24, 24)), ((96, 96), (32, 32)), ((1, 1), (3, 2))] {
        iron.pointers.clear();
        let mut wanted = cursor(size.0, size.1);
        (wanted.hot_x, wanted.hot_y) = (wanted.hot_x.min(size.0 - 1), wanted.hot_y.min(size.1 - 1));
        watch.cursor(Some(wanted.clone()));
        let pointer = watch::until("a pointer", || {
            iron.look(Duration::from_millis(5)).expect("a session");
            iron.pointers.pop()
        });
        let ActiveStageOutput::PointerBitmap(pointer) = pointer else { panic!("{pointer:?}") };
        let seen = if size == (1, 1) { (1, 1) } else { seen };
        assert_eq!((pointer.width, pointer.height), seen);
        if size == (24, 24) {
            assert_eq!((pointer.hotspot_x, pointer.hotspot_y), (2, 1));
            let at = (23 * 24 + 3) * 4;
            assert_eq!(pointer.bitmap_data[at..at + 4], [23, 80, 3, 255]);
        }
    }
    iron.pointers.clear();
    watch.cursor(None);
    watch::until("no pointer", || {
        iron.look(Duration::from_millis(5)).expect("a session");
        let clear = |pointer: &ActiveStageOutput| match pointer {
            ActiveStageOutput::PointerBitmap(bitmap) => bitmap.bitmap_data.iter().all(|b| *b == 0),
            _ => false,
        };
        iron.pointers.iter().any(clear).then_some(())
    });
    // FreeRDP stays with every size.
    let mut eyes = Eyes::open(&watch, &["/gfx", "/size:640x480"]);
    eyes.await_same(&mut watch);
    for side in [16, 32, 33, 64, 96] {
        watch.cursor(Some(cursor(side, side)));
        watch.paint(Rect { x: 0, y: 0, width: side, height: 9 }, |_, _| [side as u8; 3]);
        eyes.await_same(&mut watch);
    }
}

/// Bitmaps are packed, and without loss for a client that would take others.
#[test]
fn a_client_that_knows_remotefx_gets_every_pixel_and_few_bytes() {
    let mut watch = Watch::new(1280, 800);
    let mut terminal = Terminal::new(1280, 800);
    watch.replace(terminal.scroll(1));
    let mut iron = Iron::open(&watch, iron::lossy(1280, 800), StaticChannelSet::new());
    iron.await_same(&mut watch);
    let before = iron.received;
    for _ in 0..4 {
        watch.replace(terminal.scroll(44));
        iron.await_same(&mut watch);
    }
    let bytes = (iron.received - before) / 4;
    println!("without the pipeline: {} kB for a page of text", bytes / 1000);
    assert!(bytes < 1_000_000);
}

/// The library wants bitmaps of every fourth column.
#[test]
fn odd_parts_and_odd_widths_end_no_session() {
    let mut watch = Watch::new(640, 480);
    let mut iron = Iron::plain(&watch, 640, 480);
    iron.await_same(&mut watch);
    for n in 0..20 {
        let rect = Rect { x: n * 7 + 1, y: n, width: n * 3 + 1, height: n + 1 };
        watch.paint(rect, |x, y| motley(x + n * 9, y));
        iron.await_same(&mut watch);
    }
    watch.picture(643, 481, motley);
    for (x, width) in [(600, 43), (641, 2), (639, 2), (100, 50), (100, 50)] {
        watch.paint(Rect { x, y: 0, width, height: 481 }, |x, _| [x as u8, 2, 3]);
        watch::until("a picture that is taken", || {
            iron.look(Duration::from_millis(5)).expect("a session");
            watch.is_taken().then_some(())
        });
    }
    watch.picture(640, 480, motley);
    iron.await_same(&mut watch);
}

/// The largest picture that a broker shows, and the worst: nothing in it is like anything else.
#[test]
fn the_largest_picture_of_noise_is_shown_within_bounds() {
    let noise = |x: u16, y: u16| {
        let at = (u32::from(y) << 12 | u32::from(x)).wrapping_mul(0x9e37_79b1);
        let [red, green, blue, _] = (at ^ at >> 15).wrapping_mul(0x85eb_ca6b).to_be_bytes();
        [red, green, blue]
    };
    let mut watch = Watch::new(640, 480);
    watch.picture(LARGEST, LARGEST, noise);
    let mut eyes = Eyes::screen(LARGEST, LARGEST);
    eyes.connect(&watch, watch.address, &["/gfx", "/size:4096x4096"]);
    let start = Instant::now();
    eyes.await_pixel(&mut watch, LARGEST - 1, LARGEST - 1, noise(LARGEST - 1, LARGEST - 1));
    println!("{LARGEST} by {LARGEST}: {:?}, {} kB", start.elapsed(), watch.rss_kb());
    watch.paint(watch.whole(), |x, y| noise(y, x ^ 77));
    eyes.await_pixel(&mut watch, LARGEST - 1, LARGEST - 1, noise(LARGEST - 1, (LARGEST - 1) ^ 77));
    println!("and once more: {} kB", watch.rss_kb());
    eyes.await_same(&mut watch);
    drop(eyes);
    watch.await_closed();
    let mut iron = Iron::plain(&watch, LARGEST, LARGEST);
    iron.await_same(&mut watch);
    // The address space ends at a gibibyte, and the worker with it.
    let peaks = ["VmHWM", "VmPeak"].map(|kind| watch.kilobytes(kind));
    println!(
        "as bitmaps: {} kB; at most {} kB, of addresses {}",
        watch.rss_kb(),
        peaks[0],
        peaks[1]
    );
    assert!(peaks[1] < 800_000);
}

/// 10 Mbit/s and 50 ms each way: at least 10 frames a second, and no frame that is older than
/// what the line takes.
#[test]
fn a_full_screen_of_text_scrolls_over_a_thin_line() {
    for lines in [1, 10, 44] {
        let mut terminal = Terminal::new(1280, 800);
        let mut watch = Watch::new(1280, 800);
        let line = Line::new(None, watch.address, Kind::THIN).expect("a line");
        let mut eyes = Eyes::screen(1280, 800);
        eyes.connect(&watch, line.address, &["/gfx", "/size:1280x800"]);
        eyes.await_same(&mut watch);
        // The dictionary of the packer is filled as it is in a session.
        for _ in 0..5 {
            watch.replace(terminal.scroll(lines));
        }
        eyes.await_same(&mut watch);
        let bytes = line.down.load(Ordering::Relaxed);
        let (start, taken, cpu) = (Instant::now(), watch.taken, watch.cpu_seconds());
        while start.elapsed() < Duration::from_secs(4) {
            watch.replace(terminal.scroll(lines));
        }
        eyes.await_same(&mut watch);
        let seconds = start.elapsed().as_secs_f64();
        let frames = (watch.taken - taken) as f64;
        let bytes = (line.down.load(Ordering::Relaxed) - bytes) as f64;
        println!(
            "{lines} lines a frame: {:.1} frames/s, {:.1} kB and {:.1} ms of processor a frame",
            frames / seconds,
            bytes / frames / 1000.0,
            (watch.cpu_seconds() - cpu) / frames * 1000.0,
        );
        assert!(frames / seconds >= 10.0);
    }
}
