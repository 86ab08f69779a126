//! The rules of the running kernel in a form that can be evaluated.
//!
//! [`crate::listing`] makes them from what `nft -j list ruleset` says. What it does not know
//! becomes [`Statement::Unknown`] or [`Operand::Unknown`], never nothing.

use crate::{packets::Field, set::Set, value::Ranges};
use std::fmt;

/// Whose packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // The names are nft's.
pub enum Family {
    Inet,
    Ip,
    Ip6,
    Arp,
    Bridge,
    Netdev,
}

impl Family {
    /// From nft's word.
    pub fn parse(word: &str) -> Option<Family> {
        Some(match word {
            "inet" => Family::Inet,
            "ip" => Family::Ip,
            "ip6" => Family::Ip6,
            "arp" => Family::Arp,
            "bridge" => Family::Bridge,
            "netdev" => Family::Netdev,
            _ => return None,
        })
    }

    /// nft's word.
    pub fn word(self) -> &'static str {
        match self {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
            Family::Arp => "arp",
            Family::Bridge => "bridge",
            Family::Netdev => "netdev",
        }
    }
}

/// Where on its way a packet meets a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // The names are nft's.
pub enum Hook {
    Ingress,
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    Egress,
}

impl Hook {
    /// From nft's word.
    pub fn parse(word: &str) -> Option<Hook> {
        Some(match word {
            "ingress" => Hook::Ingress,
            "prerouting" => Hook::Prerouting,
            "input" => Hook::Input,
            "forward" => Hook::Forward,
            "output" => Hook::Output,
            "postrouting" => Hook::Postrouting,
            "egress" => Hook::Egress,
            _ => return None,
        })
    }
}

/// All tables.
#[derive(Debug, Default)]
pub struct Ruleset {
    /// Their chains.
    pub chains: Vec<Chain>,
    /// The sets that rules look into, those without a name too.
    pub sets: Vec<Set>,
    /// What was listed and is not known here, so that nothing can be said for certain.
    pub strange: Vec<String>,
    /// Whether the connection tracker works, which joins fragments before our hooks.
    pub tracks: bool,
}

/// One chain.
#[derive(Debug)]
pub struct Chain {
    /// Its table's family.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where it is hooked in; None for one that is only jumped to.
    pub base: Option<Base>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// How a base chain is hooked in.
#[derive(Debug)]
pub struct Base {
    /// Where.
    pub hook: Hook,
    /// Whether only the first packet of a flow comes here.
    pub nat: bool,
    /// Lower ones first.
    pub priority: i64,
    /// What happens at the chain's end.
    pub accepts: bool,
    /// For which devices; all if empty.
    pub devices: Vec<String>,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// In order; a test that fails ends the rule.
    pub statements: Vec<Statement>,
    /// As a person reads it.
    pub text: String,
    /// Whether it can decide anything; counters and logs alone cannot.
    pub decides: bool,
}

/// A part of a rule.
#[derive(Debug)]
pub enum Statement {
    /// Goes on only with those that pass.
    Test(Test),
    /// Goes on with some and not with others, by what the kernel counts.
    Perhaps,
    /// What happens to those that came here.
    Verdict(Verdict),
    /// A verdict by the first test that is passed.
    Choose(Vec<(Test, Verdict)>),
    /// Leads over another device, as text says. [`Ruleset::settle`] knows whether it comes back.
    Detour(String, String),
    /// Could do anything.
    Unknown(String),
}

impl Statement {
    /// Whether it can decide what becomes of a packet; counters cannot.
    fn decides(&self) -> bool {
        match self {
            Statement::Verdict(Verdict::Continue) | Statement::Test(_) | Statement::Perhaps => {
                false
            }
            Statement::Verdict(_)
            | Statement::Choose(_)
            | Statement::Detour(..)
            | Statement::Unknown(_) => true,
        }
    }
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The names are nft's.
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Continue,
    Jump(usize),
    Goto(usize),
}

/// A comparison.
#[derive(Debug)]
pub struct Test {
    /// What must hold for the fields to exist at all, however the comparison is turned.
    pub needs: Vec<(Field, Ranges)>,
    /// What is looked at.
    pub operands: Vec<Operand>,
    /// With what.
    pub against: Against,
    /// Whether those that differ pass.
    pub negated: bool,
}

/// Something looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// A field.
    Field(Field),
    /// A port of a protocol that may have none.
    Port(Field),
    /// A field of the flow's first packet: given for a packet of the same direction, and for
    /// one of the other.
    Original(Field, Field),
    /// The same, of the flow's reply.
    Reply(Field, Field),
    /// The type of the target address, on the interface it came in by.
    LocalType {
        /// Whether addresses of other interfaces count.
        any_interface: bool,
    },
    /// Something else.
    Unknown(String),
}

/// What is compared with.
#[derive(Debug)]
pub enum Against {
    /// Values of the only operand.
    Values(Ranges),
    /// Elements of a set of the ruleset.
    Set(usize),
    /// Something else.
    Unknown(String),
}

/// The rule, or the chain's policy, that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Number of the chain in the ruleset.
    pub chain: u32,
    /// Number of the rule in it; None for its policy.
    pub rule: Option<u32>,
}

impl Ruleset {
    /// Takes detours over a device that gives back what it is given, where it was given, for what
    /// they are; others could do anything. Then says which rules can decide anything.
    pub fn settle(&mut self, gives_back: impl Fn(&str) -> bool) {
        for rule in self.chains.iter_mut().flat_map(|chain| &mut chain.rules) {
            rule.statements.retain_mut(|statement| {
                let Statement::Detour(device, text) = statement else { return true };
                let back = gives_back(device);
                *statement = Statement::Unknown(std::mem::take(text));
                !back
            });
            rule.decides = rule.statements.iter().any(Statement::decides);
        }
        let idle = |chain: &Chain| chain.rules.iter().all(|rule| !rule.decides);
        let idle: Vec<bool> = self.chains.iter().map(idle).collect();
        for rule in self.chains.iter_mut().flat_map(|chain| &mut chain.rules) {
            // To jump to where nothing is decided, and back, decides nothing.
            rule.decides = rule.statements.iter().any(|statement| match statement {
                Statement::Verdict(Verdict::Jump(to)) => !idle[*to],
                other => other.decides(),
            });
        }
    }

    /// `place` as a person reads it.
    pub fn describe(&self, place: Place) -> String {
        let chain = &self.chains[place.chain as usize];
        match place.rule {
            Some(at) => {
                let rule = &chain.rules[at as usize];
                format!("{chain} #{}: {}", at + 1, rule.text)
            }
            None => {
                let accepts = chain.base.as_ref().is_none_or(|base| base.accepts);
                format!("{chain} policy {}", if accepts { "accept" } else { "drop" })
            }
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family.word(), self.table, self.name)
    }
}
