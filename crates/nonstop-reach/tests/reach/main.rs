//! The proof of reach against the real kernel: labs in namespaces, as they should be, sabotaged,
//! and random.

mod kernel_agrees;
mod lab;
mod probe;
mod sabotage;
