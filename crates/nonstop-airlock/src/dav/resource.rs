//! What a URL names, as folders list it and PROPFIND tells of it.

use super::Talk;
use crate::{
    pages,
    refusal::{Outcome, Refusal},
    target::{Side, Spot, escape, href},
};
use jiff::Timestamp;
use nonstop_api::airlock::{Entry, EntryKind, Place};
use nonstop_model::{EntryPath, EnvironmentId, Root};

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

/// What `spot` is and, with `all`, what lies in it.
pub(super) fn of(
    talk: &mut Talk<'_>,
    spot: &Spot,
    all: bool,
) -> Outcome<(Resource, Vec<Resource>)> {
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
            Ok((own, each.collect()))
        }
        Spot::Environment(id) => {
            let environments = talk.asker.environments(true)?;
            let found = environments.iter().find(|found| found.id == *id);
            let found = found.ok_or_else(Refusal::not_found)?;
            let name = id.to_string();
            let own = Resource::folder(format!("/dav/{name}/"), name, found.since);
            let roots = if all { roots(talk, *id, &[Root::Import, Root::Export])? } else { vec![] };
            Ok((own, roots))
        }
        Spot::In(place) => {
            let entry = talk.asker.look(place)?.ok_or_else(Refusal::not_found)?;
            let folder = entry.what == EntryKind::Folder;
            let own = Resource::of_entry(side, place.clone(), entry);
            let entries = if all && folder { talk.asker.list(place)? } else { vec![] };
            let below = entries.into_iter().filter_map(|entry| {
                let path = place.path.join(entry.name.as_ref()?).ok()?;
                Some(Resource::of_entry(side, Place { path, ..place.clone() }, entry))
            });
            Ok((own, below.collect()))
        }
        Spot::Verdicts => {
            let exports = talk.asker.exports()?;
            let verdicts = pages::verdicts(&exports);
            let newest = verdicts.iter().map(|verdict| verdict.modified).max();
            let at = newest.unwrap_or(Timestamp::UNIX_EPOCH);
            let own = Resource::folder("/verdicts/", "verdicts", at);
            let each = verdicts.iter().filter(|_| all).map(Resource::of_verdict);
            Ok((own, each.collect()))
        }
        Spot::Verdict(name) => {
            let exports = talk.asker.exports()?;
            let verdicts = pages::verdicts(&exports);
            let found = verdicts.iter().find(|verdict| verdict.name == name.as_str());
            Ok((Resource::of_verdict(found.ok_or_else(Refusal::not_found)?), vec![]))
        }
        // Pages, which no folder lists.
        Spot::Status | Spot::StatusJson => Err(Refusal::not_found()),
    }
}

fn top(talk: &mut Talk<'_>, all: bool) -> Outcome<(Resource, Vec<Resource>)> {
    let mut own = Resource::folder("/", "", Timestamp::UNIX_EPOCH);
    if !all {
        return Ok((own, vec![]));
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
    Ok((own, below))
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
