//! Recordings of displays: begun, ended and seen by staff, each with a reason.

use super::{Service, desktops::console_machine, one_line, refusal};
use crate::{caller::Caller, displays, status::chain};
use nonstop_api::{ApiError, ErrorCode, RecordingView, Reply};
use nonstop_model::{EnvironmentId, MachineRole};
use nonstop_store::Recording;
use std::os::fd::OwnedFd;

/// The most bytes of one recording. A desktop that is worked at takes about 10 MiB an hour.
const MAX_BYTES: u64 = 256 << 20;

impl Service {
    pub(super) fn recording_list(&self, caller: &Caller) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let recordings = self.db.read(|read| read.recordings(true)).map_err(refusal)?;
        Ok(Reply::Recordings(recordings.into_iter().map(|r| self.recording_view(r)).collect()))
    }

    pub(super) fn recording_begin(
        &self,
        caller: &Caller,
        id: EnvironmentId,
        role: MachineRole,
        reason: &str,
    ) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let environment = self.granted(caller, id)?;
        let machine = console_machine(&environment, role)?;
        let reason = one_line("reason", reason, 500)?;
        self.commit(caller, |w| w.begin_recording(machine, &reason, MAX_BYTES))?;
        Ok(Reply::Done)
    }

    pub(super) fn recording_end(&self, caller: &Caller, id: u64) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let bytes = self.recorded_bytes(id);
        let note = format!("ended by {}", caller.actor());
        self.commit(caller, |w| w.end_recording(id, bytes, &note))?;
        Ok(Reply::Done)
    }

    pub(super) fn recording_play(
        &self,
        caller: &Caller,
        id: u64,
        reason: &str,
    ) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let reason = one_line("reason", reason, 500)?;
        self.commit(caller, |w| w.play_recording(id, &reason))?;
        Ok(Reply::Done)
    }

    /// The recording `id`, if `caller` has said why it is seen.
    /// The recording `id`, as `recording_stream` says, and what it plays from.
    pub(super) fn recording_played(
        &self,
        caller: &Caller,
        id: u64,
    ) -> Result<(Reply, OwnedFd), ApiError> {
        let reply = self.recording_stream(caller, id)?;
        let stream = self.host.play_recording(id).map_err(|e| {
            tracing::error!("{}", chain(&e));
            ApiError::new(ErrorCode::Internal, chain(&e)).help(e.help)
        })?;
        Ok((reply, stream))
    }

    pub(super) fn recording_stream(&self, caller: &Caller, id: u64) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let (actor, now) = (caller.actor(), self.now());
        let (recording, may) = self
            .db
            .read(|read| Ok((read.recording(id)?, read.may_play(id, &actor, now)?)))
            .map_err(refusal)?;
        if !may {
            let message = format!("you have not said why you want to see recording {id}");
            return Err(ApiError::new(ErrorCode::Forbidden, message)
                .help("give a reason first; it holds for an hour"));
        }
        Ok(Reply::Recording(self.recording_view(recording)))
    }

    fn recorded_bytes(&self, id: u64) -> u64 {
        displays::recorded_bytes(&self.lab.recordings(), id)
    }

    fn recording_view(&self, recording: Recording) -> RecordingView {
        let there = self.recorded_bytes(recording.id);
        let (bytes, missing_bytes) = match recording.ended_at {
            Some(_) => (recording.bytes, recording.bytes.saturating_sub(there)),
            None => (there, 0),
        };
        RecordingView {
            id: recording.id,
            environment: recording.environment,
            owner: recording.owner,
            machine: recording.machine,
            role: recording.role,
            wanted_by: recording.wanted_by,
            reason: recording.reason,
            bytes,
            missing_bytes,
            max_bytes: recording.max_bytes,
            begun_at: recording.begun_at,
            ended_at: recording.ended_at,
            note: recording.note,
        }
    }
}
