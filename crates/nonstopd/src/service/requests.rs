//! Requests: applying, approving, refusing.

use super::{Service, one_line, refusal, some_lines};
use crate::{caller::Caller, status::chain, templates};
use nonstop_api::{ApiError, ErrorCode, Problem, Reply, RequestView, TemplateView};
use nonstop_model::{
    AccountName, AccountState, EnvironmentTemplate, Password, Period, RdpPolicy, Request,
    RequestId, Role, TemplateName, capacity::Full, network::RDP_PORT,
};
use nonstop_store::{Grant, GrantedMachine, NewRequest, of_one_edition};
use rand::Rng;

/// The longest period that can be applied for, in days.
const LONGEST_DAYS: i64 = 366;

impl Service {
    /// All templates; to a researcher those that may be applied for.
    pub(super) fn template_list(&self, caller: &Caller) -> Result<Reply, ApiError> {
        let mut templates = templates::list(&self.lab).map_err(template_refusal)?;
        if let Some(own) = caller.account().filter(|_| !caller.is_staff()) {
            templates.retain(|_, template| own.may_use(template));
        }
        let views = templates.into_iter().map(|(name, template)| TemplateView {
            name,
            memory_mib: template.memory_mib(),
            machines: template.machines.iter().map(|m| m.role).collect(),
            title: template.title.clone(),
            problem: self
                .missing_images(&template)
                .err()
                .map(|e| Problem { message: e.message, help: e.help }),
            title_ja: template.title_ja,
            rdp: template.rdp,
            edition: template.domain,
        });
        Ok(Reply::Templates(views.collect()))
    }

    pub(super) fn request_apply(
        &self,
        caller: &Caller,
        account: Option<AccountName>,
        template: TemplateName,
        period: Period,
        purpose: String,
    ) -> Result<Reply, ApiError> {
        let account = match (account, caller.account()) {
            (None, Some(own)) => own.name.clone(),
            (None, None) => {
                return Err(ApiError::new(ErrorCode::Invalid, "for which account?")
                    .help("name it with `--account NAME`"));
            }
            (Some(name), Some(own)) if name == own.name => name,
            (Some(name), _) => {
                caller.must_be_admin()?;
                name
            }
        };
        let owner = self.db.read(|read| read.account(&account)).map_err(refusal)?;
        if owner.state != AccountState::Active || owner.role != Role::Researcher {
            return Err(ApiError::new(
                ErrorCode::Forbidden,
                format!("`{account}` is not an active researcher"),
            ));
        }
        let definition = templates::load(&self.lab, &template).map_err(template_refusal)?;
        of_one_edition(&owner, &template, &definition).map_err(refusal)?;
        self.check_period(period)?;
        self.fits_at_all(&definition)?;
        self.missing_images(&definition)?;
        let purpose = some_lines("purpose", &purpose, 2000)?;
        let new = NewRequest { account, template, period, purpose };
        let request = self.commit(caller, |w| {
            let id = w.add_request(&new)?;
            w.request(id)
        })?;
        Ok(Reply::Request(view(request)))
    }

    pub(super) fn check_period(&self, period: Period) -> Result<(), ApiError> {
        let invalid = |message: String| Err(ApiError::new(ErrorCode::Invalid, message));
        let now = self.now();
        if period.until() <= now {
            return invalid(format!("the period is over since {}", period.until()));
        }
        let longest = jiff::SignedDuration::from_hours(LONGEST_DAYS * 24);
        if period.from().duration_since(now) > longest {
            return invalid(format!(
                "the period begins too late: at most {LONGEST_DAYS} days ahead"
            ));
        }
        if period.until().duration_since(period.from().max(now)) > longest {
            return invalid(format!("the period is too long: use at most {LONGEST_DAYS} days"));
        }
        Ok(())
    }

    /// Refuses what could not be started: an image of it is not built.
    fn missing_images(&self, template: &EnvironmentTemplate) -> Result<(), ApiError> {
        template.machines.iter().try_for_each(|machine| {
            self.images
                .current(&machine.image)
                .map(drop)
                .map_err(|e| ApiError::new(ErrorCode::Conflict, chain(&e)).help(e.help.clone()))
        })
    }

    /// Refuses what would not fit into an empty lab.
    fn fits_at_all(&self, template: &EnvironmentTemplate) -> Result<(), ApiError> {
        let room = self.room;
        let full = if template.memory_mib() > room.memory_mib {
            Full::Memory {
                room_mib: room.memory_mib,
                taken_mib: 0,
                needed_mib: template.memory_mib(),
            }
        } else if template.machines.len() as u64 > room.machines {
            Full::Machines { room: room.machines, taken: 0, needed: template.machines.len() as u64 }
        } else {
            return Ok(());
        };
        Err(refusal(full.into()))
    }

    pub(super) fn request_list(&self, caller: &Caller) -> Result<Reply, ApiError> {
        let own = caller.account().filter(|_| !caller.is_staff()).map(|a| &a.name);
        let requests = self.db.read(|read| read.requests(own)).map_err(refusal)?;
        Ok(Reply::Requests(requests.into_iter().map(view).collect()))
    }

    pub(super) fn request_approve(
        &self,
        caller: &Caller,
        id: RequestId,
    ) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let request = self.db.read(|read| read.request(id)).map_err(refusal)?;
        if caller.account().is_some_and(|own| own.name == request.account) {
            return Err(ApiError::new(ErrorCode::Forbidden, "nobody approves their own request"));
        }
        if request.period.until() <= self.now() {
            return Err(ApiError::new(ErrorCode::Conflict, "the period of the request is over")
                .help("refuse it, and ask for a new one"));
        }
        let template = templates::load(&self.lab, &request.template).map_err(template_refusal)?;
        let machines = template.machines.iter().map(|m| self.granted_machine(&template, m));
        let grant = Grant {
            account: request.account,
            template_name: request.template,
            machines: machines.collect::<Result<_, _>>()?,
            template,
            period: request.period,
            pool: self.lab.network.pool,
            room: self.room,
        };
        let environment = self.commit(caller, |w| {
            let environment = w.grant_environment(&grant)?;
            w.approve_request(id, environment)?;
            Ok(environment)
        })?;
        self.environment_show(caller, environment)
    }

    fn granted_machine(
        &self,
        template: &EnvironmentTemplate,
        machine: &nonstop_model::template::MachineTemplate,
    ) -> Result<GrantedMachine, ApiError> {
        let (image_digest, manifest) = self
            .images
            .current(&machine.image)
            .map_err(|e| ApiError::new(ErrorCode::Conflict, chain(&e)).help(e.help.clone()))?;
        let rdp = template.desktop_of(machine);
        Ok(GrantedMachine {
            image: machine.image.clone(),
            image_digest,
            // Whoever looks at the display is in already: no password is needed.
            guest_user: manifest.user.filter(|_| manifest.agent && rdp == RdpPolicy::Guest),
            password: fresh_password(),
            desktop_port: match rdp {
                RdpPolicy::None => None,
                RdpPolicy::Console => Some(RDP_PORT),
                RdpPolicy::Guest => manifest.rdp_port,
            },
        })
    }

    pub(super) fn request_refuse(
        &self,
        caller: &Caller,
        id: RequestId,
        reason: &str,
    ) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let reason = one_line("reason", reason, 500)?;
        self.commit(caller, |w| w.refuse_request(id, &reason))?;
        Ok(Reply::Done)
    }
}

/// A password that is easy to type: 20 letters and digits that cannot be mistaken for each
/// other, 5 bits each.
pub(crate) fn fresh_password() -> Password {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut rng = rand::rng();
    Password((0..20).map(|_| char::from(LETTERS[rng.random_range(0..32)])).collect())
}

fn template_refusal(error: templates::TemplateError) -> ApiError {
    let code = match &error {
        templates::TemplateError::Unknown(_) => ErrorCode::NotFound,
        _ => ErrorCode::Internal,
    };
    ApiError::new(code, chain(&error)).help("see `nonstop template list` and `template check`")
}

fn view(request: Request) -> RequestView {
    RequestView {
        id: request.id,
        account: request.account,
        template: request.template,
        period: request.period,
        purpose: request.purpose,
        made_at: request.made_at,
        state: request.state,
    }
}
