//! What changed since somebody last looked: few rectangles that cover every change.

use nonstop_display::link::{MOST_RECTS, Rect};

/// Rectangles that together cover whatever was added; at most [`MOST_RECTS`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    rects: Vec<Rect>,
}

impl Damage {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.rects.is_empty()
    }

    /// The rectangles.
    pub fn rects(&self) -> &[Rect] {
        &self.rects
    }

    /// Everything so far; nothing is left.
    pub fn take(&mut self) -> Damage {
        std::mem::take(self)
    }

    /// Covers `rect` too. Neighbours that waste little by being one become one, and so do the two
    /// that waste least when there are too many. An empty rectangle adds nothing.
    pub fn add(&mut self, mut rect: Rect) {
        if rect.width == 0 || rect.height == 0 {
            return;
        }
        // Each turn takes one away, so this ends.
        while let Some(at) = self.rects.iter().position(|had| worth_joining(*had, rect)) {
            rect = union(self.rects.swap_remove(at), rect);
        }
        if self.rects.len() == MOST_RECTS {
            let least = (0..MOST_RECTS).min_by_key(|at| waste(self.rects[*at], rect));
            if let Some(at) = least {
                let joined = union(self.rects.swap_remove(at), rect);
                return self.add(joined);
            }
        }
        self.rects.push(rect);
    }

    /// Covers all that `other` covers.
    pub fn add_all(&mut self, other: &Damage) {
        for rect in &other.rects {
            self.add(*rect);
        }
    }
}

/// Pixels.
fn area(rect: Rect) -> u64 {
    u64::from(rect.width) * u64::from(rect.height)
}

/// The smallest rectangle around both.
fn union(a: Rect, b: Rect) -> Rect {
    let (x, y) = (a.x.min(b.x), a.y.min(b.y));
    let right = right(a).max(right(b));
    let bottom = bottom(a).max(bottom(b));
    // Both lie within u16, and so does what is around both.
    let width = u16::try_from(right - u32::from(x)).unwrap_or(u16::MAX);
    let height = u16::try_from(bottom - u32::from(y)).unwrap_or(u16::MAX);
    Rect { x, y, width, height }
}

fn right(rect: Rect) -> u32 {
    u32::from(rect.x) + u32::from(rect.width)
}

fn bottom(rect: Rect) -> u32 {
    u32::from(rect.y) + u32::from(rect.height)
}

/// Pixels that the union has more than both.
fn waste(a: Rect, b: Rect) -> u64 {
    area(union(a, b)).saturating_sub(area(a) + area(b))
}

/// Whether one rectangle costs at most a quarter more pixels than two. Contained ones do not.
fn worth_joining(a: Rect, b: Rect) -> bool {
    waste(a, b) * 4 <= area(a) + area(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rect() -> impl Strategy<Value = Rect> {
        (0u16..4000, 0u16..4000, 0u16..96, 0u16..96).prop_map(|(x, y, width, height)| Rect {
            x,
            y,
            width,
            height,
        })
    }

    fn covers(damage: &Damage, x: u32, y: u32) -> bool {
        damage.rects().iter().any(|r| {
            (u32::from(r.x)..right(*r)).contains(&x) && (u32::from(r.y)..bottom(*r)).contains(&y)
        })
    }

    proptest! {
        #[test]
        fn whatever_changed_is_covered_by_few_rectangles_inside_the_picture(
            rects in proptest::collection::vec(rect(), 0..200)
        ) {
            let mut damage = Damage::new();
            for rect in &rects {
                damage.add(*rect);
            }
            prop_assert!(damage.rects().len() <= MOST_RECTS);
            for r in damage.rects() {
                prop_assert!(r.width > 0 && r.height > 0);
                prop_assert!(right(*r) <= 4096 && bottom(*r) <= 4096);
            }
            for r in rects.iter().filter(|r| r.width > 0 && r.height > 0) {
                let (x, y) = (u32::from(r.x), u32::from(r.y));
                let (last_x, last_y) = (right(*r) - 1, bottom(*r) - 1);
                for (x, y) in [(x, y), (last_x, y), (x, last_y), (last_x, last_y)] {
                    prop_assert!(covers(&damage, x, y));
                }
            }
        }
    }

    #[test]
    fn a_line_drawn_row_by_row_is_one_rectangle() {
        let mut damage = Damage::new();
        for y in 0..300 {
            damage.add(Rect { x: 10, y, width: 500, height: 1 });
        }
        assert_eq!(damage.rects(), [Rect { x: 10, y: 0, width: 500, height: 300 }]);
    }
}
