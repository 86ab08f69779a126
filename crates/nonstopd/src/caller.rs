//! Who asks. Never said in a request: taken from the socket, the peer's credentials, and for the
//! portal from the person's own connection.

use nonstop_api::{ApiError, ErrorCode};
use nonstop_model::{Account, AccountName, Role};

/// Who asks.
#[derive(Debug, Clone)]
pub enum Caller {
    /// A local user of the host with the right to the admin socket.
    Admin {
        /// Name of the user.
        user: String,
    },
    /// A person, by a tunnel of their own.
    Person(Account),
    /// The portal itself, for nobody.
    Portal,
}

impl Caller {
    /// The name that the trace gives.
    pub fn actor(&self) -> String {
        match self {
            Caller::Admin { user } => format!("admin:{user}"),
            Caller::Person(account) => account.name.to_string(),
            Caller::Portal => "portal".into(),
        }
    }

    /// The person; None for an admin.
    pub fn account(&self) -> Option<&Account> {
        match self {
            Caller::Person(account) => Some(account),
            Caller::Admin { .. } | Caller::Portal => None,
        }
    }

    /// Whether it answers for the lab.
    pub fn is_staff(&self) -> bool {
        match self {
            Caller::Admin { .. } => true,
            Caller::Person(account) => account.role == Role::Staff,
            Caller::Portal => false,
        }
    }

    /// Goes on for admins alone.
    pub fn must_be_admin(&self) -> Result<(), ApiError> {
        match self {
            Caller::Admin { .. } => Ok(()),
            _ => Err(forbidden("only an admin of the host may do that")),
        }
    }

    /// Goes on for staff and admins.
    pub fn must_be_staff(&self) -> Result<(), ApiError> {
        if self.is_staff() { Ok(()) } else { Err(forbidden("only staff may do that")) }
    }

    /// Goes on for `owner`, staff and admins. To others the thing does not exist.
    pub fn must_own(&self, owner: &AccountName, thing: &str) -> Result<(), ApiError> {
        let own = self.account().is_some_and(|account| account.name == *owner);
        if own || self.is_staff() {
            Ok(())
        } else {
            Err(ApiError::new(ErrorCode::NotFound, format!("there is no {thing}")))
        }
    }
}

fn forbidden(message: &str) -> ApiError {
    ApiError::new(ErrorCode::Forbidden, message)
}
