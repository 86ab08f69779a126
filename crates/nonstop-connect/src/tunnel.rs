//! A running `ssh`: started, listened to, and ended with us.

use crate::{
    askpass::Answerer,
    card::Pin,
    connect::stopped,
    heard::{Heard, Phase},
    trouble::Trouble,
};
use nonstop_profile::Profile;
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// An open tunnel; closed when dropped.
pub(crate) struct Tunnel {
    ssh: Child,
    heard: Arc<Mutex<Heard>>,
    listener: Option<JoinHandle<()>>,
}

/// How long a login may take: a card signs within seconds, and a person may have to press on a pad.
const LOGIN: Duration = Duration::from_secs(90);

impl Tunnel {
    /// Starts `ssh`; returns when its ports listen.
    ///
    /// Errors: why they do not.
    pub(crate) fn open(
        program: &Path,
        words: &[String],
        folder: &Path,
        pin: Option<&Pin>,
        profile: &Profile,
        verbose: bool,
    ) -> Result<Tunnel, Trouble> {
        let failed = |e: std::io::Error| Trouble::file(program, &e);
        let mut command = Command::new(program);
        command.args(words).current_dir(folder).env("LC_ALL", "C").env_remove("SSH_AUTH_SOCK");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let answerer = pin.map(|pin| Answerer::new(pin.clone())).transpose().map_err(failed)?;
        match &answerer {
            Some(answerer) => answerer.tell(&mut command).map_err(failed)?,
            // Nobody is asked, and so nobody answers.
            None => drop(command.env_remove("SSH_ASKPASS").env("SSH_ASKPASS_REQUIRE", "never")),
        }
        let mut ssh = command.spawn().map_err(failed)?;
        let said = ssh.stderr.take().expect("piped above");
        let heard = Arc::new(Mutex::new(Heard::default()));
        let hears = heard.clone();
        let listener = thread::spawn(move || {
            for line in BufReader::new(said).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                if verbose {
                    eprintln!("ssh: {}", line.trim_end());
                }
                hears.lock().unwrap_or_else(PoisonError::into_inner).line(&line);
            }
        });
        let mut tunnel = Tunnel { ssh, heard, listener: Some(listener) };
        let began = Instant::now();
        while tunnel.phase() < Phase::Open {
            if stopped() {
                return Err(Trouble::Stopped);
            }
            if let Some(trouble) = tunnel.ended(profile) {
                return Err(trouble);
            }
            if began.elapsed() > LOGIN {
                return Err(Trouble::Ssh(format!("no login after {} s", LOGIN.as_secs())));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(tunnel)
    }

    /// Why `ssh` has ended; None while it runs.
    pub(crate) fn ended(&mut self, profile: &Profile) -> Option<Trouble> {
        match self.ssh.try_wait() {
            Ok(None) => None,
            Ok(Some(_)) => {
                // All that it said is heard first.
                if let Some(listener) = self.listener.take() {
                    let _never_panics = listener.join();
                }
                Some(self.heard.lock().unwrap_or_else(PoisonError::into_inner).trouble(profile))
            }
            Err(e) => Some(Trouble::Ssh(e.to_string())),
        }
    }

    fn phase(&self) -> Phase {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).phase
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _ended_already = self.ssh.kill();
        let _reaped = self.ssh.wait();
    }
}
