//! Is this picture a desktop? Decided by what is in it, and against us in doubt.
//!
//! A connection that succeeded proves little: xrdp answers with a black screen or its login
//! box as readily as with a desktop. So a desktop must show its wallpaper's colours, must not
//! be one colour, and what was typed into its terminal must come back computed.

use crate::picture::{Picture, Rgb, near};
use std::fmt;

/// Colours of the wallpaper by which a desktop is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wallpaper {
    /// Its colours; a gradient is named by a few steps of it.
    pub colours: Vec<Rgb>,
    /// How far a pixel may be off in each channel.
    pub tolerance: u8,
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
    /// Something, but the wallpaper covers only this share of it.
    NotTheDesktop(f64),
    /// The desktop; its wallpaper covers this share.
    Desktop(f64),
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Black => f.write_str("a black screen"),
            Seen::Blank([r, g, b]) => write!(f, "one colour, #{r:02x}{g:02x}{b:02x}"),
            Seen::LoginScreen => f.write_str("xrdp's login screen"),
            Seen::NotTheDesktop(share) => {
                write!(f, "not the desktop: its wallpaper covers {:.1} %", share * 100.0)
            }
            Seen::Desktop(share) => {
                write!(f, "the desktop: its wallpaper covers {:.1} %", share * 100.0)
            }
        }
    }
}

/// The screen behind xrdp's login box, by version: Debian 12's and Debian 13's.
const LOGIN_SCREENS: [Rgb; 2] = [[0x00, 0x9c, 0xb5], [0x00, 0x30, 0x57]];

/// Smallest share that a desktop's wallpaper covers, windows open.
const LEAST_WALLPAPER: f64 = 0.15;

/// Says what `picture` shows, given the wallpaper that a desktop would have.
pub fn judge(picture: &Picture, wallpaper: &Wallpaper) -> Seen {
    if picture.share(|[r, g, b]| r < 16 && g < 16 && b < 16) > 0.97 {
        return Seen::Black;
    }
    let (main, share) = picture.main_colour();
    if share > 0.985 {
        return Seen::Blank(main);
    }
    let is_wallpaper = |p: Rgb| wallpaper.colours.iter().any(|c| near(p, *c, wallpaper.tolerance));
    for screen in LOGIN_SCREENS {
        if !is_wallpaper(screen) && picture.share(|p| near(p, screen, 10)) > 0.4 {
            return Seen::LoginScreen;
        }
    }
    let covered = picture.share(is_wallpaper);
    if covered >= LEAST_WALLPAPER { Seen::Desktop(covered) } else { Seen::NotTheDesktop(covered) }
}

/// What is typed into the terminal: it paints three thousand cells red, and the text itself
/// contains nothing red, so that red on the screen was computed by a shell over there.
pub const TYPED: &str = r"printf '\033[41m%3000s\033[0m\n' ''";

/// Whether `after` shows what [`TYPED`] does and `before` did not.
pub fn typing_came_back(before: &Picture, after: &Picture) -> bool {
    let red = |[r, g, b]: Rgb| r > 130 && g < 70 && b < 70;
    before.size() == after.size() && after.count(red) > before.count(red) + 20_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wallpaper() -> Wallpaper {
        Wallpaper { colours: vec![[0x1d, 0x3b, 0x53], [0x26, 0x4b, 0x69]], tolerance: 6 }
    }

    fn in_window(x: usize, y: usize) -> bool {
        (200..700).contains(&x) && (150..550).contains(&y)
    }

    fn desktop(text: Rgb) -> Picture {
        Picture::paint(1280, 800, |x, y| match () {
            () if in_window(x, y) && x % 7 < 3 && y % 13 < 8 && y < 300 => text,
            () if in_window(x, y) => [255, 255, 255],
            () if y > 770 => [200, 200, 200],
            () => [0x1d + (y / 100) as u8, 0x3b + (y / 60) as u8, 0x53 + (y / 40) as u8],
        })
    }

    #[test]
    fn a_desktop_with_a_terminal_is_one() {
        assert!(matches!(judge(&desktop([0, 0, 0]), &wallpaper()), Seen::Desktop(_)));
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
        let blank = Picture::paint(1280, 800, |_, _| [0x1d, 0x3b, 0x53]);
        assert!(matches!(judge(&blank, &wallpaper()), Seen::Blank(_)));
        let noise = Picture::paint(1280, 800, |x, y| {
            if x * y % 97 == 0 { [1, 200, 3] } else { [0x1d, 0x3b, 0x53] }
        });
        assert!(matches!(judge(&noise, &wallpaper()), Seen::Desktop(_)), "not one colour");
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
        assert!(matches!(judge(&other, &wallpaper()), Seen::NotTheDesktop(_)));
    }

    #[test]
    fn typing_comes_back_only_when_a_shell_did_it() {
        let before = desktop([0, 0, 0]);
        let painted = Picture::paint(1280, 800, |x, y| match () {
            () if in_window(x, y) && (300..420).contains(&y) => [0xcd, 0, 0],
            () if in_window(x, y) => [255, 255, 255],
            () => [0x1d, 0x3b, 0x53],
        });
        assert!(typing_came_back(&before, &painted));
        assert!(!typing_came_back(&painted, &painted), "red was there before");
        assert!(!typing_came_back(&before, &desktop([40, 40, 40])), "text alone");
    }
}
