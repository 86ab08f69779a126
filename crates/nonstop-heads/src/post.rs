//! A host of the lab's: a POST a head, by `curl`.

use crate::{Refused, helper};
use nonstop_api::heads::Parcel;
use std::time::Duration;

/// How long a host may take, all in all; `curl` itself gives up before.
const PATIENCE: Duration = Duration::from_secs(90);

/// Posts `head` to `url`. The host has it once it answers with a status of success; it may get it twice.
pub(crate) fn post(url: &str, head: &Parcel) -> Result<(), Refused> {
    let args = [
        // No file of settings; no redirection is followed.
        "-q",
        "--silent",
        "--show-error",
        "--fail",
        "--globoff",
        "--connect-timeout",
        "20",
        "--max-time",
        "60",
        "--proto",
        "=http,https",
        "--header",
        "Content-Type: application/json",
        "--header",
        "Expect:",
        "--data-binary",
        "@-",
        "--output",
        "/dev/null",
        "--url",
        url,
    ];
    helper::run("curl", &args, head.line.as_bytes(), PATIENCE)
}
