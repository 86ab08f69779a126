//! What children say, read with suspicion: they held a hostile file.

use super::{Looked, Preview, failed};
use crate::publisher::plain;
use nonstop_api::PreviewView;
use nonstop_model::screening::{Failure, Kind, Measured, Remark, RuleId, Verdict, Words};
use serde::Deserialize;

/// The longest line, in bytes.
pub(super) const LONGEST: usize = 256 << 10;
/// The longest preview, in bytes: a line, and a picture behind it.
pub(super) const LONGEST_PREVIEW: usize = 8 << 20;
/// How many remarks of one child count.
const MOST_REMARKS: usize = 100;
/// How many broken rules are told.
const MOST_BROKEN: usize = 20;
/// The largest preview of a picture, in pixels across and down.
const LARGEST: u32 = 1024;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Measured(Measured),
    Found(Found),
    Failed { reason: String },
}

#[derive(Deserialize)]
struct Found {
    kind: Option<Kind>,
    remarks: Vec<Remarked>,
    more: bool,
    broken: Vec<String>,
}

#[derive(Deserialize)]
struct Remarked {
    rule: String,
    verdict: String,
    says: String,
    says_ja: String,
    mend: String,
    mend_ja: String,
}

fn said(line: &[u8]) -> Result<Said, String> {
    serde_json::from_slice(line).map_err(|_| {
        "nonstop-screen said what cannot be: are it and nonstopd of one version?".into()
    })
}

/// Why it could not be done, if that is what was said.
pub(super) fn reason(line: &[u8]) -> Option<String> {
    match serde_json::from_slice(line).ok()? {
        Said::Failed { reason } => Some(plain(&reason)),
        Said::Measured(_) | Said::Found(_) => None,
    }
}

/// What `measure` said, if it can be true.
pub(super) fn measured(line: &[u8]) -> Result<Measured, String> {
    let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match said(line)? {
        Said::Measured(it)
            if it.sha256.len() == 64
                && hex(&it.sha256)
                && it.dense_pieces <= it.bytes / (64 << 10) + 1
                && it.encoding.as_ref().is_none_or(|e| e.len() <= 20 && e.is_ascii()) =>
        {
            Ok(it)
        }
        Said::Failed { reason } => Err(plain(&reason)),
        Said::Measured(_) | Said::Found(_) => {
            Err("nonstop-screen measure said what cannot be".into())
        }
    }
}

/// What `rules` or `run` said. `own` is what the rules begin with that it may speak for: `yara` beside
/// ours of deeper looks, or `program.` and the program's name.
pub(super) fn found(line: &[u8], own: &str) -> Result<Looked, String> {
    let found = match said(line)? {
        Said::Found(found) => found,
        Said::Failed { reason } => return Err(plain(&reason)),
        Said::Measured(_) => return Err("nonstop-screen said what cannot be".into()),
    };
    let mut looked = Looked { kind: found.kind, ..Looked::default() };
    if found.remarks.len() > MOST_REMARKS {
        return Err(format!("more than {MOST_REMARKS} findings"));
    }
    for remark in found.remarks {
        let rule: RuleId = remark.rule.parse().map_err(|_| "a finding of no rule".to_string())?;
        let deeper = [RuleId::ENCRYPTED, RuleId::APPENDED, RuleId::MALFORMED];
        let look = own == "yara" && deeper.contains(&rule.as_str());
        let name = rule.as_str().strip_prefix(own).and_then(|rest| rest.strip_prefix('.'));
        if !look && name.is_none_or(|name| name.is_empty() || name.contains('.')) {
            return Err(format!("a finding of the rule `{rule}`, which is another's"));
        }
        let verdict = remark.verdict.parse().unwrap_or(Verdict::Hold);
        let words = |en: String, ja: String| {
            let (en, ja) = (plain(&en), plain(&ja));
            let ja = if ja.is_empty() { en.clone() } else { ja };
            Words { en: if en.is_empty() { ja.clone() } else { en }, ja }
        };
        looked.remarks.push(Remark {
            rule,
            verdict,
            says: words(remark.says, remark.says_ja),
            mend: words(remark.mend, remark.mend_ja),
        });
    }
    let broken = RuleId::BROKEN.parse::<RuleId>().expect("a rule of ours");
    looked.failures = found
        .broken
        .iter()
        .take(MOST_BROKEN)
        .map(|what| Failure { rule: broken.clone(), what: plain(what) })
        .collect();
    if found.more {
        // What was left out may be what lab.yaml takes for graver than the rule itself does.
        looked.failures.push(failed(own, "it found more than could be said"));
    }
    Ok(looked)
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", tag = "preview")]
enum Shown {
    Text { encoding: String, text: String, cut: bool },
    Table { rows: Vec<Vec<String>>, cut: bool },
    Picture { width: u32, height: u32 },
    Bytes { hex: String },
}

/// What `preview` said: a line, and behind that of a picture its PNG.
pub(super) fn preview(said: &[u8]) -> Result<Preview, String> {
    let nonsense = || "nonstop-screen preview said what cannot be".to_string();
    let end = said.iter().position(|byte| *byte == b'\n').ok_or_else(nonsense)?;
    let shown = serde_json::from_slice(&said[..end]).map_err(|_| nonsense())?;
    let behind = &said[end + 1..];
    let view = match shown {
        Shown::Text { encoding, text, cut }
            if text.len() <= 64 << 10 && encoding.len() <= 20 && behind.is_empty() =>
        {
            PreviewView::Text { encoding: plain(&encoding), text, cut }
        }
        Shown::Table { rows, cut }
            if rows.len() <= 100 && rows.iter().all(|row| row.len() <= 30) && behind.is_empty() =>
        {
            PreviewView::Table { rows, cut }
        }
        Shown::Bytes { hex } if hex.len() <= 1024 && behind.is_empty() => {
            PreviewView::Bytes { hex }
        }
        Shown::Picture { width, height } => {
            if !is_our_png(behind) {
                return Err(nonsense());
            }
            let view = PreviewView::Picture { width, height };
            return Ok(Preview { view, png: Some(behind.to_vec()) });
        }
        Shown::Text { .. } | Shown::Table { .. } | Shown::Bytes { .. } => return Err(nonsense()),
    };
    Ok(Preview { view, png: None })
}

/// Whether `bytes` are a PNG as our encoder writes it: its mark, a header of bounded size, data, an
/// end, and no other chunk that a browser might make something of.
fn is_our_png(bytes: &[u8]) -> bool {
    let Some(mut rest) = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n") else { return false };
    let mut first = true;
    loop {
        let Some((head, more)) = rest.split_at_checked(8) else { return false };
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some((body, more)) = more.split_at_checked(length) else { return false };
        let Some((_crc, more)) = more.split_at_checked(4) else { return false };
        match (&head[4..], first) {
            (b"IHDR", true) if length == 13 => {
                let side = |at: usize| {
                    u32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]])
                };
                if !(1..=LARGEST).contains(&side(0)) || !(1..=LARGEST).contains(&side(4)) {
                    return false;
                }
            }
            (b"IDAT", false) => {}
            (b"IEND", false) => return length == 0 && more.is_empty(),
            _ => return false,
        }
        first = false;
        rest = more;
    }
}
