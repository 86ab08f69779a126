//! What a URL names, as folders list it and PROPFIND tells of it.

use super::Talk;
use crate::{
    asker::{Asked, Asker},
    pages,
    refusal::{Outcome, Refusal},
    target::{Side, Spot, escape, href},
};
use jiff::Timestamp;
use nonstop_api::airlock::{Entry, EntryKind, Place};
use nonstop_model::{EntryName, EntryPath, EnvironmentId, Root};
use std::vec::IntoIter;

/// One name with what is told of it.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    /// Its path in URLs, with its escapes.
    pub(crate) href: String,
    /// Its name.
    pub(crate) name: String,
    /// How many bytes it has and their entity tag; None for a folder.
    pub(crate) file: Option<(u64, String)>,
    /// Its type, where it is a file.
    pub(crate) kind: &'static str,
    /// When it was made.
    pub(crate) created: Timestamp,
    /// When it was changed last.
    pub(crate) modified: Timestamp,
    /// Its place and id, where it is an entry of an environment.
    pub(crate) entry: Option<(Place, String)>,
}

impl Resource {
    /// One that the program makes up.
    fn folder(href: impl Into<String>, name: impl Into<String>, at: Timestamp) -> Resource {
        Resource {
            href: href.into(),
            name: name.into(),
            file: None,
            kind: "",
            created: at,
            modified: at,
            entry: None,
        }
    }

    fn of_entry(side: Side, place: Place, entry: Entry) -> Resource {
        let folder = entry.what == EntryKind::Folder;
        let name = match &entry.name {
            Some(name) => name.to_string(),
            None => place.root.to_string(),
        };
        Resource {
            href: href(side, &place, folder),
            name,
            file: match entry.what {
                EntryKind::Folder => None,
                EntryKind::File { bytes, tag } => Some((bytes, format!("\"{tag}\""))),
            },
            kind: "application/octet-stream",
            created: entry.created_at,
            modified: entry.modified_at,
            entry: Some((place, entry.id)),
        }
    }

    fn of_verdict(verdict: &pages::Verdict) -> Resource {
        Resource {
            href: format!("/verdicts/{}", escape(&verdict.name)),
            name: verdict.name.clone(),
            file: Some((verdict.text.len() as u64, verdict.etag())),
            kind: "text/plain; charset=utf-8",
            created: verdict.created,
            modified: verdict.modified,
            entry: None,
        }
    }
}

/// What lies in something, by name. Folders can be long and clients slow, so that some of it is here
/// at a time, and the rest is asked for when it is needed.
#[derive(Debug)]
pub(crate) enum Below {
    /// What the program makes up.
    Made(IntoIter<Resource>),
    /// What lies in a folder of an environment.
    Folder(Folder),
}

/// How far a folder was told.
#[derive(Debug)]
pub(crate) struct Folder {
    side: Side,
    place: Place,
    entries: IntoIter<Entry>,
    /// The last name that was told.
    after: Option<EntryName>,
    /// Whether there is nothing behind `entries`.
    last: bool,
    left: usize,
}

/// Names that are told of one folder at most: of one that changes all the time there may be always
/// one more.
const MOST_TOLD: usize = 100_000;

impl Below {
    fn nothing() -> Below {
        Below::Made(vec![].into_iter())
    }

    fn made(all: Vec<Resource>) -> Below {
        Below::Made(all.into_iter())
    }

    fn folder(asker: &mut Asker<'_>, side: Side, place: Place) -> Asked<Below> {
        let (entries, last) = asker.page(&place, None)?;
        let (entries, left) = (entries.into_iter(), MOST_TOLD);
        Ok(Below::Folder(Folder { side, place, entries, after: None, last, left }))
    }

    /// The next one, if there is one.
    pub(crate) fn next(&mut self, asker: &mut Asker<'_>) -> Asked<Option<Resource>> {
        match self {
            Below::Made(all) => Ok(all.next()),
            Below::Folder(folder) => folder.next(asker),
        }
    }
}

impl Folder {
    fn next(&mut self, asker: &mut Asker<'_>) -> Asked<Option<Resource>> {
        loop {
            let Some(entry) = self.entries.next() else {
                if self.last || self.left == 0 {
                    return Ok(None);
                }
                // What was before goes first.
                self.entries = vec![].into_iter();
                let (entries, last) = asker.page(&self.place, self.after.clone())?;
                (self.entries, self.last) = (entries.into_iter(), last);
                continue;
            };
            self.left = self.left.saturating_sub(1);
            self.after.clone_from(&entry.name);
            let path = entry.name.as_ref().and_then(|name| self.place.path.join(name).ok());
            if let Some(path) = path {
                let place = Place { path, ..self.place.clone() };
                return Ok(Some(Resource::of_entry(self.side, place, entry)));
            }
        }
    }
}

/// What `spot` is and, with `all`, what lies in it.
pub(super) fn of(talk: &mut Talk<'_>, spot: &Spot, all: bool) -> Outcome<(Resource, Below)> {
    let side = talk.site.side;
    match spot {
        Spot::Top => top(talk, all),
        Spot::Environments => {
            let environments = talk.asker.environments(true)?;
            let newest = environments.iter().map(|found| found.since).max();
            let own = Resource::folder("/dav/", "dav", newest.unwrap_or(Timestamp::UNIX_EPOCH));
            let each = environments.iter().filter(|_| all).map(|found| {
                let name = found.id.to_string();
                Resource::folder(format!("/dav/{name}/"), name, found.since)
            });
            Ok((own, Below::made(each.collect())))
        }
        Spot::Environment(id) => {
            let environments = talk.asker.environments(true)?;
            let found = environments.iter().find(|found| found.id == *id);
            let found = found.ok_or_else(Refusal::not_found)?;
            let name = id.to_string();
            let own = Resource::folder(format!("/dav/{name}/"), name, found.since);
            let roots = if all { roots(talk, *id, &[Root::Import, Root::Export])? } else { vec![] };
            Ok((own, Below::made(roots)))
        }
        Spot::In(place) => {
            let entry = talk.asker.look(place)?.ok_or_else(Refusal::not_found)?;
            let folder = entry.what == EntryKind::Folder;
            let own = Resource::of_entry(side, place.clone(), entry);
            let below = match all && folder {
                true => Below::folder(&mut talk.asker, side, place.clone())?,
                false => Below::nothing(),
            };
            Ok((own, below))
        }
        Spot::Verdicts => {
            let (exports, _) = talk.asker.exports()?;
            let verdicts = pages::verdicts(&exports);
            let newest = verdicts.iter().map(|verdict| verdict.modified).max();
            let at = newest.unwrap_or(Timestamp::UNIX_EPOCH);
            let own = Resource::folder("/verdicts/", "verdicts", at);
            let each = verdicts.iter().filter(|_| all).map(Resource::of_verdict);
            Ok((own, Below::made(each.collect())))
        }
        Spot::Verdict(name) => {
            let (exports, _) = talk.asker.exports()?;
            let verdicts = pages::verdicts(&exports);
            let found = verdicts.iter().find(|verdict| verdict.name == name.as_str());
            Ok((Resource::of_verdict(found.ok_or_else(Refusal::not_found)?), Below::nothing()))
        }
        // Pages, which no folder lists.
        Spot::Status | Spot::StatusJson => Err(Refusal::not_found()),
    }
}

fn top(talk: &mut Talk<'_>, all: bool) -> Outcome<(Resource, Below)> {
    let mut own = Resource::folder("/", "", Timestamp::UNIX_EPOCH);
    if !all {
        return Ok((own, Below::nothing()));
    }
    let environments = talk.asker.environments(true)?;
    let newest = environments.iter().map(|found| found.since).max();
    own.modified = newest.unwrap_or(Timestamp::UNIX_EPOCH);
    own.created = own.modified;
    let below = match talk.site.side {
        Side::Outside => vec![Resource::folder("/dav/", "dav", own.modified)],
        Side::Inside => match environments.first() {
            None => vec![],
            Some(found) => {
                let all = [Root::Import, Root::Export, Root::Capture];
                let mut below = roots(talk, found.id, &all)?;
                below.push(of(talk, &Spot::Verdicts, false)?.0);
                below
            }
        },
    };
    Ok((own, Below::made(below)))
}

fn roots(talk: &mut Talk<'_>, id: EnvironmentId, roots: &[Root]) -> Outcome<Vec<Resource>> {
    let mut found = Vec::new();
    for root in roots {
        let place = Place { environment: id, root: *root, path: EntryPath::ROOT };
        if let Some(entry) = talk.asker.look(&place)? {
            found.push(Resource::of_entry(talk.site.side, place, entry));
        }
    }
    Ok(found)
}
