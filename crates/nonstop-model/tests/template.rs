//! What can be wrong with a template, each with its place and the way to mend it.

use nonstop_model::{
    EnvironmentTemplate, MachineRole, RdpPolicy, SegmentKind, template::Known, yaml::ConfigError,
};

const PAIR: &str = "\
version: 1
title: pair
domain: intermediate
machines:
  - role: debugger
    image: desktop
    memory_mib: 768
    networks: [access, link]
    reach: [reports, airlock]
  - role: debuggee
    image: debuggee
    memory_mib: 512
    networks: [link]
    import: /home/researcher/Import
";

fn known() -> Known {
    let servers = ["live", "pcap", "rdb", "samples", "reports"].map(String::from);
    let images = ["desktop", "debuggee"].map(|name| name.parse().expect("a name"));
    Known {
        domains: [("intermediate".to_string(), servers.into())].into(),
        images: Some(images.into()),
    }
}

/// Every fault of `text` as `line:column: message`.
fn faults(text: &str) -> Vec<String> {
    let known = known();
    match EnvironmentTemplate::parse_all("t.yaml", text, Some(&known)) {
        Ok(_) => Vec::new(),
        Err(faults) => {
            faults.iter().map(|f| format!("{}:{}: {}", f.line, f.column, f.message)).collect()
        }
    }
}

/// The faults of the pair with `old` replaced by `new`.
fn with(old: &str, new: &str) -> String {
    assert!(PAIR.contains(old), "the pair has no `{old}`");
    faults(&PAIR.replace(old, new)).join("\n")
}

#[test]
fn a_template_of_the_first_days_is_still_good() {
    let text = "version: 1\ntitle: macro\nmachines:\n  - {role: analyst, image: desktop, memory_mib: 768}\n";
    let template = EnvironmentTemplate::parse("t.yaml", text, Some(&known())).expect("good");
    let analyst = template.machine(MachineRole::Analyst).expect("there");
    assert_eq!(analyst.networks, [SegmentKind::Access]);
    assert!(analyst.reach.is_empty() && !template.has_link());
    assert_eq!(template.desktop_of(analyst), RdpPolicy::Console);
}

#[test]
fn the_pair_is_good_and_says_what_it_says() {
    let template = EnvironmentTemplate::parse("t.yaml", PAIR, Some(&known())).expect("good");
    let debuggee = template.machine(MachineRole::Debuggee).expect("there");
    assert!(template.has_link() && !debuggee.is_on(SegmentKind::Access));
    assert_eq!(debuggee.import.as_deref(), Some("/home/researcher/Import"));
}

#[test]
fn samples_are_put_before_a_debuggee_and_no_other_machine() {
    let pair = EnvironmentTemplate::parse("t.yaml", PAIR, Some(&known())).expect("good");
    assert_eq!(pair.takes_samples().map(|m| m.role), Some(MachineRole::Debuggee));
    let mut alone = pair;
    alone.machines.retain(|m| m.role != MachineRole::Debuggee);
    alone.machines[0].import = Some("/home/researcher/Import".into());
    assert!(alone.takes_samples().is_none());
}

#[test]
fn a_debuggee_reaches_nothing_but_its_debugger() {
    insta::assert_snapshot!(with("networks: [link]", "networks: [link, access]"), @"13:22: a debuggee may send to nothing but its debugger, so it has no network `access`: say `networks: [link]`");
    // The default is `access`: the place of what is not written is the machine's.
    insta::assert_snapshot!(with("    networks: [link]\n", ""), @r"
    8:24: debugger is alone on the network `link`, which joins machines with each other: add `link` to another machine's `networks`, or remove it here
    10:5: a debuggee may send to nothing but its debugger, so it has no network `access`: say `networks: [link]`
    ");
    insta::assert_snapshot!(with("networks: [link]\n", "networks: [link]\n    reach: [samples]\n"), @"14:13: a debuggee may reach nothing but its debugger, so not `samples` either: remove it from `reach`");
    insta::assert_snapshot!(with("networks: [link]\n", "networks: [link]\n    rdp: guest\n"), @r"
    14:5: `rdp` is `guest`, a way out for any byte: say why in `rdp_reason`, or use `console`
    14:5: its own RDP server cannot be reached without the network `access`: say `rdp: console` here
    ");
}

#[test]
fn networks_are_known_and_stand_once() {
    insta::assert_snapshot!(with("[access, link]", "[access, wan]"), @"8:24: machines[0].networks[1]: unknown variant `wan`, expected `access` or `link`");
    insta::assert_snapshot!(with("[access, link]", "[access, link, access]"), @"8:30: `access` stands twice in `networks`: remove one");
    insta::assert_snapshot!(with("networks: [access, link]\n    reach: [reports, airlock]", "networks: []"), @r"
    8:5: `networks` of debugger is empty: name `access`, `link` or both
    12:16: debuggee is alone on the network `link`, which joins machines with each other: add `link` to another machine's `networks`, or remove it here
    ");
}

#[test]
fn reach_names_servers_that_there_are() {
    insta::assert_snapshot!(with("domain: intermediate\n", ""), @"8:13: `reports` is a server of a data domain, and the template has none: name it with `domain`");
    insta::assert_snapshot!(with("domain: intermediate", "domain: intermediat"), @"3:1: the lab has no data domain `intermediat`: use `intermediate`, or name one under `data_domains` of lab.yaml");
    insta::assert_snapshot!(with("[reports, airlock]", "[airlock, repotrs]"), @"9:22: the data domain `intermediate` has no server `repotrs`: use `reports`, `samples`, `rdb`, `live`, `pcap`, or add it under the domain's servers in lab.yaml");
    insta::assert_snapshot!(with("[reports, airlock]", "[dns, reports, reports, Host!]"), @r"
    9:13: `dns` comes with the network `access`: remove it from `reach`
    9:27: `reports` stands twice in `reach`: remove one
    9:36: `Host!` is not the name of a server: use a lower-case letter, then up to 31 lower-case letters, digits or `-`
    ");
    insta::assert_snapshot!(with("[access, link]", "[link]"), @r"
    9:13: debugger reaches `reports` only from the network `access`: add it to `networks`
    9:22: debugger reaches `airlock` only from the network `access`: add it to `networks`
    ");
}

#[test]
fn images_that_are_not_built_are_named_with_the_command_that_builds_them() {
    insta::assert_snapshot!(with("image: debuggee", "image: windows-xp"), @"11:5: the image `windows-xp` is not built: run `nonstop image build windows-xp`, or name another");
}

#[test]
fn numbers_have_ranges() {
    insta::assert_snapshot!(with("    import", "    vcpus: 0\n    limits:\n      iops: 3\n      connections: 70000\n    import"), @r"
    14:5: `vcpus` of debuggee is 0: use 1 to 64
    16:7: `iops` is 3: use 50 to 1000000
    17:7: `connections` is 70000: use 1 to 65535
    ");
    insta::assert_snapshot!(with("memory_mib: 512", "memory_mib: 5"), @"12:5: `memory_mib` of debuggee is 5: use 32 to 1048576 with profile linux");
    insta::assert_snapshot!(with("domain: intermediate", "domain: intermediate\nsnapshots: 99"), @"4:1: `snapshots` is 99: use 0 to 32");
    insta::assert_snapshot!(with("version: 1", "version: 7"), @"1:1: `version` is 7: this program reads version 1");
}

#[test]
fn each_role_appears_once() {
    insta::assert_snapshot!(with("role: debuggee", "role: debugger"), @"10:5: there are two machines with role debugger: each role may appear once");
}

#[test]
fn a_folder_in_the_guest_is_one() {
    for good in ["/home/a b", "C:\\Users\\me\\Import"] {
        assert_eq!(with("/home/researcher/Import", good), "", "{good}");
    }
    for bad in ["Import", "/home/../etc", "/", "/a'b", "C:/x"] {
        let said = with("/home/researcher/Import", bad);
        assert!(said.starts_with("14:5: `import` must be an absolute path"), "{bad}: {said}");
    }
}

#[test]
fn what_is_no_template_at_all_is_one_error() {
    let parse = |text: &str| -> ConfigError {
        EnvironmentTemplate::parse("t.yaml", text, None).expect_err("must be refused")
    };
    let e = parse("version: 1\ntitle: x\nmachnes: []\n");
    assert_eq!((e.line, e.column), (3, 1));
    assert_eq!(e.help.as_deref(), Some("did you mean `machines`?"));
    assert_eq!(parse("version: 1\ntitle: x\nmachines: [\n").line, 4);
}
