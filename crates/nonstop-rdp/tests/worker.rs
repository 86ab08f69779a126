//! What a client sees and types through a worker, by real clients, pixel for pixel.

mod watch;

use nonstop_display::link::Rect;
use std::time::Duration;
use watch::{Watch, eyes::Eyes, iron::Iron, line::Line, motley};

#[test]
fn freerdp_shows_the_picture_pixel_for_pixel() {
    let mut watch = Watch::new(1280, 800);
    watch.picture(1280, 800, motley);
    let line = Line::new(watch.address, None, Duration::ZERO);
    let mut eyes = Eyes::screen(1280, 800);
    eyes.connect(&watch, line.address, &["/gfx", "/size:1280x800"]);
    // The last tile that is drawn.
    eyes.await_pixel(&mut watch, 1279, 799, motley(1279, 799));
    let connected = line.connected.lock().expect("a time").expect("connected");
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
