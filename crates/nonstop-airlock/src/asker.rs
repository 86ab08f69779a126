//! What is asked of `nonstopd` for one client.

use nonstop_api::airlock::{
    AirlockError, Answer, Ask, Denial, DenialKind, ENTRIES_AT_ONCE, Entry, EnvironmentName,
    ExportTold, Place, Session, Welcome,
};
use nonstop_model::{EntryName, EntryPath};
use std::{
    fs::File,
    net::TcpStream,
    os::fd::AsFd,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// How long a client waits here for its turn before it is told to come again.
const PATIENCE: Duration = Duration::from_secs(15);

/// Speaks with `nonstopd` for the client behind a connection.
pub(crate) struct Asker<'a> {
    socket: &'a Path,
    connection: &'a TcpStream,
    session: Option<Session>,
    /// How many sessions there were: what was written in an earlier one is gone with it.
    sessions: u64,
    welcome: Option<Welcome>,
    environments: Option<Vec<EnvironmentName>>,
}

/// What an ask comes to.
pub(crate) type Asked<T> = Result<T, Denial>;

/// A file that is being written.
pub(crate) struct Writing {
    /// What to commit.
    pub(crate) ticket: Ticket,
    /// The most bytes it may have.
    pub(crate) bytes: u64,
    /// It, open to write.
    pub(crate) file: File,
}

/// Names a file that is being written, in the session that it is written in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    number: u64,
    session: u64,
}

impl<'a> Asker<'a> {
    /// One that has not asked anything yet.
    pub(crate) fn new(socket: &'a Path, connection: &'a TcpStream) -> Asker<'a> {
        Asker { socket, connection, session: None, sessions: 0, welcome: None, environments: None }
    }

    fn session(&mut self) -> Asked<&Session> {
        if self.session.is_none() {
            let begun = Session::begin(self.socket, self.connection.as_fd());
            let (session, welcome) = begun.map_err(denial)?;
            self.sessions += 1;
            self.welcome = Some(welcome);
            self.session = Some(session);
        }
        self.session.as_ref().ok_or_else(|| denial(AirlockError::Unfit))
    }

    /// Asks, and waits a while where too much is asked at once: most clients give up sooner.
    fn ask(&mut self, ask: &Ask) -> Asked<Answer> {
        self.patiently(|own| own.ask_now(ask))
    }

    fn ask_for_file(&mut self, ask: &Ask) -> Asked<(Answer, File)> {
        self.patiently(|own| own.ask_for_file_now(ask))
    }

    fn patiently<T>(&mut self, ask: impl Fn(&mut Self) -> Asked<T>) -> Asked<T> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(10);
        loop {
            match ask(self) {
                // Nothing was changed, so it can be asked again.
                Err(denied)
                    if denied.kind == DenialKind::Busy
                        && self.session.is_some()
                        && begun.elapsed() < PATIENCE =>
                {
                    thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(250));
                }
                asked => return asked,
            }
        }
    }

    /// What changes nothing is asked once more where the daemon was restarted meanwhile.
    fn ask_now(&mut self, ask: &Ask) -> Asked<Answer> {
        let fresh = self.session.is_none();
        let answered = self.session()?.ask(ask);
        match self.kept(answered) {
            Err(AirlockError::Wire(_)) if !fresh && repeatable(ask) => {
                let answered = self.session()?.ask(ask);
                self.kept(answered).map_err(denial)
            }
            answered => answered.map_err(denial),
        }
    }

    fn ask_for_file_now(&mut self, ask: &Ask) -> Asked<(Answer, File)> {
        let fresh = self.session.is_none();
        let answered = self.session()?.ask_for_file(ask);
        let (answer, file) = match self.kept(answered) {
            Err(AirlockError::Wire(_)) if !fresh && repeatable(ask) => {
                let answered = self.session()?.ask_for_file(ask);
                self.kept(answered)
            }
            answered => answered,
        }
        .map_err(denial)?;
        Ok((answer, File::from(file)))
    }

    /// After anything but an answer or a denial the session is of no use any more.
    fn kept<T>(&mut self, answered: Result<T, AirlockError>) -> Result<T, AirlockError> {
        if matches!(answered, Err(AirlockError::Wire(_) | AirlockError::Unfit)) {
            self.session = None;
        }
        answered
    }

    /// Who the client is.
    pub(crate) fn welcome(&mut self) -> Asked<Welcome> {
        self.session()?;
        self.welcome.clone().ok_or_else(|| denial(AirlockError::Unfit))
    }

    /// The environments that the client has; asked anew with `now`.
    pub(crate) fn environments(&mut self, now: bool) -> Asked<Vec<EnvironmentName>> {
        if let Some(known) = self.environments.as_ref().filter(|_| !now) {
            return Ok(known.clone());
        }
        match self.ask(&Ask::Environments)? {
            Answer::Environments(found) => {
                self.environments = Some(found.clone());
                Ok(found)
            }
            _ => Err(denial(AirlockError::Unfit)),
        }
    }

    /// What is there; None if nothing is.
    pub(crate) fn look(&mut self, place: &Place) -> Asked<Option<Entry>> {
        match self.entry(&Ask::Look { place: place.clone() }) {
            Ok(entry) => Ok(Some(entry)),
            Err(denied) if denied.kind == DenialKind::NotFound => Ok(None),
            Err(denied) => Err(denied),
        }
    }

    /// What lies in a folder, by name: some of those after `after`, none of them told before, and
    /// whether they are the last.
    pub(crate) fn page(
        &mut self,
        place: &Place,
        after: Option<EntryName>,
    ) -> Asked<(Vec<Entry>, bool)> {
        let ask = Ask::List { place: place.clone(), after };
        let (Answer::Entries(mut entries), Ask::List { after, .. }) = (self.ask(&ask)?, ask) else {
            return Err(denial(AirlockError::Unfit));
        };
        let last = entries.len() < ENTRIES_AT_ONCE;
        entries.retain(|entry| entry.name > after);
        // Each page goes on from the one before, or there would be no end to them.
        if entries.is_empty() && !last {
            return Err(denial(AirlockError::Unfit));
        }
        Ok((entries, last))
    }

    /// All that lies in a folder.
    pub(crate) fn list(&mut self, place: &Place) -> Asked<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let after = entries.last().and_then(|entry| entry.name.clone());
            let (more, last) = self.page(place, after)?;
            entries.extend(more);
            if last {
                return Ok(entries);
            }
        }
    }

    /// A file to read.
    pub(crate) fn open(&mut self, place: &Place) -> Asked<(Entry, File)> {
        match self.ask_for_file(&Ask::Open { place: place.clone() })? {
            (Answer::Entry(entry), file) => Ok((entry, file)),
            _ => Err(denial(AirlockError::Unfit)),
        }
    }

    /// A file to write.
    pub(crate) fn create(&mut self, place: &Place, bytes: Option<u64>) -> Asked<Writing> {
        match self.ask_for_file(&Ask::Create { place: place.clone(), bytes })? {
            (Answer::Writing { ticket: number, bytes }, file) => {
                let ticket = Ticket { number, session: self.sessions };
                Ok(Writing { ticket, bytes, file })
            }
            _ => Err(denial(AirlockError::Unfit)),
        }
    }

    /// Makes what was written be at its place. The file must be closed.
    ///
    /// Errors: `Busy` also where the daemon knows nothing of it any more, as it was restarted while
    /// the file came: what was there before still is, and the file can be sent again.
    pub(crate) fn commit(&mut self, ticket: Ticket) -> Asked<Entry> {
        if self.session.is_none() || self.sessions != ticket.session {
            return Err(lost());
        }
        match self.entry(&Ask::Commit { ticket: ticket.number }) {
            Err(denied) if denied.kind == DenialKind::NotFound => Err(lost()),
            committed => committed,
        }
    }

    /// Forgets what was written.
    pub(crate) fn abandon(&mut self, ticket: Ticket) {
        if self.session.is_some() && self.sessions == ticket.session {
            // If it is not heard the daemon forgets it with the client's connection.
            let _not_heard = self.ask(&Ask::Abandon { ticket: ticket.number });
        }
    }

    /// Makes a folder.
    pub(crate) fn make_folder(&mut self, place: &Place) -> Asked<Entry> {
        self.entry(&Ask::MakeFolder { place: place.clone() })
    }

    /// Removes a name with all in it.
    pub(crate) fn remove(&mut self, place: &Place) -> Asked<()> {
        match self.ask(&Ask::Remove { place: place.clone() })? {
            Answer::Done => Ok(()),
            _ => Err(denial(AirlockError::Unfit)),
        }
    }

    /// Gives another name.
    pub(crate) fn rename(&mut self, from: &Place, to: &EntryPath, replace: bool) -> Asked<Entry> {
        self.entry(&Ask::Move { from: from.clone(), to: to.clone(), replace })
    }

    /// Gives a second name to a file, or makes a folder like another.
    pub(crate) fn copy(&mut self, from: &Place, to: &EntryPath, replace: bool) -> Asked<Entry> {
        self.entry(&Ask::Copy { from: from.clone(), to: to.clone(), replace })
    }

    /// Bytes that are held by a root, and that it may hold on top.
    pub(crate) fn quota(&mut self, place: &Place) -> Asked<(u64, u64)> {
        match self.ask(&Ask::Quota { place: place.clone() })? {
            Answer::Quota { used, available } => Ok((used, available)),
            _ => Err(denial(AirlockError::Unfit)),
        }
    }

    /// What became of the newest exports, and whether there are older ones.
    pub(crate) fn exports(&mut self) -> Asked<(Vec<ExportTold>, bool)> {
        match self.ask(&Ask::Exports)? {
            Answer::Exports { told, more } => Ok((told, more)),
            _ => Err(denial(AirlockError::Unfit)),
        }
    }

    fn entry(&mut self, ask: &Ask) -> Asked<Entry> {
        match self.ask(ask)? {
            Answer::Entry(entry) => Ok(entry),
            _ => Err(denial(AirlockError::Unfit)),
        }
    }
}

/// Whether asking twice is the same as asking once.
fn repeatable(ask: &Ask) -> bool {
    match ask {
        Ask::Environments
        | Ask::Look { .. }
        | Ask::List { .. }
        | Ask::Open { .. }
        | Ask::Quota { .. }
        | Ask::Exports => true,
        // What was written before belonged to the session that is gone; a new file is the same.
        Ask::Create { .. } => true,
        Ask::Begin
        | Ask::Commit { .. }
        | Ask::Abandon { .. }
        | Ask::MakeFolder { .. }
        | Ask::Remove { .. }
        | Ask::Move { .. }
        | Ask::Copy { .. } => false,
    }
}

/// What was written is not there to be committed.
fn lost() -> Denial {
    Denial {
        kind: DenialKind::Busy,
        message: "the lab's daemon was restarted, or its disk ran full, while the file came; \
                  nothing of it is kept: send it again"
            .into(),
    }
}

fn denial(error: AirlockError) -> Denial {
    match error {
        AirlockError::Denied(denial) => denial,
        AirlockError::Wire(_) => Denial {
            kind: DenialKind::Busy,
            message: "the lab's daemon does not answer now: try again in a moment".into(),
        },
        AirlockError::Unfit => Denial {
            kind: DenialKind::Failed,
            message: "the lab's daemon gave an answer that does not fit: tell the lab's staff"
                .into(),
        },
    }
}
