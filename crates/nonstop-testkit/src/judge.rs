//! Is this picture a desktop? Decided by what is in it, and against us in doubt.
//!
//! A connection that succeeded proves little: xrdp answers with a black screen or its login
//! box as readily as with a desktop. So a desktop must show its wallpaper's colours, must not
//! be one colour, and what was typed into its terminal must come back computed.

use crate::picture::{Picture, Rgb, near};
use std::fmt;

/// Colours of a wallpaper by which a desktop is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Wallpaper {
    /// Colours, and the least share of the screen that each covers, windows open. Several, so
    /// that a plain background of a like colour is not taken for it.
    pub parts: Vec<(Rgb, f64)>,
    /// How far a pixel may be off in each channel.
    pub tolerance: u8,
}

impl Wallpaper {
    /// That of `images/desktop`: night sky, dawn, and two ridges before it.
    pub fn of_ours() -> Wallpaper {
        Wallpaper {
            parts: vec![
                ([24, 74, 124], 0.02),
                ([60, 83, 117], 0.005),
                ([20, 46, 82], 0.02),
                ([11, 25, 48], 0.03),
            ],
            tolerance: 6,
        }
    }
}

/// What a picture shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// Nothing but black.
    Black,
    /// One colour.
    Blank(Rgb),
    /// The login box of xrdp.
    LoginScreen,
    /// Something, but this colour of the wallpaper covers only this share of it.
    NotTheDesktop(Rgb, f64),
    /// The desktop; its wallpaper covers this share.
    Desktop(f64),
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Black => f.write_str("a black screen"),
            Seen::Blank([r, g, b]) => write!(f, "one colour, #{r:02x}{g:02x}{b:02x}"),
            Seen::LoginScreen => f.write_str("xrdp's login screen"),
            Seen::NotTheDesktop([r, g, b], share) => write!(
                f,
                "not the desktop: #{r:02x}{g:02x}{b:02x} of its wallpaper covers {:.1} %",
                share * 100.0
            ),
            Seen::Desktop(share) => {
                write!(f, "the desktop: its wallpaper covers {:.1} %", share * 100.0)
            }
        }
    }
}

/// The screen behind xrdp's login box, by version: Debian 12's and Debian 13's.
const LOGIN_SCREENS: [Rgb; 2] = [[0x00, 0x9c, 0xb5], [0x00, 0x30, 0x57]];

/// Says what `picture` shows, given the wallpaper that a desktop would have.
pub fn judge(picture: &Picture, wallpaper: &Wallpaper) -> Seen {
    if picture.share(|[r, g, b]| r < 16 && g < 16 && b < 16) > 0.97 {
        return Seen::Black;
    }
    let (main, share) = picture.main_colour();
    if share > 0.985 {
        return Seen::Blank(main);
    }
    for screen in LOGIN_SCREENS {
        if picture.share(|p| near(p, screen, 10)) > 0.4 {
            return Seen::LoginScreen;
        }
    }
    let mut covered = 0.0;
    for (colour, least) in &wallpaper.parts {
        let share = picture.share(|p| near(p, *colour, wallpaper.tolerance));
        if share < *least {
            return Seen::NotTheDesktop(*colour, share);
        }
        covered += share;
    }
    Seen::Desktop(covered)
}

/// What is typed into the terminal: it paints six hundred cells red, and the text itself
/// contains nothing red, so that red on the screen was computed by a shell over there.
pub const TYPED: &str = r"printf '\033[41m%600s\033[0m\n' ''";

/// Whether `after` shows what [`TYPED`] does and `before` did not.
pub fn typing_came_back(before: &Picture, after: &Picture) -> bool {
    let red = |[r, g, b]: Rgb| r > 130 && g < 70 && b < 70;
    before.size() == after.size() && after.count(red) > before.count(red) + 20_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wallpaper() -> Wallpaper {
        Wallpaper::of_ours()
    }

    fn in_window(x: usize, y: usize) -> bool {
        (48..880).contains(&x) && (44..560).contains(&y)
    }

    fn sky(y: usize) -> Rgb {
        match y {
            690.. => [11, 25, 48],
            630.. => [20, 46, 82],
            560.. => [60, 83, 117],
            480.. => [24, 74, 124],
            _ => [9 + (y / 40) as u8, 20 + (y / 10) as u8, 44 + (y / 6) as u8],
        }
    }

    fn desktop(text: Rgb) -> Picture {
        Picture::paint(1280, 800, |x, y| match () {
            () if in_window(x, y) && x % 7 < 3 && y % 13 < 8 && y < 300 => text,
            () if in_window(x, y) => [14, 22, 32],
            () if y > 772 => [18, 25, 35],
            () => sky(y),
        })
    }

    #[test]
    fn the_wallpaper_is_the_recipes() {
        let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../../images/desktop/pictures.py");
        let recipe = std::fs::read_to_string(recipe).expect("the recipe");
        for [r, g, b] in [[24, 74, 124], [20, 46, 82], [11, 25, 48]] {
            assert!(recipe.contains(&format!("({r}, {g}, {b})")), "{r}, {g}, {b}");
        }
    }

    #[test]
    fn a_desktop_with_a_terminal_is_one() {
        let seen = judge(&desktop([223, 231, 239]), &wallpaper());
        assert!(matches!(seen, Seen::Desktop(_)), "{seen}");
    }

    #[test]
    fn black_is_not_even_with_a_cursor_on_it() {
        let black =
            Picture::paint(
                1280,
                800,
                |x, y| {
                    if x < 20 && y < 20 { [255, 255, 255] } else { [0, 0, 0] }
                },
            );
        assert_eq!(judge(&black, &wallpaper()), Seen::Black);
    }

    #[test]
    fn one_colour_is_not_be_it_the_wallpapers() {
        let blank = Picture::paint(1280, 800, |_, _| [24, 74, 124]);
        assert!(matches!(judge(&blank, &wallpaper()), Seen::Blank(_)));
    }

    #[test]
    fn a_plain_background_with_a_window_is_not() {
        let plain = Picture::paint(1280, 800, |x, y| match () {
            () if in_window(x, y) => [14, 22, 32],
            () => [0x10, 0x24, 0x3f],
        });
        assert!(matches!(judge(&plain, &wallpaper()), Seen::NotTheDesktop(..)));
    }

    #[test]
    fn xrdps_login_box_is_not() {
        for screen in LOGIN_SCREENS {
            let login = Picture::paint(1280, 800, |x, y| match () {
                () if (465..815).contains(&x) && (185..615).contains(&y) => [0xde, 0xde, 0xde],
                () => screen,
            });
            assert_eq!(judge(&login, &wallpaper()), Seen::LoginScreen);
        }
    }

    #[test]
    fn another_picture_is_not() {
        let other = Picture::paint(1280, 800, |x, y| [(x / 5) as u8, (y / 4) as u8, 90]);
        assert!(matches!(judge(&other, &wallpaper()), Seen::NotTheDesktop(..)));
    }

    #[test]
    fn typing_comes_back_only_when_a_shell_did_it() {
        let before = desktop([223, 231, 239]);
        let painted = Picture::paint(1280, 800, |x, y| match () {
            () if in_window(x, y) && (300..420).contains(&y) => [0xcd, 0, 0],
            () if in_window(x, y) => [14, 22, 32],
            () => sky(y),
        });
        assert!(typing_came_back(&before, &painted));
        assert!(!typing_came_back(&painted, &painted), "red was there before");
        assert!(!typing_came_back(&before, &desktop([40, 40, 40])), "text alone");
    }
}
