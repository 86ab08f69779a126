//! DELETE and MKCOL.

use super::{Request, Talk, held::Touch};
use crate::{
    http::{Answer, Body},
    refusal::{Outcome, Refusal},
};
use nonstop_api::airlock::Place;
use std::sync::PoisonError;

impl<'a> Talk<'a> {
    /// Removes `place` with all in it.
    pub(super) fn delete(&mut self, request: &Request<'_>, place: &Place) -> Outcome<Answer<'a>> {
        self.writable(place)?;
        if !matches!(request.head.field("depth"), None | Some("infinity" | "Infinity")) {
            return Err(Refusal::bad("what is removed goes with all in it: Depth is infinity"));
        }
        if place.path.is_root() {
            return Err(Refusal::new(
                403,
                "this folder stays: remove what is in it",
                "このフォルダーは削除できません。中のものを削除してください。",
            ));
        }
        let turn = self.site.turn(place.environment);
        let _turn = turn.write().unwrap_or_else(PoisonError::into_inner);
        let there = self.asker.look(place)?.ok_or_else(Refusal::not_found)?;
        let tokens = self.conditions(request, place, Some(&there))?;
        self.unlocked(place, Touch::Name, &tokens)?;
        self.asker.remove(place)?;
        self.site.locks.gone(place);
        // Nothing of it is seen any more, and a sweep would come to it later.
        let _swept_later = self.site.properties.forget(place.environment, &there.id);
        Ok(Answer::empty(204))
    }

    /// Makes a folder.
    pub(super) fn mkcol(
        &mut self,
        request: &Request<'_>,
        place: &Place,
        body: &Body<'_>,
    ) -> Outcome<Answer<'a>> {
        self.writable(place)?;
        if !body.is_over() {
            return Err(Refusal::new(415, "a folder is made without a body", ""));
        }
        let turn = self.site.turn(place.environment);
        let _turn = turn.write().unwrap_or_else(PoisonError::into_inner);
        let there = self.asker.look(place)?;
        let tokens = self.conditions(request, place, there.as_ref())?;
        if there.is_some() {
            return Err(Refusal::new(
                405,
                "there is something of this name already",
                "同じ名前のものがすでにあります。",
            ));
        }
        self.unlocked(place, Touch::Name, &tokens)?;
        self.asker.make_folder(place)?;
        Ok(Answer::empty(201))
    }
}
