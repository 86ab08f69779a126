//! A connection, from the card to the desktop: opened, kept open, and ended with all it started.

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
use nonstop_profile::{Desktop, Target};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{self, BufRead, IsTerminal},
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};
use zeroize::Zeroizing;

static STOPPED: AtomicBool = AtomicBool::new(false);
static ASKING: AtomicBool = AtomicBool::new(false);
/// Somebody pressed Enter, to have new desktops looked for.
static LOOK: AtomicBool = AtomicBool::new(false);

/// The longest pause between two tries to log in again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whether somebody wants it to end.
pub(crate) fn stopped() -> bool {
    STOPPED.load(Ordering::SeqCst)
}

/// Ctrl-C and its like end what was started; while a PIN is asked for, nothing was.
fn end_on_signals() -> Result<(), Trouble> {
    let handler = || {
        STOPPED.store(true, Ordering::SeqCst);
        if ASKING.load(Ordering::SeqCst) {
            echo_again();
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(handler).map_err(|e| Trouble::Ssh(e.to_string()))
}

/// From now on Enter has new desktops looked for, where the terminal is not needed for the PIN.
fn look_on_enter(request: &Request) -> bool {
    let free = !request.pin_stdin && !request.ask_each_time && io::stdin().is_terminal();
    if free {
        thread::spawn(|| {
            for _ in io::stdin().lock().lines().map_while(Result::ok) {
                LOOK.store(true, Ordering::SeqCst);
            }
        });
    }
    free
}

/// Has the terminal show again what is typed.
fn echo_again() {
    #[cfg(unix)]
    if let Ok(terminal) = std::fs::File::open("/dev/tty") {
        let _best_effort = Command::new("stty").arg("echo").stdin(terminal).status();
    }
    eprintln!();
}

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
            if LOOK.swap(false, Ordering::SeqCst) && self.others_now() {
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
        let account = self.lab.profile.account.clone();
        let known = self.lab.authority;
        let kept = self
            .store
            .take(&fresh, "the portal's profile", |_, other| Err(Trouble::NotTrusted(*other)))?;
        if kept.authority != known || kept.profile.account != account {
            return Err(Trouble::Fetch("it is another account's".into()));
        }
        self.lab = kept;
        Ok(())
    }

    /// Portal and desktops, as the profile has them.
    fn targets(&self) -> Vec<Target> {
        let profile = &self.lab.profile;
        let mut targets: Vec<_> = profile.desktops.iter().map(|desktop| desktop.target).collect();
        targets.push(profile.portal);
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
        ASKING.store(true, Ordering::SeqCst);
        let pin = rpassword::prompt_password(prompt);
        ASKING.store(false, Ordering::SeqCst);
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

    fn tell_open(&mut self) {
        let Ok(portal) = self.portal_url() else { return };
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
                "event": "open", "portal": portal,
                "desktops": desktops.iter().map(shown).collect::<Vec<_>>(),
            }));
        }
        let lang = self.request.lang;
        println!("{} {}", lang.pick("Connected. Portal:", "接続しました。ポータル:"), portal);
        for (desktop, port, command) in desktops {
            let (name, title, until) = (desktop.name(), &desktop.title, desktop.until);
            println!("  {name}  {title}  127.0.0.1:{port}  - {until}");
            if let Some((program, words)) = command {
                println!("    {}", shell(&program.display().to_string(), &words));
            }
        }
    }

    fn tell_lost(&self, why: &Trouble, pause: Duration) {
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

    fn note(&self, en: &str, ja: &str) {
        if !self.request.json {
            println!("{}", self.request.lang.pick(en, ja));
        }
    }

    /// Says what would be run.
    fn print(&mut self) -> Result<(), Trouble> {
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

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            let _ended_already = child.kill();
            let _reaped = child.wait();
        }
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
