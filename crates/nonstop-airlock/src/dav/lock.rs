//! LOCK and UNLOCK.

use super::{Request, Talk, held::Touch};
use crate::{
    http::{Answer, Body},
    locks::{LONGEST, Lock, Refused, USUAL, Wanted},
    refusal::{Outcome, Refusal},
    target::{Side, href},
    xml::{self, Node, escaped},
};
use nonstop_api::airlock::{EntryKind, Place};
use std::{fmt::Write as _, sync::PoisonError, time::Duration};

/// Bytes of XML that a lock's owner may have.
const OWNER: usize = 2048;

/// The content of `supportedlock`.
pub(super) const SUPPORTED: &str = "<D:lockentry><D:lockscope><D:exclusive/></D:lockscope>\
    <D:locktype><D:write/></D:locktype></D:lockentry><D:lockentry><D:lockscope><D:shared/>\
    </D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>";

/// A lock as `lockdiscovery` tells of it.
pub(super) fn active(side: Side, lock: &Lock) -> String {
    let mut out = String::from("<D:activelock><D:locktype><D:write/></D:locktype>");
    let scope = if lock.exclusive { "exclusive" } else { "shared" };
    let depth = if lock.deep { "infinity" } else { "0" };
    let _ = write!(
        out,
        "<D:lockscope><D:{scope}/></D:lockscope><D:depth>{depth}</D:depth>{}\
         <D:timeout>Second-{}</D:timeout><D:locktoken><D:href>{}</D:href></D:locktoken>\
         <D:lockroot><D:href>{}</D:href></D:lockroot></D:activelock>",
        lock.owner,
        lock.left().as_secs(),
        lock.token,
        escaped(&href(side, &lock.place, false))
    );
    out
}

impl<'a> Talk<'a> {
    /// Takes a lock, or takes it anew; makes an empty file where nothing is.
    pub(super) fn lock(
        &mut self,
        request: &Request<'_>,
        place: &Place,
        body: &mut Body<'_>,
    ) -> Outcome<Answer<'a>> {
        self.writable(place)?;
        let timeout = timeout(request.head.list("timeout").as_deref());
        let body = body.whole(xml::LONGEST)?;
        let turn = self.site.turn(place.environment);
        let _turn = turn.write().unwrap_or_else(PoisonError::into_inner);
        let there = self.asker.look(place)?;
        let tokens = self.conditions(request, place, there.as_ref())?;
        if body.is_empty() {
            there.ok_or_else(Refusal::not_found)?;
            let lock = self.site.locks.refresh(place, &tokens, timeout);
            let lock = lock.ok_or_else(|| {
                Refusal::precondition().because("lock-token-matches-request-uri", None)
            })?;
            return Ok(self.told(200, &lock));
        }
        let mut wanted = wanted(&body, place, timeout)?;
        wanted.deep = match request.head.field("depth") {
            Some("0") => false,
            None => true,
            Some(depth) if depth.eq_ignore_ascii_case("infinity") => true,
            Some(_) => return Err(Refusal::bad("Depth is 0 or infinity")),
        };
        // A file has nothing in it.
        wanted.deep &= there.as_ref().is_some_and(|found| found.what == EntryKind::Folder);
        if there.is_none() {
            self.unlocked(place, Touch::Name, &tokens)?;
        }
        let lock = self.site.locks.take(wanted).map_err(|refused| match refused {
            Refused::Conflict(at) => {
                let mut refusal = Refusal::locked(String::new());
                refusal =
                    refusal.because("no-conflicting-lock", Some(href(self.site.side, &at, false)));
                refusal
            }
            Refused::TooMany => Refusal::new(
                503,
                "there are too many locks: close some files, or wait ten minutes",
                "ロックが多すぎます。ファイルをいくつか閉じるか、10 分ほどお待ちください。",
            ),
        })?;
        if there.is_none()
            && let Err(denied) = self.empty_file(place)
        {
            self.site.locks.release(place, &lock.token);
            return Err(denied);
        }
        let answer = self.told(if there.is_none() { 201 } else { 200 }, &lock);
        Ok(answer.field("Lock-Token", format!("<{}>", lock.token)))
    }

    fn empty_file(&mut self, place: &Place) -> Outcome<()> {
        let writing = self.asker.create(place, Some(0))?;
        drop(writing.file);
        self.asker.commit(writing.ticket)?;
        Ok(())
    }

    fn told(&self, status: u16, lock: &Lock) -> Answer<'a> {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:prop xmlns:D=\"DAV:\">\
             <D:lockdiscovery>{}</D:lockdiscovery></D:prop>\n",
            active(self.site.side, lock)
        );
        Answer::bytes(status, "application/xml; charset=utf-8", text)
    }

    /// Gives a lock back.
    pub(super) fn unlock(&mut self, request: &Request<'_>, place: &Place) -> Outcome<Answer<'a>> {
        self.writable(place)?;
        let field = request.head.field("lock-token");
        let token = field.and_then(|field| field.strip_prefix('<')?.strip_suffix('>'));
        let token = token.ok_or_else(|| Refusal::bad("name the Lock-Token"))?;
        // That the name is the client's own to unlock is the daemon's word.
        self.asker.look(place)?.ok_or_else(Refusal::not_found)?;
        if self.site.locks.release(place, token) {
            return Ok(Answer::empty(204));
        }
        Err(Refusal::new(
            409,
            "there is no such lock here any more",
            "このロックはもうありません。",
        )
        .because("lock-token-matches-request-uri", None))
    }
}

/// What `Timeout` asks for, as far as it can be had.
fn timeout(field: Option<&str>) -> Duration {
    let Some(field) = field else { return USUAL };
    let known = field.split(',').map(str::trim).find_map(|word| {
        if word.eq_ignore_ascii_case("infinite") {
            return Some(LONGEST);
        }
        let seconds = word.get(..7).filter(|head| head.eq_ignore_ascii_case("second-"));
        let digits = seconds.and(word.get(7..))?;
        let number = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.is_empty();
        number.then(|| Duration::from_secs(digits.parse().unwrap_or(u64::MAX)).min(LONGEST))
    });
    known.unwrap_or(USUAL).max(Duration::from_secs(1))
}

/// The lock that a body asks for.
fn wanted(body: &[u8], place: &Place, timeout: Duration) -> Outcome<Wanted> {
    let root = xml::read(body)?;
    let scope = root.dav("lockscope").filter(|_| root.name.is_dav("lockinfo"));
    let exclusive = match scope.map(|scope| (scope.dav("exclusive"), scope.dav("shared"))) {
        Some((Some(_), None)) => true,
        Some((None, Some(_))) => false,
        _ => return Err(Refusal::bad("the XML is no lockinfo")),
    };
    if root.dav("locktype").and_then(|kind| kind.dav("write")).is_none() {
        return Err(Refusal::bad("there are locks for writing here, and no others"));
    }
    let mut owner = String::new();
    if let Some(found) = root.dav("owner") {
        owner.push_str("<D:owner>");
        for node in &found.nodes {
            match node {
                Node::Text(text) => owner.push_str(&escaped(text)),
                Node::Element(element) => element.write(&mut owner),
            }
        }
        owner.push_str("</D:owner>");
    }
    if owner.len() > OWNER {
        return Err(Refusal::new(413, "the lock's owner is too long", ""));
    }
    Ok(Wanted { place: place.clone(), deep: false, exclusive, owner, timeout })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_lasts_as_long_as_is_asked_for_and_no_longer_than_it_may() {
        let seconds = |field| timeout(field).as_secs();
        assert_eq!(seconds(None), 600);
        assert_eq!(seconds(Some("Second-180")), 180);
        assert_eq!(seconds(Some("Infinite, Second-4100000000")), 3600);
        assert_eq!(seconds(Some("second-99999999999999999999")), 3600);
        assert_eq!(seconds(Some("Second-0")), 1);
        assert_eq!(seconds(Some("soon")), 600);
    }
}
