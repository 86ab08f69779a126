//! What a lab makes of what is found: the section `screening` of `lab.yaml`.

use super::{Group, Kind, RuleId, Verdict};
use crate::{
    data_domain::{Fault, Resource},
    lab::Lab,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

/// How files are screened before they leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Screening {
    /// Folder of the lab's own rules: YARA rules in `*.yar`, programs in `programs/`; absolute. A
    /// change counts from the next file on. No folder, no rules.
    pub rules: PathBuf,
    /// How long one check of a file may take, in seconds; 20 more for each GiB.
    pub seconds: u32,
    /// Memory that a check may use beside the file itself, in MiB.
    pub memory_mib: u32,
    /// Which files a person has to look at, whatever the checks say.
    pub review: Review,
    /// What happens to a kind of file, or to a group of kinds: allow, hold or block.
    pub types: BTreeMap<String, Verdict>,
    /// What happens when a rule finds something: pass, hold or block. `yara` and `program` stand
    /// for all rules of that sort.
    pub findings: BTreeMap<String, Verdict>,
    /// The same for one data domain, whose words count before these.
    pub editions: BTreeMap<String, EditionScreening>,
    /// Whether the lab's own rules also look at what is brought in.
    pub imports_scan: bool,
}

impl Default for Screening {
    fn default() -> Self {
        Screening {
            rules: "/etc/nonstop/screening".into(),
            seconds: 60,
            memory_mib: 256,
            review: Review::Default,
            types: BTreeMap::new(),
            findings: BTreeMap::new(),
            editions: BTreeMap::new(),
            imports_scan: false,
        }
    }
}

/// How files of one data domain are screened, where that differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EditionScreening {
    /// Which files a person has to look at.
    pub review: Option<Review>,
    /// What happens to a kind of file, or to a group of kinds.
    pub types: BTreeMap<String, Verdict>,
    /// What happens when a rule finds something.
    pub findings: BTreeMap<String, Verdict>,
}

/// Which files a person has to look at, whatever the checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Review {
    /// Those of environments that reach samples, pcap or rdb.
    Default,
    /// All.
    All,
    /// Those that a check holds, and no others.
    Never,
}

/// What counts for one data domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub(super) review: Review,
    /// The strictest of them counts.
    said: Vec<Said>,
    /// Bytes that one export may have.
    pub file_bytes: u64,
    /// Bytes that an environment may export in a day.
    pub day_bytes: u64,
    /// Bytes that an environment may export in its period.
    pub period_bytes: u64,
}

/// A lab's words, with those of one data domain where it has some.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    types: BTreeMap<String, Verdict>,
    findings: BTreeMap<String, Verdict>,
}

impl Said {
    fn of(all: &Screening, own: EditionScreening) -> Said {
        let mut types = all.types.clone();
        // A word for a group of one edition counts before one for a kind of the whole lab.
        for word in own.types.keys() {
            types.retain(|kind, _| Kind::named(kind).is_none_or(|k| k.group().word() != word));
        }
        types.extend(own.types);
        let mut findings = all.findings.clone();
        for sort in ["yara", "program"].iter().filter(|sort| own.findings.contains_key(**sort)) {
            findings.retain(|rule, _| rule.split('.').next() != Some(*sort));
        }
        findings.extend(own.findings);
        Said { types, findings }
    }

    fn of_kind(&self, kind: Kind) -> Verdict {
        let group = kind.group();
        let said = self.types.get(kind.word()).or_else(|| self.types.get(group.word()));
        said.copied().unwrap_or(group.shipped())
    }

    fn of_rule(&self, rule: &str, otherwise: Verdict) -> Verdict {
        let sort = rule.split('.').next().unwrap_or(rule);
        let said = self.findings.get(rule).or_else(|| self.findings.get(sort));
        said.copied().unwrap_or(otherwise)
    }
}

impl Policy {
    /// What counts in `lab` for files of the data domain `edition`.
    ///
    /// One that the lab does not know, as it was called something else or removed while there were
    /// environments of it, may have been any: a person looks, and of each word the strictest counts.
    pub fn of(lab: &Lab, edition: Option<&str>) -> Policy {
        let all = &lab.screening;
        let known = edition.is_none_or(|name| lab.data_domains.contains_key(name));
        let (review, said) = match known {
            true => {
                let own = edition.and_then(|name| all.editions.get(name));
                let own = own.cloned().unwrap_or_default();
                (own.review.unwrap_or(all.review), vec![Said::of(all, own)])
            }
            false => {
                let any = all.editions.values().cloned().chain([EditionScreening::default()]);
                (Review::All, any.map(|own| Said::of(all, own)).collect())
            }
        };
        let airlock = &lab.airlock;
        Policy {
            review,
            said,
            file_bytes: airlock.file_mib << 20,
            day_bytes: airlock.day_mib << 20,
            period_bytes: airlock.period_mib << 20,
        }
    }

    /// What happens to a file of this kind.
    pub fn of_kind(&self, kind: Kind) -> Verdict {
        let all = self.said.iter().map(|said| said.of_kind(kind));
        all.max().unwrap_or(kind.group().shipped())
    }

    /// What happens when `rule` finds something that would have `otherwise` follow.
    pub fn of_rule(&self, rule: &str, otherwise: Verdict) -> Verdict {
        let all = self.said.iter().map(|said| said.of_rule(rule, otherwise));
        all.max().unwrap_or(otherwise)
    }

    /// Whether a person looks at every file of an environment that reaches `resources`.
    pub fn reviews(&self, resources: &BTreeSet<Resource>) -> bool {
        match self.review {
            Review::All => true,
            Review::Never => false,
            Review::Default => {
                let material = [Resource::Samples, Resource::Pcap, Resource::Rdb];
                material.iter().any(|resource| resources.contains(resource))
            }
        }
    }
}

impl Screening {
    /// How long one check of a file of `bytes` may take.
    pub fn patience(&self, bytes: u64) -> Duration {
        Duration::from_secs(u64::from(self.seconds) + 20 * (bytes >> 30))
    }
}

/// What is wrong with `lab`'s section `screening`.
pub(crate) fn fault(lab: &Lab) -> Option<Fault> {
    let all = &lab.screening;
    let plain = all.rules.to_str().is_some_and(|path| {
        path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+@".contains(&b))
    });
    if !all.rules.is_absolute() || !plain {
        let message = "`rules` must be an absolute path of letters, digits and `/._-+@`";
        return Some(("screening.rules".into(), message.into()));
    }
    if !(5..=86_400).contains(&all.seconds) {
        let message = format!("`seconds` is {}: use 5 to 86400", all.seconds);
        return Some(("screening.seconds".into(), message));
    }
    if !(64..=65_536).contains(&all.memory_mib) {
        let message = format!("`memory_mib` is {}: use 64 to 65536", all.memory_mib);
        return Some(("screening.memory_mib".into(), message));
    }
    if let Some(fault) = words_fault("screening", &all.types, &all.findings) {
        return Some(fault);
    }
    for (name, own) in &all.editions {
        let at = format!("screening.editions.{name}");
        if !lab.data_domains.contains_key(name) {
            let message = format!("there is no data domain `{name}`: each edition is one");
            return Some((at, message));
        }
        if let Some(fault) = words_fault(&at, &own.types, &own.findings) {
            return Some(fault);
        }
    }
    None
}

fn words_fault(
    at: &str,
    types: &BTreeMap<String, Verdict>,
    findings: &BTreeMap<String, Verdict>,
) -> Option<Fault> {
    for word in types.keys() {
        let group = Group::ALL.iter().any(|group| group.word() == word);
        if !group && Kind::named(word).is_none() {
            let groups = Group::ALL.map(Group::word).join(", ");
            let message = format!(
                "`{word}` is no kind of file: use a kind, such as png, or a group of kinds: {groups}"
            );
            return Some((format!("{at}.types.{word}"), message));
        }
    }
    for (word, verdict) in findings {
        let (sort, name) = word.split_once('.').unwrap_or((word, ""));
        let added = matches!(sort, "yara" | "program") && word.parse::<RuleId>().is_ok();
        let ours = name.is_empty() && RuleId::OURS.contains(&word.as_str());
        let place = format!("{at}.findings.{word}");
        if !added && !ours {
            let rules = RuleId::OURS.join(", ");
            let message =
                format!("`{word}` is no rule: use one of {rules}, yara.RULE or program.NAME");
            return Some((place, message));
        }
        if word == RuleId::FAILED && *verdict == Verdict::Pass {
            let message = "a file whose screening failed cannot pass: use hold or block";
            return Some((place, message.into()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAB: &str = "\
version: 1
name: lab
data_domains:
  mws:
    interface: eth1
    network: 10.81.0.0/24
    here: false
    servers:
      pcap: {address: 10.81.0.2, tcp: [80]}
screening:
  types: {gzip: allow, picture: hold}
  findings: {yara: block, yara.mild: pass}
  editions:
    mws:
      review: never
      types: {archive: block}
      findings: {size: block}
";

    fn lab(text: &str) -> Lab {
        Lab::parse("lab.yaml", text).expect("valid")
    }

    #[test]
    fn an_editions_words_count_before_the_labs_and_a_kinds_before_its_groups() {
        let lab = lab(LAB);
        let kind = |word| Kind::named(word).expect("known");
        let all = Policy::of(&lab, None);
        assert_eq!(all.of_kind(kind("gzip")), Verdict::Pass);
        assert_eq!(all.of_kind(kind("zip")), Verdict::Hold);
        assert_eq!(all.of_kind(kind("png")), Verdict::Hold);
        assert_eq!(all.of_kind(kind("pe")), Verdict::Block);
        assert_eq!(all.of_rule("yara.other", Verdict::Hold), Verdict::Block);
        assert_eq!(all.of_rule("yara.mild", Verdict::Hold), Verdict::Pass);
        assert_eq!(all.of_rule("program.x", Verdict::Hold), Verdict::Hold);
        let mws = Policy::of(&lab, Some("mws"));
        assert_eq!(mws.of_kind(kind("gzip")), Verdict::Block);
        assert_eq!(mws.of_rule("size", Verdict::Hold), Verdict::Block);
        assert_eq!(mws.of_rule("yara.mild", Verdict::Hold), Verdict::Pass);
        assert_eq!(mws.review, Review::Never);
    }

    #[test]
    fn a_data_domain_that_is_gone_is_looked_at_by_a_person_and_by_the_strictest_words() {
        let lab = lab(LAB);
        let kind = |word| Kind::named(word).expect("known");
        let gone = Policy::of(&lab, Some("mws24"));
        assert!(gone.reviews(&BTreeSet::new()));
        assert_eq!(gone.of_kind(kind("gzip")), Verdict::Block);
        assert_eq!(gone.of_kind(kind("png")), Verdict::Hold);
        assert_eq!(gone.of_rule("size", Verdict::Hold), Verdict::Block);
        assert_eq!(gone.of_rule("yara.other", Verdict::Hold), Verdict::Block);
        assert_eq!(gone.of_rule("yara.mild", Verdict::Hold), Verdict::Pass);
        let never = self::lab("version: 1\nname: lab\nscreening: {review: never}\n");
        assert!(Policy::of(&never, Some("mws")).reviews(&BTreeSet::new()));
        assert!(!Policy::of(&never, None).reviews(&BTreeSet::new()));
    }

    #[test]
    fn a_person_looks_where_the_reach_holds_material_until_one_line_says_otherwise() {
        let bare = "version: 1\nname: lab\n";
        let pcap = BTreeSet::from([Resource::Pcap, Resource::Live]);
        let reports = BTreeSet::from([Resource::Reports, Resource::Live]);
        let reviews = |text: &str, resources| Policy::of(&lab(text), None).reviews(resources);
        assert!(reviews(bare, &pcap) && !reviews(bare, &reports));
        let never = format!("{bare}screening: {{review: never}}\n");
        assert!(!reviews(&never, &pcap));
        let all = format!("{bare}screening: {{review: all}}\n");
        assert!(reviews(&all, &reports));
    }

    #[test]
    fn a_word_that_means_nothing_is_refused_where_it_stands() {
        for (from, to, line, says) in [
            ("gzip: allow", "gzp: allow", 11, "`gzp` is no kind of file"),
            ("yara: block", "yarra: block", 12, "`yarra` is no rule"),
            ("yara: block", "screening-failed: pass", 12, "cannot pass"),
            ("    mws:\n      review", "    other:\n      review", 14, "no data domain `other`"),
            ("{archive: block}", "{arc: block}", 16, "`arc` is no kind"),
            ("  types: {gzip", "  seconds: 1\n  types: {gzip", 11, "use 5 to 86400"),
            ("  types: {gzip", "  rules: rules\n  types: {gzip", 11, "an absolute path"),
        ] {
            let text = LAB.replacen(from, to, 1);
            assert_ne!(text, LAB, "{from}");
            let e = Lab::parse("lab.yaml", &text).expect_err("refused");
            assert!(e.message.contains(says), "{to}: {}", e.message);
            assert_eq!(e.line, line, "{to}: {}", e.message);
        }
    }
}
