//! Between `nonstopd` and the broker of a desktop.

use crate::link::Meter;
use serde::{Deserialize, Serialize};

/// A viewer of a desktop: 0 is the owner's worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ViewerId(pub u8);

/// What a viewer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ViewerKind {
    /// See and type.
    Owner,
    /// See.
    Guest,
    /// See, and be told what is typed.
    Recorder,
}

/// What `nonstopd` orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// The first: what holds for every session.
    Begin {
        /// Bytes that a session may get in an hour before it is slowed down; None for no bound.
        budget: Option<u64>,
    },
    /// The file beside this is a connection to the display of a QEMU that has just started.
    Attach,
    /// The file beside this is the link to a viewer.
    AddViewer {
        /// Which.
        viewer: ViewerId,
        /// What it may do.
        kind: ViewerKind,
    },
    /// That viewer has ended, or its right has.
    RemoveViewer {
        /// Which.
        viewer: ViewerId,
    },
}

/// What a broker reports. It reports something at least each second, or is ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// It lives.
    Alive,
    /// QEMU's display is shown.
    Attached,
    /// QEMU's display is gone, or was never there.
    Lost,
    /// A session began at this viewer.
    Opened {
        /// Which.
        viewer: ViewerId,
    },
    /// The session's figures so far.
    Metered {
        /// Which.
        viewer: ViewerId,
        /// Figures.
        meter: Meter,
    },
    /// The session has used up its bytes of this hour and is slowed down.
    OverBudget {
        /// Which.
        viewer: ViewerId,
        /// Figures.
        meter: Meter,
    },
    /// The session has ended.
    Closed {
        /// Which.
        viewer: ViewerId,
        /// Figures.
        meter: Meter,
    },
    /// This viewer lags, broke the rules or is gone: it is to be ended and begun anew.
    Bad {
        /// Which.
        viewer: ViewerId,
    },
}
