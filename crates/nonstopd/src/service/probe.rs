//! Probing the isolation: beginning one, and how it went.

use super::{
    Service,
    reach::{LINE, LINES, as_file},
};
use crate::{
    caller::Caller,
    canaries::{ProbeError, Probed},
    prover::cut,
    status::chain,
};
use nonstop_api::{ApiError, ErrorCode, ProbeView, ProbedView, Problem, Reply};
use std::os::fd::OwnedFd;

impl Service {
    pub(super) fn reach_probe(&self, caller: &Caller) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        self.canaries.begin(&caller.actor()).map_err(|e| {
            let code = match &e {
                ProbeError::Busy => ErrorCode::Conflict,
                _ => ErrorCode::Internal,
            };
            ApiError::new(code, chain(&e)).help(e.help())
        })?;
        Ok(Reply::Probe(self.probe_view()))
    }

    /// How far it is; with the whole report of the last one, if it came to one.
    pub(super) fn reach_probed(
        &self,
        caller: &Caller,
    ) -> Result<(Reply, Option<OwnedFd>), ApiError> {
        caller.must_be_staff()?;
        let last = self.canaries.last();
        let file = match last.as_ref().map(|last| &last.outcome) {
            Some(Ok(report)) => Some(as_file(report).map_err(|e| {
                ApiError::new(ErrorCode::Internal, format!("hand over the report: {e}"))
            })?),
            Some(Err(_)) | None => None,
        };
        Ok((Reply::Probe(self.probe_view()), file))
    }

    fn probe_view(&self) -> ProbeView {
        let running = self.canaries.running();
        ProbeView {
            since: running.as_ref().map(|running| running.since),
            how_far: running.map(|running| running.how_far).unwrap_or_default(),
            last: self.canaries.last().map(|last| view(&last)),
        }
    }
}

fn view(probed: &Probed) -> ProbedView {
    let mut view = ProbedView {
        at: probed.at,
        by: probed.by.clone(),
        problem: None,
        holds: false,
        canaries: 0,
        tried: 0,
        allowed: 0,
        denied: 0,
        controlled: 0,
        differences: Vec::new(),
        not_shown: Vec::new(),
        left_out: 0,
    };
    match &probed.outcome {
        Err(e) => {
            view.problem = Some(Problem { message: chain(e), help: e.help().into() });
        }
        Ok(report) => {
            let lines =
                |all: &[String]| all.iter().take(LINES).map(|line| cut(line, LINE)).collect();
            let beyond = |all: &[String]| all.len().saturating_sub(LINES) as u64;
            view.holds = report.holds;
            view.canaries = report.canaries.len() as u64;
            view.tried = report.tried as u64;
            view.allowed = report.allowed as u64;
            view.denied = report.denied as u64;
            view.controlled = report.controlled as u64;
            view.differences = lines(&report.differences);
            view.not_shown = lines(&report.not_shown);
            view.left_out = beyond(&report.differences) + beyond(&report.not_shown);
        }
    }
    view
}
