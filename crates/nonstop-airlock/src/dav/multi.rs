//! Bodies of 207: what became of each of several names.

use crate::{
    http::Answer,
    refusal::{Lang, Refusal},
    xml::escaped,
};
use nonstop_http::reason;
use std::fmt::Write as _;

/// The beginning of a body.
pub(super) const BEGIN: &str =
    "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:multistatus xmlns:D=\"DAV:\">\n";
/// Its end.
pub(super) const END: &str = "</D:multistatus>\n";
/// Its type.
pub(super) const KIND: &str = "application/xml; charset=utf-8";

/// A status line.
pub(super) fn status(out: &mut String, status: u16) {
    let _ = write!(out, "<D:status>HTTP/1.1 {status} {}</D:status>", reason(status));
}

/// 207 with what was not done, by the path of each.
pub(super) fn failures<'a>(lang: Lang, failed: &[(String, Refusal)]) -> Answer<'a> {
    let mut out = String::from(BEGIN);
    for (path, refusal) in failed {
        let _ = write!(out, "<D:response><D:href>{}</D:href>", escaped(path));
        status(&mut out, refusal.status);
        let says = escaped(refusal.text(lang));
        let _ = writeln!(out, "<D:responsedescription>{says}</D:responsedescription></D:response>");
    }
    out.push_str(END);
    Answer::bytes(207, KIND, out)
}
