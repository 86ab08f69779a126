//! Who sends on a day, and how many packets each.
//!
//! There are *singles*, each with a number of packets that is right for what it does (a scan that
//! comes by every address once) and hours of its own, and *crowds*: many senders with a habit in
//! common, of which few send most.

use super::{
    darknet::Darknet,
    dice::{Dice, mixed},
    habit::{Habit, Mistake, PORTS},
    question::Question,
    rate::{self, Rate},
    source::{Internet, Senders, Source, System},
};

/// One that sends by itself.
pub(super) struct Single {
    pub(super) habit: Habit,
    pub(super) source: Source,
    pub(super) rate: Rate,
    pub(super) packets: u64,
}

/// Many that do the same.
pub(super) struct Crowd {
    pub(super) habits: Vec<(Habit, u32)>,
    pub(super) rate: Rate,
    pub(super) packets: u64,
    sources: Vec<Source>,
    /// Packets of each so far.
    sent: Vec<u32>,
    /// Sums of how much the first so many send.
    sums: Vec<u64>,
    /// Whether their number grows from day to day.
    grows: bool,
}

/// Everybody.
pub(super) struct Cast {
    pub(super) singles: Vec<Single>,
    pub(super) crowds: Vec<Crowd>,
}

/// What is wanted.
pub(super) struct Wanted<'a> {
    /// The seed and the domain: they choose who sends.
    pub(super) words: [&'a str; 2],
    /// Days since 1970.
    pub(super) day: u64,
    /// Hours from UTC's begin of the day to the day's.
    pub(super) hours: i64,
    pub(super) packets: u64,
    pub(super) darknet: Darknet,
}

impl Wanted<'_> {
    /// Dice of their own for `what`.
    fn dice(&self, what: &str) -> Dice {
        let [seed, domain] = self.words;
        Dice::of(&[seed, domain, what])
    }
}

/// Many that do the same, before they are chosen.
struct Group {
    name: &'static str,
    habits: Vec<(Habit, u32)>,
    packets: u64,
    many: u64,
    systems: &'static [(System, u32)],
}

// Parts of a thousand of all packets. What is left over is the bots'.
const SCANNERS: u64 = 290;
const SMB: u64 = 110;
const FEW: u64 = 190;
const VICTIMS: u64 = 75;
const MISTAKEN: u64 = 30;
const ASKING: u64 = 60;
const PINGING: u64 = 12;
const FILLER: u64 = 14;
const ADB: u64 = 30;

/// Ports of scanners of one port; each fourth rank has several.
const SCANNED: &[u16] = &[22, 0, 80, 3389, 8080, 0, 443, 22, 6379, 0, 80, 5900, 1433, 0, 8443, 25];
/// Ports of scanners of several.
const LISTS: &[&[u16]] =
    &[&[80, 8080, 81, 8000], &[22, 2222], &[80, 443, 8080, 8443], &[6379, 2375, 9200, 11211]];
/// Scanners that send much.
const MOST_SCANNERS: u64 = 28;

/// Most senders, on a day as busy as there is.
const MOST_SOURCES: u64 = 300_000;
/// Packets that a sender sends on the average.
const EACH: u64 = 45;

/// Hours from UTC of the three parts of the world where crowds live, and how much of them.
const WORLD: &[(i64, u64)] = &[(8, 60), (2, 25), (-5, 15)];

const PEOPLE: &[(System, u32)] =
    &[(System::Linux, 55), (System::Windows, 35), (System::Device, 10)];
const BOTS: &[(System, u32)] = &[(System::Linux, 1)];
const PCS: &[(System, u32)] = &[(System::Windows, 1)];

impl Cast {
    pub(super) fn new(wanted: &Wanted<'_>) -> Self {
        let internet = Internet::new(wanted.dice("networks"), wanted.darknet);
        let senders = |what: &str| internet.senders(wanted.dice(what));
        let mut cast = Self { singles: Vec::new(), crowds: Vec::new() };
        cast.scanners(wanted, senders("scanners"));
        cast.worms(wanted, senders("worms"));
        cast.victims(wanted, senders("victims"));
        cast.mistaken(wanted, senders("mistaken"));
        let sources = (wanted.packets / EACH).clamp(30, MOST_SOURCES);
        let share = |part: u64| wanted.packets * part / 1000;
        let smb = share(SMB).saturating_sub(cast.sent_by(|habit| habit == Habit::Smb));
        let asks = [
            (Question::Dns, 26),
            (Question::Ntp, 20),
            (Question::Ssdp, 16),
            (Question::Sip, 24),
            (Question::Memcached, 8),
            (Question::Snmp, 8),
            (Question::Cldap, 5),
        ];
        let asks: Vec<_> = asks.iter().map(|(q, weight)| (Habit::Asks(*q), *weight)).collect();
        let grown = grown(wanted.day);
        for (name, habits, whole, packets, systems) in [
            ("smb", vec![(Habit::Smb, 1)], smb, smb * (400 + 600 * grown / 1000) / 1000, PCS),
            ("few", vec![(Habit::Few, 1)], share(FEW), share(FEW), PEOPLE),
            ("asking", asks, share(ASKING), share(ASKING), PEOPLE),
            ("pinging", vec![(Habit::Ping, 1)], share(PINGING), share(PINGING), PEOPLE),
            ("filler", vec![(Habit::Filler, 1)], share(FILLER), share(FILLER), PCS),
            ("adb", vec![(Habit::Adb, 1)], share(ADB), share(ADB) * grown / 1000, BOTS),
        ] {
            // Worms get at many, each of which sends little; those who get it later are chosen now.
            let each = if grows(&habits) { 4 } else { 1 };
            let many = each * sources * whole / wanted.packets;
            cast.crowd(wanted, &internet, Group { name, habits, packets, many, systems });
        }
        let packets = wanted.packets - cast.sent_by(|_| true);
        let many = sources * packets / wanted.packets;
        let habits = vec![(Habit::Mirai, 1)];
        let group = Group { name: "mirai", habits, packets, many, systems: BOTS };
        cast.crowd(wanted, &internet, group);
        cast
    }

    /// Packets of those with such habits.
    fn sent_by(&self, which: impl Fn(Habit) -> bool) -> u64 {
        let singles = self.singles.iter().filter(|s| which(s.habit)).map(|s| s.packets);
        let crowds = self.crowds.iter().filter(|c| which(c.habits[0].0)).map(|c| c.packets);
        singles.sum::<u64>() + crowds.sum::<u64>()
    }

    /// Scanners: each comes by all addresses, some several times a day, as far as their part of the
    /// packets goes.
    fn scanners(&mut self, wanted: &Wanted<'_>, mut senders: Senders<'_>) {
        let budget = wanted.packets * SCANNERS / 1000;
        let weights = (0..MOST_SCANNERS).map(|rank| 1000 / (rank + 5));
        let all: u64 = weights.clone().sum();
        let mut left = budget;
        for (rank, weight) in weights.enumerate() {
            let source = senders.next(&[(System::Linux, 3), (System::Windows, 1)]);
            let habit = match rank % 4 {
                1 => Habit::Masscan { ports: LISTS[rank / 4 % LISTS.len()] },
                3 => Habit::InOrder { port: SCANNED[rank % SCANNED.len()] },
                _ => Habit::Zmap { port: SCANNED[rank % SCANNED.len()] },
            };
            let round = wanted.darknet.size()
                * match habit {
                    Habit::Masscan { ports } => ports.len() as u64,
                    _ => 1,
                };
            // Whole rounds, unless the day is too short for one.
            let packets = match (budget * weight / all / round) * round {
                0 if left >= round => round,
                0 if rank < 3 => left / 3,
                packets => packets.min(left / round * round),
            };
            left -= packets;
            // A third of them take a day off.
            if packets == 0 || (rank > 2 && source_rests(&source, wanted.day, 3)) {
                continue;
            }
            let own = mixed(source.key ^ wanted.day);
            let (begin, long) = (own % 1000, 240 + (own >> 32) % 1200);
            let rate = Rate::of(wanted.hours, None).within(begin, begin + long);
            self.singles.push(Single { habit, source, rate, packets });
        }
    }

    /// Hosts with the worm that goes by SMB and come by every address in order.
    fn worms(&mut self, wanted: &Wanted<'_>, mut senders: Senders<'_>) {
        let (budget, round) = (wanted.packets * SMB / 1000 / 2, 2 * wanted.darknet.size());
        for _ in 0..(budget / round).min(40) {
            let source = senders.next(PCS);
            let own = mixed(source.key ^ wanted.day);
            let begin = own % 1200;
            let rate =
                Rate::of(wanted.hours, Some(8)).within(begin, begin + 120 + (own >> 32) % 600);
            self.singles.push(Single { habit: Habit::Smb, source, rate, packets: round });
        }
    }

    /// Victims of floods, others each day: some minutes, or an hour or two.
    fn victims(&mut self, wanted: &Wanted<'_>, mut senders: Senders<'_>) {
        let budget = wanted.packets * VICTIMS / 1000;
        let mut dice = wanted.dice(&format!("floods of {}", wanted.day));
        let many = (wanted.packets / 4000).clamp(4, 60);
        let weights = (0..many).map(|rank| 1000 / (rank + 2));
        let all: u64 = weights.clone().sum();
        for weight in weights {
            let mut source = senders.next(PEOPLE);
            // Another address of the same network each day, and another one with what else it has.
            source.key = dice.u64();
            let near = u32::from(source.address) & !0xfc | (dice.u32() & 0xfc);
            source.address = near.into();
            let port = dice.pick(&[(80, 5), (443, 6), (22, 1), (53, 1), (25565, 2), (8080, 1)]);
            let begin = dice.below(1380);
            let rate = Rate::of(wanted.hours, None).within(begin, begin + dice.between(4, 120));
            let packets = budget * weight / all;
            self.singles.push(Single { habit: Habit::Victim { port }, source, rate, packets });
        }
    }

    /// Those who are mistaken: one address and port, for hours, each day again.
    fn mistaken(&mut self, wanted: &Wanted<'_>, mut senders: Senders<'_>) {
        let mistakes = [
            Mistake::Says(Question::Syslog),
            Mistake::Connects(873),
            Mistake::Says(Question::Snmp),
            Mistake::Says(Question::Dns),
            Mistake::Connects(8333),
            Mistake::Connects(1883),
            Mistake::Says(Question::Ntp),
            Mistake::Connects(636),
        ];
        let budget = wanted.packets * MISTAKEN / 1000;
        let many = mistakes.len() as u64;
        for (rank, mistake) in (0..).zip(mistakes) {
            let source = senders.next(PEOPLE);
            let begin = source.habit(7, 900);
            let rate =
                Rate::of(wanted.hours, None).within(begin, begin + 300 + source.habit(8, 900));
            let packets = budget * (many - rank) / (many * (many + 1) / 2) / 4 * 4;
            self.singles.push(Single { habit: Habit::Mistaken(mistake), source, rate, packets });
        }
    }

    /// A crowd in each part of the world; the last gets what division leaves.
    fn crowd(&mut self, wanted: &Wanted<'_>, internet: &Internet, group: Group) {
        let Group { name, habits, packets, many, systems } = group;
        let grows = grows(&habits);
        let mut left = packets;
        for (part, (zone, of_hundred)) in WORLD.iter().enumerate() {
            let packets = if part + 1 == WORLD.len() { left } else { packets * of_hundred / 100 };
            left -= packets;
            let many = (many * of_hundred / 100).max(3);
            let mut dice = wanted.dice(&format!("{name} {part} on {}", wanted.day));
            let mut senders = internet.senders(wanted.dice(&format!("{name} {part}")));
            let mut rate = Rate::of(wanted.hours, Some(*zone)).uneven(&mut dice);
            if grows {
                let (now, then) = (grown(wanted.day), grown(wanted.day + 1).max(grown(wanted.day)));
                rate = rate.growing(now, then);
            }
            let sources: Vec<_> = (0..many).map(|_| senders.next(systems)).collect();
            let mut sum = 0;
            let sums = (0..many).map(|rank| {
                sum += (1 << 32) / (rank + 3);
                sum
            });
            self.crowds.push(Crowd {
                habits: habits.clone(),
                rate,
                packets,
                sent: vec![0; sources.len()],
                sums: sums.collect(),
                sources,
                grows,
            });
        }
    }
}

impl Crowd {
    /// Who sends the next packet in `minute` of `day`, and how many it has sent before.
    pub(super) fn next(&mut self, dice: &mut Dice, day: u64, minute: u64) -> (Habit, Source, u64) {
        let many = if self.grows {
            let (now, then) = (grown(day), grown(day + 1).max(grown(day)));
            let part = now * rate::MINUTES + (then - now) * minute;
            (self.sources.len() as u64 * part / (1000 * rate::MINUTES)).max(1) as usize
        } else {
            self.sources.len()
        };
        let all = self.sums[many - 1];
        let mut who = 0;
        for _ in 0..4 {
            let at = dice.below(all);
            who = self.sums[..many].partition_point(|sum| *sum <= at);
            // Each day others of them rest.
            if self.grows || !source_rests(&self.sources[who], day, 4) {
                break;
            }
        }
        let before = self.sent[who];
        self.sent[who] += 1;
        let source = self.sources[who];
        let all: u32 = self.habits.iter().map(|(_, weight)| weight).sum();
        let mut at = source.habit(9, all.into()) as u32;
        let mut habit = self.habits[0].0;
        for (one, weight) in &self.habits {
            if at < *weight {
                habit = *one;
                break;
            }
            at -= weight;
        }
        // Where it begins today.
        (habit, source, u64::from(before) + source.habit(10 + day, 1 << 20) * 2)
    }
}

/// Whether a sender is one of those, one in `of`, who send nothing on this day.
fn source_rests(source: &Source, day: u64, of: u64) -> bool {
    source.habit(1 << 32 | day, of) == 0
}

/// Whether those with such habits become more from day to day.
fn grows(habits: &[(Habit, u32)]) -> bool {
    matches!(habits[0].0, Habit::Adb | Habit::Smb)
}

/// How many of those who get a worm have it, of a thousand: it spreads for three weeks, then is cleaned
/// up.
fn grown(day: u64) -> u64 {
    const WEEKS: [u64; 21] = [
        40, 52, 68, 88, 113, 145, 185, 233, 290, 356, 430, 508, 586, 660, 727, 785, 833, 871, 901,
        924, 940,
    ];
    WEEKS[(day % 21) as usize]
}

// A scan of all ports is the rest of what the many do.
const _: () = assert!(PORTS[PORTS.len() - 1].0 == 0);
