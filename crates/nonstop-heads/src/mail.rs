//! A mail: all heads that are due in one, a line each, by the system's `sendmail`.

use crate::{Refused, helper};
use nonstop_api::heads::Errand;
use std::{path::Path, time::Duration};

/// How long `sendmail` may take to accept a mail.
const PATIENCE: Duration = Duration::from_secs(120);

/// Has `sendmail` accept a mail to `address` with the heads of `errand`.
pub(crate) fn send(sendmail: &Path, address: &str, errand: &Errand) -> Result<(), Refused> {
    let program = sendmail.to_string_lossy();
    helper::run(&program, &["-i", "--", address], text(address, errand).as_bytes(), PATIENCE)
}

/// Plain ASCII, whatever the lab is called: no part of it is encoded on its way.
fn text(address: &str, errand: &Errand) -> String {
    let lab: String = errand.lab.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
    let last = errand.heads.last().map_or(0, |head| head.seq);
    let heads: String = errand.heads.iter().map(|head| head.line.as_str()).collect();
    format!(
        "To: {address}\n\
         Subject: NONSTOP {lab}: trace signed up to row {last}\n\
         MIME-Version: 1.0\n\
         Content-Type: text/plain; charset=us-ascii\n\
         Content-Transfer-Encoding: 7bit\n\
         Auto-Submitted: auto-generated\n\
         \n\
         Keep this mail where nobody of the lab can change it. With it,\n\
         `nonstop trace verify --heads FILE` shows whether the lab's record\n\
         of who did what is still the one that was signed here.\n\
         \n\
         {heads}"
    )
}
