//! Identifiers. Each is handed out once and never again, so that a name derived
//! from one can be found on a host long after its row was written.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A text that is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind}: expected `{prefix}` and a number, such as `{prefix}7`")]
pub struct IdError {
    text: String,
    kind: &'static str,
    prefix: char,
}

macro_rules! id {
    ($name:ident, $prefix:literal, $kind:literal) => {
        #[doc = concat!("Identifies ", $kind, "; written `", $prefix, "7`.")]
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix)
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                    .and_then(|digits| digits.parse().ok())
                    .map($name)
                    .ok_or_else(|| IdError { text: text.into(), kind: $kind, prefix: $prefix })
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
    };
}

id!(AccountId, 'a', "an account");
id!(RequestId, 'r', "a request");
id!(EnvironmentId, 'e', "an environment");
id!(MachineId, 'm', "a machine");
id!(SnapshotId, 's', "a snapshot");
id!(PublicationId, 'p', "a publication");
id!(CardId, 'c', "a card");
id!(ExportId, 'x', "an export");
id!(ImportId, 'i', "an import");
id!(InjectionId, 'j', "an injection");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_own_text() {
        assert_eq!("e17".parse(), Ok(EnvironmentId(17)));
        assert_eq!(EnvironmentId(17).to_string(), "e17");
    }

    #[test]
    fn another_kind_or_a_sign_is_refused() {
        assert!("m17".parse::<EnvironmentId>().is_err());
        assert!("e+1".parse::<EnvironmentId>().is_err());
        assert!("e99999999999".parse::<EnvironmentId>().is_err());
    }
}
