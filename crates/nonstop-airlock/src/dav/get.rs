//! GET and HEAD: files with ranges and conditions, and folders as pages.

use super::{Below, Request, Resource, Talk, held::version};
use crate::{
    http::Answer,
    pages,
    refusal::{Outcome, Refusal},
    target::Spot,
};
use nonstop_api::airlock::EntryKind;
use nonstop_http::{Condition, Version, condition, http_date, portion, range};
use std::fs::File;
use uuid::Uuid;

impl<'a> Talk<'a> {
    /// What `spot` holds.
    pub(super) fn get(&mut self, request: &Request<'_>, spot: &Spot) -> Outcome<Answer<'a>> {
        match spot {
            Spot::Status => return self.status(request, false),
            Spot::StatusJson => return self.status(request, true),
            Spot::Verdict(name) => {
                let verdict = self.verdict(name)?;
                let version = Version { etag: verdict.etag(), modified: verdict.modified };
                let answer = match condition(request.head, Some(&version)) {
                    Condition::Failed => return Err(Refusal::precondition()),
                    Condition::Unchanged => Answer::empty(304),
                    Condition::Holds => {
                        Answer::bytes(200, "text/plain; charset=utf-8", verdict.text)
                    }
                };
                return Ok(with_version(answer, &version));
            }
            Spot::In(place) if !place.path.is_root() => {
                let there = self.asker.look(place)?.ok_or_else(Refusal::not_found)?;
                if there.what != EntryKind::Folder {
                    return self.file(request, place);
                }
            }
            Spot::In(_)
            | Spot::Top
            | Spot::Environments
            | Spot::Environment(_)
            | Spot::Verdicts => {}
        }
        let (own, below) = self.resources(spot, true)?;
        let page = pages::Folder::new(request.lang, self.site.side, spot, own, below);
        let answer = Answer::empty(200).made_of(page, &mut self.asker)?;
        Ok(pages::as_page(request.lang, answer))
    }

    fn file(
        &mut self,
        request: &Request<'_>,
        place: &nonstop_api::airlock::Place,
    ) -> Outcome<Answer<'a>> {
        let head = request.head;
        let (entry, file) = self.asker.open(place)?;
        let (Some(version), EntryKind::File { bytes, .. }) = (version(&entry), &entry.what) else {
            return Err(Refusal::not_found());
        };
        let answer = match condition(head, Some(&version)) {
            Condition::Failed => return Err(Refusal::precondition()),
            Condition::Unchanged => Answer::empty(304),
            Condition::Holds => whole_or_parts(file, *bytes, range(head, &version)),
        };
        Ok(with_version(answer, &version)
            .field("Accept-Ranges", "bytes")
            // A browser keeps it, and runs nothing of it.
            .field("Content-Disposition", "attachment"))
    }
}

fn with_version<'a>(answer: Answer<'a>, version: &Version) -> Answer<'a> {
    answer.field("ETag", version.etag.clone()).field("Last-Modified", http_date(version.modified))
}

fn whole_or_parts<'a>(file: File, length: u64, range: Option<&str>) -> Answer<'a> {
    // Nobody knew it when the file was written, so no file holds it.
    let boundary = || Uuid::new_v4().simple().to_string();
    match portion(range, length, "application/octet-stream", boundary) {
        Ok(portion) => Answer::portion(portion, file),
        Err(beyond) => {
            Answer::text(416, "the file is shorter than that").field("Content-Range", beyond)
        }
    }
}

impl Talk<'_> {
    /// The file of a verdict.
    fn verdict(&mut self, name: &nonstop_model::EntryName) -> Outcome<pages::Verdict> {
        let (exports, _) = self.asker.exports()?;
        let verdicts = pages::verdicts(&exports);
        verdicts
            .into_iter()
            .find(|verdict| verdict.name == name.as_str())
            .ok_or_else(Refusal::not_found)
    }

    /// What `spot` is, and with `all` what lies in it.
    pub(super) fn resources(&mut self, spot: &Spot, all: bool) -> Outcome<(Resource, Below)> {
        super::resource::of(self, spot, all)
    }
}
