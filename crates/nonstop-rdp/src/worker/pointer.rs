//! How the pointer looks, as every client can show it: at most 32 pixels a side.

use super::screen::PIXEL;
use ironrdp_server::{DisplayUpdate, RGBAPointer};
use nonstop_display::link::Cursor;

/// What a client takes that was not asked whether it takes more; a larger one may end it.
const LARGEST: usize = 32;

/// Side of a pointer that is not to be seen.
const HIDDEN: usize = 16;

/// The part of a cursor that is to be seen.
#[derive(Debug, Clone, Copy)]
struct Part {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

/// What a client is told when the pointer looks like `cursor`.
pub(super) fn update(cursor: Option<&Cursor>) -> DisplayUpdate {
    // Cards hand over a square with a small arrow in its corner.
    let seen = cursor.and_then(|cursor| Some((cursor, seen(cursor)?)));
    let Some((cursor, part)) = seen else { return DisplayUpdate::RGBAPointer(none()) };
    let longest = part.width.max(part.height);
    // A step of 2 leaves out every second pixel, and so on.
    let step = longest.div_ceil(LARGEST);
    let (width, height) = (part.width.div_ceil(step), part.height.div_ceil(step));
    let mut data = Vec::with_capacity(width * height * PIXEL);
    // RDP wants rows from the bottom.
    for y in (0..height).rev() {
        for x in 0..width {
            let (x, y) = (part.x + x * step, part.y + y * step);
            let at = (y * usize::from(cursor.width) + x) * PIXEL;
            data.extend_from_slice(&cursor.pixels[at..at + PIXEL]);
        }
    }
    let inside = |hot: u16, start: usize, most: usize| {
        u16::try_from((usize::from(hot).saturating_sub(start) / step).min(most - 1)).unwrap_or(0)
    };
    let side = |side: usize| u16::try_from(side).unwrap_or(0);
    DisplayUpdate::RGBAPointer(RGBAPointer {
        cache_index: 0,
        width: side(width),
        height: side(height),
        hot_x: inside(cursor.hot_x, part.x, width),
        hot_y: inside(cursor.hot_y, part.y, height),
        data,
    })
}

/// A pointer that is not to be seen. The library has an update that hides it, and never sends it
/// (ironrdp-server 0.13: it has no content, and what has none is left out).
fn none() -> RGBAPointer {
    let data = vec![0; HIDDEN * HIDDEN * PIXEL];
    let side = HIDDEN as u16;
    RGBAPointer { cache_index: 0, width: side, height: side, hot_x: 0, hot_y: 0, data }
}

/// The smallest part that holds every pixel that is to be seen, and the point that points; None
/// if none is seen.
fn seen(cursor: &Cursor) -> Option<Part> {
    let (width, height) = (usize::from(cursor.width), usize::from(cursor.height));
    let opaque = |x: usize, y: usize| cursor.pixels[(y * width + x) * PIXEL + 3] > 0;
    let points = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let (mut from, mut to) = ((width, height), (0, 0));
    for (x, y) in points.filter(|(x, y)| opaque(*x, *y)) {
        from = (from.0.min(x), from.1.min(y));
        to = (to.0.max(x + 1), to.1.max(y + 1));
    }
    if to.0 == 0 {
        return None;
    }
    let (hot_x, hot_y) = (usize::from(cursor.hot_x), usize::from(cursor.hot_y));
    let (x, y) = (from.0.min(hot_x), from.1.min(hot_y));
    Some(Part { x, y, width: to.0.max(hot_x + 1) - x, height: to.1.max(hot_y + 1) - y })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cursor(width: u16, height: u16, opaque: impl Fn(u16, u16) -> bool) -> Cursor {
        let shade = |x, y| if opaque(x, y) { [x as u8, y as u8, 0, 255] } else { [0; 4] };
        let points = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let pixels = points.flat_map(|(x, y)| shade(x, y)).collect();
        Cursor { width, height, hot_x: 3, hot_y: 2, pixels }
    }

    #[test]
    fn an_arrow_in_a_large_square_is_kept_as_it_is() {
        let DisplayUpdate::RGBAPointer(pointer) =
            update(Some(&cursor(64, 64, |x, y| (3..20).contains(&x) && (2..26).contains(&y))))
        else {
            panic!("a pointer")
        };
        assert_eq!((pointer.width, pointer.height), (17, 24));
        assert_eq!((pointer.hot_x, pointer.hot_y), (0, 0));
        // The last row comes first.
        assert_eq!(pointer.data[..8], [3, 25, 0, 255, 4, 25, 0, 255]);
    }

    #[test]
    fn a_pointer_without_a_pixel_is_hidden() {
        for cursor in [None, Some(&cursor(32, 32, |_, _| false))] {
            let DisplayUpdate::RGBAPointer(pointer) = update(cursor) else { panic!("a pointer") };
            assert!(pointer.data.iter().all(|byte| *byte == 0));
        }
    }

    proptest! {
        #[test]
        fn every_client_can_show_it(width in 4u16..=96, height in 4u16..=96, of in 1u16..90) {
            let update = update(Some(&cursor(width, height, |x, y| (x * 7 + y) % of == 0)));
            if let DisplayUpdate::RGBAPointer(pointer) = update {
                prop_assert!((1..=32).contains(&pointer.width) && (1..=32).contains(&pointer.height));
                prop_assert!(pointer.hot_x < pointer.width && pointer.hot_y < pointer.height);
                let bytes = usize::from(pointer.width) * usize::from(pointer.height) * PIXEL;
                prop_assert_eq!(pointer.data.len(), bytes);
            }
        }
    }
}
