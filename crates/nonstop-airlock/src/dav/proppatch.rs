//! PROPPATCH: properties that clients give to names.

use super::{Request, Talk, held::Touch, multi, propfind::is_live};
use crate::{
    http::{Answer, Body},
    properties::Change,
    refusal::{Outcome, Refusal},
    target::href,
    xml::{self, Element, Name, escaped},
};
use nonstop_api::airlock::{EntryKind, Place};
use std::{fmt::Write as _, sync::PoisonError};

/// Properties that one request may change.
const CHANGES: usize = 128;

impl<'a> Talk<'a> {
    /// Does all that the body asks for, or nothing.
    pub(super) fn proppatch(
        &mut self,
        request: &Request<'_>,
        place: &Place,
        body: &mut Body<'_>,
    ) -> Outcome<Answer<'a>> {
        self.writable(place)?;
        let changes = changes(&body.whole(xml::LONGEST)?)?;
        let turn = self.site.turn(place.environment);
        let _turn = turn.read().unwrap_or_else(PoisonError::into_inner);
        let there = self.asker.look(place)?.ok_or_else(Refusal::not_found)?;
        let tokens = self.conditions(request, place, Some(&there))?;
        self.unlocked(place, Touch::Within, &tokens)?;
        let refused = changes.iter().any(|(name, _)| is_live(name));
        let kept = match refused {
            true => Ok(()),
            false => self.site.properties.change(place.environment, &there.id, &changes),
        };
        let status = |name: &Name| match (&kept, refused) {
            (_, true) if is_live(name) => 403,
            (_, true) => 424,
            (Ok(()), _) => 200,
            (Err(e), _) if e.is_full() => 507,
            (Err(_), _) => 500,
        };
        if let Err(e) = &kept
            && !e.is_full()
        {
            eprintln!("properties: {e:?}");
        }
        let folder = there.what == EntryKind::Folder;
        let path = href(self.site.side, place, folder);
        let mut out = String::from(multi::BEGIN);
        let _ = write!(out, "<D:response><D:href>{}</D:href>", escaped(&path));
        for wanted in [200, 403, 424, 500, 507] {
            let mut named: Vec<&Name> = changes
                .iter()
                .map(|(name, _)| name)
                .filter(|name| status(name) == wanted)
                .collect();
            named.sort();
            named.dedup();
            if named.is_empty() {
                continue;
            }
            out.push_str("<D:propstat><D:prop>");
            named.iter().for_each(|name| xml::empty(&mut out, name));
            out.push_str("</D:prop>");
            multi::status(&mut out, wanted);
            if wanted == 403 {
                out.push_str("<D:error><D:cannot-modify-protected-property/></D:error>");
            }
            out.push_str("</D:propstat>");
        }
        out.push_str("</D:response>\n");
        out.push_str(multi::END);
        Ok(Answer::bytes(207, multi::KIND, out))
    }
}

/// The changes that a body asks for, in their order.
fn changes(body: &[u8]) -> Outcome<Vec<Change>> {
    let root = xml::read(body)?;
    if !root.name.is_dav("propertyupdate") {
        return Err(Refusal::bad("the XML is no propertyupdate"));
    }
    let mut changes: Vec<Change> = Vec::new();
    for step in root.elements() {
        let sets = step.name.is_dav("set");
        if !sets && !step.name.is_dav("remove") {
            continue;
        }
        let properties = step.elements().filter(|found| found.name.is_dav("prop"));
        for (prop, property) in properties.flat_map(|p| p.elements().map(move |e| (p, e))) {
            if changes.len() == CHANGES {
                return Err(Refusal::new(413, "too many properties at once", ""));
            }
            let language = prop.language().or(step.language()).or(root.language());
            changes.push((property.name.clone(), sets.then(|| written(property, language))));
        }
    }
    match changes.is_empty() {
        true => Err(Refusal::bad("the XML changes no property")),
        false => Ok(changes),
    }
}

fn written(property: &Element, language: Option<&str>) -> String {
    let mut property = property.clone();
    property.in_language(language);
    let mut out = String::new();
    property.write(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_keep_their_order_their_language_and_their_content() {
        let body = br#"<D:propertyupdate xmlns:D="DAV:" xmlns:x="urn:x" xml:lang="ja">
            <D:remove><D:prop><x:a/></D:prop></D:remove>
            <D:set><D:prop><x:b>1<x:c/></x:b></D:prop></D:set></D:propertyupdate>"#;
        let found = changes(body).expect("well-formed");
        assert_eq!(found[0].1, None);
        assert_eq!(
            found[1].1.as_deref(),
            Some("<b xmlns=\"urn:x\" xml:lang=\"ja\">1<c xmlns=\"urn:x\"/></b>")
        );
        assert!(changes(b"<D:propertyupdate xmlns:D='DAV:'/>").is_err());
        assert!(changes(b"<propertyupdate/>").is_err());
    }
}
