//! What `nft -j list ruleset` says, read into a [`Ruleset`].
//!
//! By hand and not with the types of the crate `nftables`: those refuse a whole listing for one
//! verdict map or one named uid in it, and a lab's host may run other firewalls beside ours.

use crate::{
    operand::{self, Kind},
    packets::{Field, ethertype},
    rules::{Against, Base, Chain, Family, Hook, Operand, Rule, Ruleset, Statement, Test, Verdict},
    set::Set,
    text,
    value::Ranges,
};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// The listing has not the shape of one.
#[derive(Debug, thiserror::Error)]
#[error("`nft -j list ruleset` did not list its objects under `nftables`")]
pub struct NoListing;

/// The objects of a listing.
pub fn objects(listing: &Value) -> Result<&Vec<Value>, NoListing> {
    listing.get("nftables").and_then(Value::as_array).ok_or(NoListing)
}

/// Reads a listing.
///
/// Errors: only if it is no listing at all; what is in it and not known makes the ruleset say so.
pub fn read(listing: &Value) -> Result<Ruleset, NoListing> {
    let objects = objects(listing)?;
    let mut reader = Reader::default();
    for object in objects {
        reader.declare(object);
    }
    for object in objects {
        if let Some(rule) = object.get("rule") {
            reader.rule(rule);
        }
    }
    Ok(reader.ruleset)
}

type Name = (String, String, String);

#[derive(Default)]
struct Reader<'a> {
    ruleset: Ruleset,
    chains: HashMap<Name, usize>,
    /// Named sets and maps as listed.
    listed: HashMap<Name, &'a Value>,
    /// Named sets that are read already.
    read: HashMap<Name, usize>,
    /// Sets that rules fill.
    growing: HashSet<Name>,
    dormant: HashSet<(String, String)>,
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn name(of: &Value, name: &str) -> Name {
    (word(of, "family").into(), word(of, "table").into(), name.into())
}

impl<'a> Reader<'a> {
    fn declare(&mut self, object: &'a Value) {
        let Some((kind, body)) = object.as_object().and_then(|o| o.iter().next()) else { return };
        match kind.as_str() {
            "metainfo" | "counter" | "quota" | "limit" | "ct helper" | "ct timeout" => {}
            "table" => {
                let flags = body["flags"].to_string();
                if flags.contains("dormant") {
                    self.dormant.insert((word(body, "family").into(), word(body, "name").into()));
                }
                if Family::parse(word(body, "family")).is_none() {
                    self.strange(format!("table of the unknown family {body}"));
                }
            }
            "set" | "map" => {
                self.listed.insert(name(body, word(body, "name")), body);
            }
            "chain" => self.chain(body),
            "rule" => self.grown_by(body),
            other => self.strange(format!("{other} {}", word(body, "name"))),
        }
    }

    fn strange(&mut self, what: String) {
        self.ruleset.strange.push(what);
    }

    fn chain(&mut self, body: &Value) {
        let Some(family) = Family::parse(word(body, "family")) else { return };
        let table = (word(body, "family").to_string(), word(body, "table").to_string());
        let hook = match body.get("hook").and_then(Value::as_str) {
            None => None,
            Some(hook) => match Hook::parse(hook) {
                Some(hook) => Some(hook),
                None => return self.strange(format!("chain at the unknown hook {hook}")),
            },
        };
        let devices = match &body["dev"] {
            Value::String(device) => vec![device.clone()],
            Value::Array(devices) => {
                devices.iter().filter_map(|d| d.as_str().map(str::to_string)).collect()
            }
            _ => Vec::new(),
        };
        let base = hook.filter(|_| !self.dormant.contains(&table)).map(|hook| Base {
            hook,
            nat: word(body, "type") == "nat",
            priority: body["prio"].as_i64().unwrap_or_default(),
            accepts: word(body, "policy") != "drop",
            devices,
        });
        self.chains.insert(name(body, word(body, "name")), self.ruleset.chains.len());
        self.ruleset.chains.push(Chain {
            family,
            table: table.1,
            name: word(body, "name").into(),
            base,
            rules: Vec::new(),
        });
    }

    /// Notes which sets `rule` fills, so that what they hold is not taken for fixed.
    fn grown_by(&mut self, rule: &Value) {
        for statement in rule["expr"].as_array().into_iter().flatten() {
            for kind in ["set", "map", "meter"] {
                if let Some(set) = statement.get(kind).and_then(|s| s.get("set").or(s.get("map")))
                    && let Some(set) = set.as_str()
                {
                    self.growing.insert(name(rule, set.trim_start_matches('@')));
                }
            }
        }
    }

    fn rule(&mut self, body: &'a Value) {
        let Some(&chain) = self.chains.get(&name(body, word(body, "chain"))) else {
            return self
                .strange(format!("rule of an unknown chain: {}", text::rule(&body["expr"])));
        };
        let family = self.ruleset.chains[chain].family;
        let mut statements = Vec::new();
        for expression in body["expr"].as_array().into_iter().flatten() {
            match self.statement(family, body, expression) {
                Some(statement) => statements.push(statement),
                None => continue,
            }
            if self.counts(body, expression) {
                statements.push(Statement::Perhaps);
            }
        }
        // Until it is known what is around it.
        let rule = Rule { statements, text: text::rule(&body["expr"]), decides: true };
        self.ruleset.chains[chain].rules.push(rule);
    }

    /// Whether `expression` looks into a set whose elements have limits: one that is there matches
    /// some packets and not others.
    fn counts(&self, rule: &Value, expression: &Value) -> bool {
        let set = expression["match"]["right"].as_str().and_then(|right| right.strip_prefix('@'));
        let set = set.and_then(|set| self.listed.get(&name(rule, set)));
        set.is_some_and(|set| set["stmt"].as_array().is_some_and(|limits| !limits.is_empty()))
    }

    /// None for what changes nothing about where a packet goes.
    fn statement(
        &mut self,
        family: Family,
        rule: &'a Value,
        statement: &'a Value,
    ) -> Option<Statement> {
        let unknown =
            || Some(Statement::Unknown(text::rule(&Value::from(vec![statement.clone()]))));
        // `{"accept": null}`; an xt match of iptables is just `{"xt": …}`.
        let Some((kind, body)) = statement.as_object().and_then(|o| o.iter().next()) else {
            return unknown();
        };
        if let Some(verdict) = self.verdict(rule, statement) {
            return Some(match verdict {
                Ok(verdict) => Statement::Verdict(verdict),
                Err(why) => Statement::Unknown(why),
            });
        }
        match kind.as_str() {
            "match" => Some(Statement::Test(self.test(family, rule, body))),
            "counter" | "log" | "last" | "comment" | "notrack" => None,
            // Rewrites where it comes from; where it goes stays.
            "masquerade" | "snat" => Some(Statement::Verdict(Verdict::Accept)),
            "limit" | "quota" | "ct count" | "connlimit" => Some(Statement::Perhaps),
            "set" | "map" | "meter" => match word(body, "op") {
                "delete" => None,
                // Also without a limit in it: a full set takes no more, and ends the rule.
                _ => Some(Statement::Perhaps),
            },
            "mangle" => {
                let key = body["key"]["meta"]["key"].as_str().or(body["key"]["ct"]["key"].as_str());
                // A size that a TCP connection is told changes nothing about where it goes.
                let option = &body["key"]["tcp option"];
                if option["name"] == "maxseg" && option["field"] == "size" {
                    return None;
                }
                match key {
                    Some("mark" | "priority" | "nftrace" | "label") => None,
                    _ => unknown(),
                }
            }
            "fwd" => match body["dev"].as_str() {
                Some(device) if body.get("addr").is_none() => {
                    let text = text::rule(&Value::from(vec![statement.clone()]));
                    Some(Statement::Detour(device.into(), text))
                }
                _ => unknown(),
            },
            "vmap" => {
                let data = match &body["data"] {
                    Value::String(of) => self
                        .listed
                        .get(&name(rule, of.trim_start_matches('@')))
                        .map(|map| &map["elem"]),
                    data => data.get("set"),
                };
                let mut choices = Vec::new();
                for pair in data.and_then(Value::as_array).into_iter().flatten() {
                    let (Some(key), Some(verdict)) = (pair.get(0), pair.get(1)) else {
                        return unknown();
                    };
                    let key = key.get("elem").map_or(key, |elem| &elem["val"]);
                    let (Some(Ok(verdict)), true) = (self.verdict(rule, verdict), !key.is_null())
                    else {
                        return unknown();
                    };
                    choices.push((self.compare(family, rule, &body["key"], key, "=="), verdict));
                }
                match data {
                    Some(_) => Some(Statement::Choose(choices)),
                    None => unknown(),
                }
            }
            _ => unknown(),
        }
    }

    /// None if it is no verdict; an error if it leads to a chain that is not there.
    fn verdict(&self, rule: &Value, statement: &Value) -> Option<Result<Verdict, String>> {
        let (kind, body) = statement.as_object()?.iter().next()?;
        let target = || {
            let to = word(body, "target");
            let found = self.chains.get(&name(rule, to)).copied();
            found.ok_or_else(|| format!("{kind} to the unknown chain {to}"))
        };
        Some(match kind.as_str() {
            "accept" => Ok(Verdict::Accept),
            "drop" | "reject" => Ok(Verdict::Drop),
            "return" => Ok(Verdict::Return),
            "continue" => Ok(Verdict::Continue),
            "jump" => target().map(Verdict::Jump),
            "goto" => target().map(Verdict::Goto),
            _ => return None,
        })
    }

    fn test(&mut self, family: Family, rule: &'a Value, body: &'a Value) -> Test {
        self.compare(family, rule, &body["left"], &body["right"], word(body, "op"))
    }

    fn compare(
        &mut self,
        family: Family,
        rule: &'a Value,
        left: &Value,
        right: &'a Value,
        op: &str,
    ) -> Test {
        let mut needs = Vec::new();
        let (left, mask) = match left.get("&").and_then(Value::as_array) {
            Some(masked) if masked.len() == 2 => (&masked[0], Some(&masked[1])),
            _ => (left, None),
        };
        let parts = match left.get("concat").and_then(Value::as_array) {
            Some(parts) => parts.iter().collect(),
            None => vec![left],
        };
        let mut operands = Vec::new();
        let mut kinds = Vec::new();
        for part in parts {
            let (operand, kind) = operand::read(family, part, &mut needs);
            self.ruleset.tracks |= part.get("ct").is_some();
            operands.push(operand);
            kinds.push(kind);
        }
        let negated = op == "!=" || op == "!";
        let against = if !["==", "!=", "in", "!", ""].contains(&op) {
            match ordered(op, right, &kinds, &operands) {
                Some(values) => Against::Values(values),
                None => Against::Unknown(format!("comparison {op}")),
            }
        } else if let Some(mask) = mask {
            match operand::masked(&operands, &kinds, mask, right) {
                Some(values) => Against::Values(values),
                None => Against::Unknown(format!("{left} & {mask} {op} {right}")),
            }
        } else {
            self.against(rule, &kinds, right, op == "in" || op == "!")
        };
        Test { needs, operands, against, negated }
    }

    fn against(
        &mut self,
        rule: &'a Value,
        kinds: &[Kind],
        right: &'a Value,
        any_bit: bool,
    ) -> Against {
        if let Some(set) = right.as_str().and_then(|text| text.strip_prefix('@')) {
            return match self.named(name(rule, set), kinds) {
                Some(set) => Against::Set(set),
                None => Against::Unknown(format!("set @{set}")),
            };
        }
        if let [kind] = kinds {
            return match operand::values(*kind, right, any_bit) {
                Some(values) => Against::Values(values),
                None => Against::Unknown(right.to_string()),
            };
        }
        let listed = match right.get("set").and_then(Value::as_array) {
            Some(elements) => elements.iter().collect(),
            None => vec![right],
        };
        match listed.into_iter().map(|element| fields(element, kinds)).collect() {
            Some(elements) => {
                self.ruleset.sets.push(Set::new(String::new(), elements, None));
                Against::Set(self.ruleset.sets.len() - 1)
            }
            None => Against::Unknown(right.to_string()),
        }
    }

    /// The number of the set `name`, read with the kinds of values that the rule looks at.
    fn named(&mut self, name: Name, kinds: &[Kind]) -> Option<usize> {
        if let Some(set) = self.read.get(&name) {
            return Some(*set);
        }
        let body = *self.listed.get(&name)?;
        let listed = body["elem"].as_array();
        let elements: Option<Vec<Vec<Ranges>>> =
            listed.into_iter().flatten().map(|element| fields(element, kinds)).collect();
        let strange = match &elements {
            None => Some(format!("an element of @{} cannot be read", name.2)),
            Some(_) if self.growing.contains(&name) => {
                Some(format!("rules fill @{}, so what it holds changes", name.2))
            }
            Some(_) => None,
        };
        let set = Set::new(name.2.clone(), elements.unwrap_or_default(), strange);
        self.ruleset.sets.push(set);
        self.read.insert(name, self.ruleset.sets.len() - 1);
        Some(self.ruleset.sets.len() - 1)
    }
}

/// The values of each field of an element of a set.
fn fields(element: &Value, kinds: &[Kind]) -> Option<Vec<Ranges>> {
    let element = element.get("elem").map_or(element, |elem| &elem["val"]);
    match (element.get("concat").and_then(Value::as_array), kinds) {
        (Some(parts), kinds) if parts.len() == kinds.len() => parts
            .iter()
            .zip(kinds)
            .map(|(part, kind)| operand::values(*kind, part, false))
            .collect(),
        (None, [kind]) => Some(vec![operand::values(*kind, element, false)?]),
        _ => None,
    }
}

/// The values for `<`, `>`, `<=` and `>=`.
fn ordered(op: &str, right: &Value, kinds: &[Kind], operands: &[Operand]) -> Option<Ranges> {
    let ([kind], [Operand::Field(field) | Operand::Port(field)]) = (kinds, operands) else {
        return None;
    };
    let edge = operand::values(*kind, right, false)?.single()?;
    Some(match op {
        "<" => Ranges::between(0, edge.checked_sub(1)?),
        "<=" => Ranges::between(0, edge),
        ">" => Ranges::between(edge + 1, field.greatest()),
        ">=" => Ranges::between(edge, field.greatest()),
        _ => return None,
    })
}

/// What must hold for a packet to be IPv4.
pub(crate) fn is_ip() -> (Field, Ranges) {
    (Field::EtherType, Ranges::one(ethertype::IP))
}
