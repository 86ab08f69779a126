//! A fleet of environments under the rules that the daemon loads, for `cargo xtask bench reach`:
//!
//!     cargo run --release -p nonstop-reach --example fleet -- WHAT
//!
//! - `prove N`: the proof for N environments. Rules and rights are loaded into a kernel and read
//!   from it; bridges, taps, addresses and routes are data, as so many cannot be made for a bench
//!   (deleting a bridge takes 46 ms).
//! - `observe N`: the same with everything in a kernel, in network namespaces of its own, and read
//!   from there.
//! - `rules`: changes the rules of the network namespace it is started in, as lines on stdin say
//!   ([`serve`]), and times what it does.
//!
//! One JSON line an answer on stdout. Needs root.

mod environment;
mod interfaces;
mod loaded;
mod proof;
mod serve;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &str| text.parse().expect("a number of environments");
    match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["prove", n] => proof::of_data(number(n)),
        ["observe", n] => proof::of_a_kernel(number(n)),
        ["rules"] => serve::serve(),
        _ => panic!("usage: fleet prove N | observe N | rules"),
    }
}
