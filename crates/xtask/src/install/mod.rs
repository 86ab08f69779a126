//! Installing what is missing, and saying so first.

mod plan;
mod starts;
mod version;

use crate::run::run;
use anyhow::{Context, Result, bail};
use nonstop_testkit::place::Place;
use plan::{Debian, Plan, plan, wanted};
use starts::StartsDenied;
use std::{collections::BTreeMap, fs, path::Path, process::Command};

const SOURCE: &str = "/etc/apt/sources.list.d/nonstop-backports.sources";

/// Makes everything that a lab, its build and its tests need be there. Repeatable; does
/// nothing and asks no network when nothing is missing.
///
/// Errors: not root, not Debian 12 or 13, apt cannot reach its mirror or failed.
pub(crate) fn install() -> Result<()> {
    install_with(&[])
}

/// The same, with the packages `more`, such as the peers of a comparison.
pub(crate) fn install_with(more: &[&'static str]) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("labs need root: they make namespaces, bridges and nft rules. Run it again as root");
    }
    let os = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let debian = debian(&os)?;
    let source = Path::new(SOURCE);
    let backports_known =
        source.exists() || Place::here().line("apt-cache policy")?.contains("n=bookworm-backports");
    let mirror = mirror().unwrap_or_else(|| "http://deb.debian.org/debian".into());
    let plan = plan(debian, &wanted(more), &installed()?, backports_known, &mirror);
    if plan.packages.is_empty() {
        eprintln!("    every package is there");
        return Ok(());
    }
    announce(&plan);
    if let Some(text) = &plan.source {
        fs::write(source, text).with_context(|| format!("write {SOURCE}"))?;
    }
    run("apt-get update", apt().args(["update", "-o", "APT::Update::Error-Mode=any"])).context(
        "Debian's package lists cannot be fetched: is there a network, and a mirror in /etc/apt?",
    )?;
    let release = plan.release.map_or(vec![], |release| vec!["-t", release]);
    let mut words = vec!["install"];
    words.extend(release);
    words.extend(&plan.packages);
    announce_changes(&words)?;
    let _denied = StartsDenied::here()?;
    run("apt-get install", apt().args(&words))
}

/// Says which packages of the machine would change, and their present versions.
fn announce_changes(words: &[&str]) -> Result<()> {
    let output = apt().arg("-s").args(words).output().context("ask apt-get")?;
    let changes = changes(&String::from_utf8_lossy(&output.stdout));
    if !changes.is_empty() {
        eprintln!("    upgrades what is there: {}", changes.join(", "));
    }
    Ok(())
}

/// Upgrades in what `apt-get -s` prints: `Inst name [old] (new ...)`.
fn changes(simulated: &str) -> Vec<String> {
    simulated
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
            Some(format!("{name} {}", rest.strip_prefix('[')?.split(']').next()?))
        })
        .collect()
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["-y", "-q", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"])
        .args(["-o", "Dpkg::Use-Pty=0"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

fn announce(plan: &Plan) {
    if plan.source.is_some() {
        eprintln!("    adds the source bookworm-backports ({SOURCE})");
    }
    eprintln!("    installs: {}", plan.packages.join(" "));
    if let Some(release) = plan.release {
        eprintln!("    preferring {release}, with what they depend on");
    }
    for (name, have) in &plan.upgrades {
        eprintln!("    of these {name} is there, but {have} is too old");
    }
    eprintln!("    no daemon is started or restarted by this");
}

fn debian(os_release: &str) -> Result<Debian> {
    let field = |key: &str| {
        os_release
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map_or("", |value| value.trim_matches('"'))
    };
    match (field("ID"), field("VERSION_ID")) {
        ("debian", "12") => Ok(Debian::Bookworm),
        ("debian", "13") => Ok(Debian::Trixie),
        _ => bail!(
            "this is {}; a lab runs on Debian 12 or 13",
            match field("PRETTY_NAME") {
                "" => "an unknown system",
                name => name,
            }
        ),
    }
}

fn installed() -> Result<BTreeMap<String, String>> {
    let list = Place::here().run(&[
        "dpkg-query",
        "-W",
        "-f",
        "${Package}\t${Version}\t${db:Status-Status}\n",
    ])?;
    Ok(parse_installed(&list))
}

fn parse_installed(list: &str) -> BTreeMap<String, String> {
    list.lines()
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let (name, version, status) = (fields.next()?, fields.next()?, fields.next()?);
            (status == "installed").then(|| (name.into(), version.into()))
        })
        .collect()
}

/// The mirror from which this machine takes Debian 12: one that has backports too.
fn mirror() -> Option<String> {
    let targets = Place::here()
        .run(&["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)"])
        .ok()?;
    targets.lines().find_map(|line| {
        let (uri, release) = line.split_once(' ')?;
        (release == "bookworm").then(|| uri.trim_end_matches('/').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_systems_are_named_in_the_refusal() {
        let e = debian("ID=ubuntu\nVERSION_ID=\"24.04\"\nPRETTY_NAME=\"Ubuntu 24.04 LTS\"\n")
            .expect_err("not Debian");
        assert_eq!(e.to_string(), "this is Ubuntu 24.04 LTS; a lab runs on Debian 12 or 13");
        assert_eq!(debian("ID=debian\nVERSION_ID=\"13\"\n").expect("Debian"), Debian::Trixie);
    }

    #[test]
    fn what_apt_would_upgrade_is_told() {
        let simulated = "Inst curl (7.88 Debian:12 [amd64])\n\
             Inst systemd [252.39] (254.26 Debian:backports [amd64])\nConf curl (7.88)\n";
        assert_eq!(changes(simulated), ["systemd 252.39"]);
    }

    #[test]
    fn a_removed_package_is_not_there() {
        let list = "curl\t7.88\tinstalled\nnetcat-openbsd\t\tnot-installed\nfoo\t1\tconfig-files\n";
        assert_eq!(parse_installed(list).len(), 1);
    }

    #[test]
    fn the_readme_installs_every_program_and_enables_every_unit() -> Result<()> {
        let root = crate::workspace::root()?;
        let readme = fs::read_to_string(root.join("README.md"))?;
        let after = |words: &str| -> Vec<&str> {
            readme.match_indices(words).map(|(at, _)| &readme[at + words.len()..]).collect()
        };
        let installed: Vec<String> = after("install -Dt /usr/lib/nonstop target/release/nonstop{")
            .iter()
            .filter_map(|rest| rest.split('}').next())
            .flat_map(|list| list.split(',').map(|end| format!("nonstop{end}")))
            .collect();
        let enabled: Vec<&str> = after("`systemctl enable --now")
            .iter()
            .filter_map(|rest| rest.split('`').next())
            .flat_map(str::split_whitespace)
            .collect();
        let names = |folder: &str| -> Result<Vec<String>> {
            let entries = fs::read_dir(root.join(folder))?.flatten();
            Ok(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        };
        let mut programs = names("crates")?;
        programs.retain(|name| root.join("crates").join(name).join("src/main.rs").exists());
        // The commands of people, who have them on their path, and what builds all this.
        let elsewhere = ["nonstop-cli", "nonstop-connect", "xtask"];
        programs.retain(|name| !elsewhere.contains(&name.as_str()));
        assert!(programs.len() > 8, "{programs:?}");
        for program in programs {
            assert!(installed.contains(&program), "README.md does not install {program}");
        }
        let files = names("systemd")?;
        let units: Vec<&str> = files.iter().filter_map(|f| f.strip_suffix(".service")).collect();
        assert!(units.len() > 5, "{units:?}");
        for unit in units {
            assert!(enabled.contains(&unit), "README.md does not enable {unit}");
        }
        Ok(())
    }
}
