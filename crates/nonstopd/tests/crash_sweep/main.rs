//! Every scenario with a power cut before and after each effect on the host: afterwards nothing
//! is lost and nothing is left over, and the scenario ends as it would have without the cut.
//!
//! Both kinds of cut are swept: of the host (guests, bridges and rules are gone) and of the
//! daemon alone (they are still there). Database and reconciler are the real ones.

mod discs;
mod lab;
mod snapshots;

use lab::*;
use nonstop_host::Host;
use nonstop_model::{
    AccountName, AccountState, MachineId, MachineRole, Password, Power, SegmentKind, SegmentName,
};
use nonstop_plan::Step;
use nonstopd::Clock;

#[test]
fn an_environment_arrives() {
    insta::assert_snapshot!(crash_sweep(ready));
}

#[test]
fn two_environments_arrive_beside_each_other() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        lab.account("alice");
        lab.account("bob");
        lab.grant("alice", 1000);
        lab.grant("bob", 1000);
        lab.settle();
    }));
}

#[test]
fn an_ended_environment_keeps_its_disks_for_the_grace_time_and_is_then_gone() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        lab.later(1001);
        lab.settle();
        assert_eq!(lab.host.disks().len(), 2, "grace keeps the disks");
        lab.later(101);
        lab.settle();
        assert!(lab.host.disks().is_empty());
    }));
}

#[test]
fn a_session_that_loses_its_card_or_address_ends_and_others_of_the_person_go_on() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        lab.account("bob");
        lab.settle();
        let ids = [("alice", 11), ("alice", 12), ("alice", 13), ("bob", 14)].map(|(who, pid)| {
            let (uid, source) = (if who == "alice" { 70_001 } else { 70_002 }, "192.0.2.7");
            lab.host.logs_in(uid, pid);
            lab.session(who, if pid == 12 { "a card of before" } else { who }, source, pid)
        });
        lab.settle();
        assert!(lab.leaders().iter().eq(&[11, 13, 14]) || lab.host_was_cut(), "{ids:?}");
        lab.want(|w| w.end_session(ids[0], "ended by sato"));
        lab.settle();
        assert!(lab.leaders().iter().eq(&[13, 14]) || lab.host_was_cut());
        lab.settle();
        let why: Vec<_> = ids.iter().map(|id| lab.ended(*id)).collect();
        if !lab.host_was_cut() {
            assert_eq!(why, ["ended by sato", "its card is not valid any more", "", ""]);
        }
        // No session outlives a power cut of the host: what is left must end alike.
        lab.want(|w| w.end_session(ids[2], "ended by sato"));
        lab.want(|w| w.end_session(ids[3], "ended by sato"));
        lab.settle();
    }));
}

#[test]
fn a_guest_that_shuts_down_stays_off_and_can_be_switched_on() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        lab.host.guest_powers_off(M1);
        lab.settle();
        lab.want(|w| w.set_power(E1, MachineRole::Debugger, Power::On, w.now()));
        lab.settle();
        lab.want(|w| w.set_power(E1, MachineRole::Debuggee, Power::Off, w.now()));
        lab.settle();
    }));
}

#[test]
fn a_guest_whose_qemu_dies_comes_back_with_what_it_had_written() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        let disks = lab.host.disks();
        lab.host.qemu_dies(M1);
        lab.settle();
        assert_eq!(lab.host.disks(), disks);
    }));
}

#[test]
fn a_reverted_machine_starts_clean_and_its_pair_is_not_touched() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        let other = lab.host.disks()[&(MachineId(2), 1)];
        lab.want(|w| w.revert(E1, MachineRole::Debugger, &Password("q".into())));
        lab.settle();
        assert_eq!(lab.host.disks()[&(MachineId(2), 1)], other);
    }));
}

#[test]
fn a_debuggee_put_back_to_clean_never_touches_its_debugger() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        let debugger = lab.host.disks()[&(M1, 1)];
        lab.want(|w| w.revert(E1, MachineRole::Debuggee, &Password("q".into())));
        let queues = lab.reconciler_plan().environments;
        let touched = |step: &Step| format!("{step} ").contains("m1 ");
        assert!(!queues.values().flatten().any(touched), "{queues:?}");
        lab.settle();
        assert_eq!(lab.host.disks()[&(M1, 1)], debugger);
    }));
}

#[test]
fn a_suspended_account_is_cut_and_its_machines_go_on() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        lab.host.logs_in(70_001, 11);
        let alice: AccountName = "alice".parse().expect("a name");
        lab.want(|w| w.set_account_state(&alice, AccountState::Suspended, "lost card"));
        lab.settle();
    }));
}

#[test]
fn a_bridge_deleted_and_rules_flushed_by_hand_are_put_right() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        lab.host.bridge_vanishes(&SegmentName::of(E1));
        lab.settle();
        lab.host.bridge_vanishes(&SegmentName::of_kind(SegmentKind::Link, E1));
        lab.settle();
        lab.host.rules_are_flushed();
        lab.settle();
    }));
}

#[test]
fn limits_of_bandwidth_hold_before_anybody_gets_in_and_are_put_right() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        lab.account("alice");
        lab.account("bob");
        let set = |lab: &TestLab, name: &str, bandwidth: &str| {
            let (name, bandwidth) = (name.parse().expect("a name"), bandwidth.parse());
            let bandwidth = bandwidth.expect("a bandwidth");
            lab.want(|w| w.set_bandwidth(&name, bandwidth, "a test"));
        };
        set(lab, "alice", "10000");
        lab.settle();
        assert_eq!(lab.host.limits(), [(70_001, 10_000)].into());
        set(lab, "bob", "500");
        lab.settle();
        lab.host.limits_are_flushed();
        lab.settle();
        assert_eq!(lab.host.limits(), [(70_001, 10_000), (70_002, 500)].into());
        set(lab, "alice", "none");
        set(lab, "bob", "default");
        lab.settle();
        assert!(lab.host.limits().is_empty());
    }));
}

fn bob_is_ready(lab: &mut TestLab) {
    lab.account("bob");
    lab.grant("bob", 1000);
    lab.settle();
}

#[test]
fn a_display_outlives_its_guest_and_ends_with_the_period() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        bob_is_ready(lab);
        lab.host.qemu_dies(M1);
        lab.settle();
        lab.want(|w| w.set_power(E1, MachineRole::Debugger, Power::Off, w.now()));
        lab.settle();
        lab.want(|w| w.set_power(E1, MachineRole::Debugger, Power::On, w.now()));
        lab.settle();
        lab.later(1001);
        lab.settle();
    }));
}

#[test]
fn nobody_looks_at_the_display_of_a_suspended_account() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        bob_is_ready(lab);
        let bob: AccountName = "bob".parse().expect("a name");
        lab.want(|w| w.set_account_state(&bob, AccountState::Suspended, "lost card"));
        lab.settle();
    }));
}

#[test]
fn a_reset_is_done_and_forgotten() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        lab.want(|w| w.ask_reset(E1, MachineRole::Debugger));
        lab.settle();
    }));
}

#[test]
fn a_restored_old_backup_quarantines_what_it_does_not_know() {
    let mut lab = TestLab::new(None);
    ready(&mut lab);
    // The backup is of before the grant.
    let old = TestLab::new(None);
    old.account("alice");
    let reconciler = daemon(&old.lab, &old.db, &lab.host, &lab.clock);
    for _ in 0..10 {
        reconciler.pass(&mut |id, queue| reconciler.run_queue(id, &queue)).expect("a pass");
    }
    let seen = lab.host.observe().expect("light");
    assert!(seen.machines.is_empty() && seen.segments.is_empty() && seen.disks.is_empty());
    assert_eq!(lab.host.quarantined(), [(M1, 1), (MachineId(2), 1)]);
}

#[test]
fn a_machine_wanted_again_before_its_guest_has_shut_down_comes_back() {
    insta::assert_snapshot!(crash_sweep(|lab| {
        ready(lab);
        let force = lab.clock.now().checked_add(std::time::Duration::from_secs(30));
        let force = force.expect("small");
        lab.want(|w| w.set_power(E1, MachineRole::Debugger, Power::Off, force));
        // The guest goes, and before anybody looks it is wanted again.
        lab.host.guest_powers_off(M1);
        lab.want(|w| w.set_power(E1, MachineRole::Debugger, Power::On, w.now()));
        lab.settle();
        lab.host.guest_powers_off(M1);
        lab.settle();
    }));
}
