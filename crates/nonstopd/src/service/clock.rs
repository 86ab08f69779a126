//! The lab's clock: what it says, and believing the wall clock again.

use super::{Service, refusal};
use crate::{Standing, caller::Caller};
use nonstop_api::{ApiError, CheckItem, ClockView, ErrorCode, Reply};
use serde_json::json;

impl Service {
    pub(super) fn clock_show(&self, caller: &Caller) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        Ok(Reply::Clock(clock_view(&self.clock.standing())))
    }

    pub(super) fn clock_confirm(&self, caller: &Caller) -> Result<Reply, ApiError> {
        caller.must_be_admin()?;
        let standing = self.clock.standing();
        if standing.held.is_none() {
            let message = "the wall clock is believed already: there is nothing to confirm";
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        let detail = json!({ "ahead_seconds": standing.ahead().as_secs(), "wall": standing.wall });
        let now = standing.trusted;
        self.db
            .write(&caller.actor(), now, |w| w.trace("clock.confirm", &"clock", detail))
            .map_err(refusal)?;
        self.clock.confirm();
        self.wake.wake();
        Ok(Reply::Clock(clock_view(&self.clock.standing())))
    }

    /// For staff, while the wall clock is not believed.
    pub(super) fn clock_held(&self, caller: &Caller) -> Option<ClockView> {
        let standing = caller.is_staff().then(|| self.clock.standing())?;
        standing.held.is_some().then(|| clock_view(&standing))
    }

    pub(super) fn check_clock(&self) -> CheckItem {
        let standing = self.clock.standing();
        let found = match standing.held {
            None => "the wall clock is believed".to_string(),
            Some((why, _)) => format!(
                "the wall clock is not believed ({}): it says {}, and what ends by time goes by {}",
                why.as_str(),
                standing.wall,
                standing.trusted
            ),
        };
        CheckItem {
            what: "clock".into(),
            good: standing.held.is_none(),
            found,
            help:
                "set the host's clock right; if it is right, run `nonstop clock confirm`: periods, \
                   cards and grace times then go by it"
                    .into(),
        }
    }
}

fn clock_view(standing: &Standing) -> ClockView {
    ClockView {
        trusted: standing.trusted,
        wall: standing.wall,
        ahead_seconds: standing.ahead().as_secs(),
        held: standing.held.map(|(why, _)| why.as_str().into()),
        held_since: standing.held.map(|(_, since)| since),
    }
}
