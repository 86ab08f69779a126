//! Between the broker of a desktop and each of its viewers (workers and the recorder).
//!
//! The broker shows, the viewer tells. The pixels themselves lie in memory that the broker made,
//! sealed against shrinking and against writing by anybody else.

use serde::{Deserialize, Serialize};

/// The widest and highest picture, in pixels.
pub const LARGEST: u16 = 4096;

/// The most rectangles that one [`Show::Damage`] names.
pub const MOST_RECTS: usize = 32;

/// The widest and highest cursor, in pixels.
pub const LARGEST_CURSOR: u16 = 96;

/// A part of the picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rect {
    /// From the left.
    pub x: u16,
    /// From the top.
    pub y: u16,
    /// Width; not 0.
    pub width: u16,
    /// Height; not 0.
    pub height: u16,
}

/// What the broker shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Show {
    /// The picture lies in the file beside this message from now on: `stride` bytes a row, four
    /// bytes a pixel (blue, green, red, unused), rows from the top. All of it is new.
    Picture {
        /// Pixels.
        width: u16,
        /// Pixels.
        height: u16,
        /// Bytes.
        stride: u32,
    },
    /// These parts have changed. No more is written or shown until [`Told::Ready`] says `serial`.
    Damage {
        /// Grows by one with each.
        serial: u64,
        /// At most [`MOST_RECTS`], inside the picture.
        rects: Vec<Rect>,
    },
    /// How the pointer looks; None hides it.
    Cursor(Option<Cursor>),
    /// What another viewer typed: for the recorder alone.
    Typed(Input),
}

/// A pointer's shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Pixels, at most [`LARGEST_CURSOR`].
    pub width: u16,
    /// Pixels, at most [`LARGEST_CURSOR`].
    pub height: u16,
    /// The point that points, from the left.
    pub hot_x: u16,
    /// The point that points, from the top.
    pub hot_y: u16,
    /// Four bytes a pixel (blue, green, red, opacity), rows from the top.
    pub pixels: Vec<u8>,
}

/// A button of the mouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Button {
    /// The first.
    Left,
    /// The third.
    Middle,
    /// The second.
    Right,
    /// Backward.
    Side,
    /// Forward.
    Extra,
    /// One notch of the wheel.
    WheelUp,
    /// One notch of the wheel.
    WheelDown,
}

/// One event of keyboard or mouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// A key by QEMU's number: the code of an AT keyboard (set 1), with 0x80 for an extended one.
    Key {
        /// Which.
        qnum: u8,
        /// Down or up.
        down: bool,
    },
    /// A button.
    Button {
        /// Which.
        button: Button,
        /// Down or up.
        down: bool,
    },
    /// The pointer is here, in pixels of the picture.
    Pointer {
        /// From the left.
        x: u16,
        /// From the top.
        y: u16,
    },
}

/// What a session let through, from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Meter {
    /// Pictures or parts of one, each counted once.
    pub frames: u64,
    /// Bytes to the client, encrypted as they were sent.
    pub bytes_out: u64,
    /// Keys pressed.
    pub keys_in: u64,
}

/// What a viewer tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// It has taken the damage `serial` and waits for more.
    Ready {
        /// Of the [`Show::Damage`]; 0 for the picture itself.
        serial: u64,
    },
    /// A person typed. Dropped unless this viewer may type.
    Input(Input),
    /// The pointer moved, as often as this comes; the same as [`Input::Pointer`].
    Pointer {
        /// From the left.
        x: u16,
        /// From the top.
        y: u16,
    },
    /// The client's window has this size. Followed where the guest's card can.
    Resize {
        /// Pixels.
        width: u16,
        /// Pixels.
        height: u16,
    },
    /// A client has come through its handshake and sees the picture: a session begins.
    Opened,
    /// The session's figures, at least each second while they change.
    Metered(Meter),
    /// The session has ended, with its last figures.
    Closed(Meter),
}
