//! Displays: who looked and what went through, and letting another person look.

use super::{Service, one_line, refusal};
use crate::{caller::Caller, desired::desktop};
use jiff::Timestamp;
use nonstop_api::{ApiError, DesktopSessionView, DesktopView, ErrorCode, Reply, ViewGrantView};
use nonstop_model::{
    AccountName, AccountState, Environment, EnvironmentId, MachineId, MachineRole, RdpPolicy,
    network::{RDP_PORT, display_address},
};
use nonstop_plan::{Observed, ViewerKind};
use nonstop_store::{DesktopSession, LookerKind, ViewGrant};
use std::time::Duration;

/// How long a session that used up its budget is shown to staff after its end.
const TOLD: Duration = Duration::from_secs(24 * 3600);

impl Service {
    pub(super) fn desktop_sessions(
        &self,
        caller: &Caller,
        environment: Option<EnvironmentId>,
        all: bool,
        over_budget: bool,
    ) -> Result<Reply, ApiError> {
        let since = self.now().checked_sub(TOLD).unwrap_or(Timestamp::MIN);
        let mut sessions = self
            .db
            .read(|read| match over_budget {
                true => read.desktops_over_budget(since),
                false => read.desktop_sessions(environment, all),
            })
            .map_err(refusal)?;
        sessions.retain(|s| environment.is_none_or(|wanted| s.environment == wanted));
        if !caller.is_staff() {
            let own = caller.account().map(|account| &account.name);
            sessions.retain(|s| own == Some(&s.owner) || own == Some(&s.account));
        }
        Ok(Reply::DesktopSessions(sessions.into_iter().map(session_view).collect()))
    }

    pub(super) fn view_list(&self, caller: &Caller) -> Result<Reply, ApiError> {
        let now = self.now();
        let mut views = self.db.read(|read| read.view_grants(None, now)).map_err(refusal)?;
        if !caller.is_staff() {
            let own = caller.account().map(|account| &account.name);
            views.retain(|v| own == Some(&v.owner) || own == Some(&v.account));
        }
        let observed = self.status.observed();
        let views = views.into_iter().map(|grant| view(grant, &observed));
        Ok(Reply::Views(views.collect()))
    }

    pub(super) fn view_open(
        &self,
        caller: &Caller,
        id: EnvironmentId,
        role: MachineRole,
        account: &AccountName,
        reason: &str,
        until: Timestamp,
    ) -> Result<Reply, ApiError> {
        let environment = self.granted(caller, id)?;
        let machine = console_machine(&environment, role)?;
        let reason = one_line("reason", reason, 500)?;
        may_let(caller, &environment.account, account)?;
        let person = self.db.read(|read| read.account(account)).map_err(refusal)?;
        if person.state != AccountState::Active {
            let message = format!("`{account}` may not log in");
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        if until <= self.now() {
            return Err(ApiError::new(ErrorCode::Invalid, "the end lies in the past")
                .help("choose a later time"));
        }
        let views = self.db.read(|read| read.view_grants(Some(id), self.now())).map_err(refusal)?;
        if let Some(given) = views.iter().find(|v| v.machine == machine && v.account == *account) {
            must_be_theirs(caller, given)?;
        }
        let until = until.min(environment.period.until());
        self.commit(caller, |w| w.open_view(machine, account, &reason, until))?;
        Ok(Reply::Done)
    }

    pub(super) fn view_end(&self, caller: &Caller, id: u64) -> Result<Reply, ApiError> {
        let grant = self.db.read(|read| read.view_grant(id)).map_err(refusal)?;
        let looks = caller.account().is_some_and(|account| account.name == grant.account);
        if !looks {
            caller.must_own(&grant.owner, &format!("view {id}"))?;
            must_be_theirs(caller, &grant)?;
        }
        let reason = format!("ended by {}", caller.actor());
        self.commit(caller, |w| w.end_view(id, &reason))?;
        Ok(Reply::Done)
    }
}

/// The machine of `role`, whose display comes from the hypervisor.
pub(super) fn console_machine(
    environment: &Environment,
    role: MachineRole,
) -> Result<MachineId, ApiError> {
    if environment.template.rdp != RdpPolicy::Console {
        let message = format!("the desktop of environment {} is not ours to show", environment.id);
        return Err(ApiError::new(ErrorCode::Conflict, message)
            .help("only a template with `rdp: console` has displays that can be shown"));
    }
    let machine = environment.machines.iter().find(|machine| machine.role == role);
    machine.filter(|machine| desktop(machine, environment).is_some()).map(|m| m.id).ok_or_else(
        || {
            let message = format!("environment {} has no display `{role}`", environment.id);
            ApiError::new(ErrorCode::NotFound, message)
        },
    )
}

/// The owner lets others look, staff themselves: nobody is made to look unasked.
fn may_let(caller: &Caller, owner: &AccountName, account: &AccountName) -> Result<(), ApiError> {
    if account == owner {
        let message = format!("`{account}` has this environment, and sees it already");
        return Err(ApiError::new(ErrorCode::Conflict, message));
    }
    match caller.account() {
        None => Ok(()),
        Some(own) if own.name == *owner || own.name == *account => Ok(()),
        Some(_) => {
            let message = "staff may open a display to themselves; its owner opens it to others";
            Err(ApiError::new(ErrorCode::Forbidden, message))
        }
    }
}

/// What staff opened for a reason of theirs, the owner neither ends nor replaces.
fn must_be_theirs(caller: &Caller, grant: &ViewGrant) -> Result<(), ApiError> {
    if caller.is_staff() || grant.granted_by == caller.actor() {
        return Ok(());
    }
    let message = format!("view {} was opened by {}", grant.id, grant.granted_by);
    Err(ApiError::new(ErrorCode::Forbidden, message).help("staff end it"))
}

fn session_view(session: DesktopSession) -> DesktopSessionView {
    DesktopSessionView {
        id: session.id.0,
        environment: session.environment,
        owner: session.owner,
        machine: session.machine,
        role: session.role,
        account: session.account,
        types: session.kind == LookerKind::Owner,
        opened_at: session.opened_at,
        closed_at: session.closed_at,
        frames: session.frames,
        bytes_out: session.bytes_out,
        keys_in: session.keys_in,
        over_budget: session.over_budget,
        note: session.note,
    }
}

fn view(grant: ViewGrant, observed: &Observed) -> ViewGrantView {
    let display = observed.displays.get(&grant.machine);
    let address = display_address(grant.machine);
    let port = RDP_PORT + u16::from(grant.viewer);
    let open = observed.firewall.grants.keys().any(|held| {
        matches!(held, nonstop_plan::Grant::Desktop { address: a, port: p, .. }
            if (*a, *p) == (address, port))
    });
    let shown = display.is_some_and(|display| {
        matches!(display.viewers.get(&grant.viewer), Some(ViewerKind::Person { .. }))
    });
    ViewGrantView {
        id: grant.id,
        environment: grant.environment,
        owner: grant.owner,
        machine: grant.machine,
        role: grant.role,
        account: grant.account,
        granted_by: grant.granted_by,
        reason: grant.reason,
        from: grant.from,
        until: grant.until,
        ready: open && shown,
        desktop: DesktopView {
            address,
            port,
            fingerprint: display.map(|display| display.fingerprint.clone()),
            user: None,
            password: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonstop_model::{Account, AccountId, Role};

    fn person(name: &str, role: Role) -> Caller {
        Caller::Person(Account {
            id: AccountId(1),
            name: name.parse().expect("a name"),
            full_name: String::new(),
            affiliation: String::new(),
            role,
            edition: None,
            state: AccountState::Active,
            sources: Vec::new(),
            keys: Vec::new(),
            uid: 70_001,
            address: [127, 64, 0, 1].into(),
        })
    }

    #[test]
    fn the_owner_lets_others_look_and_staff_themselves() {
        let name = |text: &str| text.parse::<AccountName>().expect("a name");
        let (alice, bob, sato) = (name("alice"), name("bob"), name("sato"));
        let owner = person("alice", Role::Researcher);
        let staff = person("sato", Role::Staff);
        let admin = Caller::Admin { user: "root".into() };
        assert!(may_let(&owner, &alice, &bob).is_ok());
        assert!(may_let(&staff, &alice, &sato).is_ok());
        assert!(may_let(&admin, &alice, &bob).is_ok());
        assert_eq!(may_let(&staff, &alice, &bob).expect_err("for bob").code, ErrorCode::Forbidden);
        for caller in [&owner, &staff, &admin] {
            let own = may_let(caller, &alice, &alice).expect_err("hers already");
            assert_eq!(own.code, ErrorCode::Conflict);
        }
    }

    #[test]
    fn what_staff_opened_the_owner_neither_ends_nor_replaces() {
        let grant = |by: &str| ViewGrant {
            id: 7,
            environment: EnvironmentId(1),
            owner: "alice".parse().expect("a name"),
            machine: MachineId(1),
            role: MachineRole::Analyst,
            viewer: 1,
            account: "sato".parse().expect("a name"),
            granted_by: by.into(),
            reason: "to see".into(),
            from: Timestamp::UNIX_EPOCH,
            until: Timestamp::MAX,
            ended_at: None,
        };
        let (owner, staff) = (person("alice", Role::Researcher), person("sato", Role::Staff));
        let refused = must_be_theirs(&owner, &grant(&staff.actor())).expect_err("staff's");
        assert_eq!(refused.code, ErrorCode::Forbidden);
        assert!(must_be_theirs(&owner, &grant(&owner.actor())).is_ok());
        assert!(must_be_theirs(&staff, &grant(&owner.actor())).is_ok());
    }
}
