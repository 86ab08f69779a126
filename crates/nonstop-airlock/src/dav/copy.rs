//! COPY and MOVE.

use super::{Request, Talk, held::Touch, multi};
use crate::{
    guard,
    http::Answer,
    refusal::{Outcome, Refusal},
    target::{Spot, Target, href},
};
use nonstop_api::airlock::{Entry, EntryKind, Place};
use nonstop_model::EntryName;
use std::{
    io::{Read, Write},
    sync::PoisonError,
};
use uuid::Uuid;

/// Names that could not be copied are told, so many of them.
const TOLD: usize = 100;

/// What is to be copied or moved, where, and whether it replaces what is there.
struct Job {
    from: Place,
    source: Entry,
    to: Place,
    there: Option<Entry>,
    deep: bool,
}

impl Job {
    /// Whether it takes more than one step to replace what is there, so that a copy that is refused
    /// half way would have cost that.
    fn goes_aside(&self) -> bool {
        let same_tree = same_tree(&self.from, &self.to);
        match (&self.there, &self.source.what) {
            (None, _) => false,
            (Some(_), EntryKind::Folder) => self.deep || !same_tree,
            (Some(there), EntryKind::File { .. }) => !same_tree && there.what == EntryKind::Folder,
        }
    }

    /// A name beside the target's, which is no export, with a part of the target's to know it by.
    fn aside(&self) -> Outcome<Place> {
        let (parent, name) = self.to.path.split().ok_or_else(Refusal::read_only)?;
        let known = &name.as_str()[..name.as_str().floor_char_boundary(200)];
        let name = format!("{known}.copy-{}.tmp", Uuid::new_v4().simple());
        let path = name.parse().and_then(|name: EntryName| parent.join(&name));
        let path = path.map_err(|_| Refusal::bad("the path would become too long"))?;
        Ok(Place { path, ..self.to.clone() })
    }
}

fn same_tree(a: &Place, b: &Place) -> bool {
    (a.environment, a.root) == (b.environment, b.root)
}

impl<'a> Talk<'a> {
    /// Does what a COPY or (`moves`) a MOVE of `from` asks for.
    pub(super) fn copy_or_move(
        &mut self,
        request: &Request<'_>,
        from: &Place,
        moves: bool,
    ) -> Outcome<Answer<'a>> {
        let to = self.destination(request)?;
        self.writable(&to)?;
        if moves {
            self.writable(from)?;
            if from.environment != to.environment {
                return Err(Refusal::new(
                    403,
                    "from one environment to another it can be copied, not moved",
                    "環境をまたぐ場合は、移動ではなくコピーしてください。",
                ));
            }
        }
        let turn = self.site.turn(to.environment);
        let _turn = turn.write().unwrap_or_else(PoisonError::into_inner);
        let (job, tokens) = self.job(request, from, to, moves)?;
        let (existed, path) = (job.there.is_some(), href(self.site.side, &job.to, false));
        let answer = |existed| match existed {
            true => Answer::empty(204),
            false => Answer::empty(201).field("Location", path),
        };
        if moves {
            self.unlocked(from, Touch::Name, &tokens)?;
            self.asker.rename(from, &job.to.path, existed)?;
            // Locks do not go along.
            self.site.locks.gone(from);
            self.forget_below(&job);
            return Ok(answer(existed));
        }
        let failed = self.copied(&job)?;
        if failed.is_empty() {
            return Ok(answer(existed));
        }
        Ok(multi::failures(request.lang, &failed))
    }

    /// Where it is to go.
    fn destination(&mut self, request: &Request<'_>) -> Outcome<Place> {
        let field = request.head.field("destination");
        let field = field.ok_or_else(|| Refusal::bad("name a Destination"))?;
        let host = guard::host(request.head);
        match Target::parse(self.site.side, self.environment, field, &host)?.spot {
            Spot::In(place) if !place.path.is_root() => Ok(place),
            _ => Err(Refusal::read_only()),
        }
    }

    /// The job that is asked for, if nothing is in its way; and the tokens that came with it.
    fn job(
        &mut self,
        request: &Request<'_>,
        from: &Place,
        to: Place,
        moves: bool,
    ) -> Outcome<(Job, Vec<String>)> {
        let head = request.head;
        let deep = match head.field("depth") {
            None => true,
            Some(depth) if depth.eq_ignore_ascii_case("infinity") => true,
            Some("0") if !moves => false,
            Some(_) => return Err(Refusal::bad("Depth is 0 or infinity, for MOVE infinity")),
        };
        let replace = match head.field("overwrite") {
            None => true,
            Some(word) if word.eq_ignore_ascii_case("t") => true,
            Some(word) if word.eq_ignore_ascii_case("f") => false,
            Some(_) => return Err(Refusal::bad("Overwrite is T or F")),
        };
        let source = self.asker.look(from)?.ok_or_else(Refusal::not_found)?;
        let same_tree = same_tree(from, &to);
        if from.path.is_root() && (moves || same_tree) {
            return Err(Refusal::new(
                403,
                "this folder stays where it is: take what is in it",
                "このフォルダーは移動できません。中のものを選んでください。",
            ));
        }
        // Onto itself, into itself, or over what it lies in.
        if same_tree
            && (from.path == to.path
                || from.path.is_within(&to.path)
                || (source.what == EntryKind::Folder && to.path.is_within(&from.path)))
        {
            return Err(Refusal::new(
                403,
                "it cannot go into itself, or in the place of what it lies in",
                "自分自身の中や、自分を含むフォルダーの位置には置けません。",
            ));
        }
        let tokens = self.conditions(request, from, Some(&source))?;
        let there = self.asker.look(&to)?;
        if there.is_some() && !replace {
            return Err(Refusal::from(nonstop_api::airlock::Denial {
                kind: nonstop_api::airlock::DenialKind::Exists,
                message: "there is something of this name already".into(),
            }));
        }
        let (parent, _) = to.path.split().ok_or_else(Refusal::read_only)?;
        let parent = self.asker.look(&Place { path: parent, ..to.clone() })?;
        if parent.is_none_or(|parent| parent.what != EntryKind::Folder) {
            return Err(Refusal::new(
                409,
                "there is no folder for it: make that first",
                "先にフォルダーを作成してください。",
            ));
        }
        self.unlocked(&to, Touch::Name, &tokens)?;
        Ok((Job { from: from.clone(), source, to, there, deep }, tokens))
    }

    /// What was below a name that was replaced has no locks any more.
    fn forget_below(&self, job: &Job) {
        for lock in self.site.locks.below(&job.to) {
            self.site.locks.release(&lock.place, &lock.token);
        }
        if let Some(there) = &job.there {
            let _swept_later = self.site.properties.forget(job.to.environment, &there.id);
        }
    }

    /// Copies; gives what could not be. What was there is there until the whole copy takes its place.
    fn copied(&mut self, job: &Job) -> Outcome<Vec<(String, Refusal)>> {
        let failed = match job.goes_aside() {
            false => self.copied_to(job, &job.to)?,
            true => {
                let aside = job.aside()?;
                if let Err(refusal) = self.replaced_by_way_of(job, &aside) {
                    // It may not have come to be; a daemon that is gone leaves a temporary file.
                    let _not_there = self.asker.remove(&aside);
                    return Err(refusal);
                }
                Vec::new()
            }
        };
        self.forget_below(job);
        Ok(failed)
    }

    /// Copies all to `aside` first, and then lets that take the target's place in one step.
    fn replaced_by_way_of(&mut self, job: &Job, aside: &Place) -> Outcome<()> {
        match self.copied_to(job, aside)?.into_iter().next() {
            Some((_, refusal)) => Err(refusal),
            None => {
                self.asker.rename(aside, &job.to.path, true)?;
                Ok(())
            }
        }
    }

    /// Copies to `base`; gives what could not be.
    fn copied_to(&mut self, job: &Job, base: &Place) -> Outcome<Vec<(String, Refusal)>> {
        let replace = *base == job.to && job.there.is_some();
        self.copy_one(&job.from, &job.source, base, replace)?;
        let (mut failed, mut open) = (Vec::new(), Vec::new());
        if job.deep && job.source.what == EntryKind::Folder {
            open.push((job.from.clone(), base.clone()));
        }
        while let Some((from, to)) = open.pop() {
            let entries = match self.asker.list(&from) {
                Ok(entries) => entries,
                Err(denied) => {
                    failed.push((href(self.site.side, &from, true), denied.into()));
                    continue;
                }
            };
            for entry in entries {
                let Some(name) = &entry.name else { continue };
                let (Ok(below), Ok(path)) = (from.path.join(name), to.path.join(name)) else {
                    let path = format!("{}{name}", href(self.site.side, &to, true));
                    failed.push((path, Refusal::bad("the path would become too long")));
                    continue;
                };
                let below = Place { path: below, ..from.clone() };
                let onto = Place { path, ..to.clone() };
                match self.copy_one(&below, &entry, &onto, false) {
                    Ok(()) if entry.what == EntryKind::Folder => open.push((below, onto)),
                    Ok(()) => {}
                    Err(refusal) => failed.push((href(self.site.side, &onto, false), refusal)),
                }
                if failed.len() >= TOLD {
                    return Ok(failed);
                }
            }
        }
        Ok(failed)
    }

    /// Copies a file, or makes a folder like it, in one step: refused, it leaves what was there. A
    /// folder of another tree replaces nothing.
    fn copy_one(&mut self, from: &Place, source: &Entry, to: &Place, replace: bool) -> Outcome<()> {
        let same_tree = same_tree(from, to);
        let copy = match (&source.what, same_tree) {
            (_, true) => self.asker.copy(from, &to.path, replace)?,
            (EntryKind::Folder, false) => self.asker.make_folder(to)?,
            // What is committed takes the place of a file that is there.
            (EntryKind::File { .. }, false) => self.copy_content(from, to)?,
        };
        if same_tree {
            let properties = &self.site.properties;
            if let Err(e) = properties.copy(from.environment, &source.id, &copy.id)
                && !e.is_full()
            {
                eprintln!("copy properties: {e}");
            }
        }
        Ok(())
    }

    /// Reads a file of another tree and writes it here.
    fn copy_content(&mut self, from: &Place, to: &Place) -> Outcome<Entry> {
        let (entry, mut source) = self.asker.open(from)?;
        let bytes = match entry.what {
            EntryKind::File { bytes, .. } => Some(bytes),
            EntryKind::Folder => None,
        };
        let writing = self.asker.create(to, bytes)?;
        let (mut file, mut buffer) = (writing.file, vec![0; 256 << 10]);
        let done = loop {
            match source.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(got) => {
                    if let Err(e) = file.write_all(&buffer[..got]) {
                        break Err(e);
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
        };
        drop(file);
        match done {
            Ok(()) => Ok(self.asker.commit(writing.ticket)?),
            Err(e) => {
                self.asker.abandon(writing.ticket);
                Err(super::put::full(&e))
            }
        }
    }
}
