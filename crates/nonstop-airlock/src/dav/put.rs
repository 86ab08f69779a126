//! PUT: a file comes, whole or not at all.

use super::{
    Request, Talk,
    held::{Touch, version},
};
use crate::{
    http::{Answer, Body},
    refusal::{Outcome, Refusal},
};
use nonstop_api::airlock::{Entry, EntryKind, Place};
use nonstop_http::Head;
use std::{fs::File, io::Write, sync::PoisonError};

/// Bytes that are taken at once.
const BUFFER: usize = 256 << 10;

impl<'a> Talk<'a> {
    /// Writes the body to `place`.
    ///
    /// The file is there, whole, when this is answered with 201 or 204, also after a power cut;
    /// otherwise whatever was there before is.
    pub(super) fn put(
        &mut self,
        request: &Request<'_>,
        place: &Place,
        body: &mut Body<'_>,
    ) -> Outcome<Answer<'a>> {
        let head = request.head;
        self.writable(place)?;
        if head.field("content-range").is_some() {
            return Err(Refusal::bad("a file is written whole here, not in ranges"));
        }
        self.may_write(request, place)?;
        let expected = expected(head, body)?;
        // What can be known to be in the way is said here, before the client sends its body.
        let writing = self.asker.create(place, expected)?;
        if let Err(refusal) = take(body, writing.file, writing.bytes, expected) {
            self.asker.abandon(writing.ticket);
            return Err(refusal);
        }
        let conditional = head.field("if-match").is_some() || head.field("if-none-match").is_some();
        let turn = self.site.turn(place.environment);
        let (_reads, _writes);
        if conditional {
            _writes = turn.write().unwrap_or_else(PoisonError::into_inner);
        } else {
            _reads = turn.read().unwrap_or_else(PoisonError::into_inner);
        }
        // While it came, somebody else may have been here.
        let there = match self.may_write(request, place) {
            Ok(there) => there,
            Err(refusal) => {
                self.asker.abandon(writing.ticket);
                return Err(refusal);
            }
        };
        let entry = self.asker.commit(writing.ticket)?;
        let answer = Answer::empty(if there.is_some() { 204 } else { 201 });
        Ok(match version(&entry) {
            Some(version) => answer.field("ETag", version.etag),
            None => answer,
        })
    }

    /// What is at `place`, if a file may be written there by the request.
    fn may_write(&mut self, request: &Request<'_>, place: &Place) -> Outcome<Option<Entry>> {
        let there = self.asker.look(place)?;
        if matches!(&there, Some(entry) if entry.what == EntryKind::Folder) || place.path.is_root()
        {
            return Err(Refusal::new(
                405,
                "there is a folder of this name",
                "同じ名前のフォルダーがあります。",
            ));
        }
        let tokens = self.conditions(request, place, there.as_ref())?;
        let touch = if there.is_some() { Touch::Within } else { Touch::Name };
        self.unlocked(place, touch, &tokens)?;
        Ok(there)
    }
}

/// How long the file is going to be, where the client says so.
fn expected(head: &Head, body: &Body<'_>) -> Outcome<Option<u64>> {
    if let Some(known) = body.known() {
        return Ok(Some(known));
    }
    // What Finder says of a body in chunks.
    let said = head.field("x-expected-entity-length").map(str::parse).transpose();
    said.map_err(|_| Refusal::bad("X-Expected-Entity-Length is no number"))
}

/// Writes the whole body to `file`, and closes that.
fn take(body: &mut Body<'_>, mut file: File, most: u64, expected: Option<u64>) -> Outcome<()> {
    let mut buffer =
        vec![
            0;
            BUFFER.min(usize::try_from(expected.unwrap_or(u64::MAX)).unwrap_or(BUFFER)).max(4096)
        ];
    let mut came: u64 = 0;
    loop {
        let got = body.next(&mut buffer)?;
        if got == 0 {
            break;
        }
        came += got as u64;
        if came > most {
            return Err(Refusal::new(
                507,
                "it is longer than what fits here: remove what is no longer needed, or ask the \
                 lab's staff for more",
                "割り当て容量を超えます。不要なファイルを削除するか、担当者に相談してください。",
            ));
        }
        file.write_all(&buffer[..got]).map_err(|e| full(&e))?;
    }
    if expected.is_some_and(|expected| expected != came) {
        return Err(Refusal::new(
            400,
            "the upload is not as long as it was said to be, and nothing of it is kept: try again",
            "アップロードの長さが一致しません。何も保存されていません。もう一度お試しください。",
        ));
    }
    Ok(())
}

pub(super) fn full(error: &std::io::Error) -> Refusal {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Refusal::new(
            507,
            "the lab's disk is full: tell the lab's staff, and try again later",
            "ラボのディスクに空きがありません。担当者に連絡し、後でもう一度お試しください。",
        ),
        _ => {
            eprintln!("write an upload: {error}");
            Refusal::new(
                500,
                "the lab could not write the file: tell the lab's staff",
                "ファイルを書き込めませんでした。担当者に連絡してください。",
            )
        }
    }
}
