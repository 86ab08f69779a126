//! What follows from what was found.

use super::{
    About, Facts, Finding, Kind, Measured, Policy, Remark, RuleId, Verdict, Way, Words,
    words::{self, Bound},
};
use crate::text::is_hidden;

/// The verdict on a file, and the findings it follows from, the gravest first.
///
/// A finding is there also where the lab lets it pass. Nothing that could not be checked passes.
pub fn judge(about: &About, facts: &Facts, policy: &Policy) -> (Verdict, Vec<Finding>) {
    let mut findings: Vec<Finding> = failures(facts, policy);
    if facts.protected {
        findings.push(ours(policy, RuleId::PROTECTED, Verdict::Block, words::protected()));
    }
    if about.way == Way::Export {
        findings.extend(facts.measured.iter().flat_map(|it| leaving(about, facts, it, policy)));
        if about.name.contains(is_hidden) {
            findings.push(ours(policy, RuleId::NAME, Verdict::Hold, words::name()));
        }
        if policy.reviews(&about.resources) {
            findings.push(ours(policy, RuleId::REVIEW, Verdict::Hold, words::review()));
        }
    }
    let added = facts.remarks.iter().filter(|remark| is_added(&remark.rule));
    findings.extend(added.map(|remark| of_remark(remark, policy)));
    findings.sort_by(|a, b| b.verdict.cmp(&a.verdict).then_with(|| a.rule.cmp(&b.rule)));
    findings.dedup_by(|a, b| a.rule == b.rule && a.says == b.says);
    let gravest = findings.iter().map(|finding| finding.verdict).max();
    (gravest.unwrap_or(Verdict::Pass), findings)
}

/// Whether the lab brought the rule.
fn is_added(rule: &RuleId) -> bool {
    rule.as_str().starts_with("yara.") || rule.as_str().starts_with("program.")
}

fn ours(
    policy: &Policy,
    rule: &'static str,
    otherwise: Verdict,
    (says, mend): (Words, Words),
) -> Finding {
    Finding { rule: RuleId::ours(rule), verdict: policy.of_rule(rule, otherwise), says, mend }
}

fn failures(facts: &Facts, policy: &Policy) -> Vec<Finding> {
    let one = |broken: bool| {
        let rule = if broken { RuleId::BROKEN } else { RuleId::FAILED };
        let found = facts.failures.iter().any(|failure| failure.rule.as_str() == rule);
        let missing = !broken && facts.measured.is_none();
        if !found && !missing {
            return None;
        }
        let mut finding = ours(policy, rule, Verdict::Hold, words::failed(broken));
        if !broken {
            finding.verdict = finding.verdict.max(Verdict::Hold);
        }
        Some(finding)
    };
    [one(false), one(true)].into_iter().flatten().collect()
}

/// What counts for a file that leaves, by what its bytes are.
fn leaving(about: &About, facts: &Facts, it: &Measured, policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (bound, bytes, limit) in [
        (Bound::File, it.bytes, policy.file_bytes),
        (Bound::Day, about.day_bytes.saturating_add(it.bytes), policy.day_bytes),
        (Bound::Period, about.period_bytes.saturating_add(it.bytes), policy.period_bytes),
    ] {
        if bytes > limit {
            let said = words::size(bound, bytes, limit);
            findings.push(ours(policy, RuleId::SIZE, Verdict::Hold, said));
        }
    }
    let kind = it.kind;
    let rule = rule_of(kind);
    let verdict = policy.of_kind(kind);
    // A text is what its name says to whoever opens it: many scripts are known by nothing else.
    if let Some(script) = kind.by_name(&about.name) {
        let verdict = verdict.max(policy.of_kind(script));
        if verdict > Verdict::Pass {
            findings.push(ours(policy, RuleId::TYPE, verdict, words::named_script()));
        }
    } else if verdict > Verdict::Pass {
        let said = match rule {
            RuleId::ENCRYPTED => words::encrypted(&kind.called()),
            RuleId::ARCHIVE => words::archive(kind),
            _ => words::kind(kind, verdict),
        };
        findings.push(ours(policy, rule, verdict, said));
    }
    let encrypted = facts.remarks.iter().filter(|r| r.rule.as_str() == RuleId::ENCRYPTED);
    for remark in encrypted {
        let what =
            if remark.says == Words::default() { kind.called() } else { remark.says.clone() };
        findings.push(ours(policy, RuleId::ENCRYPTED, Verdict::Block, words::encrypted(&what)));
    }
    for remark in facts.remarks.iter().filter(|r| r.rule.as_str() == RuleId::APPENDED) {
        let said = words::appended(&remark.says);
        findings.push(ours(policy, RuleId::APPENDED, Verdict::Hold, said));
    }
    for remark in facts.remarks.iter().filter(|r| r.rule.as_str() == RuleId::MALFORMED) {
        let said = words::malformed(&remark.says);
        findings.push(ours(policy, RuleId::MALFORMED, Verdict::Hold, said));
    }
    if it.dense_pieces > 0 && !kind.is_dense() {
        let said = words::compressed(it.dense_pieces);
        findings.push(ours(policy, RuleId::COMPRESSED, Verdict::Hold, said));
    }
    if !kind.fits(&about.name) {
        let said = words::mismatch(kind);
        findings.push(ours(policy, RuleId::MISMATCH, Verdict::Hold, said));
    }
    findings
}

/// Under which rule the lab's word about a kind of file stands.
fn rule_of(kind: Kind) -> &'static str {
    match kind.group() {
        super::Group::Encrypted => RuleId::ENCRYPTED,
        super::Group::Archive => RuleId::ARCHIVE,
        _ => RuleId::TYPE,
    }
}

fn of_remark(remark: &Remark, policy: &Policy) -> Finding {
    let verdict = policy.of_rule(remark.rule.as_str(), remark.verdict);
    let (says, mend) = words::added(&remark.rule);
    let or = |own: &Words, general: Words| {
        if own.en.is_empty() && own.ja.is_empty() { general } else { own.clone() }
    };
    Finding {
        rule: remark.rule.clone(),
        verdict,
        says: or(&remark.says, says),
        mend: or(&remark.mend, mend),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data_domain::Resource, lab::Lab, screening::Failure};
    use std::collections::BTreeSet;

    const LAB: &str = "version: 1\nname: lab\n";

    fn about(name: &str) -> About {
        About {
            way: Way::Export,
            name: name.into(),
            edition: None,
            resources: BTreeSet::new(),
            day_bytes: 0,
            period_bytes: 0,
        }
    }

    fn facts(kind: &str) -> Facts {
        let kind = Kind::named(kind).expect("known");
        let measured = Measured {
            bytes: 1 << 20,
            sha256: "ab".repeat(32),
            kind,
            encoding: None,
            dense_pieces: 0,
        };
        Facts {
            measured: Some(measured),
            protected: false,
            remarks: Vec::new(),
            failures: Vec::new(),
        }
    }

    fn policy(more: &str) -> Policy {
        Policy::of(&Lab::parse("lab.yaml", &format!("{LAB}{more}")).expect("valid"), None)
    }

    /// The verdict, and the rules.
    fn shown(about: &About, facts: &Facts, policy: &Policy) -> String {
        let (verdict, findings) = judge(about, facts, policy);
        for finding in &findings {
            for words in [&finding.says, &finding.mend] {
                assert!(!words.en.is_empty() && !words.ja.is_empty(), "{finding:?}");
            }
        }
        let rules: Vec<_> = findings.iter().map(|f| format!("{} {}", f.rule, f.verdict)).collect();
        format!("{verdict}: {}", rules.join(", "))
    }

    #[test]
    fn what_is_clean_passes_without_a_word() {
        for (kind, name) in [("text", "a.csv"), ("png", "plot.png"), ("docx", "a.docx")] {
            assert_eq!(shown(&about(name), &facts(kind), &policy("")), "pass: ");
        }
    }

    #[test]
    fn each_rule_finds_what_it_is_for() {
        let plain = policy("");
        let with = |change: &dyn Fn(&mut Facts)| {
            let mut facts = facts("text");
            change(&mut facts);
            shown(&about("a.txt"), &facts, &plain)
        };
        assert_eq!(with(&|f| f.protected = true), "block: protected block");
        assert_eq!(with(&|f| measured(f).bytes = 3 << 30), "hold: size hold");
        assert_eq!(with(&|f| measured(f).dense_pieces = 1), "hold: compressed hold");
        let of = |kind: &str, name: &str| shown(&about(name), &facts(kind), &plain);
        assert_eq!(of("elf", "a"), "block: type block");
        assert_eq!(of("zip", "a.zip"), "hold: archive hold");
        assert_eq!(of("luks", "a"), "block: encrypted block");
        assert_eq!(of("png", "a.txt"), "hold: mismatch hold");
        assert_eq!(of("text", "a\u{202e}txt.exe"), "hold: mismatch hold, name hold");
        for hidden in ["a\u{200b}.txt", "a\u{2800}.txt", "a\u{1bca0}.txt"] {
            assert_eq!(of("text", hidden), "hold: name hold", "{hidden:?}");
        }
        assert_eq!(of("unknown", "a"), "hold: type hold");
    }

    fn measured(facts: &mut Facts) -> &mut Measured {
        facts.measured.as_mut().expect("measured")
    }

    #[test]
    fn what_was_exported_before_counts_for_the_day_and_the_period() {
        let mut many = about("a.txt");
        many.day_bytes = 4096 << 20;
        assert_eq!(shown(&many, &facts("text"), &policy("")), "hold: size hold");
        many.period_bytes = u64::MAX;
        let (_, findings) = judge(&many, &facts("text"), &policy(""));
        assert_eq!(findings.len(), 2, "a sentence for each bound");
        let blocks = policy("screening: {findings: {size: block}}\n");
        assert!(shown(&many, &facts("text"), &blocks).starts_with("block:"));
    }

    #[test]
    fn what_could_not_be_checked_never_passes() {
        let nothing =
            Facts { measured: None, protected: false, remarks: Vec::new(), failures: Vec::new() };
        assert_eq!(shown(&about("a"), &nothing, &policy("")), "hold: screening-failed hold");
        let mut failed = facts("text");
        let rule = |word: &str| word.parse().expect("a rule");
        failed.failures = vec![
            Failure { rule: rule("screening-failed"), what: "rules: killed".into() },
            Failure { rule: rule("rules-broken"), what: "a.yar:3".into() },
        ];
        let both = "hold: rules-broken hold, screening-failed hold";
        assert_eq!(shown(&about("a"), &failed, &policy("")), both);
        let lax = policy("screening: {findings: {rules-broken: pass}}\n");
        let one = "hold: screening-failed hold, rules-broken pass";
        assert_eq!(shown(&about("a"), &failed, &lax), one);
    }

    #[test]
    fn rules_of_the_lab_say_what_they_want_unless_lab_yaml_says_otherwise() {
        let remark = |rule: &str, verdict| Remark {
            rule: rule.parse().expect("a rule"),
            verdict,
            says: Words::default(),
            mend: Words::default(),
        };
        let mut found = facts("text");
        found.remarks = vec![remark("yara.A", Verdict::Block), remark("program.b", Verdict::Hold)];
        let as_said = "block: yara.A block, program.b hold";
        assert_eq!(shown(&about("a"), &found, &policy("")), as_said);
        let milder = policy("screening: {findings: {yara.A: pass, program: block}}\n");
        assert_eq!(shown(&about("a"), &found, &milder), "block: program.b block, yara.A pass");
        // A program of the lab cannot speak as one of our own rules.
        found.remarks = vec![remark("protected", Verdict::Block)];
        assert_eq!(shown(&about("a"), &found, &policy("")), "pass: ");
    }

    #[test]
    fn a_container_that_holds_something_encrypted_is_blocked() {
        let mut found = facts("zip");
        let rule = "encrypted".parse().expect("a rule");
        let says = Words {
            en: "a ZIP archive with a password".into(),
            ja: "パスワード付き ZIP".into(),
        };
        found.remarks =
            vec![Remark { rule, verdict: Verdict::Block, says, mend: Words::default() }];
        let said = "block: encrypted block, archive hold";
        assert_eq!(shown(&about("a.zip"), &found, &policy("")), said);
    }

    #[test]
    fn a_picture_with_something_behind_its_end_is_held() {
        let mut found = facts("png");
        let rule = "appended".parse().expect("a rule");
        let says = Words { en: "9 bytes stand behind its end".into(), ja: "9".into() };
        found.remarks = vec![Remark { rule, verdict: Verdict::Pass, says, mend: Words::default() }];
        assert_eq!(shown(&about("a.png"), &found, &policy("")), "hold: appended hold");
        found.remarks[0].rule = "malformed".parse().expect("a rule");
        assert_eq!(shown(&about("a.png"), &found, &policy("")), "hold: malformed hold");
    }

    #[test]
    fn a_text_that_its_name_makes_a_script_is_one() {
        let blocks = policy("screening: {types: {script: block}}\n");
        for name in
            ["a.bat", "a.CMD", "x/a.vbs", "a.ps1", "a.hta", "a.wsf", "a.py", ".bat", "a.js. "]
        {
            assert_eq!(
                shown(&about(name), &facts("text"), &policy("")),
                "hold: type hold",
                "{name}"
            );
            assert_eq!(shown(&about(name), &facts("text"), &blocks), "block: type block", "{name}");
        }
        assert_eq!(shown(&about("a.wsf"), &facts("xml"), &policy("")), "hold: type hold");
        let allows = policy("screening: {types: {script: allow}}\n");
        assert_eq!(shown(&about("a.py"), &facts("text"), &allows), "pass: ");
        for name in ["a.txt", "bat", "a.bat.txt", "py.csv"] {
            assert_eq!(shown(&about(name), &facts("text"), &policy("")), "pass: ", "{name}");
        }
    }

    #[test]
    fn a_person_looks_at_what_comes_from_material_and_at_no_import() {
        let mut one = about("a.txt");
        one.resources.insert(Resource::Samples);
        assert_eq!(shown(&one, &facts("text"), &policy("")), "hold: review hold");
        let never = policy("screening: {review: never}\n");
        assert_eq!(shown(&one, &facts("text"), &never), "pass: ");
        one.way = Way::Import;
        assert_eq!(shown(&one, &facts("elf"), &policy("")), "pass: ");
    }
}
