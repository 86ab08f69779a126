//! The proof of reach: what may talk to what, read from the rules, bridges, addresses, routes and
//! settings of the running kernel, and held against what the lab wants.
//!
//! [`kernel::Kernel`] is what was read ([`observe`] reads it; nothing else here touches the
//! world). [`listing`] turns the rules into a form that [`evaluate`] can put whole sets of
//! packets through ([`packets`]), and [`walk`] takes everything that a machine could possibly
//! send through bridge, rules and routes to wherever it comes out. So a cell is proven for all
//! ports and contents at once, and a single packet is just a very small set. Where something is
//! met that is not known here, the answer is "not proven", never "closed".

pub mod between;
pub mod drift;
pub mod evaluate;
pub mod extent;
pub mod host;
pub mod kernel;
pub mod listing;
pub mod matrix;
pub mod observe;
pub mod operand;
pub mod packets;
pub mod probe;
pub mod proof;
pub mod question;
pub mod rules;
pub mod set;
pub mod text;
pub mod value;
pub mod walk;
pub mod wanted;

pub use kernel::Kernel;
pub use proof::{Proof, prove};
pub use wanted::Wanted;
