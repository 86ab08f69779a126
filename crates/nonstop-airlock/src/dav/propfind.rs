//! PROPFIND: what is told of a name, and of what lies in it.

use super::{Below, Request, Resource, Site, Talk, lock, multi};
use crate::{
    asker::{Asked, Asker},
    http::{Answer, Body, PIECE, Pieces},
    refusal::{Outcome, Refusal},
    target::Spot,
    xml::{self, Element, Name, escaped},
};
use nonstop_http::http_date;
use std::{collections::HashMap, fmt::Write as _};

/// Properties that one request may name, and bytes of their names.
const NAMES: (usize, usize) = (128, 16 << 10);

/// What is told without being asked for by name.
const TOLD: &[&str] = &[
    "creationdate",
    "displayname",
    "getcontentlength",
    "getcontenttype",
    "getetag",
    "getlastmodified",
    "lockdiscovery",
    "resourcetype",
    "supportedlock",
];
/// What is told only by name (RFC 4331, 2).
const BY_NAME: &[&str] = &["quota-available-bytes", "quota-used-bytes"];

/// Whether `name` is made by the program, and no client can set it.
pub(super) fn is_live(name: &Name) -> bool {
    name.space == xml::DAV
        && (TOLD.contains(&name.local.as_str())
            || BY_NAME.contains(&name.local.as_str())
            // Of other versions and parts of WebDAV: not to be played with.
            || ["getcontentlanguage", "source", "owner", "acl"].contains(&name.local.as_str()))
}

/// What is asked for.
enum Wanted {
    /// All but what is told only by name, and those names.
    All(Vec<Name>),
    /// Only which there are.
    Names,
    /// These.
    These(Vec<Name>),
}

/// What the answers for all names have in common.
struct Around {
    wanted: Wanted,
    quota: Option<(u64, u64)>,
    has_properties: bool,
}

impl<'a> Talk<'a> {
    /// Tells of `spot`.
    pub(super) fn propfind(
        &mut self,
        request: &Request<'_>,
        spot: &Spot,
        body: &mut Body<'_>,
    ) -> Outcome<Answer<'a>> {
        let below = match request.head.field("depth") {
            Some("0") => false,
            Some("1") => true,
            Some("1,noroot") => true,
            Some(depth) if !depth.eq_ignore_ascii_case("infinity") => {
                return Err(Refusal::bad("Depth is 0 or 1"));
            }
            None | Some(_) => {
                let says = "folders are told of one by one: ask with Depth 0 or 1";
                return Err(Refusal::new(403, says, "Depth は 0 か 1 にしてください。")
                    .because("propfind-finite-depth", None));
            }
        };
        let wanted = wanted(&body.whole(xml::LONGEST)?)?;
        let by_name = |names: &[Name]| names.iter().any(|n| BY_NAME.iter().any(|q| n.is_dav(q)));
        let asks_quota = match &wanted {
            Wanted::All(names) | Wanted::These(names) => by_name(names),
            Wanted::Names => false,
        };
        let (own, below) = self.resources(spot, below)?;
        let mut around = Around { wanted, quota: None, has_properties: false };
        if let Spot::In(place) = spot {
            if asks_quota {
                around.quota = Some(self.asker.quota(place)?);
            }
            if self.site.is_writable(place) {
                let has = self.site.properties.has_any(place.environment);
                around.has_properties = has.map_err(|e| failed(&e))?;
            }
        }
        let told = Told { site: self.site, around, own: Some(own), below };
        let answer = Answer::empty(207).field("Content-Type", multi::KIND);
        Ok(answer.made_of(told, &mut self.asker)?)
    }
}

/// An answer, as far as it was not made yet.
struct Told<'a> {
    site: &'a Site,
    around: Around,
    own: Option<Resource>,
    below: Below,
}

impl Pieces for Told<'_> {
    fn next(&mut self, out: &mut String, asker: &mut Asker<'_>) -> Asked<bool> {
        if let Some(own) = self.own.take() {
            out.push_str(multi::BEGIN);
            self.tell(out, &own);
        }
        while out.len() < PIECE {
            let Some(resource) = self.below.next(asker)? else {
                out.push_str(multi::END);
                return Ok(false);
            };
            self.tell(out, &resource);
        }
        Ok(true)
    }
}

impl Told<'_> {
    fn tell(&self, out: &mut String, resource: &Resource) {
        let dead = match &resource.entry {
            Some((place, id)) if self.around.has_properties => {
                self.site.properties.of(place.environment, id).unwrap_or_default()
            }
            _ => vec![],
        };
        self.around.tell(out, resource, &dead, self.site);
    }
}

fn failed(error: &crate::properties::PropertyError) -> Refusal {
    eprintln!("properties: {error:?}");
    Refusal::new(500, "the properties cannot be read: tell the lab's staff", "")
}

/// What a body asks for; an empty one asks for all.
fn wanted(body: &[u8]) -> Outcome<Wanted> {
    if body.is_empty() {
        return Ok(Wanted::All(vec![]));
    }
    let root = xml::read(body)?;
    if !root.name.is_dav("propfind") {
        return Err(Refusal::bad("the XML is no propfind"));
    }
    let names = |element: &Element| -> Outcome<Vec<Name>> {
        let names: Vec<Name> = element.elements().map(|found| found.name.clone()).collect();
        let bytes: usize = names.iter().map(|name| name.space.len() + name.local.len()).sum();
        if names.len() > NAMES.0 || bytes > NAMES.1 {
            return Err(Refusal::new(413, "too many properties are asked for at once", ""));
        }
        Ok(names)
    };
    let has = |local| root.dav(local);
    match (has("prop"), has("allprop"), has("propname")) {
        (Some(prop), None, None) => Ok(Wanted::These(names(prop)?)),
        (None, Some(_), None) => {
            Ok(Wanted::All(has("include").map(names).transpose()?.unwrap_or_default()))
        }
        (None, None, Some(_)) => Ok(Wanted::Names),
        _ => Err(Refusal::bad("the XML asks for prop, allprop or propname")),
    }
}

impl Around {
    /// Writes what is told of `resource`, which has the properties `dead`.
    fn tell(&self, out: &mut String, resource: &Resource, dead: &[(Name, String)], site: &Site) {
        let _ = write!(out, "<D:response><D:href>{}</D:href>", escaped(&resource.href));
        let (mut found, mut missing) = (String::new(), String::new());
        match &self.wanted {
            Wanted::Names => {
                for local in TOLD.iter().chain(BY_NAME) {
                    let mut value = String::new();
                    if BY_NAME.contains(local) && resource.file.is_none()
                        || self.live(&mut value, local, resource, site)
                    {
                        let _ = write!(found, "<D:{local}/>");
                    }
                }
                for (name, _) in dead {
                    xml::empty(&mut found, name);
                }
            }
            Wanted::All(more) => {
                for local in TOLD {
                    self.live(&mut found, local, resource, site);
                }
                for (_, value) in dead {
                    found.push_str(value);
                }
                for name in more.iter().filter(|name| BY_NAME.iter().any(|q| name.is_dav(q))) {
                    self.live(&mut found, &name.local, resource, site);
                }
            }
            Wanted::These(names) => {
                let dead: HashMap<&Name, &String> = dead.iter().map(|(n, v)| (n, v)).collect();
                for name in names {
                    if let Some(value) = dead.get(name) {
                        found.push_str(value);
                    } else if name.space != xml::DAV
                        || !self.live(&mut found, &name.local, resource, site)
                    {
                        xml::empty(&mut missing, name);
                    }
                }
            }
        }
        let missing_is_empty = missing.is_empty();
        for (properties, status) in [(found, 200), (missing, 404)] {
            // A response has at least one of the two.
            if properties.is_empty() && (status == 404 || !missing_is_empty) {
                continue;
            }
            let _ = write!(out, "<D:propstat><D:prop>{properties}</D:prop>");
            multi::status(out, status);
            out.push_str("</D:propstat>");
        }
        out.push_str("</D:response>\n");
    }

    /// Writes the property `local` of WebDAV's, if `resource` has it.
    fn live(&self, out: &mut String, local: &str, resource: &Resource, site: &Site) -> bool {
        let writable = resource.entry.as_ref().filter(|(place, _)| site.is_writable(place));
        let value = match local {
            "creationdate" => resource.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "displayname" => escaped(&resource.name),
            "getlastmodified" => http_date(resource.modified),
            "getcontentlength" => match &resource.file {
                Some((bytes, _)) => bytes.to_string(),
                None => return false,
            },
            "getcontenttype" => match &resource.file {
                Some(_) => resource.kind.into(),
                None => return false,
            },
            "getetag" => match &resource.file {
                Some((_, tag)) => escaped(tag),
                None => return false,
            },
            "resourcetype" => match resource.file {
                Some(_) => String::new(),
                None => "<D:collection/>".into(),
            },
            "supportedlock" => match writable {
                Some(_) => lock::SUPPORTED.into(),
                None => String::new(),
            },
            "lockdiscovery" => match writable {
                Some((place, _)) => {
                    site.locks.on(place).iter().map(|held| lock::active(site.side, held)).collect()
                }
                None => String::new(),
            },
            "quota-available-bytes" | "quota-used-bytes" => {
                let Some((used, available)) = self.quota.filter(|_| resource.file.is_none()) else {
                    return false;
                };
                if local == "quota-used-bytes" { used } else { available }.to_string()
            }
            _ => return false,
        };
        let _ = match value.as_str() {
            "" => write!(out, "<D:{local}/>"),
            value => write!(out, "<D:{local}>{value}</D:{local}>"),
        };
        true
    }
}
