//! What is asked of the store, and which of its samples are an answer.

use super::store::{DAYS, OF_A_DAY, day};

/// All samples.
const ALL: u64 = DAYS * OF_A_DAY;
/// How many are told at once where it is not said.
const USUAL: usize = 50;

/// Kinds of questions, each asked as often.
pub(super) const KINDS: [&str; 16] = [
    "hash",
    "begin of a hash",
    "family",
    "tag",
    "type",
    "days",
    "rare word",
    "word of a field",
    "common word",
    "words in a row",
    "begin of a word",
    "family, type and days",
    "tag, word and days",
    "no hash",
    "no word",
    "nothing together",
];

/// One question.
#[derive(Debug)]
pub(super) struct Question {
    /// As the fields of a form.
    pub(super) fields: String,
    /// How many samples are told on the first page.
    pub(super) told: usize,
    /// Which they can be.
    pub(super) is: Is,
}

/// What is asked of a sample, by its number.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Is {
    number: Option<u64>,
    family: Option<u64>,
    kind: Option<u64>,
    /// The rest of a division.
    rest: Option<(u64, u64)>,
    /// The first day and the one behind the last.
    days: Option<(u64, u64)>,
    never: bool,
}

impl Is {
    /// Whether the sample with this number is.
    pub(super) fn holds(&self, number: u64) -> bool {
        let day = number / OF_A_DAY;
        !self.never
            && self.number.is_none_or(|is| is == number)
            && self.family.is_none_or(|family| number / 5 % 5 == family)
            && self.kind.is_none_or(|kind| number % 5 == kind)
            && self.rest.is_none_or(|(by, rest)| number % by == rest)
            && self.days.is_none_or(|(from, behind)| (from..behind).contains(&day))
    }
}

/// As `nonstop-samples generate` has them.
const FAMILIES: [&str; 5] = ["Alder", "Birch", "Cedar", "Elm", "Fir"];
/// By content, and as tags have it.
const TYPES: [&str; 5] = ["text", "pe", "elf", "pdf", "script"];
const TAGS: [&str; 5] = ["eicar", "pe", "elf", "pdf", "script"];

/// The question of the kind `kind` with the number `n`, over samples of these hashes.
pub(super) fn question(kind: usize, n: u64, hashes: &[String]) -> Question {
    // Spread over all of them, and another for each.
    let at = n.wrapping_mul(2_654_435_761).wrapping_add(kind as u64) % ALL;
    let hash = &hashes[at as usize];
    let five = at % 5;
    let (family, tag, type_) = (FAMILIES[five as usize], TAGS[five as usize], TYPES[five as usize]);
    let from = at / 7 % DAYS;
    let behind = from + 1 + at / 11 % (DAYS - from);
    let days = format!("from={}&until={}", day(from), day(behind - 1));
    let rest = at % 499;
    let word = format!("text=domains%3Ac{rest}.example.com");
    let of = |fields: String, is: Is| Question { fields, told: told(is), is };
    let any = Is::default();
    let (of_family, of_kind) = (Is { family: Some(five), ..any }, Is { kind: Some(five), ..any });
    match KINDS[kind] {
        "hash" => of(format!("hash={hash}"), Is { number: Some(at), ..any }),
        "begin of a hash" => {
            let begin = &hash[..3 + (at % 8) as usize];
            let told = hashes.iter().filter(|hash| hash.starts_with(begin)).count();
            // Which they are is seen by their hashes, which are asked for here.
            Question { fields: format!("hash={begin}"), told: told.min(USUAL), is: any }
        }
        "family" => of(format!("family=harmless.{family}"), of_family),
        "tag" => of(format!("tag={tag}"), of_kind),
        "type" => of(format!("type={type_}"), of_kind),
        "days" => of(days, Is { days: Some((from, behind)), ..any }),
        "rare word" => {
            let name = format!("harmless{at}.{tag}");
            of(format!("text={name}"), Is { number: Some(at), ..any })
        }
        "word of a field" => of(word, Is { rest: Some((499, rest)), ..any }),
        "common word" => match at % 3 {
            0 => of("text=System32".into(), any),
            1 => of("text=vendor0".into(), any),
            // Only the reports of one of the sandboxes have it.
            _ => of("text=processes%3Acmd".into(), Is { rest: Some((2, 0)), ..any }),
        },
        "words in a row" => {
            let rest = at % 997;
            let fields = format!("text=mutexes%3A%22Global%5Charmless-{rest}%22");
            of(fields, Is { rest: Some((997, rest)), ..any })
        }
        "begin of a word" => of(
            format!("text=registry%3Ahar*+files%3Amodu*&{days}"),
            Is { days: Some((from, behind)), ..any },
        ),
        "family, type and days" => {
            let is = Is { kind: Some(five), days: Some((from, behind)), ..any };
            let other = at / 5 % 5;
            let fields =
                format!("family=Harmless.{}&type={type_}&{days}", FAMILIES[other as usize]);
            of(fields, Is { family: Some(other), ..is })
        }
        "tag, word and days" => {
            let is = Is { kind: Some(five), days: Some((from, behind)), ..any };
            of(format!("tag={tag}&{word}&{days}"), Is { rest: Some((499, rest)), ..is })
        }
        "no hash" => {
            let other = format!("{}{}", &hash[32..], &hash[..32]);
            of(format!("hash={other}"), Is { never: true, ..any })
        }
        "no word" => of(format!("text=harmless{}x", at), Is { never: true, ..any }),
        _ => {
            // Each part is of a fifth of all, or of all.
            let other = TAGS[((five + 1) % 5) as usize];
            let fields = match at / 5 % 4 {
                0 => format!("tag={other}&type={type_}"),
                1 => format!("text=System32&family=Harmless.{family}&type=zip"),
                2 => "text=System32+vendor0&tag=nobodys".into(),
                _ => format!("text=System32&tag={other}&type={type_}"),
            };
            of(fields, Is { never: true, ..any })
        }
    }
}

fn told(is: Is) -> usize {
    (0..ALL).filter(|number| is.holds(*number)).take(USUAL).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_an_answer_but_those_that_have_none() {
        let hashes: Vec<String> = (0..ALL)
            .map(|n| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(4))
            .collect();
        for (kind, name) in KINDS.iter().enumerate() {
            let told: usize = (0..20).map(|n| question(kind, n, &hashes).told).sum();
            let none = ["no hash", "no word", "nothing together"].contains(name);
            assert_eq!(told == 0, none, "{name}");
        }
    }
}
