//! How guests ended: events turned into reasons.
//!
//! A guest that powered off stays off; one whose QEMU died is started again. libvirt tells which
//! it was in an event, which may come a little after the guest has left the listing, or never if
//! libvirtd died with it; what we destroy ourselves has no reason at all.

use super::ffi::RawEvent;
use nonstop_model::MachineId;
use nonstop_plan::EndReason;
use std::collections::{BTreeMap, BTreeSet};
use virt::sys;

/// What is known of ends that nobody was told of yet.
#[derive(Debug, Default)]
pub(super) struct Ends {
    reasons: BTreeMap<MachineId, EndReason>,
    /// Guests whose QEMU was told by somebody on the host to end, and has not yet.
    told_by_host: BTreeSet<MachineId>,
    /// Guests that powered themselves off, and whose QEMU has not ended yet: libvirt tells it to.
    powered_off: BTreeSet<MachineId>,
    /// Ends that we caused and whose event has not come yet.
    ours: BTreeMap<MachineId, u32>,
    /// Guests of the last listing that we have not stopped since.
    running: BTreeSet<MachineId>,
}

impl Ends {
    /// Takes in an event about `machine`.
    pub(super) fn happened(&mut self, machine: MachineId, event: &RawEvent) {
        match event.event {
            sys::VIR_DOMAIN_EVENT_STARTED => {
                self.reasons.remove(&machine);
                self.told_by_host.remove(&machine);
                self.powered_off.remove(&machine);
            }
            // Whoever comes first has ended it: of a guest that powered itself off, libvirt's own word
            // to its QEMU may be heard, too.
            sys::VIR_DOMAIN_EVENT_SHUTDOWN => {
                let others = match event.detail == sys::VIR_DOMAIN_EVENT_SHUTDOWN_HOST {
                    true => (&mut self.told_by_host, &self.powered_off),
                    false => (&mut self.powered_off, &self.told_by_host),
                };
                if !others.1.contains(&machine) {
                    others.0.insert(machine);
                }
            }
            sys::VIR_DOMAIN_EVENT_STOPPED => {
                self.powered_off.remove(&machine);
                let told_by_host = self.told_by_host.remove(&machine);
                if self.was_ours(machine) {
                    return;
                }
                let by_itself = event.detail == sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN;
                let reason = match by_itself && !told_by_host {
                    true => EndReason::Shutdown,
                    false => EndReason::Crashed,
                };
                self.reasons.insert(machine, reason);
            }
            _ => {}
        }
    }

    fn was_ours(&mut self, machine: MachineId) -> bool {
        let Some(left) = self.ours.get_mut(&machine) else { return false };
        *left -= 1;
        if *left == 0 {
            self.ours.remove(&machine);
        }
        true
    }

    /// We are about to destroy `machine`.
    pub(super) fn destroying(&mut self, machine: MachineId) {
        *self.ours.entry(machine).or_default() += 1;
    }

    /// There was nothing to destroy, or libvirt refused: no event will come of it.
    pub(super) fn not_destroyed(&mut self, machine: MachineId) {
        self.was_ours(machine);
    }

    /// `machine` does not run any more because we wanted so.
    pub(super) fn stopped(&mut self, machine: MachineId) {
        self.running.remove(&machine);
        self.reasons.remove(&machine);
    }

    /// Events were lost: what we caused will not be told any more.
    pub(super) fn connection_lost(&mut self) {
        self.ours.clear();
    }

    /// Guests that have left the listing since the last one and of whose end nothing is known.
    pub(super) fn unexplained(&self, now: &BTreeSet<MachineId>) -> BTreeSet<MachineId> {
        let missing = self.running.difference(now);
        let explained = |m: &MachineId| self.reasons.contains_key(m) || self.ours.contains_key(m);
        missing.filter(|m| !explained(m)).copied().collect()
    }

    /// Hands out the reasons learnt since the last call, and remembers who runs `now`. An end that was
    /// heard of after `now` was listed is handed out with the next listing, which has it.
    ///
    /// An end that nobody explained counts as a crash: a guest that powers itself off is kept by
    /// its QEMU until libvirt has seen it, so its event comes even after libvirtd was away.
    pub(super) fn take(&mut self, now: BTreeSet<MachineId>) -> BTreeMap<MachineId, EndReason> {
        for machine in self.unexplained(&now) {
            self.reasons.insert(machine, EndReason::Crashed);
        }
        let told = self.reasons.extract_if(.., |machine, _| !now.contains(machine)).collect();
        self.running = now;
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const M7: MachineId = MachineId(7);

    fn after(events: &[(u32, u32)]) -> Option<EndReason> {
        let mut ends = Ends::default();
        tell(&mut ends, events);
        ends.take(BTreeSet::new()).remove(&M7)
    }

    fn tell(ends: &mut Ends, events: &[(u32, u32)]) {
        for (event, detail) in events {
            let (event, detail) = (*event, *detail);
            let event = RawEvent { name: String::new(), uuid: Uuid::nil(), event, detail };
            ends.happened(M7, &event);
        }
    }

    use sys::{
        VIR_DOMAIN_EVENT_SHUTDOWN as SHUTDOWN, VIR_DOMAIN_EVENT_SHUTDOWN_GUEST as GUEST,
        VIR_DOMAIN_EVENT_SHUTDOWN_HOST as HOST, VIR_DOMAIN_EVENT_STARTED as STARTED,
        VIR_DOMAIN_EVENT_STOPPED as STOPPED, VIR_DOMAIN_EVENT_STOPPED_DESTROYED as DESTROYED,
        VIR_DOMAIN_EVENT_STOPPED_FAILED as FAILED, VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN as BY_ITSELF,
    };

    #[test]
    fn only_a_guest_that_powered_itself_off_counts_as_shut_down() {
        assert_eq!(after(&[(SHUTDOWN, GUEST), (STOPPED, BY_ITSELF)]), Some(EndReason::Shutdown));
        assert_eq!(after(&[(SHUTDOWN, HOST), (STOPPED, BY_ITSELF)]), Some(EndReason::Crashed));
        let both = [(SHUTDOWN, GUEST), (SHUTDOWN, HOST), (STOPPED, BY_ITSELF)];
        assert_eq!(after(&both), Some(EndReason::Shutdown), "libvirt ends its QEMU then");
        let both = [(SHUTDOWN, HOST), (SHUTDOWN, GUEST), (STOPPED, BY_ITSELF)];
        assert_eq!(after(&both), Some(EndReason::Crashed));
        assert_eq!(after(&[(STOPPED, FAILED)]), Some(EndReason::Crashed));
        assert_eq!(after(&[(STOPPED, DESTROYED)]), Some(EndReason::Crashed));
        assert_eq!(after(&[(STOPPED, FAILED), (STARTED, 0)]), None);
    }

    #[test]
    fn what_we_stop_ourselves_never_counts_as_a_crash_not_even_after_a_restart() {
        let mut ends = Ends::default();
        ends.take(BTreeSet::from([M7]));
        ends.destroying(M7);
        ends.stopped(M7);
        assert_eq!(ends.take(BTreeSet::new()), BTreeMap::new());
        // The event of the old run comes after the new one has begun, and is not the new one's.
        tell(&mut ends, &[(STARTED, 0), (STOPPED, DESTROYED)]);
        assert_eq!(ends.take(BTreeSet::from([M7])), BTreeMap::new());
        tell(&mut ends, &[(STOPPED, FAILED)]);
        assert_eq!(ends.take(BTreeSet::new()), BTreeMap::from([(M7, EndReason::Crashed)]));
    }

    #[test]
    fn a_guest_that_is_being_destroyed_needs_no_explanation() {
        let mut ends = Ends::default();
        ends.take(BTreeSet::from([M7]));
        ends.destroying(M7);
        assert_eq!(ends.take(BTreeSet::new()), BTreeMap::new());
        ends.stopped(M7);
        tell(&mut ends, &[(STOPPED, DESTROYED)]);
        assert_eq!(ends.take(BTreeSet::new()), BTreeMap::new());
    }

    #[test]
    fn an_end_that_is_heard_of_while_guests_are_listed_is_told_with_the_next_listing() {
        let mut ends = Ends::default();
        ends.take(BTreeSet::from([M7]));
        tell(&mut ends, &[(SHUTDOWN, GUEST), (STOPPED, BY_ITSELF)]);
        assert_eq!(ends.take(BTreeSet::from([M7])), BTreeMap::new(), "it ran when it was listed");
        assert_eq!(ends.take(BTreeSet::new()), BTreeMap::from([(M7, EndReason::Shutdown)]));
        assert_eq!(ends.take(BTreeSet::new()), BTreeMap::new());
    }

    #[test]
    fn a_guest_that_vanished_without_a_word_crashed() {
        let mut ends = Ends::default();
        ends.take(BTreeSet::from([M7]));
        assert_eq!(ends.unexplained(&BTreeSet::new()), BTreeSet::from([M7]));
        assert_eq!(ends.take(BTreeSet::new()), BTreeMap::from([(M7, EndReason::Crashed)]));
        assert_eq!(ends.take(BTreeSet::new()), BTreeMap::new());
    }
}
