//! What each verb does.

use crate::{
    Lang, Request, Verb, args, connect,
    os::Os,
    say,
    store::{Kept, Store},
    trouble::Trouble,
};
use nonstop_profile::{Fingerprint, Profile};
use serde_json::{Value, json};
use std::{
    ffi::OsStr,
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
};

pub(crate) fn handle(request: &Request) -> Result<(), Trouble> {
    match &request.verb {
        Verb::Help => print!("{}", args::help(request.lang)),
        Verb::Version => println!("nonstop-connect {}", env!("CARGO_PKG_VERSION")),
        Verb::Add(file) => {
            let kept = add(request, &store()?, file)?;
            tell_added(request, &kept);
        }
        Verb::List => list(request, &store()?),
        Verb::Forget(name) => {
            let store = store()?;
            store.forget(&named(request, &store, name)?)?;
            if request.json {
                say::event(&json!({ "event": "forgotten", "lab": name }));
            }
        }
        Verb::Connect(what) => {
            let store = store()?;
            let lab = chosen(request, &store, what.as_deref())?;
            return connect::connect(request, &store, lab);
        }
    }
    Ok(())
}

fn store() -> Result<Store, Trouble> {
    let folder = Os::here().folder(&|name| std::env::var_os(name)).ok_or(Trouble::Home)?;
    Ok(Store::new(folder))
}

/// The lab that is meant: by a file, which is kept, by name, or as the only one.
fn chosen(request: &Request, store: &Store, what: Option<&OsStr>) -> Result<Kept, Trouble> {
    let Some(what) = what else {
        let mut labs = labs(request, store);
        return match labs.len() {
            0 => Err(Trouble::NoLab),
            1 => Ok(labs.remove(0)),
            _ => {
                Err(Trouble::WhichLab(labs.iter().map(|lab| lab.profile.lab.to_string()).collect()))
            }
        };
    };
    match Path::new(what).is_file() {
        true => add(request, store, Path::new(what)),
        false => named(request, store, &what.to_string_lossy()),
    }
}

fn labs(request: &Request, store: &Store) -> Vec<Kept> {
    store.labs(|broken| eprintln!("nonstop-connect: {}", broken.says(request.lang)))
}

fn named(request: &Request, store: &Store, name: &str) -> Result<Kept, Trouble> {
    let mut labs = labs(request, store).into_iter();
    labs.find(|lab| lab.profile.lab.as_str() == name)
        .ok_or_else(|| Trouble::UnknownLab(name.chars().take(80).collect()))
}

fn add(request: &Request, store: &Store, file: &Path) -> Result<Kept, Trouble> {
    store.add(file, |profile, authority| trust(request, profile, authority))
}

/// Whether `authority` is the one in the person's PIN letter: by `--fingerprint`, or by asking.
fn trust(request: &Request, profile: &Profile, authority: &Fingerprint) -> Result<(), Trouble> {
    if let Some(given) = &request.fingerprint {
        return match given.trim().parse::<Fingerprint>() {
            Ok(given) if given == *authority => Ok(()),
            _ => Err(Trouble::NotTrusted(*authority)),
        };
    }
    if request.json || request.pin_stdin || !io::stdin().is_terminal() {
        return Err(Trouble::Unpinned(*authority));
    }
    let (lab, account, gateway) = (&profile.lab, &profile.account, &profile.gateway);
    let host = format!("{}:{}", gateway.host, gateway.port);
    match request.lang {
        Lang::En => eprint!(
            "Lab {lab}, account {account}, gateway {host}.\nIts authority is\n\n    {authority}\n\n\
             Does your PIN letter show the same? (yes/no) "
        ),
        Lang::Ja => eprint!(
            "ラボ {lab}、アカウント {account}、ゲートウェイ {host}。\n認証局の指紋は\n\n    {authority}\n\n\
             です。PIN通知書と同じですか。(yes/no) "
        ),
    }
    let _shown = io::stderr().flush();
    let mut answer = String::new();
    match io::stdin().lock().read_line(&mut answer) {
        Ok(_) if ["yes", "はい"].contains(&answer.trim()) => Ok(()),
        _ => Err(Trouble::NotTrusted(*authority)),
    }
}

/// A lab, for `--json`.
fn as_json(lab: &Kept) -> Value {
    let profile = &lab.profile;
    let fingerprints = profile.host_keys.iter().map(|key| key.fingerprint().to_string());
    json!({
        "lab": profile.lab, "account": profile.account, "authority": lab.authority,
        "gateway": { "host": profile.gateway.host, "port": profile.gateway.port },
        "host_keys": fingerprints.collect::<Vec<_>>(),
        "issued_at": profile.issued_at.seconds(),
        "desktops": profile.desktops.iter().map(|d| json!({
            "name": d.name(), "title": d.title, "until": d.until.seconds(),
        })).collect::<Vec<_>>(),
    })
}

fn tell_added(request: &Request, lab: &Kept) {
    if request.json {
        return say::event(&json!({ "event": "added", "lab": as_json(lab) }));
    }
    let (name, account) = (&lab.profile.lab, &lab.profile.account);
    match request.lang {
        Lang::En => println!("{name} is kept, for {account}: `nonstop-connect` connects."),
        Lang::Ja => {
            println!("{name}（{account}）を登録しました。`nonstop-connect` で接続できます。")
        }
    }
}

fn list(request: &Request, store: &Store) {
    let labs = labs(request, store);
    if request.json {
        return say::event(&json!(labs.iter().map(as_json).collect::<Vec<_>>()));
    }
    for lab in labs {
        let profile = &lab.profile;
        let (host, port) = (&profile.gateway.host, profile.gateway.port);
        println!("{}  {}@{host}:{port}  {}", profile.lab, profile.account, lab.authority);
        for desktop in &profile.desktops {
            println!("    {}  {}  - {}", desktop.name(), desktop.title, desktop.until);
        }
    }
}
