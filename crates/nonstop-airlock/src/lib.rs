//! The airlock's two programs: WebDAV towards machines (`inside`) and towards researchers
//! (`outside`), each a user and a process of its own.
//!
//! Neither knows who a client is, which names there are, or what they hold: both ask `nonstopd`,
//! showing it the client's own connection ([`nonstop_api::airlock`]). Contents come and go by
//! descriptors that it hands over. What a side keeps itself, locks and the properties that clients
//! give to names, the other side never sees.
//!
//! ```text
//! server   accepts; a thread a connection          http    bodies, answers (heads: `nonstop_http`)
//!   guard  Host, Origin                            target  what a URL names
//!   dav    each method       asker  nonstopd       xml     read within bounds
//!          locks  properties                       pages   folders and states for browsers
//! serve    the way from root's process to one that can do nothing but this
//! ```

mod asker;
mod dav;
mod guard;
mod http;
pub mod if_header;
mod locks;
mod pages;
mod properties;
mod refusal;
mod serve;
mod server;
pub mod target;
pub mod xml;

pub use serve::{Args, serve};

/// Takes a head apart as far as that needs no client, daemon or clock: for fuzzing.
///
/// Whatever is named by it is one place, and its URL names the same again.
#[doc(hidden)]
pub fn look_at_head(bytes: &[u8]) {
    use nonstop_http::{asked, condition, parse};
    use target::{Side, Spot, Target, href};
    let Ok(Some((head, used))) = parse(bytes, &http::LIMITS) else { return };
    assert!(used <= bytes.len());
    if http::Framing::of(&head).is_err() {
        return;
    }
    let own = Some(nonstop_model::EnvironmentId(7));
    for side in [Side::Inside, Side::Outside] {
        let _judged = guard::admit(side, std::net::Ipv4Addr::LOCALHOST, &head);
        for text in [Some(head.target.as_str()), head.field("destination")].into_iter().flatten() {
            let Ok(target) = Target::parse(side, own, text, &guard::host(&head)) else { continue };
            if let Spot::In(place) = &target.spot {
                let again = Target::parse(side, own, &href(side, place, target.slash), "");
                assert_eq!(again.map(|found| found.spot), Ok(target.spot.clone()));
            }
        }
    }
    if let Some(lists) = head.list("if").and_then(|text| if_header::If::parse(&text)) {
        assert!(!lists.0.is_empty());
    }
    let _judged = condition(&head, None);
    let _asked = head.only("range").map(|range| asked(range, 1000));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_head_can_be_so_odd_as_to_name_two_things(
            target in "(/(import|export|dav|e7|%[0-9a-f]{2}|[a-z.#?%あ/]{0,4})){0,6}",
            field in "[<(\\[a-z:\"NOTnot \\])>]{0,40}",
        ) {
            let head = format!(
                "MOVE {target} HTTP/1.1\r\nHost: h\r\nIf: {field}\r\nRange: bytes={field}\r\n\
                 Destination: {target}\r\n\r\n"
            );
            look_at_head(head.as_bytes());
        }

        #[test]
        fn what_is_kept_of_xml_means_the_same(text in "(<[ab:/! ]{0,5}( x(mlns)?(:b)?=['\"][^<]{0,6}['\"])?/?>|&[a-z#0-9]{1,4};|[^<&]){0,12}") {
            if let Ok(element) = xml::read(text.as_bytes()) {
                let mut written = String::new();
                element.write(&mut written);
                prop_assert_eq!(xml::read(written.as_bytes()), Ok(element), "{}", written);
            }
        }
    }
}
