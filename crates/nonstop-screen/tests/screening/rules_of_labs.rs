//! Rules that a lab brings: YARA rules and programs.

use crate::{
    lab::{TestLab, shown},
    made::eicar,
};
use std::{fs, os::unix::fs::PermissionsExt};

/// A folder of the repository with the shipped examples.
fn shipped(name: &str) -> Vec<u8> {
    let path = format!("{}/../../templates/screening/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read(path).expect("shipped")
}

#[test]
fn the_shipped_rule_blocks_the_test_file_and_says_how_to_mend_it() {
    let lab = TestLab::new();
    lab.write("rules/eicar.yar", &shipped("eicar.yar"));
    let screened = lab.screen("a.txt", &eicar());
    assert_eq!(shown(&screened), "block as text: yara.eicar_test_file block");
    let finding = &screened.findings[0];
    assert!(finding.says.ja.contains("EICAR") && finding.mend.en.contains("samples do not leave"));
    assert_eq!(lab.shown("a.txt", &shipped("eicar.yar")), "pass as text: ");
}

#[test]
fn the_shipped_program_holds_long_lists_of_addresses_and_no_short_ones() {
    let lab = TestLab::new();
    let program = String::from_utf8(shipped("programs/addresses")).expect("a script");
    lab.program("rules/programs/addresses", &program);
    let list =
        |n: u32| (0..n).map(|i| format!("10.0.{}.{}\n", i / 250, i % 250)).collect::<String>();
    let many = lab.screen("a.txt", list(1500).as_bytes());
    assert_eq!(shown(&many), "hold as text: program.addresses.many hold", "{:?}", many.failures);
    assert_eq!(lab.shown("a.txt", list(900).as_bytes()), "pass as text: ");
}

#[test]
fn each_program_sees_the_whole_file_whatever_those_before_it_have_read() {
    let lab = TestLab::new();
    let program = String::from_utf8(shipped("programs/addresses")).expect("a script");
    lab.program("rules/programs/addresses", &program);
    let finds = |word: &str| {
        format!(
            "#!/bin/sh\nif grep -q {word}; then\n\
             echo '{{\"findings\": [{{\"rule\": \"word\", \"says\": \"it is there\"}}]}}'\n\
             else echo '{{\"findings\": []}}'; fi\n"
        )
    };
    lab.program("rules/programs/first", &finds("secret"));
    lab.program("rules/programs/second", &finds("secret"));
    let screened = lab.screen("a.txt", b"one secret line\n");
    let both = "hold as text: program.first.word hold, program.second.word hold";
    assert_eq!(shown(&screened), both, "{:?}", screened.failures);
    assert_eq!(lab.shown("a.txt", b"one line\n"), "pass as text: ");
}

#[test]
fn programs_run_also_with_no_more_rights_than_the_daemons_unit_leaves() {
    let real = env!("CARGO_BIN_EXE_nonstop-screen");
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../systemd/nonstopd.service");
    let unit = fs::read_to_string(unit).expect("shipped");
    let rights = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let rights = rights.expect("a set").to_lowercase().replace("cap_", "+").replace(' ', ",");
    let script = format!(
        "#!/bin/sh\numask 077\nexec setpriv --no-new-privs --inh-caps=-all \\\n\
         --bounding-set=-all,{rights} {real} \"$@\"\n"
    );
    let lab = TestLab::new().played_by(&script);
    let program = String::from_utf8(shipped("programs/addresses")).expect("a script");
    lab.program("rules/programs/addresses", &program);
    lab.write("rules/eicar.yar", &shipped("eicar.yar"));
    let screened = lab.screen("a.txt", "10.0.0.1\n".repeat(1500).as_bytes());
    let expected = "hold as text: program.addresses.many hold";
    assert_eq!(shown(&screened), expected, "{:?}", screened.failures);
    assert_eq!(lab.shown("a.txt", &eicar()), "block as text: yara.eicar_test_file block");
}

#[test]
fn what_is_brought_in_is_looked_at_by_the_labs_rules_if_the_lab_wants_it() {
    use nonstop_model::screening::Way;
    use nonstopd::screening::Screener;
    let import = |more: &str| {
        let lab = TestLab::with(more);
        lab.write("rules/eicar.yar", &shipped("eicar.yar"));
        let file = lab.write("file", &eicar());
        let mut about = crate::lab::about("a.png");
        about.way = Way::Import;
        lab.screener().screen(crate::lab::open(&file), &about)
    };
    let plain = import("");
    assert_eq!(shown(&plain), "pass as text: ");
    assert_eq!(plain.sha256, crate::lab::sha256(&eicar()));
    let scanned = import("screening: {imports_scan: true}\n");
    assert_eq!(shown(&scanned), "block as text: yara.eicar_test_file block");
}

#[test]
fn a_change_of_the_folder_counts_from_the_next_file_on_and_is_recorded() {
    let lab = TestLab::new();
    let rule = |word: &str| format!("rule found {{ strings: $a = \"{word}\" condition: $a }}");
    let screener = lab.screener();
    let file = lab.write("file", b"one two\n");
    let screen = || {
        use nonstopd::screening::Screener;
        screener.screen(crate::lab::open(&file), &crate::lab::about("a.txt"))
    };
    let none = screen();
    assert_eq!(shown(&none), "pass as text: ");
    lab.write("rules/a.yar", rule("two").as_bytes());
    let found = screen();
    assert_eq!(shown(&found), "hold as text: yara.found hold");
    lab.write("rules/a.yar", rule("three").as_bytes());
    let other = screen();
    assert_eq!(shown(&other), "pass as text: ");
    let mut digests = [none.rules_digest, found.rules_digest, other.rules_digest];
    digests.sort();
    assert!(digests[0] != digests[1] && digests[1] != digests[2], "{digests:?}");
}

#[test]
fn a_rule_with_a_mistake_or_that_others_can_write_is_told_and_stops_no_other() {
    let lab = TestLab::new();
    lab.write("rules/bad.yar", b"rule Bad { condition: nothing }");
    lab.write("rules/good.yar", b"rule good { meta: verdict = \"block\" condition: filesize > 0 }");
    let loose = lab.write("rules/loose.yar", b"rule loose { condition: true }");
    fs::set_permissions(&loose, fs::Permissions::from_mode(0o666)).expect("changed");
    let screened = lab.screen("a.txt", b"hello\n");
    let expected = "block as text: yara.good block, rules-broken hold";
    assert_eq!(shown(&screened), expected);
    let told: Vec<_> = screened.failures.iter().map(|failure| failure.what.clone()).collect();
    assert!(told.iter().any(|what| what.starts_with("bad.yar: ")), "{told:?}");
    assert!(told.iter().any(|what| what.contains("others than root can write it")), "{told:?}");
}

#[test]
fn rules_that_say_too_much_hide_no_graver_one_and_hold_the_file() {
    let rules = |says: &str| {
        let says = ["says", "says_ja", "mend", "mend_ja"].map(|of| format!("{of} = \"{says}\""));
        let says = says.join(" ");
        let rule = |n| {
            format!("rule r{n} {{ meta: verdict = \"pass\" {says} condition: filesize > 0 }}\n")
        };
        (0..150).map(rule).collect::<String>()
    };
    let blocks = "rule last { meta: verdict = \"block\" condition: filesize > 0 }\n";
    let screened = |rules: &str| {
        let lab = TestLab::new();
        lab.write("rules/a.yar", rules.as_bytes());
        lab.screen("a.txt", b"hello\n")
    };
    // A hundred of the latter, each quote escaped, are longer than what a child may say.
    for says in ["it is there".to_string(), r#"\""#.repeat(400)] {
        let found = screened(&(rules(&says) + blocks));
        assert!(shown(&found).starts_with("block as text: yara.last block"), "{}", shown(&found));
        assert!(shown(&found).contains("screening-failed hold"), "{}", shown(&found));
        let found = screened(&rules(&says));
        let first = "hold as text: screening-failed hold, yara.r";
        assert!(shown(&found).starts_with(first), "{}", shown(&found));
    }
}

#[test]
fn programs_that_fail_lie_flood_or_hang_hold_the_file_and_do_not_outlive_it() {
    for (script, says) in [
        ("exit 3", "exit status: 3"),
        ("echo nonsense", "no answer"),
        ("echo '{\"findings\": [], \"verdict\": \"pass\"}'", "no answer"),
        (
            "echo '{\"findings\": [{\"rule\": \"x\", \"says\": \"y\", \"verdict\": \"go\"}]}'",
            "a verdict",
        ),
        ("yes", "said more than"),
        ("kill -9 $$", "ended with"),
        ("setsid sleep 4444 & sleep 4444", "was not done in"),
    ] {
        let lab = TestLab::new().change(|lab| lab.screening.seconds = 3);
        lab.program("rules/programs/x", &format!("#!/bin/sh\n{script}\n"));
        let screened = lab.screen("a.txt", b"hello\n");
        assert_eq!(shown(&screened), "hold as text: screening-failed hold", "{script}");
        let told = &screened.failures[0].what;
        assert!(told.starts_with("programs/x: ") && told.contains(says), "{script}: {told}");
    }
    let mine = std::process::Command::new("pgrep").args(["-fx", "sleep 4444"]).output();
    assert!(mine.expect("pgrep").stdout.is_empty(), "something is left");
}
