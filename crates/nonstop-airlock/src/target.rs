//! What a URL names, on each of the two sides.

use nonstop_api::airlock::Place;
use nonstop_http::unescaped;
use nonstop_model::{EntryName, EntryPath, EnvironmentId, PathError, Root};
use std::{fmt::Write as _, str::FromStr as _};

/// Whom the program talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Machines.
    Inside,
    /// Researchers, through their tunnels.
    Outside,
}

impl Side {
    /// As it stands in the names of users, sockets and folders.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Inside => "inside",
            Side::Outside => "outside",
        }
    }
}

/// What a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spot {
    /// `/`.
    Top,
    /// `/dav/`: the environments of a person.
    Environments,
    /// `/dav/e7/`.
    Environment(EnvironmentId),
    /// A root, or what lies in it.
    In(Place),
    /// `/verdicts/`: what became of exports that were not released.
    Verdicts,
    /// A file there.
    Verdict(EntryName),
    /// `/status`.
    Status,
    /// `/status.json`.
    StatusJson,
}

/// Why a URL names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is no path.
    #[error("this is no path")]
    NoPath,
    /// It is of another server.
    #[error("this is at another server")]
    Elsewhere,
    /// A name in it is not kept.
    #[error("{0}")]
    Name(#[from] PathError),
    /// A name in it is not in UTF-8.
    #[error("a name is not text in UTF-8")]
    NotUtf8,
    /// There is nothing, and never will be.
    #[error("there is nothing of this name")]
    Nothing,
}

/// A URL that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What it names.
    pub spot: Spot,
    /// Whether it ends with a `/`.
    pub slash: bool,
}

impl Target {
    /// What `target` of a request to `host` names. `own` is the environment of a machine.
    pub fn parse(
        side: Side,
        own: Option<EnvironmentId>,
        target: &str,
        host: &str,
    ) -> Result<Target, TargetError> {
        let path = path(target, host)?;
        let (names, slash) = names(path)?;
        let spot = match side {
            Side::Inside => inside(own, &names)?,
            Side::Outside => outside(&names)?,
        };
        Ok(Target { spot, slash })
    }
}

fn inside(own: Option<EnvironmentId>, names: &[String]) -> Result<Spot, TargetError> {
    let Some((first, rest)) = names.split_first() else { return Ok(Spot::Top) };
    match (first.as_str(), rest) {
        ("status", []) => Ok(Spot::Status),
        ("status.json", []) => Ok(Spot::StatusJson),
        ("verdicts", []) => Ok(Spot::Verdicts),
        ("verdicts", [name]) => Ok(Spot::Verdict(name.parse()?)),
        (root, rest) => {
            let root = match root {
                "import" => Root::Import,
                "export" => Root::Export,
                "capture" => Root::Capture,
                _ => return Err(TargetError::Nothing),
            };
            let environment = own.ok_or(TargetError::Nothing)?;
            Ok(Spot::In(Place { environment, root, path: entry(rest)? }))
        }
    }
}

fn outside(names: &[String]) -> Result<Spot, TargetError> {
    let spot = match names {
        [] => Spot::Top,
        [dav] if dav == "dav" => Spot::Environments,
        [dav, environment, rest @ ..] if dav == "dav" => {
            let environment = EnvironmentId::from_str(environment);
            let environment = environment.map_err(|_| TargetError::Nothing)?;
            match rest {
                [] => Spot::Environment(environment),
                [root, rest @ ..] => {
                    let root = match root.as_str() {
                        "import" => Root::Import,
                        "export" => Root::Export,
                        _ => return Err(TargetError::Nothing),
                    };
                    Spot::In(Place { environment, root, path: entry(rest)? })
                }
            }
        }
        _ => return Err(TargetError::Nothing),
    };
    Ok(spot)
}

fn entry(names: &[String]) -> Result<EntryPath, TargetError> {
    Ok(names.join("/").parse::<EntryPath>()?)
}

/// The path of a target, without its query.
fn path<'a>(target: &'a str, host: &str) -> Result<&'a str, TargetError> {
    // A fragment is never sent; whoever sends one means something else than what would be done.
    if target.contains('#') {
        return Err(TargetError::NoPath);
    }
    let path = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            let (authority, path) = match rest.find('/') {
                Some(at) => rest.split_at(at),
                None => (rest, "/"),
            };
            if !scheme.eq_ignore_ascii_case("http") || !authority.eq_ignore_ascii_case(host) {
                return Err(TargetError::Elsewhere);
            }
            path
        }
        _ => target,
    };
    let path = path.split('?').next().unwrap_or_default();
    if path.starts_with('/') { Ok(path) } else { Err(TargetError::NoPath) }
}

/// The names in a path, and whether it ends with a `/`.
fn names(path: &str) -> Result<(Vec<String>, bool), TargetError> {
    let slash = path.ends_with('/');
    let inner = path.trim_start_matches('/');
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.is_empty() {
        return Ok((vec![], true));
    }
    let names = inner.split('/').map(|name| {
        let plain = plain(name)?;
        // The `/` of `%2f` is in the name.
        plain.parse::<EntryName>()?;
        Ok(plain)
    });
    Ok((names.collect::<Result<_, TargetError>>()?, slash))
}

/// A name without its escapes.
fn plain(name: &str) -> Result<String, TargetError> {
    let plain = unescaped(name).ok_or(TargetError::NoPath)?;
    String::from_utf8(plain).map_err(|_| TargetError::NotUtf8)
}

/// A name as it stands in a path.
pub fn escape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// The path of a place; one of a folder ends with a `/`.
pub fn href(side: Side, place: &Place, folder: bool) -> String {
    let mut out = match side {
        Side::Inside => format!("/{}", place.root),
        Side::Outside => format!("/dav/{}/{}", place.environment, place.root),
    };
    if !place.path.is_root() {
        out.push('/');
        out.push_str(&escape(place.path.as_str()));
    }
    if folder {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(side: Side, target: &str) -> Result<String, TargetError> {
        let found = Target::parse(side, Some(EnvironmentId(7)), target, "localhost:8081")?;
        Ok(match found.spot {
            Spot::In(place) => href(side, &place, found.slash),
            spot => format!("{spot:?}"),
        })
    }

    #[test]
    fn a_url_names_one_thing_and_is_written_in_one_way() {
        use Side::{Inside, Outside};
        for (side, target, is) in [
            (Inside, "/export/a%20b", "/export/a%20b"),
            (Inside, "/export/%41/", "/export/A/"),
            (Inside, "//export", "/export"),
            (Inside, "/export/結果.csv", "/export/%E7%B5%90%E6%9E%9C.csv"),
            (Inside, "/import?x=../..", "/import"),
            (Inside, "http://LOCALHOST:8081/capture/x", "/capture/x"),
            (Inside, "/export/http://x", "Name(Empty)"),
            (Outside, "/dav/e7/import/CON", "/dav/e7/import/CON"),
            (Outside, "/dav/e9/export/", "/dav/e9/export/"),
            (Outside, "/dav", "Environments"),
            (Outside, "/", "Top"),
            (Inside, "/status.json", "StatusJson"),
            (Inside, "/verdicts/x", "Verdict(EntryName(\"x\"))"),
            (Outside, "/dav/e7/capture/x", "Nothing"),
            (Outside, "/verdicts/", "Nothing"),
            (Outside, "/export/x", "Nothing"),
            (Outside, "/dav/7/export", "Nothing"),
            (Inside, "/dav/e7/export", "Nothing"),
            (Inside, "/export/../import", "Name(Dots)"),
            (Inside, "/export/%2e%2E/import", "Name(Dots)"),
            (Inside, "/export/a%2fb", "Name(Control)"),
            (Inside, "/export/a%00", "Name(Control)"),
            (Inside, "/export//a", "Name(Empty)"),
            (Inside, "/export/%ff", "NotUtf8"),
            (Inside, "/export/%", "NoPath"),
            (Inside, "/export/%+1", "NoPath"),
            (Inside, "/export/a#b", "NoPath"),
            (Inside, "*", "NoPath"),
            (Inside, "http://evil.example/export/x", "Elsewhere"),
            (Inside, "https://localhost:8081/export/x", "Elsewhere"),
        ] {
            let found = at(side, target).unwrap_or_else(|e| format!("{e:?}"));
            assert_eq!(found, is, "{target}");
        }
    }
}
