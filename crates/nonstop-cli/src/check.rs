//! `nonstop check`: what is missing on this host. The daemon's own answer where it runs; on a host
//! where it cannot even start, what can be seen without it.

use crate::{error::CliError, print, print_json, render};
use nonstop_api::{CallError, CheckItem, Client, Reply, Request};
use nonstop_image::ImageStore;
use nonstop_model::{EnvironmentTemplate, Lab, template::Known};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What a lab needs on its host: name, where it lies, Debian package.
const PROGRAMS: [(&str, &str, &str); 11] = [
    ("libvirtd", "/usr/sbin/libvirtd", "libvirt-daemon-system"),
    ("qemu", "/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-img", "/usr/bin/qemu-img", "qemu-utils"),
    ("UEFI firmware", "/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf"),
    ("swtpm", "/usr/bin/swtpm", "swtpm"),
    ("swtpm_setup", "/usr/bin/swtpm_setup", "swtpm-tools"),
    ("nft", "/usr/sbin/nft", "nftables"),
    ("dnsmasq", "/usr/sbin/dnsmasq", "dnsmasq-base"),
    ("sshd", "/usr/sbin/sshd", "openssh-server"),
    ("ssh-keygen", "/usr/bin/ssh-keygen", "openssh-client"),
    ("mmdebstrap", "/usr/bin/mmdebstrap", "mmdebstrap"),
];

/// Checks the host of `lab`. Errors: something is missing.
pub(crate) fn run(lab: &Lab, json: bool) -> Result<(), CliError> {
    let socket = lab.admin_socket();
    let items = match Client::new(&socket).call(&Request::Check) {
        Ok(Reply::Check(items)) => {
            let found = format!("answers at {}", socket.display());
            [vec![item("nonstopd", true, found, "")], items].concat()
        }
        Ok(_) => return Err(CliError::NotGood("nonstopd answered something else".into())),
        Err(CallError::Connect { path, source }) => {
            let found = format!("does not answer at {}: {source}", path.display());
            let help = "mend what is missing below, start it (`systemctl start nonstopd`), and run \
                        this as root";
            [vec![item("nonstopd", false, found, help)], without_daemon(lab, Path::new("/"))]
                .concat()
        }
        Err(e) => return Err(e.into()),
    };
    if json {
        print_json(&items);
    } else {
        print(&render::check(&items));
    }
    match items.iter().filter(|item| !item.good).count() {
        0 => Ok(()),
        1 => Err(CliError::NotGood("one thing is missing".into())),
        n => Err(CliError::NotGood(format!("{n} things are missing"))),
    }
}

fn item(what: impl Into<String>, good: bool, found: String, help: &str) -> CheckItem {
    CheckItem { what: what.into(), good, found, help: help.into() }
}

/// What can be seen of a host whose files lie under `root`.
fn without_daemon(lab: &Lab, root: &Path) -> Vec<CheckItem> {
    let under = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    let file = |what: &str, path: PathBuf, help: &str| {
        let good = under(&path).exists();
        let found =
            if good { path.display().to_string() } else { format!("no {}", path.display()) };
        item(what, good, found, help)
    };
    let mut items: Vec<_> = PROGRAMS
        .iter()
        .map(|(what, path, package)| {
            file(what, path.into(), &format!("run `apt-get install {package}`"))
        })
        .collect();
    for program in [
        "nonstopd",
        "nonstop-portal",
        "nonstop-gate",
        "nonstop-agent",
        "nonstop-rdp",
        "nonstop-airlock",
        "nonstop-screen",
        "nonstop-data",
        "nonstop-samples",
    ] {
        let help = "install our programs into `programs` of lab.yaml";
        items.push(file(program, lab.programs.join(program), help));
    }
    let sends = !lab.trace.heads.places().is_empty();
    if sends {
        let help = "install our programs into `programs` of lab.yaml";
        items.push(file("nonstop-heads", lab.programs.join("nonstop-heads"), help));
    }
    let users = fs::read_to_string(under(Path::new("/etc/passwd"))).unwrap_or_default();
    for user in [
        lab.portal.user.as_str(),
        "nonstop-agent",
        "nonstop-inside",
        "nonstop-outside",
        "nonstop-screen",
    ]
    .into_iter()
    .chain(sends.then_some(lab.trace.heads.user.as_str()))
    {
        let good = users.lines().any(|line| line.split(':').next() == Some(user));
        let found = if good { "is there" } else { "is not in /etc/passwd" };
        let help = "install systemd/sysusers.d/nonstop.conf and run `systemd-sysusers`";
        items.push(item(format!("user {user}"), good, found.into(), help));
    }
    let help = "install systemd/pam.d/nonstop-sshd";
    items.push(file("PAM service", "/etc/pam.d/nonstop-sshd".into(), help));
    items.extend(templates_and_images(lab, &under(&lab.templates)));
    items
}

fn templates_and_images(lab: &Lab, folder: &Path) -> Vec<CheckItem> {
    let help = "put templates into that folder; `nonstop template check` explains each";
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) => {
            return vec![item("templates", false, format!("{}: {e}", folder.display()), help)];
        }
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    let found = format!("{} in {}", files.len(), folder.display());
    let mut items = vec![item("templates", !files.is_empty(), found, help)];
    let known = Known::of(lab);
    let (store, mut seen) = (ImageStore::new(lab.images()), Vec::new());
    for path in files {
        let name = path.display().to_string();
        let parsed = fs::read_to_string(&path).map_err(|e| e.to_string()).and_then(|text| {
            EnvironmentTemplate::parse(&name, &text, Some(&known)).map_err(|e| e.to_string())
        });
        let template = match parsed {
            Ok(template) => template,
            Err(e) => {
                items.push(item("template", false, e, "see `nonstop template check`"));
                continue;
            }
        };
        for image in template.machines.into_iter().map(|machine| machine.image) {
            if seen.contains(&image) {
                continue;
            }
            let current = store.current(&image);
            let found = match &current {
                Ok((digest, _)) => digest.chars().take(12).collect(),
                Err(e) => e.to_string(),
            };
            let help = format!("run `nonstop image build {image}`");
            items.push(item(format!("image {image}"), current.is_ok(), found, &help));
            seen.push(image);
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_host_is_told_everything_that_it_lacks_and_how_to_get_it() {
        let root = std::env::temp_dir().join(format!("nonstop-check-{}", std::process::id()));
        fs::create_dir_all(root.join("usr/sbin")).expect("a folder");
        fs::create_dir_all(root.join("etc/nonstop/templates")).expect("a folder");
        fs::write(root.join("usr/sbin/nft"), "").expect("a file");
        fs::write(root.join("etc/passwd"), "nonstop-portal:x:990:990::/:/bin/false\n")
            .expect("a file");
        let micro = include_str!("../../../templates/micro.yaml");
        fs::write(root.join("etc/nonstop/templates/micro.yaml"), micro).expect("a file");
        let yaml = "version: 1\nname: lab\nstate: /nonexistent/nonstop\n";
        let lab = Lab::parse("lab.yaml", yaml).expect("a good lab");
        let items = without_daemon(&lab, &root);
        fs::remove_dir_all(&root).expect("gone");
        let good: Vec<_> = items.iter().filter(|i| i.good).map(|i| i.what.as_str()).collect();
        assert_eq!(good, ["nft", "user nonstop-portal", "templates"]);
        assert!(items.iter().filter(|i| !i.good).all(|i| !i.help.is_empty()));
        let image = items.iter().find(|i| i.what == "image micro").expect("the template's image");
        assert_eq!(image.help, "run `nonstop image build micro`");
    }
}
