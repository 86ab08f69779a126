//! What every request must pass, whatever it asks for.
//!
//! The address that a connection comes in on *is* the person, so a foreign page must not be able to
//! use it through the person's own browser:
//! - `Host` must be a name that somebody calls this server by on purpose; a name of somebody else's
//!   that was made to point here (DNS rebinding) is refused.
//! - Whatever a browser says comes from another site is refused, but for following a link.
//! - No answer lets another site read it: there are no CORS headers, and `Cross-Origin-Resource-Policy`
//!   is `same-origin`.

use crate::{
    refusal::{Outcome, Refusal},
    target::Side,
};
use nonstop_http::Head;
use std::net::Ipv4Addr;

/// Admits a request that came to `own`, or says why not.
pub(crate) fn admit(side: Side, own: Ipv4Addr, head: &Head) -> Outcome<()> {
    if !is_ours(side, own, &host(head)) {
        return Err(Refusal::new(
            421,
            "this is not the name of this server: use localhost, 127.0.0.1 or, in a machine, airlock",
            "サーバー名が違います。localhost または 127.0.0.1（マシン内では airlock）を使ってください。",
        ));
    }
    let lower = |name| head.field(name).map(str::to_ascii_lowercase);
    let origin = lower("origin").is_none_or(|origin| origin == format!("http://{}", host(head)));
    let fetched = match lower("sec-fetch-site").as_deref() {
        None | Some("none" | "same-origin") => true,
        // Following a link shows a page, and gives whoever set the link nothing of it.
        Some(_) => {
            ["GET", "HEAD"].contains(&head.method.as_str())
                && lower("sec-fetch-mode").as_deref() == Some("navigate")
                && lower("sec-fetch-dest").as_deref() == Some("document")
        }
    };
    if origin && fetched {
        return Ok(());
    }
    Err(Refusal::new(
        403,
        "a page of another site asked for this: open it from your own programs",
        "別のサイトのページからの要求は受け付けません。",
    ))
}

/// `Host` in lower case.
pub(crate) fn host(head: &Head) -> String {
    head.field("host").unwrap_or_default().to_ascii_lowercase()
}

fn is_ours(side: Side, own: Ipv4Addr, host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok_and(|_| !port.starts_with('+')) => name,
        _ => host,
    };
    let number = name.parse::<Ipv4Addr>().is_ok_and(|named| named == own);
    match side {
        Side::Outside => number || matches!(name, "localhost" | "127.0.0.1" | "[::1]"),
        Side::Inside => number || matches!(name, "airlock" | "airlock."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 1);

    fn admitted(side: Side, method: &str, fields: &[(&str, &str)]) -> Result<(), u16> {
        let fields = fields.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let head = Head { method: method.into(), fields: fields.collect(), ..Head::default() };
        admit(side, OWN, &head).map_err(|refusal| refusal.status)
    }

    #[test]
    fn only_names_that_people_use_are_ours() {
        for good in ["localhost:8000", "LOCALHOST", "127.0.0.1:1", "[::1]:80", "127.64.0.1:8081"] {
            assert_eq!(admitted(Side::Outside, "GET", &[("host", good)]), Ok(()), "{good}");
        }
        for bad in ["", "evil.example", "localhost.evil.example:80", "127.64.0.2", "localhost:x"] {
            assert_eq!(admitted(Side::Outside, "GET", &[("host", bad)]), Err(421), "{bad}");
        }
        assert_eq!(admitted(Side::Inside, "GET", &[("host", "airlock:8443")]), Ok(()));
        assert_eq!(admitted(Side::Inside, "GET", &[("host", "localhost")]), Err(421));
        assert_eq!(admitted(Side::Outside, "GET", &[("host", "airlock")]), Err(421));
    }

    #[test]
    fn other_sites_set_links_and_nothing_else() {
        let host = ("host", "localhost:8081");
        let with = |method: &str, more: &[(&str, &str)]| {
            admitted(Side::Outside, method, &[&[host][..], more].concat())
        };
        assert_eq!(with("PUT", &[]), Ok(()), "a client that is no browser");
        assert_eq!(with("PUT", &[("origin", "http://localhost:8081")]), Ok(()));
        let link = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert_eq!(with("GET", &link), Ok(()));
        assert_eq!(with("POST", &link), Err(403));
        for bad in [
            &[("origin", "null")][..],
            &[("origin", "http://localhost:8080")],
            &[("origin", "http://evil.example")],
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
            &[("sec-fetch-site", "same-site")],
            &[link[0], link[1], ("sec-fetch-dest", "iframe")],
        ] {
            assert_eq!(with("GET", bad), Err(403), "{bad:?}");
        }
    }
}
