//! The daemon's screener with the real program, over files of every kind.

mod confined;
mod hostile;
mod lab;
mod made;
mod previews;
mod rules_of_labs;
mod rules_of_ours;
