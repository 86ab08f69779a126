//! What a connection says of itself: lines for a person, or events for a script.

use super::Connection;
use crate::{say, trouble::Trouble};
use nonstop_profile::Desktop;
use serde_json::json;
use std::{path::PathBuf, time::Duration};

impl Connection<'_> {
    pub(super) fn tell_open(&mut self) {
        let Ok(portal) = self.portal_url() else { return };
        let Ok(transfer) = self.transfer_url() else { return };
        let mut desktops = Vec::new();
        for desktop in self.lab.profile.desktops.clone() {
            let Ok(port) = self.port(desktop.target) else { continue };
            let command = self.rdp(&desktop).ok().flatten();
            desktops.push((desktop, port, command));
        }
        if self.request.json {
            let shown =
                |(desktop, port, command): &(Desktop, u16, Option<(PathBuf, Vec<String>)>)| {
                    json!({
                        "name": desktop.name(), "title": desktop.title, "port": port,
                        "certificate": desktop.certificate, "until": desktop.until.seconds(),
                        "command": command.as_ref().map(|(program, words)| {
                            [&[program.display().to_string()], words.as_slice()].concat()
                        }),
                    })
                };
            return say::event(&json!({
                "event": "open", "portal": portal, "transfer": transfer,
                "desktops": desktops.iter().map(shown).collect::<Vec<_>>(),
            }));
        }
        let lang = self.request.lang;
        println!("{} {}", lang.pick("Connected. Portal:", "接続しました。ポータル:"), portal);
        if let Some(url) = transfer {
            println!("{} {url}", lang.pick("Files (WebDAV):", "ファイル転送（WebDAV）:"));
        }
        for (desktop, port, command) in desktops {
            let (name, title, until) = (desktop.name(), &desktop.title, desktop.until);
            println!("  {name}  {title}  127.0.0.1:{port}  - {until}");
            if let Some((program, words)) = command {
                println!("    {}", shell(&program.display().to_string(), &words));
            }
        }
    }

    pub(super) fn tell_lost(&self, why: &Trouble, pause: Duration) {
        let (says, lang) = (why.says(self.request.lang), self.request.lang);
        if self.request.json {
            return say::event(&json!({
                "event": "lost", "kind": why.kind(), "says": says, "again_in_s": pause.as_secs(),
            }));
        }
        eprintln!(
            "{says} {}",
            lang.pick("(trying again; Ctrl-C ends it)", "（再接続中。Ctrl-C で終了）")
        );
    }

    pub(super) fn note(&self, en: &str, ja: &str) {
        if !self.request.json {
            println!("{}", self.request.lang.pick(en, ja));
        }
    }

    /// Says what would be run.
    pub(super) fn print(&mut self) -> Result<(), Trouble> {
        let words = self.words()?;
        let mut commands = vec![(self.program.clone(), words)];
        for desktop in self.lab.profile.desktops.clone() {
            commands.extend(self.rdp(&desktop)?);
        }
        for (program, words) in commands {
            let program = program.display().to_string();
            match self.request.json {
                true => say::event(&json!([&[program], words.as_slice()].concat())),
                false => println!("{}", shell(&program, &words)),
            }
        }
        Ok(())
    }
}

/// A command as one line of a shell.
fn shell(program: &str, words: &[String]) -> String {
    let quoted = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%[]".contains(c);
        match !word.is_empty() && word.chars().all(plain) {
            true => word.to_string(),
            false => format!("'{}'", word.replace('\'', r"'\''")),
        }
    };
    let words = words.iter().map(|word| quoted(word));
    [quoted(program)].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}
