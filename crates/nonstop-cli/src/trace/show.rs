//! Heads, findings and receipts as a person reads them.

use crate::table::{Table, plain};
use jiff::Timestamp;
use nonstop_api::HeadView;
use nonstop_trace::{Decided, Fault, Receipt, Report};

/// A table of heads.
pub(crate) fn heads(all: &[HeadView], width: Option<usize>) -> String {
    let mut table =
        Table::new(["ROW", "SIGNED", "HASH", "PLACES THAT HAVE IT", "PLACES THAT LACK IT"]);
    for head in all {
        let some = |places: &[String]| match places {
            [] => "-".to_string(),
            places => places.join(", "),
        };
        table.row([
            head.seq.to_string(),
            head.at.to_string(),
            head.hash.chars().take(16).collect(),
            some(&head.sent),
            some(&head.unsent),
        ]);
    }
    table.text(width)
}

/// What verifying found, in sentences.
pub(super) fn report(report: &Report) -> String {
    let mut lines = Vec::new();
    let (rows, head) = (report.rows, report.head);
    match report.broken_at {
        None => lines.push(format!(
            "{rows} rows, each hash follows from the one before; the last is {head}"
        )),
        Some(row) => lines.push(format!(
            "BROKEN: row {row} does not follow from the rows before it; the {rows} before do"
        )),
    }
    if let Some(differs) = &report.differs {
        let (after, at, signed, found) = (differs.after, differs.at, differs.signed, differs.found);
        lines.push(match (after, at) {
            (after, at) if after + 1 == at => {
                format!("REWRITTEN: row {at} is not the row that was signed")
            }
            (0, at) => format!(
                "REWRITTEN: one of the rows 1 to {at} is not what it was when row {at} was signed"
            ),
            (after, at) => format!(
                "REWRITTEN: row {after} is as it was signed, and one of the rows {} to {at} is not",
                after + 1
            ),
        });
        lines.push(format!(
            "  row {at} was signed with the hash {signed} ({}); now it has {found}",
            differs.source
        ));
    }
    if let Some(cut) = &report.truncated {
        lines.push(format!(
            "TRUNCATED: the trace ends at row {}, and row {} was signed ({})",
            cut.rows, cut.signed, cut.source
        ));
        lines.push("  (or this copy is older than that: take one that was made later)".into());
    }
    if let Some(row) = report.own_differs {
        lines.push(format!("NOT SIGNED: row {row} is not what the lab's own head of it says"));
    }
    for row in &report.contradicting {
        lines.push(format!(
            "CONTRADICTED: two hashes were signed for row {row}: the lab has shown two histories, or went on from an older backup"
        ));
    }
    for (source, why) in &report.refused {
        lines.push(format!("NOT COUNTED: {source}: {why}"));
    }
    let kept = format!("{} heads and {} receipts", report.heads, report.receipts);
    lines.push(match &report.agreed {
        Some(agreed) => format!("held against {kept}: up to row {} it is what was signed ({})", agreed.seq, agreed.source),
        None if report.heads + report.receipts == 0 => {
            "held against nothing that was kept elsewhere: root of the lab's host could have rewritten \
             all of it (name `--heads` and `--receipt`)".into()
        }
        None => format!("held against {kept}: none vouches for any of it"),
    });
    lines.iter().map(|line| plain(line)).collect::<Vec<_>>().join("\n")
}

/// What was found of bytes.
pub(super) fn fault(fault: &Fault) -> String {
    plain(&match fault {
        Fault::Missing { sha256, export, seq } => format!(
            "MISSING: the bytes of {export} ({sha256}, row {seq}) are not there, and no row says that they were deleted"
        ),
        Fault::Other { file, found } => {
            format!("OTHER BYTES: {} has the hash {found}", file.display())
        }
        Fault::Unknown { file } => {
            format!("UNKNOWN: no row of the trace speaks of {}", file.display())
        }
        Fault::Unreadable { file, why } => format!("NOT READ: {}: {why}", file.display()),
    })
}

/// A receipt.
pub(super) fn receipt(receipt: &Receipt) -> String {
    let released = receipt.released();
    let decided = match released.decided {
        Decided::Policy => "the lab's policy, after its screening",
        Decided::Staff => "a member of staff",
        Decided::Admin => "an admin",
    };
    let by = released.decided_by.as_ref().map_or(String::new(), |name| format!(" ({name})"));
    let time = |at: Timestamp| at.to_string();
    let head = receipt.head();
    let mut lines = vec![
        ("lab", format!("{} ({})", released.lab, head.lab())),
        ("export", released.export.to_string()),
        ("SHA-256", released.sha256.to_string()),
        ("bytes", released.bytes.to_string()),
        ("type", released.content_type.clone()),
        ("template", released.template.clone()),
        ("submitted", time(released.submitted_at)),
        ("released", time(released.released_at)),
        ("verdict", released.verdict.clone()),
        ("decided by", format!("{decided}{by}")),
        ("rules", released.rules.to_string()),
        ("row", format!("{} of the trace, {}", head.seq(), head.hash())),
        ("signed", format!("{} by {}", head.at(), head.authority().fingerprint())),
    ];
    lines.extend(released.account.iter().map(|name| ("account", name.clone())));
    lines.extend(released.name.iter().map(|name| ("name", name.clone())));
    let line = |(what, says): (&str, String)| format!("{what:<11} {}", plain(&says));
    lines.into_iter().map(line).collect::<Vec<_>>().join("\n")
}
