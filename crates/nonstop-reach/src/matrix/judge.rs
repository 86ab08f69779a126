//! The judgement of a cell: what gets through beside what may, and the rule that decides.

use super::{Cell, Closed, Making, Target};
use crate::{
    extent::Extent,
    host::{Host, passed_on_macs, single_macs},
    packets::{Field, Packets, ethertype},
    question::{self, Sender, What},
    rules::Family,
    value::Ranges,
    walk::{By, End, Fate},
};

/// What a sender's packets came to, and all it takes to judge its cells.
pub(super) struct Row {
    pub(super) from: String,
    pub(super) parts: Vec<Part>,
}

/// What came of one of its cards.
pub(super) struct Part {
    /// Where it all ended.
    pub(super) ends: Vec<End>,
    /// What each kind is about, in the order of [`What::ALL`].
    pub(super) questions: Vec<Vec<Packets>>,
    /// Those of them that somebody who means it would send.
    typical: Vec<Vec<Packets>>,
    /// For each kind, the ends at which some of it got through, and those at which some of what is
    /// typical was stopped: a row has far more targets than that.
    open: Vec<Vec<usize>>,
    stopped: Vec<Vec<usize>>,
}

impl Part {
    fn new(ends: Vec<End>, questions: Vec<Vec<Packets>>, typical: Vec<Vec<Packets>>) -> Part {
        let meeting = |asked: &[Vec<Packets>], stopped: bool| {
            let of = |asked: &Vec<Packets>| {
                let meets = |end: &End| {
                    (end.fate == Fate::Stopped) == stopped
                        && asked.iter().any(|question| question.meets(&end.packets))
                };
                (0..ends.len()).filter(|n| meets(&ends[*n])).collect()
            };
            asked.iter().map(of).collect()
        };
        let (open, stopped) = (meeting(&questions, false), meeting(&typical, true));
        Part { ends, questions, typical, open, stopped }
    }
}

impl Row {
    pub(super) fn new(
        host: &Host<'_>,
        from: String,
        parts: impl IntoIterator<Item = (Sender, Vec<End>)>,
    ) -> Row {
        let parts = parts.into_iter().map(|(sender, ends)| {
            let questions = What::ALL.map(|what| question::packets(what, sender, host));
            let typical = What::ALL.map(|what| {
                questions[what as usize].iter().map(|q| typical(q, what, sender)).collect()
            });
            Part::new(ends, questions.into(), typical.into())
        });
        Row { from, parts: parts.collect() }
    }

    pub(super) fn ends(&self) -> impl Iterator<Item = &End> {
        self.parts.iter().flat_map(|part| &part.ends)
    }

    /// The same sender with those ends alone that `wanted` keeps.
    pub(super) fn only(&self, wanted: impl Fn(&Part, &End) -> bool) -> Row {
        let parts = self.parts.iter().map(|part| {
            let ends = part.ends.iter().filter(|end| wanted(part, end)).cloned().collect();
            Part::new(ends, part.questions.clone(), part.typical.clone())
        });
        Row { from: self.from.clone(), parts: parts.collect() }
    }
}

impl Making<'_> {
    /// Judges one cell. `opens` is what the sender may open connections to there.
    pub(super) fn cell(
        &mut self,
        row: &Row,
        target: Target,
        what: What,
        allowed: Extent,
        opens: &Extent,
    ) {
        let mut reachable = Extent::none();
        let mut not_proven = None;
        let mut rule = None;
        for part in &row.parts {
            let questions = &part.questions[what as usize];
            for end in part.open[what as usize].iter().map(|n| &part.ends[*n]) {
                if end.fate == Fate::Unknown {
                    not_proven = end.packets.doubt().map(ToString::to_string).or(not_proven);
                    continue;
                }
                let Some(there) = self.at(end, target) else { continue };
                for question in questions {
                    let here = there.and(question);
                    if here.is_empty() {
                        continue;
                    }
                    // To a port that it may open connections to, it may say anything.
                    let to = Extent::of(&here, Field::TargetPort);
                    let extent = Extent::of(&here, what.ports());
                    let excused = what == What::Answers && to.minus(opens).is_none();
                    if excused && !extent.minus(&allowed).is_none() {
                        continue;
                    }
                    match here.doubt() {
                        Some(why) if !extent.minus(&allowed).is_none() => {
                            not_proven.get_or_insert_with(|| why.to_string());
                        }
                        _ => {}
                    }
                    reachable = reachable.or(&extent);
                    if rule.is_none() || !extent.minus(&allowed).is_none() {
                        rule = Some(self.by(&end.by));
                    }
                }
            }
        }
        let closed = reachable.is_none() && allowed.is_none() && not_proven.is_none();
        let missing = allowed.minus(&reachable);
        let rule = match rule {
            Some(rule) if missing.is_none() => rule,
            _ => self.why_closed(row, what, self.met(target), Some(&missing)),
        };
        if closed {
            self.closed(row, target, what, rule);
            return;
        }
        let agrees = reachable == allowed && not_proven.is_none();
        self.matrix.cells.push(Cell {
            from: row.from.clone(),
            to: self.name(target),
            what,
            allowed: allowed.to_string(),
            reachable: reachable.to_string(),
            not_proven,
            agrees,
            rule,
        });
    }

    fn closed(&mut self, row: &Row, target: Target, what: What, rule: String) {
        let to = self.name(target);
        // Cells come by sender and kind, so those that belong together are the latest ones.
        let last = self
            .matrix
            .closed
            .iter_mut()
            .rev()
            .take_while(|closed| closed.from == row.from && closed.what == what);
        for closed in last {
            if closed.rule == rule {
                closed.count += 1;
                closed.to.push(to);
                return;
            }
        }
        let from = row.from.clone();
        self.matrix.closed.push(Closed { from, what, rule, count: 1, to: vec![to] });
    }

    /// The rule by which `what` does not get to whom is met there.
    pub(super) fn why_closed(
        &self,
        row: &Row,
        what: What,
        (addresses, interfaces): (Ranges, Ranges),
        missing: Option<&Extent>,
    ) -> String {
        // The further it came, the more the reason says; and a rule says more than what the
        // kernel does by itself.
        for distance in [Distance::Routed, Distance::Bridged, Distance::Kernel] {
            for part in &row.parts {
                let questions: Vec<Packets> = part.typical[what as usize]
                    .iter()
                    .map(|question| {
                        let mut question = question.clone().with(Field::Oif, &interfaces);
                        if question.get(Field::EtherType).single() == Some(ethertype::IP) {
                            question.narrow(Field::Target, &addresses);
                        }
                        question
                    })
                    .collect();
                let stopped = part.stopped[what as usize].iter().map(|n| &part.ends[*n]);
                for end in stopped.filter(|end| self.distance(&end.by) == distance) {
                    for question in &questions {
                        if !end.packets.meets(question) {
                            continue;
                        }
                        let here = end.packets.and(question);
                        let of_these = missing.is_none_or(|missing| {
                            missing.is_none()
                                || !missing.and(&Extent::of(&here, what.ports())).is_none()
                        });
                        if of_these {
                            return self.by(&end.by);
                        }
                    }
                }
            }
        }
        "no way leads there".into()
    }

    fn distance(&self, by: &By) -> Distance {
        match by {
            By::Rule(place) => match self.host.rules.chains[place.chain as usize].family {
                Family::Bridge | Family::Netdev => Distance::Bridged,
                Family::Inet | Family::Ip | Family::Ip6 | Family::Arp => Distance::Routed,
            },
            By::Kernel(_) | By::Nobody => Distance::Kernel,
        }
    }

    fn by(&self, by: &By) -> String {
        match by {
            By::Rule(place) => self.host.rules.describe(*place),
            By::Kernel(why) => why.to_string(),
            By::Nobody => "no rule says no".into(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Distance {
    Routed,
    Bridged,
    Kernel,
}

/// Those of `question` that somebody who means it would send: whole packets under the own
/// address, not to a group where one target is meant.
fn typical(question: &Packets, what: What, sender: Sender) -> Packets {
    let mut typical = question.clone();
    if let Some(own) = sender.address.map(|own| u128::from(u32::from(own)))
        && question.get(Field::EtherType).single() == Some(ethertype::IP)
        && question.get(Field::Source).contains(own)
    {
        typical.narrow(Field::Source, &Ranges::one(own));
    }
    typical.narrow(Field::LaterFragment, &Ranges::one(0));
    let macs = match what {
        What::Broadcast | What::Arp => passed_on_macs(),
        _ => single_macs(),
    };
    typical.narrow(Field::TargetMac, &macs);
    typical
}
