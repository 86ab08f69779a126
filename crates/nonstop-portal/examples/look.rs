//! Serves every page with canned answers behind it, to look at them in a browser:
//! `cargo run -p nonstop-portal --example look`; with `--silent` the daemon soon stops answering.

#[path = "../tests/portal/canned.rs"]
mod canned;

use jiff::tz::{TimeZone, offset};
use nonstop_model::Lab;
use nonstop_portal::{App, keep_listening};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let yaml = format!(
        "version: 1\nname: Kasuga lab\nsoftware_keys: true\nrun: {}\nportal:\n  port: 8377\n",
        folder.path().display()
    );
    let lab = Lab::parse("lab.yaml", &yaml)?;
    let daemon = canned::Canned::start(&lab.portal_socket(), [127, 99, 0]);
    println!("researcher http://127.99.0.1:8377/  staff http://127.99.0.2:8377/");
    let silent = std::env::args().any(|a| a == "--silent");
    std::thread::spawn(move || {
        let mut seen = 0;
        loop {
            std::thread::sleep(std::time::Duration::from_secs(2));
            let done = daemon.done();
            done[seen..].iter().for_each(|(who, what)| println!("{who} asked: {what:?}"));
            seen = done.len();
            if silent {
                daemon.fall_silent();
            }
        }
    });
    let app = App::new(lab, TimeZone::fixed(offset(9)), || canned::NOW.parse().expect("a time"));
    tokio::runtime::Runtime::new()?.block_on(keep_listening(app))
}
