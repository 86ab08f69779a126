//! The lab as a whole: plan, trace, figures, and what is missing on the host.

use super::{Service, refusal};
use crate::{caller::Caller, desired::desired, status::chain};
use nonstop_api::{
    ApiError, CheckItem, ConnectView, LabView, PlanView, Reply, StatsView, TraceVerification,
    TraceView, TraceWanted,
};
use nonstop_model::{AccountState, EnvironmentState};
use nonstop_plan::plan;
use nonstop_store::TraceFilter;

impl Service {
    pub(super) fn lab_view(&self, caller: &Caller) -> LabView {
        let gateway = &self.lab.gateway;
        let host = gateway.public_name.clone().unwrap_or_else(|| gateway.address.to_string());
        // They are there since before anybody could ask.
        let host_keys = self.host_keys().unwrap_or_default();
        LabView {
            name: self.lab.name.clone(),
            software_keys: self.lab.software_keys,
            editions: if caller.is_staff() { self.editions() } else { Vec::new() },
            connect: ConnectView {
                host,
                port: gateway.port,
                host_key: host_keys.current.key,
                fingerprint: host_keys.current.fingerprint,
                next_host_key: host_keys.next,
                portal_port: self.lab.portal.port,
                cards_alone: !self.lab.software_keys,
            },
            authority: self.authority.certificate_pem().into(),
            authority_fingerprint: self.authority.fingerprint(),
        }
    }

    pub(super) fn trace_list(
        &self,
        caller: &Caller,
        limit: u32,
        wanted: TraceWanted,
    ) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let TraceWanted { about, action, since, until } = wanted;
        let filter = TraceFilter { about, action, since, until };
        let rows = self.db.read(|read| read.trace_filtered(&filter, limit.min(10_000)));
        let rows = rows.map_err(refusal)?;
        let views = rows.into_iter().map(|row| TraceView {
            seq: row.seq,
            at: row.at,
            actor: row.actor,
            action: row.action,
            subject: row.subject,
            detail: row.detail,
            hash: row.hash,
        });
        Ok(Reply::Trace(views.collect()))
    }

    pub(super) fn trace_verify(&self, caller: &Caller) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let found = self.db.read(|read| read.verify_trace()).map_err(refusal)?;
        Ok(Reply::TraceVerified(TraceVerification {
            rows: found.rows,
            head: found.head,
            broken_at: found.broken_at,
        }))
    }

    pub(super) fn plan(&self, caller: &Caller) -> Result<Reply, ApiError> {
        caller.must_be_admin()?;
        let now = self.now();
        let desired = self.db.read(|read| desired(read, &self.lab, now)).map_err(refusal)?;
        let plan = plan(&desired, &self.status.observed(), now);
        Ok(Reply::Plan(PlanView {
            steps: plan.steps().map(ToString::to_string).collect(),
            problems: self.problems(),
        }))
    }

    pub(super) fn check(&self, caller: &Caller) -> Result<Reply, ApiError> {
        caller.must_be_admin()?;
        let mut items = self.check_programs();
        items.push(self.check_clock());
        items.extend(self.check_heads());
        items.push(self.check_transfers());
        let silence = self.gateway.silence();
        items.push(CheckItem {
            what: "gateway's sshd".into(),
            good: silence.is_none(),
            found: silence.unwrap_or_else(|| "it is heard".into()),
            help: "see the log of nonstop-sshd; without it nobody learns why logins fail".into(),
        });
        let templates = crate::templates::list(&self.lab);
        items.push(CheckItem {
            what: "templates".into(),
            good: templates.as_ref().is_ok_and(|t| !t.is_empty()),
            found: match &templates {
                Ok(found) => format!("{} in {}", found.len(), self.lab.templates.display()),
                Err(e) => chain(e),
            },
            help: "put templates into that folder; `nonstop template check` explains each".into(),
        });
        for template in templates.iter().flatten().flat_map(|(_, t)| &t.machines) {
            let current = self.images.current(&template.image);
            items.push(CheckItem {
                what: format!("image {}", template.image),
                good: current.is_ok(),
                found: match &current {
                    Ok((digest, _)) => digest.chars().take(12).collect(),
                    Err(e) => chain(e),
                },
                help: format!("run `nonstop image build {}`", template.image),
            });
        }
        items.extend(self.problems().into_iter().map(|problem| CheckItem {
            what: "now in the way".into(),
            good: false,
            found: problem.message,
            help: problem.help,
        }));
        Ok(Reply::Check(items))
    }

    fn check_programs(&self) -> Vec<CheckItem> {
        let needed = [
            ("sshd", "/usr/sbin/sshd", "install openssh-server 10 or later"),
            ("nft", "/usr/sbin/nft", "install nftables"),
            ("ip", "/usr/sbin/ip", "install iproute2"),
            ("tc", "/usr/sbin/tc", "install iproute2"),
            ("dnsmasq", "/usr/sbin/dnsmasq", "install dnsmasq-base"),
            ("qemu", "/usr/bin/qemu-system-x86_64", "install qemu-system-x86"),
            ("qemu-img", "/usr/bin/qemu-img", "install qemu-utils"),
            ("UEFI firmware", "/usr/share/OVMF/OVMF_CODE_4M.fd", "install ovmf"),
            ("swtpm", "/usr/bin/swtpm", "install swtpm"),
            ("swtpm_setup", "/usr/bin/swtpm_setup", "install swtpm-tools"),
            ("tcpdump", "/usr/bin/tcpdump", "install tcpdump, for `reach prove --probe`"),
            ("socat", "/usr/bin/socat", "install socat, for `reach prove --probe`"),
            ("PAM service", "/etc/pam.d/nonstop-sshd", "install systemd/pam.d/nonstop-sshd"),
        ];
        let ours = [
            "nonstop-gate",
            "nonstop-agent",
            "nonstop-probe",
            "nonstop-data",
            "nonstop-samples",
            "nonstop-airlock",
            "nonstop-screen",
        ];
        let ours = ours.map(|program| {
            let path = self.lab.programs.join(program);
            (program, path, "install our programs into `programs` of lab.yaml")
        });
        let needed = needed.map(|(what, path, help)| (what, path.into(), help));
        needed
            .into_iter()
            .chain(ours)
            .map(|(what, path, help)| CheckItem {
                what: what.into(),
                good: path.exists(),
                found: path.display().to_string(),
                help: help.into(),
            })
            .collect()
    }

    pub(super) fn stats(&self, caller: &Caller) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let (pool, now) = (self.lab.network.pool, self.now());
        let (accounts, environments, sessions, trace_rows) = self
            .db
            .read(|read| {
                Ok((
                    read.accounts()?,
                    read.environments(pool, false)?,
                    read.sessions(false)?,
                    read.trace_len()?,
                ))
            })
            .map_err(refusal)?;
        let (logins, refused_logins, repeated_refusals) = self.logins().map_err(refusal)?;
        let live = |e: &&nonstop_model::Environment| {
            e.state == EnvironmentState::Granted && e.period.contains(now)
        };
        let live: Vec<_> = environments.iter().filter(live).collect();
        let quarantined = std::fs::read_dir(self.lab.quarantine()).map_or(0, Iterator::count);
        Ok(Reply::Stats(StatsView {
            accounts: accounts.iter().filter(|a| a.state == AccountState::Active).count() as u64,
            environments: live.len() as u64,
            machines: self.status.observed().machines.len() as u64,
            sessions: sessions.len() as u64,
            logins,
            refused_logins,
            repeated_refusals,
            memory_mib: live.iter().map(|e| e.template.memory_mib()).sum(),
            capacity_memory_mib: self.room.memory_mib,
            quarantined: quarantined as u64,
            trace_rows,
            proof: self.proof_summary(),
        }))
    }
}
