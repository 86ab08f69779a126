//! What the rules of one hook do with a set of packets.
//!
//! Each rule splits the set into those it matches and those it does not; nothing is sampled.
//! A look-up in a named set costs a hash look-up, since an interface or an address is one
//! value by then.

use crate::{
    operand::fib,
    packets::{Field, NO_OWNER, Packets, ethertype, track},
    rules::{Against, Chain, Family, Hook, Operand, Place, Ruleset, Statement, Test, Verdict},
    value::Ranges,
};
use std::{collections::BTreeMap, sync::Arc};

/// Protocols that have ports where TCP has them.
const WITH_PORTS: [u128; 5] = [6, 17, 33, 132, 136];

/// What is known about the host's own addresses.
pub trait LocalTypes {
    /// The addresses of `kind` (a number of [`fib`]) on `interface`, or on any.
    fn addresses(&self, kind: u128, interface: Option<u128>) -> Ranges;
}

/// Packets that a hook did not let through.
#[derive(Debug, Clone)]
pub struct Stopped {
    /// Which.
    pub packets: Packets,
    /// By what.
    pub by: Place,
    /// What they met is not known here: they may have gone anywhere.
    pub unknown: Option<Arc<str>>,
}

/// Packets that a hook let through.
#[derive(Debug, Clone)]
pub struct Passed {
    /// Which.
    pub packets: Packets,
    /// The rule that let them through; None if none did more than not to drop them.
    pub by: Option<Place>,
}

impl Passed {
    /// Packets that met no rule yet.
    pub fn fresh(packets: Packets) -> Passed {
        Passed { packets, by: None }
    }
}

/// More cases than this for one hook are not followed one by one.
const MOST_CASES: usize = 4096;
/// More elements than this for one look-up are not followed one by one.
const MOST_ELEMENTS: usize = 512;
/// nft refuses deeper jumps.
const DEEPEST: usize = 16;

/// Puts packets through the chains of hooks.
pub struct Evaluator<'a> {
    rules: &'a Ruleset,
    local: &'a dyn LocalTypes,
    stopped: Vec<Stopped>,
    cases: usize,
}

/// Where those that are in a chain go on.
struct Onward<'p> {
    /// Accepted in the hook's chain.
    passed: &'p mut Vec<Passed>,
    /// To the next rule.
    next: Vec<Passed>,
    /// Back to the chain that this one was called from.
    returned: Vec<Passed>,
    /// How many chains deep this one is.
    depth: usize,
}

impl<'a> Evaluator<'a> {
    /// An evaluator of `rules`.
    pub fn new(rules: &'a Ruleset, local: &'a dyn LocalTypes) -> Evaluator<'a> {
        Evaluator { rules, local, stopped: Vec::new(), cases: 0 }
    }

    /// What has been stopped so far; the list is empty afterwards.
    pub fn take_stopped(&mut self) -> Vec<Stopped> {
        std::mem::take(&mut self.stopped)
    }

    /// Puts `input` through all chains of `families` at `hook`; those with devices only if
    /// `device` is among them. Returns what all of them let through.
    pub fn hook(
        &mut self,
        families: &[Family],
        hook: Hook,
        device: Option<&str>,
        input: Vec<Passed>,
    ) -> Vec<Passed> {
        let rules = self.rules;
        let mut chains: Vec<(i64, usize, &Chain)> = Vec::new();
        for (number, chain) in rules.chains.iter().enumerate() {
            let Some(base) = &chain.base else { continue };
            let here = base.hook == hook && families.contains(&chain.family);
            let device = base.devices.is_empty()
                || device.is_some_and(|device| base.devices.iter().any(|d| d == device));
            if here && device {
                chains.push((base.priority, number, chain));
            }
        }
        chains.sort_by_key(|(priority, number, _)| (*priority, *number));
        let mut passed = input;
        for (_, number, chain) in chains {
            passed = self.base(number, chain, passed);
        }
        passed
    }

    fn base(&mut self, number: usize, chain: &Chain, input: Vec<Passed>) -> Vec<Passed> {
        let Some(base) = &chain.base else { return input };
        self.cases = 0;
        let mut passed = Vec::new();
        let mut input = input;
        if base.nat {
            // Only the first packet of a flow is asked.
            let mut first = Vec::new();
            for Passed { packets, by } in input {
                let (new, others) = packets.split(Field::Track, &Ranges::one(track::NEW));
                passed.extend(others.map(|packets| Passed { packets, by }));
                first.extend(new.map(|packets| Passed { packets, by }));
            }
            input = first;
        }
        let rest = self.chain(number, input, &mut passed, 0);
        let policy = Place { chain: number as u32, rule: None };
        if base.accepts {
            passed.extend(rest);
        } else {
            for Passed { packets, .. } in rest {
                self.stopped.push(Stopped { packets, by: policy, unknown: None });
            }
        }
        passed
    }

    /// Returns those that came to the end of the chain, or returned from it.
    fn chain(
        &mut self,
        number: usize,
        input: Vec<Passed>,
        passed: &mut Vec<Passed>,
        depth: usize,
    ) -> Vec<Passed> {
        let mut onward = Onward { passed, next: Vec::new(), returned: Vec::new(), depth };
        let mut here = input;
        let rules = self.rules;
        for (at, rule) in rules.chains[number].rules.iter().enumerate() {
            if here.is_empty() {
                break;
            }
            if !rule.decides {
                continue;
            }
            let place = Place { chain: number as u32, rule: Some(at as u32) };
            let mut matched = here;
            for statement in &rule.statements {
                if matched.is_empty() {
                    break;
                }
                match statement {
                    Statement::Test(test) => {
                        let mut yes = Vec::new();
                        for one in matched {
                            self.test(one, test, &mut yes, &mut onward.next);
                        }
                        matched = yes;
                    }
                    Statement::Perhaps => onward.next.extend(matched.iter().cloned()),
                    Statement::Verdict(verdict) => {
                        let all = std::mem::take(&mut matched);
                        self.act(*verdict, place, all, &mut onward);
                    }
                    Statement::Choose(choices) => {
                        for (test, verdict) in choices {
                            let (mut yes, mut no) = (Vec::new(), Vec::new());
                            for one in matched {
                                self.test(one, test, &mut yes, &mut no);
                            }
                            self.act(*verdict, place, yes, &mut onward);
                            matched = no;
                        }
                    }
                    Statement::Detour(_, what) | Statement::Unknown(what) => {
                        let why: Arc<str> = format!("not known here: {what}").into();
                        for one in &mut matched {
                            let packets = one.packets.clone();
                            let unknown = Some(why.clone());
                            self.stopped.push(Stopped { packets, by: place, unknown });
                            one.packets = std::mem::take(&mut one.packets).doubted(&why);
                        }
                    }
                }
            }
            onward.next.extend(matched);
            let next = std::mem::take(&mut onward.next);
            here = self.bounded(next);
        }
        onward.returned.extend(here);
        onward.returned
    }

    fn act(
        &mut self,
        verdict: Verdict,
        place: Place,
        matched: Vec<Passed>,
        onward: &mut Onward<'_>,
    ) {
        if matched.is_empty() {
            return;
        }
        match verdict {
            Verdict::Accept => {
                let by = Some(place);
                let accepted = matched.into_iter().map(|p| Passed { packets: p.packets, by });
                onward.passed.extend(accepted);
            }
            Verdict::Drop => self.stopped.extend(matched.into_iter().map(|p| Stopped {
                packets: p.packets,
                by: place,
                unknown: None,
            })),
            Verdict::Return => onward.returned.extend(matched),
            Verdict::Continue => onward.next.extend(matched),
            Verdict::Jump(_) | Verdict::Goto(_) if onward.depth >= DEEPEST => onward.next.extend(
                matched.into_iter().map(|p| doubted(p, "chains lead to each other too deeply")),
            ),
            Verdict::Jump(to) => {
                let back = self.chain(to, matched, onward.passed, onward.depth + 1);
                onward.next.extend(back);
            }
            Verdict::Goto(to) => {
                let back = self.chain(to, matched, onward.passed, onward.depth + 1);
                onward.returned.extend(back);
            }
        }
    }

    /// Follows too many cases as one: the most they could be, in doubt.
    fn bounded(&mut self, here: Vec<Passed>) -> Vec<Passed> {
        self.cases += here.len();
        if here.len() <= MOST_CASES && self.cases <= 64 * MOST_CASES {
            return here;
        }
        let mut all = here[0].packets.clone();
        for one in &here {
            for field in Field::ALL {
                all.replace(field, all.get(field).or(one.packets.get(field)));
            }
        }
        vec![doubted(Passed { packets: all, by: here[0].by }, "too many cases to follow")]
    }

    fn test(&self, one: Passed, test: &Test, yes: &mut Vec<Passed>, no: &mut Vec<Passed>) {
        let by = one.by;
        let mut here = one.packets;
        for (field, values) in &test.needs {
            let (met, unmet) = here.split(*field, values);
            no.extend(unmet.map(|packets| Passed { packets, by }));
            match met {
                Some(met) => here = met,
                None => return,
            }
        }
        let (mut equal, mut unequal) = (Vec::new(), Vec::new());
        self.compare(here, test, &mut equal, &mut unequal, no, by);
        if test.negated {
            std::mem::swap(&mut equal, &mut unequal);
        }
        yes.extend(equal.into_iter().map(|packets| Passed { packets, by }));
        no.extend(unequal.into_iter().map(|packets| Passed { packets, by }));
    }

    /// Splits `here` into those that compare equal, those that do not, and, into `no`, those
    /// in which there is nothing to compare.
    fn compare(
        &self,
        here: Packets,
        test: &Test,
        equal: &mut Vec<Packets>,
        unequal: &mut Vec<Packets>,
        no: &mut Vec<Passed>,
        by: Option<Place>,
    ) {
        let mut either = |here: Packets, why: &str| {
            let why: Arc<str> = why.into();
            let here = here.doubted(&why);
            equal.push(here.clone());
            unequal.push(here);
        };
        for operand in &test.operands {
            if let Operand::Unknown(what) = operand {
                return either(here, &format!("not known here: {what}"));
            }
        }
        if let Against::Unknown(what) = &test.against {
            return either(here, &format!("not known here: {what}"));
        }
        // By the direction of their flow, since fields of the flow's first packet are fields
        // of this one, the same or the opposite ones.
        if test.operands.iter().any(|o| matches!(o, Operand::Original(..) | Operand::Reply(..))) {
            let nothing = Ranges::values([track::INVALID, track::UNTRACKED]);
            let (none, here) = here.split(Field::Track, &nothing);
            no.extend(none.map(|packets| Passed { packets, by }));
            let Some(here) = here else { return };
            // An ICMP error belongs to the flow it tells about, whose addresses are not its own;
            // a flow that a helper expected has its own.
            let (icmp, here) = here.split(Field::Protocol, &Ranges::values([1, 58]));
            let (icmp, here) = match icmp {
                Some(icmp) => {
                    let related = Ranges::values([track::RELATED_ORIGINAL, track::RELATED_REPLY]);
                    let (related, own) = icmp.split(Field::Track, &related);
                    (related, [own, here])
                }
                None => (None, [None, here]),
            };
            if let Some(icmp) = icmp {
                either(
                    icmp,
                    "an ICMP error, which belongs to a flow whose addresses it does not bear",
                );
            }
            let replies = Ranges::values([track::ESTABLISHED_REPLY, track::RELATED_REPLY]);
            for here in here.into_iter().flatten() {
                let (reply, original) = here.split(Field::Track, &replies);
                for (part, is_reply) in [(original, false), (reply, true)] {
                    if let Some(part) = part {
                        let fields = fields(&test.operands, is_reply);
                        self.fields(part, test, &fields, equal, unequal);
                    }
                }
            }
            return;
        }
        if let [Operand::LocalType { any_interface }] = test.operands[..] {
            return self.local_type(here, test, any_interface, equal, unequal);
        }
        if test.operands.iter().any(|o| matches!(o, Operand::Port(_))) {
            let (ported, other) = here.split(Field::Protocol, &Ranges::values(WITH_PORTS));
            if let Some(other) = other {
                match self.could_match_without_ports(&other, test) {
                    true => either(other, "ports of a protocol that has none"),
                    false => unequal.push(other),
                }
            }
            let Some(here) = ported else { return };
            return self.fields(here, test, &fields(&test.operands, false), equal, unequal);
        }
        self.fields(here, test, &fields(&test.operands, false), equal, unequal);
    }

    /// Whether bytes that only look like ports could make `test` match.
    fn could_match_without_ports(&self, here: &Packets, test: &Test) -> bool {
        let Against::Set(number) = test.against else { return true };
        let any = Field::TargetPort.any();
        let values: Vec<&Ranges> = test
            .operands
            .iter()
            .map(|operand| match operand {
                Operand::Field(field) => here.get(*field),
                _ => &any,
            })
            .collect();
        let set = &self.rules.sets[number];
        set.strange.is_some() || !set.cases(&values).is_empty()
    }

    fn fields(
        &self,
        here: Packets,
        test: &Test,
        fields: &[Option<Field>],
        equal: &mut Vec<Packets>,
        unequal: &mut Vec<Packets>,
    ) {
        let either = |here: Packets, why: &str| {
            let why: Arc<str> = why.into();
            (here.clone().doubted(&why), here.doubted(&why))
        };
        let known: Option<Vec<Field>> = fields.iter().copied().collect();
        let Some(fields) = known else {
            let (one, other) = either(here, "a comparison of unlike things");
            equal.push(one);
            unequal.push(other);
            return;
        };
        match (&test.against, &fields[..]) {
            (Against::Values(values), [field]) => {
                let (yes, no) = here.split(*field, values);
                equal.extend(yes);
                unequal.extend(no);
            }
            (Against::Set(number), fields) => {
                self.look_up(here, *number, fields, equal, unequal);
            }
            _ => {
                let (one, other) = either(here, "a comparison of unlike things");
                equal.push(one);
                unequal.push(other);
            }
        }
    }

    fn look_up(
        &self,
        here: Packets,
        number: usize,
        fields: &[Field],
        equal: &mut Vec<Packets>,
        unequal: &mut Vec<Packets>,
    ) {
        let set = &self.rules.sets[number];
        if let Some(why) = &set.strange {
            let here = here.doubted(&why.as_str().into());
            equal.push(here.clone());
            unequal.push(here);
            return;
        }
        if let [field] = fields {
            let (yes, no) = here.split(*field, &set.covers(1)[0]);
            equal.extend(yes);
            unequal.extend(no);
            return;
        }
        let values: Vec<&Ranges> = fields.iter().map(|field| here.get(*field)).collect();
        let near = set.cases(&values);
        if near.len() > MOST_ELEMENTS {
            let why: Arc<str> = format!("too many elements of @{} to follow", set.name).into();
            let mut most = here.clone().doubted(&why);
            for (field, values) in fields.iter().zip(set.covers(fields.len())) {
                most.narrow(*field, values);
            }
            equal.push(most);
            unequal.push(here.doubted(&why));
            return;
        }
        // By one field first: else each element would be looked for in what all others have left.
        let (groups, field) = apart(&near);
        let mut here = here;
        if let Some(at) = field {
            let all = groups.iter().flat_map(|group| group[0][at].parts().iter().copied());
            let (some, none) = here.split(fields[at], &Ranges::of(all));
            unequal.extend(none);
            let Some(some) = some else { return };
            here = some;
        }
        for group in groups {
            let packets = match field {
                Some(at) => here.clone().with(fields[at], &group[0][at]),
                None => std::mem::take(&mut here),
            };
            let mut rest = if packets.is_empty() { Vec::new() } else { vec![packets] };
            for element in group {
                let mut others = Vec::new();
                for packets in rest {
                    let mut left = Some(packets);
                    for (field, values) in fields.iter().zip(element) {
                        let Some(packets) = left else { break };
                        let (yes, no) = packets.split(*field, values);
                        others.extend(no);
                        left = yes;
                    }
                    equal.extend(left);
                }
                rest = others;
            }
            unequal.extend(rest);
        }
    }

    fn local_type(
        &self,
        here: Packets,
        test: &Test,
        any_interface: bool,
        equal: &mut Vec<Packets>,
        unequal: &mut Vec<Packets>,
    ) {
        let ip = here.get(Field::EtherType).single() == Some(ethertype::IP);
        let interface = here.get(Field::Iif).single();
        let (Against::Values(kinds), true, true) =
            (&test.against, ip, any_interface || interface.is_some())
        else {
            let why: Arc<str> = "the type of an address on an interface that is not known".into();
            equal.push(here.clone().doubted(&why));
            unequal.push(here.doubted(&why));
            return;
        };
        let interface = if any_interface { None } else { interface };
        let of = |kind| self.local.addresses(kind, interface);
        let special = [fib::LOCAL, fib::BROADCAST, fib::MULTICAST];
        let mut wanted = Ranges::empty();
        for kind in special {
            if kinds.contains(kind) {
                wanted = wanted.or(&of(kind));
            }
        }
        if kinds.contains(fib::UNICAST) {
            let others = special.into_iter().fold(Ranges::empty(), |all, kind| all.or(&of(kind)));
            wanted = wanted.or(&Field::Target.any().minus(&others));
        }
        let (yes, no) = here.split(Field::Target, &wanted);
        equal.extend(yes);
        unequal.extend(no);
    }
}

/// `elements` by the values of the field by which most of them are told apart, if each has exactly one
/// there; else all in one group, and no field.
fn apart(elements: &[Vec<Ranges>]) -> (Vec<Vec<&Vec<Ranges>>>, Option<usize>) {
    let by = |at: usize| {
        let mut groups: BTreeMap<u128, Vec<&Vec<Ranges>>> = BTreeMap::new();
        for element in elements {
            groups.entry(element[at].single()?).or_default().push(element);
        }
        Some((groups, at))
    };
    let width = elements.first().map_or(0, Vec::len);
    match (0..width).filter_map(by).max_by_key(|(groups, _)| groups.len()) {
        Some((groups, at)) => (groups.into_values().collect(), Some(at)),
        None => (vec![elements.iter().collect()], None),
    }
}

fn doubted(one: Passed, why: &str) -> Passed {
    Passed { packets: one.packets.doubted(&why.into()), by: one.by }
}

/// The fields of the packet itself that `operands` are, by the direction of its flow.
fn fields(operands: &[Operand], is_reply: bool) -> Vec<Option<Field>> {
    let field = |operand: &Operand| match (operand, is_reply) {
        (Operand::Field(field) | Operand::Port(field), _) => Some(*field),
        (Operand::Original(same, _), false) | (Operand::Reply(_, same), false) => Some(*same),
        (Operand::Original(_, other), true) | (Operand::Reply(other, _), true) => Some(*other),
        (Operand::LocalType { .. } | Operand::Unknown(_), _) => None,
    };
    operands.iter().map(field).collect()
}

/// Packets that no socket of this host sent.
pub fn from_outside(packets: Packets) -> Packets {
    packets.having(Field::Owner, NO_OWNER)
}
