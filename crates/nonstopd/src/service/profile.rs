//! How to connect, as a file: what nonstop-connect reads on a researcher's PC, signed by the lab's
//! authority. It holds no secret.

use super::{Service, refusal};
use crate::{caller::Caller, status::chain};
use nonstop_api::{ApiError, EnvironmentStateView, EnvironmentView, ErrorCode, MachineView, Reply};
use nonstop_model::{Account, AccountName};
use nonstop_profile::{Desktop, Gateway, Moment, Plain, Profile, Sealed, Target};
use std::{net::Ipv4Addr, num::NonZeroU16};

impl Service {
    pub(super) fn profile_show(
        &self,
        caller: &Caller,
        account: Option<&AccountName>,
    ) -> Result<Reply, ApiError> {
        let own = caller.account().map(|account| &account.name);
        let name = account.or(own).ok_or_else(|| {
            ApiError::new(ErrorCode::Invalid, "an admin has no account: whose profile?")
        })?;
        caller.must_own(name, &format!("account `{name}`"))?;
        let account = self.db.read(|read| read.account(name)).map_err(refusal)?;
        let profile = self.profile(caller, &account)?;
        let authority = &self.authority;
        let file = Sealed::write(&profile, &authority.public_key(), |bytes| authority.sign(bytes));
        let file = file.map_err(|e| {
            tracing::error!("{}", chain(&e));
            ApiError::new(ErrorCode::Internal, format!("seal the profile of `{name}`"))
        })?;
        Ok(Reply::Profile(file))
    }

    fn profile(&self, caller: &Caller, account: &Account) -> Result<Profile, ApiError> {
        let gateway = &self.lab.gateway;
        let host = gateway.public_name.clone().unwrap_or_else(|| gateway.address.to_string());
        let host = host.parse().map_err(|_| {
            let message = format!("`{host}` is no name or address that researchers could reach");
            ApiError::new(ErrorCode::Conflict, message)
                .help("set `gateway.public_name` in lab.yaml to a name of DNS or an address")
        })?;
        let plain = |text: &str, instead: &str| {
            Plain::from_any(text, &instead.parse().expect("letters alone"))
        };
        let mut desktops = Vec::new();
        let environments = self.environments_of(caller, &account.name)?;
        for environment in environments.iter().filter(|e| e.state != EnvironmentStateView::Ended) {
            desktops.extend(environment.machines.iter().filter_map(|m| desktop(environment, m)));
        }
        desktops.truncate(nonstop_profile::DESKTOPS);
        let host_keys = self.host_keys()?;
        let keys = std::iter::once(host_keys.current.key);
        let keys = keys.chain(host_keys.next.map(|next| next.key));
        Ok(Profile {
            lab: plain(&self.lab.name, "lab"),
            gateway: Gateway { host, port: word(gateway.port)? },
            host_keys: keys.map(word).collect::<Result<_, _>>()?,
            account: word(account.name.to_string())?,
            portal: target(account.address, self.lab.portal.port)
                .ok_or_else(|| unfit("the portal"))?,
            transfer: target(account.address, self.lab.airlock.outside_port),
            desktops,
            issued_at: word(u64::try_from(self.now().as_second()).unwrap_or_default())?,
        })
    }
}

/// The desktop of `machine`; None where it has none, or it cannot be said in a profile's words.
fn desktop(environment: &EnvironmentView, machine: &MachineView) -> Option<Desktop> {
    let desktop = machine.desktop.as_ref()?;
    let certificate = match &desktop.fingerprint {
        Some(fingerprint) => Some(fingerprint.parse().ok()?),
        None => None,
    };
    let title = Plain::from_any(&environment.title, &"desktop".parse().ok()?);
    let until = u64::try_from(environment.period.until().as_second()).ok()?;
    Some(Desktop {
        environment: environment.id.to_string().parse().ok()?,
        role: machine.role.to_string().parse().ok()?,
        title,
        target: target(desktop.address, desktop.port)?,
        certificate,
        user: desktop.user.as_ref().and_then(|user| user.parse().ok()),
        until: Moment::from_seconds(until)?,
    })
}

fn target(address: Ipv4Addr, port: u16) -> Option<Target> {
    let address = std::net::IpAddr::V4(address).try_into().ok()?;
    Some(Target { address, port: NonZeroU16::new(port)? })
}

/// A word of ours as one of a profile.
fn word<T, U: TryInto<T> + Clone + std::fmt::Display>(word: U) -> Result<T, ApiError> {
    word.clone().try_into().map_err(|_| unfit(&word.to_string()))
}

fn unfit(what: &str) -> ApiError {
    ApiError::new(ErrorCode::Internal, format!("{what} cannot be said in a profile"))
}
