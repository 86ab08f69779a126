//! A connection, from the card to the desktop: opened, kept open, and ended with all it started.

mod person;
mod telling;

pub(crate) use person::stopped;

use crate::{
    Lang, Request, browser,
    card::{self, Card, Pin},
    desktop::{Client, rdp_file},
    fetch,
    os::Os,
    say,
    ssh::{self, Forward, Identity},
    store::{self, Kept, Store},
    trouble::Trouble,
    tunnel::Tunnel,
};
use nonstop_profile::{Desktop, Sealed, Target};
use person::{end_on_signals, look_on_enter, looks, while_asking};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{self, BufRead, IsTerminal},
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use zeroize::Zeroizing;

/// The longest pause between two tries to log in again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Opens the tunnel to `lab` and keeps it open until somebody ends it.
pub(crate) fn connect(request: &Request, store: &Store, lab: Kept) -> Result<(), Trouble> {
    let os = Os::here();
    let variable = |name: &str| std::env::var_os(name);
    let program = os.program("ssh", &variable).ok_or(Trouble::NoSsh)?;
    ssh::version(&program)?;
    let login = match &request.key {
        Some(key) => Login::File(card::whole(key)?),
        None => Login::Card(card::module(os, request.pkcs11.as_deref())?),
    };
    let client = Client::find(os, &variable, &|path| path.exists());
    let mut connection = Connection {
        request,
        store,
        os,
        program,
        login,
        client,
        lab,
        known: None,
        pin: None,
        ports: BTreeMap::new(),
        children: Vec::new(),
    };
    if request.print {
        return connection.print();
    }
    end_on_signals()?;
    connection.run()
}

/// What logs in.
enum Login {
    /// A key file.
    File(PathBuf),
    /// A card, by its module.
    Card(PathBuf),
}

struct Connection<'a> {
    request: &'a Request,
    store: &'a Store,
    os: Os,
    program: PathBuf,
    login: Login,
    client: Option<Client>,
    lab: Kept,
    /// The card that logged in first; no other goes on for it.
    known: Option<Card>,
    /// For logging in again.
    pin: Option<Pin>,
    /// The near end of each target: the same as long as this runs.
    ports: BTreeMap<Target, u16>,
    /// RDP clients.
    children: Vec<(String, Child)>,
}

impl Connection<'_> {
    fn run(&mut self) -> Result<(), Trouble> {
        let mut tunnel = self.open_with_fresh_profile()?;
        self.tell_open();
        let url = self.portal_url()?;
        if self.request.browser && !browser::open(self.os, &url) {
            self.note(
                &format!("Open {url} in your browser."),
                &format!("ブラウザで {url} を開いてください。"),
            );
        }
        if self.request.rdp {
            self.show_desktop()?;
        }
        if look_on_enter(self.request) {
            self.note(
                "Press Enter to look for new desktops.",
                "Enter で新しいデスクトップを確認します。",
            );
        }
        loop {
            match self.wait_for_end(&mut tunnel)? {
                Some(why) => {
                    drop(tunnel);
                    tunnel = self.open_again(why)?;
                }
                None => {
                    drop(tunnel);
                    tunnel = self.open()?;
                }
            }
            self.tell_open();
        }
    }

    /// Waits until `ssh` ends; gives the reason. None when there are other desktops now, for which it
    /// has to be started anew.
    fn wait_for_end(&mut self, tunnel: &mut Tunnel) -> Result<Option<Trouble>, Trouble> {
        loop {
            if stopped() {
                return Err(Trouble::Stopped);
            }
            if let Some(why) = tunnel.ended(&self.lab.profile) {
                return Ok(Some(why));
            }
            if looks() && self.others_now() {
                return Ok(None);
            }
            self.reap();
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Logs in again after `why`, as long as that may pass by itself.
    fn open_again(&mut self, mut why: Trouble) -> Result<Tunnel, Trouble> {
        let mut pause = Duration::from_secs(1);
        if !why.may_pass() {
            return Err(why);
        }
        self.tell_lost(&why, pause);
        loop {
            let began = Instant::now();
            while began.elapsed() < pause {
                if stopped() {
                    return Err(Trouble::Stopped);
                }
                thread::sleep(Duration::from_millis(50));
            }
            match self.open_with_fresh_profile() {
                Ok(tunnel) => return Ok(tunnel),
                Err(trouble) if !trouble.may_pass() => return Err(trouble),
                Err(trouble) => {
                    // Who is let out and then not heard any more has lost the right to come.
                    let trouble = match (&why, trouble) {
                        (Trouble::Ended(_) | Trouble::Closed(_), Trouble::Silent(host, _)) => {
                            Trouble::Closed(host)
                        }
                        (_, other) => other,
                    };
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    if trouble.kind() != why.kind() || self.request.json {
                        self.tell_lost(&trouble, pause);
                    }
                    why = trouble;
                }
            }
        }
    }

    /// Opens the tunnel, fetches a fresh profile through it, and opens it anew if that has other
    /// targets: `ssh` takes them only at its start, and the gateway permits them only at login.
    fn open_with_fresh_profile(&mut self) -> Result<Tunnel, Trouble> {
        let tunnel = self.open()?;
        let before = self.targets();
        match self.refresh() {
            Ok(()) if self.targets() == before => Ok(tunnel),
            Ok(()) => {
                drop(tunnel);
                self.open()
            }
            Err(trouble) => {
                // What is kept is as good as it was.
                if self.request.json {
                    say::event(&json!({
                        "event": "note", "kind": trouble.kind(), "says": trouble.says(self.request.lang),
                    }));
                } else {
                    eprintln!("{}", trouble.says(self.request.lang));
                }
                Ok(tunnel)
            }
        }
    }

    /// Whether a fresh profile has other targets; tells when there is none.
    fn others_now(&mut self) -> bool {
        let before = self.targets();
        match self.refresh() {
            Ok(()) if self.targets() != before => return true,
            Ok(()) => self.note("No other desktops than before.", "デスクトップは前と同じです。"),
            Err(trouble) => eprintln!("{}", trouble.says(self.request.lang)),
        }
        false
    }

    fn refresh(&mut self) -> Result<(), Trouble> {
        let portal = self.port(self.lab.profile.portal)?;
        let fresh = fetch::profile(portal)?;
        // Looked at before anything of it is kept.
        let profile = Sealed::read(&fresh)
            .map_err(|e| Trouble::Fetch(e.to_string()))?
            .open(&self.lab.authority)
            .map_err(|e| Trouble::Fetch(e.to_string()))?;
        if profile.account != self.lab.profile.account {
            return Err(Trouble::Fetch("it is another account's".into()));
        }
        self.lab = self
            .store
            .take(&fresh, "the portal's profile", |_, other| Err(Trouble::NotTrusted(*other)))?;
        Ok(())
    }

    /// Portal, file transfer and desktops, as the profile has them.
    fn targets(&self) -> Vec<Target> {
        let profile = &self.lab.profile;
        let mut targets: Vec<_> = profile.desktops.iter().map(|desktop| desktop.target).collect();
        targets.push(profile.portal);
        targets.extend(profile.transfer);
        targets.sort();
        targets.dedup();
        targets
    }

    fn open(&mut self) -> Result<Tunnel, Trouble> {
        let pin = self.ready_to_sign()?;
        self.lab.pin()?;
        let words = self.words()?;
        let (folder, profile) = (&self.lab.folder, &self.lab.profile);
        let verbose = self.request.verbose;
        Tunnel::open(&self.program, &words, folder, pin.as_ref(), profile, verbose)
    }

    fn words(&mut self) -> Result<Vec<String>, Trouble> {
        let mut forwards = Vec::new();
        for target in self.targets() {
            forwards.push(Forward { port: self.port(target)?, target });
        }
        let public = self.lab.identity();
        let identity = match &self.login {
            Login::File(key) => Identity::File(key),
            Login::Card(module) => Identity::Card { module, public: &public },
        };
        let known_hosts = self.lab.known_hosts();
        let (profile, alias) = (&self.lab.profile, self.lab.alias());
        ssh::arguments(self.os, profile, &alias, &known_hosts, identity, &forwards)
    }

    /// Sees that the card is there and its PIN right; gives the PIN for `ssh`, None where it needs
    /// none.
    fn ready_to_sign(&mut self) -> Result<Option<Pin>, Trouble> {
        let Login::Card(module) = &self.login else { return Ok(None) };
        let card = card::find(module, self.request.card.as_deref())?;
        match &self.known {
            Some(known) if known.key != card.key => return Err(Trouble::CardGone),
            _ => {}
        }
        store::write(&self.lab.identity(), format!("{}\n", card.key).as_bytes())?;
        if card.pinpad {
            self.known = Some(card);
            return Ok(None);
        }
        if card.tries == crate::trouble::Tries::None {
            return Err(Trouble::WrongPin(card.tries));
        }
        let pin = match self.pin.take() {
            Some(pin) => pin,
            None => self.ask_pin(&card)?,
        };
        card::verify(&card, &pin)?;
        self.known = Some(card);
        if !self.request.ask_each_time {
            self.pin = Some(pin.clone());
        }
        Ok(Some(pin))
    }

    fn ask_pin(&self, card: &Card) -> Result<Pin, Trouble> {
        if self.request.pin_stdin {
            let mut line = Zeroizing::new(String::with_capacity(128));
            io::stdin().lock().read_line(&mut line).map_err(|_| Trouble::NoPin)?;
            return match line.trim_end_matches(['\r', '\n']) {
                "" => Err(Trouble::NoPin),
                pin => Ok(Zeroizing::new(pin.into())),
            };
        }
        if !io::stdin().is_terminal() {
            return Err(Trouble::NoPin);
        }
        let shown: String = card.label.chars().filter(|c| !c.is_control()).collect();
        let prompt = match self.request.lang {
            Lang::En => format!("PIN of {shown}: "),
            Lang::Ja => format!("{shown} のPIN: "),
        };
        let pin = while_asking(|| rpassword::prompt_password(prompt));
        pin.map(Zeroizing::new).map_err(|_| Trouble::NoPin)
    }

    /// The near end of `target`.
    fn port(&mut self, target: Target) -> Result<u16, Trouble> {
        if let Some(port) = self.ports.get(&target) {
            return Ok(*port);
        }
        let failed = |e: io::Error| Trouble::Ssh(e.to_string());
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let port = free.local_addr().map_err(failed)?.port();
        self.ports.insert(target, port);
        Ok(port)
    }

    fn portal_url(&mut self) -> Result<String, Trouble> {
        Ok(format!("http://127.0.0.1:{}/", self.port(self.lab.profile.portal)?))
    }

    /// Where a file manager finds the transfers; None where the lab has none.
    fn transfer_url(&mut self) -> Result<Option<String>, Trouble> {
        let Some(target) = self.lab.profile.transfer else { return Ok(None) };
        Ok(Some(format!("http://127.0.0.1:{}/dav/", self.port(target)?)))
    }

    /// Starts the RDP client for the desktop that is meant, if it is clear which.
    fn show_desktop(&mut self) -> Result<(), Trouble> {
        let desktops = self.lab.profile.desktops.clone();
        let wanted = match (&self.request.desktop, desktops.as_slice()) {
            (Some(name), all) => {
                let names = || all.iter().map(Desktop::name).collect();
                let named = all.iter().find(|desktop| desktop.name() == *name);
                named.ok_or_else(|| Trouble::UnknownDesktop(name.clone(), names()))?
            }
            (None, [only]) => only,
            (None, _) => return Ok(()),
        };
        let Some((program, words)) = self.rdp(wanted)? else {
            self.note(
                "No RDP client was found here: install FreeRDP (xfreerdp3), or open the address above with yours.",
                "RDPクライアントが見つかりません。FreeRDP（xfreerdp3）をインストールするか、上のアドレスをお使いのクライアントで開いてください。",
            );
            return Ok(());
        };
        let mut command = Command::new(&program);
        command.args(&words).stdin(Stdio::null());
        if !self.request.verbose {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        let child = command.spawn().map_err(|e| Trouble::file(&program, &e))?;
        if self.request.json {
            say::event(&json!({ "event": "rdp", "desktop": wanted.name(), "pid": child.id() }));
        }
        self.children.push((wanted.name(), child));
        Ok(())
    }

    /// The command for `desktop`, whose file is written where the client wants one.
    fn rdp(&mut self, desktop: &Desktop) -> Result<Option<(PathBuf, Vec<String>)>, Trouble> {
        let port = self.port(desktop.target)?;
        let Some(client) = &self.client else { return Ok(None) };
        let file = self.lab.rdp_file(&desktop.name());
        if client.wants_file() && !self.request.print {
            store::write(&file, rdp_file(desktop, port).as_bytes())?;
        }
        let account = &self.lab.profile.account;
        Ok(Some(client.command(desktop, account, port, &file.to_string_lossy())))
    }

    fn reap(&mut self) {
        let mut closed = Vec::new();
        self.children.retain_mut(|(name, child)| match child.try_wait() {
            Ok(None) => true,
            _ => {
                closed.push(name.clone());
                false
            }
        });
        for name in closed {
            if self.request.json {
                say::event(&json!({ "event": "rdp-closed", "desktop": name }));
            }
            self.note(
                &format!("The client of {name} has ended; the tunnel stays open (Ctrl-C ends it)."),
                &format!("{name} のクライアントが終了しました。トンネルは開いたままです（Ctrl-C で終了）。"),
            );
        }
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _ended_already = child.kill();
            let _reaped = child.wait();
        }
    }
}
