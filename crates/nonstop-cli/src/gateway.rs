//! The gateway's host keys, and whom it refused before SSH, as text for people.

use crate::{
    table::Table,
    words::{time, word},
};
use nonstop_api::{HostKeysView, RefusedSourceView};

/// Host keys, with what to do while there are two.
pub(crate) fn host_keys(keys: &HostKeysView, width: Option<usize>) -> String {
    let mut table = Table::new(["HOST KEY", "FINGERPRINT", "SINCE"]);
    table.row(["current".into(), keys.current.fingerprint.clone(), String::new()]);
    let Some(next) = &keys.next else { return table.text(width) };
    table.row(["next".into(), next.fingerprint.clone(), time(next.since)]);
    format!(
        "{}\nOpenSSH clients learn the next one as they log in; others are told its fingerprint by \
         the portal.\nOnce everybody knows it: `nonstop lab host-key finish`.",
        table.text(width)
    )
}

/// Sources that the kernel refused.
pub(crate) fn refused(all: &[RefusedSourceView], width: Option<usize>) -> String {
    let mut table = Table::new(["SOURCE", "WHY", "PACKETS", "LAST", "REGISTERED FOR"]);
    for one in all {
        let accounts: Vec<&str> = one.accounts.iter().map(|name| name.as_str()).collect();
        table.row([
            one.source.to_string(),
            word(&one.why),
            one.packets.to_string(),
            time(one.last_at),
            if accounts.is_empty() { "-".into() } else { accounts.join(", ") },
        ]);
    }
    table.text(width)
}

#[cfg(test)]
mod tests {
    use crate::render::render;
    use nonstop_api::Reply;
    use serde_json::json;

    #[test]
    fn a_change_of_the_host_key_and_refused_sources_read_well() {
        let shown = |reply: &str, value: serde_json::Value| {
            let reply: Reply =
                serde_json::from_value(json!({ "reply": reply, "value": value })).expect("a reply");
            render(&reply, Some(100))
        };
        let current = json!({ "key": "ssh-ed25519 AAAA", "fingerprint": "SHA256:abc" });
        let next = json!({ "key": "ssh-ed25519 BBBB", "fingerprint": "SHA256:def",
                           "since": "2030-01-01T00:00:00Z" });
        let all = [
            shown("host_keys", json!({ "current": current, "next": null })),
            shown("host_keys", json!({ "current": current, "next": next })),
            shown(
                "sources_refused",
                json!([
                    { "source": "192.0.2.9", "why": "not_registered", "packets": 12,
                      "last_at": "2030-01-01T00:00:00Z", "accounts": [] },
                    { "source": "198.51.100.7", "why": "too_many", "packets": 900,
                      "last_at": "2030-01-01T00:00:00Z", "accounts": ["alice", "bob"] },
                ]),
            ),
        ];
        insta::assert_snapshot!(all.join("\n\n"));
    }
}
