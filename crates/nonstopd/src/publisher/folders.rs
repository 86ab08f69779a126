//! The folders of one data domain: what lies in them, and the effects that publish a day.
//!
//! Each effect can be repeated, and each is announced to a [`Hand`] before it is done, so that a
//! test can cut the power there. Nobody but root writes anywhere but in the inbox.

use super::{
    lease::is_written,
    plan::{Seen, TakenFile},
};
use jiff::{Timestamp, civil::Date};
use nonstop_api::day::{Day, HASHES, INDEX, REPORTS_PACK, SAMPLES_PACK, SampleDay};
use nonstop_model::{Content, Holds, Packets, Publication, PublicationId, Resource};
use rustix::{
    fs::{CWD, Mode, OFlags, RenameFlags, open, renameat_with, statvfs},
    io::Errno,
};
use serde::de::DeserializeOwned;
use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, fchown},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Does effects.
pub trait Hand: Send + Sync {
    /// Is about to do `what`. An error keeps it from being done.
    fn about_to(&self, what: &str) -> io::Result<()>;
}

/// The hand of a daemon: it does what it is about to.
#[derive(Debug)]
pub struct Steady;

impl Hand for Steady {
    fn about_to(&self, _what: &str) -> io::Result<()> {
        Ok(())
    }
}

/// A published day, as its folder says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The publication that it comes from.
    pub publication: Option<PublicationId>,
    /// What is written beside its files of what it was made from.
    pub content: Content,
    /// Its files, each of which has the length that it was published with.
    pub whole: bool,
    /// When one of its files was changed last, in nanoseconds since 1970.
    pub modified_ns: i64,
}

const PREPARED: &str = ".new-";
const REMOVED: &str = ".old-";

/// The kinds of days that are published.
pub(super) const KINDS: [Resource; 2] = [Resource::Pcap, Resource::Samples];

/// The groups of those who may read what is published.
#[derive(Debug, Clone, Copy, Default)]
pub struct Readers {
    /// Everything but samples.
    pub data: Option<u32>,
    /// Samples; its members are of the other group, too.
    pub samples: Option<u32>,
}

/// The folders of one data domain, for its days.
#[derive(Clone)]
pub struct Folders {
    pub(super) root: PathBuf,
    pub(super) readers: Readers,
    pub(super) hand: Arc<dyn Hand>,
}

impl Folders {
    /// Those under `root`, of which members of the groups `readers` may read what is published.
    pub fn new(root: PathBuf, readers: Readers, hand: Arc<dyn Hand>) -> Folders {
        Folders { root, readers, hand }
    }

    /// Where files arrive.
    pub fn inbox(&self) -> PathBuf {
        self.root.join("inbox/pcap")
    }

    /// Where the folders of days of `kind` are.
    pub fn published(&self, kind: Resource) -> PathBuf {
        self.root.join("published").join(kind.word())
    }

    /// Where all files are that were not fit, by kind.
    pub fn all_rejected(&self) -> PathBuf {
        self.root.join("rejected")
    }

    /// Where the files of `kind` are that were not fit.
    pub fn rejected(&self, kind: Resource) -> PathBuf {
        self.root.join("rejected").join(kind.word())
    }

    fn taking(&self) -> PathBuf {
        self.root.join("taking")
    }

    pub(super) fn taken(&self, id: PublicationId) -> PathBuf {
        self.taking().join(id.to_string())
    }

    pub(super) fn prepared(&self, kind: Resource, id: PublicationId) -> PathBuf {
        self.published(kind).join(format!("{PREPARED}{id}"))
    }

    pub(super) fn shown_at(&self, kind: Resource, day: Date) -> PathBuf {
        self.published(kind).join(day.to_string())
    }

    /// Makes them. An inbox that is there keeps its owner and its group, and what they may; others see
    /// nothing of what arrives, which may be samples.
    pub fn make(&self) -> io::Result<()> {
        fs::create_dir_all(&self.root)?;
        let arrive = self.root.join("inbox");
        for (path, mode) in [
            (self.root.clone(), 0o711),
            // Passed by whoever an inbox is given to.
            (arrive.clone(), 0o711),
            (self.inbox(), 0o700),
            (self.taking(), 0o700),
            (self.root.join("published"), 0o711),
            (self.published(Resource::Pcap), 0o750),
            (self.published(Resource::Samples), 0o750),
            (self.root.join("rejected"), 0o700),
            (self.rejected(Resource::Pcap), 0o700),
            (self.rejected(Resource::Samples), 0o700),
        ] {
            let was_there = path.exists();
            if !was_there {
                DirBuilder::new().mode(mode).create(&path)?;
            }
            let is = path.metadata()?.permissions().mode() & 0o7777;
            let right = match was_there && path.starts_with(&arrive) {
                true if is & 0o7 & !mode == 0 => is,
                // The unit lets nobody set the bits of setuid and setgid, not even again.
                true => is & (0o1770 | mode),
                false => mode,
            };
            if is != right {
                fs::set_permissions(&path, Permissions::from_mode(right))?;
            }
        }
        for kind in KINDS {
            let published = self.published(kind);
            if let Some(gid) = self.readers.data
                && published.metadata()?.gid() != gid
            {
                chown(published, None, Some(gid))?;
            }
        }
        Ok(())
    }

    /// Bytes that are free where they lie.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let stat = statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// What lies there of `publication`.
    pub fn see(&self, publication: &Publication) -> io::Result<Seen> {
        let (id, folder) = (publication.id, self.taken(publication.id));
        let (kind, day) = (publication.kind, publication.day);
        let prepared = self.read_day(&self.prepared(kind, id), kind, day)?;
        let shown = match day {
            Some(day) => self.shown(kind, day)?.and_then(|shown| shown.publication),
            None => None,
        };
        Ok(Seen {
            in_inbox: is_there(&self.inbox().join(&publication.file))?,
            taken: self.taken_file(&folder.join(&publication.file))?,
            made: kind != Resource::Samples || self.is_made(id)?,
            leftovers: is_there(&folder)? || is_there(&self.prepared(kind, id))?,
            prepared: prepared.is_some_and(|shown| shown.publication == Some(id)),
            shown,
        })
    }

    fn taken_file(&self, path: &Path) -> io::Result<Option<TakenFile>> {
        let about = match path.symlink_metadata() {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            about => about?,
        };
        let regular = about.is_file();
        let guarded = about.uid() == rustix::process::geteuid().as_raw()
            && about.permissions().mode() & 0o7777 == 0o444;
        let written = match regular {
            true => open_quietly(path)?.map(|file| is_written(&file)).transpose()?,
            false => None,
        };
        Ok(Some(TakenFile {
            regular,
            links: about.nlink(),
            guarded,
            written: written.flatten().unwrap_or(false),
        }))
    }

    /// Moves the file of `publication` out of the inbox and makes it root's, never to be written.
    pub fn take(&self, publication: &Publication) -> io::Result<()> {
        let folder = self.taken(publication.id);
        let (from, to) = (self.inbox().join(&publication.file), folder.join(&publication.file));
        if !is_there(&to)? {
            self.make_folder(&folder, 0o700)?;
            self.hand.about_to("move the file out of the inbox")?;
            match renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
                Err(Errno::XDEV) => {
                    let message = "the inbox lies on another file system than the lab's state: \
                                   mount that one elsewhere, and copy files into the inbox";
                    return Err(io::Error::new(ErrorKind::CrossesDevices, message));
                }
                moved => moved?,
            }
            sync_folder(&folder)?;
            sync_folder(&self.inbox())?;
        }
        let Some(file) = open_quietly(&to)? else { return Ok(()) };
        let about = file.metadata()?;
        // Of something else, or of a file with other names, nothing is changed.
        if about.is_file() && about.nlink() == 1 {
            self.hand.about_to("make the file root's")?;
            fchown(&file, Some(0), Some(0))?;
            file.set_permissions(Permissions::from_mode(0o444))?;
        }
        Ok(())
    }

    /// The taken file of `publication`, on the disk whole, to be read.
    pub fn open_taken(&self, publication: &Publication) -> io::Result<File> {
        let file = File::open(self.taken(publication.id).join(&publication.file))?;
        // Whoever brought it may not have waited for the disk.
        file.sync_all()?;
        Ok(file)
    }

    /// The published file of the packets of `day`, to be read.
    pub fn open_shown(&self, day: Date, shown: &Shown) -> io::Result<File> {
        File::open(self.shown_at(Resource::Pcap, day).join(shown.content.published_name(day)))
    }

    /// Makes the folder of `day` with the file of `publication`, beside the published ones.
    pub fn prepare(
        &self,
        publication: &Publication,
        day: Date,
        content: &Content,
        now: Timestamp,
    ) -> io::Result<()> {
        let folder = self.prepared(publication.kind, publication.id);
        self.remove_tree(&folder, "remove a folder that was prepared in part")?;
        self.make_folder(&folder, 0o700)?;
        let note = match &content.holds {
            Holds::Packets(packets) => {
                let name = content.published_name(day);
                self.hand.about_to("give the file its place in the new folder")?;
                let taken = self.taken(publication.id).join(&publication.file);
                fs::hard_link(taken, folder.join(&name))?;
                let sum = format!("{}  {name}\n", content.sha256);
                self.write(&folder.join(format!("{name}.sha256")), sum.as_bytes())?;
                serde_json::to_vec_pretty(&Day {
                    day,
                    file: name,
                    format: packets.format.word().into(),
                    bytes: content.bytes,
                    packets: packets.packets,
                    first: packets.first,
                    last: packets.last,
                    sha256: content.sha256.clone(),
                    published: now,
                    publication: publication.id.to_string(),
                })
            }
            Holds::Samples { samples, reports } => {
                let [pack_bytes, reports_bytes, index_bytes, hashes_bytes] =
                    self.place_made(publication.id, &folder)?;
                serde_json::to_vec_pretty(&SampleDay {
                    day,
                    samples: *samples,
                    reports: *reports,
                    bytes: content.bytes,
                    sha256: content.sha256.clone(),
                    pack_bytes,
                    reports_bytes,
                    index_bytes,
                    hashes_bytes,
                    published: now,
                    publication: publication.id.to_string(),
                })
            }
        };
        let note = note.map_err(io::Error::other)?;
        self.hand.about_to("let the readers into the new folder")?;
        chown(&folder, Some(0), self.readers.data)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o750))?;
        // Last: it says that the rest is there.
        self.write(&folder.join(Day::FILE), &note)?;
        sync_folder(&folder)?;
        sync_folder(&self.published(publication.kind))
    }

    /// Puts the prepared folder of `publication` in place of the one of `day`, in one step.
    pub fn exchange(&self, publication: &Publication, day: Date) -> io::Result<()> {
        let kind = publication.kind;
        let (new, place) = (self.prepared(kind, publication.id), self.shown_at(kind, day));
        self.hand.about_to("show the new folder")?;
        match renameat_with(CWD, &new, CWD, &place, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => renameat_with(CWD, &new, CWD, &place, RenameFlags::EXCHANGE)?,
            moved => moved?,
        }
        self.hand.about_to("make that last")?;
        sync_folder(&self.published(kind))
    }

    /// What is published of `day`; None if nothing is, or nothing that can be read.
    pub fn shown(&self, kind: Resource, day: Date) -> io::Result<Option<Shown>> {
        self.read_day(&self.shown_at(kind, day), kind, Some(day))
    }

    fn read_day(
        &self,
        folder: &Path,
        kind: Resource,
        day: Option<Date>,
    ) -> io::Result<Option<Shown>> {
        let noted = match kind {
            Resource::Samples => read_note::<SampleDay>(folder)?.map(of_samples),
            _ => read_note::<Day>(folder)?.and_then(of_packets),
        };
        let Some(noted) = noted.filter(|noted| Some(noted.day) == day) else { return Ok(None) };
        let (mut whole, mut modified_ns) = (true, i64::MIN);
        for (name, bytes) in &noted.files {
            let Some(file) = open_quietly(&folder.join(name))? else { return Ok(None) };
            let about = file.metadata()?;
            whole &= about.len() == *bytes;
            let at = about.mtime().saturating_mul(1_000_000_000).saturating_add(about.mtime_nsec());
            modified_ns = modified_ns.max(at);
        }
        let (publication, content) = (noted.publication, noted.content);
        Ok(Some(Shown { publication, content, whole, modified_ns }))
    }

    /// The days of `kind` that have a folder.
    pub fn shown_days(&self, kind: Resource) -> io::Result<Vec<Date>> {
        let names = names(&self.published(kind))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Publications of which something lies where files are taken to and days are prepared.
    pub fn begun(&self) -> io::Result<Vec<PublicationId>> {
        let taken = names(&self.taking())?;
        let mut prepared = Vec::new();
        for kind in KINDS {
            prepared.extend(names(&self.published(kind))?);
        }
        let prepared = prepared.iter().filter_map(|name| name.strip_prefix(PREPARED));
        let all = taken.iter().map(String::as_str).chain(prepared);
        let mut ids: Vec<_> = all.filter_map(|name| name.parse().ok()).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Removes what was needed on the way of `id`, and what it replaced.
    pub fn clean(&self, id: PublicationId) -> io::Result<()> {
        for kind in KINDS {
            self.remove_tree(&self.prepared(kind, id), "remove what was prepared or replaced")?;
        }
        self.remove_tree(&self.taken(id), "remove the folder that the file was taken to")?;
        for kind in KINDS {
            sync_folder(&self.published(kind))?;
        }
        sync_folder(&self.taking())
    }

    /// Moves the file of `publication` to the rejected ones, with `reason` beside it.
    pub fn put_aside(&self, publication: &Publication, reason: &str) -> io::Result<()> {
        let (id, rejected) = (publication.id, self.rejected(publication.kind));
        self.write(&rejected.join(format!("{id}.txt")), format!("{reason}\n").as_bytes())?;
        self.hand.about_to("move the file to the rejected ones")?;
        let to = rejected.join(format!("{id}-{}", publication.file));
        fs::rename(self.taken(id).join(&publication.file), to)?;
        sync_folder(&rejected)
    }

    /// Moves files that a publication took of which the database knows nothing back to the inbox.
    /// Gives their names there.
    pub fn give_back(&self, id: PublicationId) -> io::Result<Vec<String>> {
        let folder = self.taken(id);
        let mut given = Vec::new();
        // What was made of it begins with a dot, and no file that is taken does.
        for name in names(&folder)?.into_iter().filter(|name| !name.starts_with('.')) {
            self.hand.about_to("move a file back into the inbox")?;
            let from = folder.join(&name);
            let back = |name: &str| {
                let to = self.inbox().join(name);
                renameat_with(CWD, &from, CWD, to, RenameFlags::NOREPLACE)
            };
            let other = format!("{id}-{name}");
            given.push(match back(&name) {
                Err(Errno::EXIST) => back(&other).map(|()| other)?,
                moved => moved.map(|()| name)?,
            });
        }
        sync_folder(&self.inbox())?;
        self.clean(id)?;
        Ok(given)
    }

    /// Takes the folder of `day` away, in one step, and removes it.
    pub fn unpublish(&self, kind: Resource, day: Date) -> io::Result<()> {
        let away = self.published(kind).join(format!("{REMOVED}{day}"));
        self.remove_tree(&away, "remove what is left of a folder that was taken away")?;
        self.hand.about_to("take the folder of a day away")?;
        absent_is_fine(fs::rename(self.shown_at(kind, day), &away))?;
        sync_folder(&self.published(kind))?;
        self.remove_tree(&away, "remove a folder that was taken away")
    }

    /// Removes what is left of folders that were taken away.
    pub fn sweep(&self) -> io::Result<()> {
        for kind in KINDS {
            for name in names(&self.published(kind))? {
                if name.starts_with(REMOVED) {
                    let path = self.published(kind).join(name);
                    self.remove_tree(&path, "remove what is left of a folder that was taken away")?;
                }
            }
        }
        Ok(())
    }

    fn make_folder(&self, path: &Path, mode: u32) -> io::Result<()> {
        if is_there(path)? {
            return Ok(());
        }
        self.hand.about_to("make a folder")?;
        DirBuilder::new().mode(mode).create(path)?;
        path.parent().map_or(Ok(()), sync_folder)
    }

    pub(super) fn remove_tree(&self, path: &Path, what: &str) -> io::Result<()> {
        if !is_there(path)? {
            return Ok(());
        }
        self.hand.about_to(what)?;
        absent_is_fine(fs::remove_dir_all(path))
    }

    /// Makes the file at `path` with `text`, whole or not at all.
    fn write(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        let new = path.with_added_extension("tmp");
        self.hand.about_to("write a note")?;
        let mut file = File::create(&new)?;
        file.write_all(text)?;
        file.set_permissions(Permissions::from_mode(0o444))?;
        file.sync_all()?;
        self.hand.about_to("give the note its name")?;
        fs::rename(&new, path)
    }
}

/// What the note in the folder of a day says.
struct Noted {
    day: Date,
    publication: Option<PublicationId>,
    content: Content,
    /// Its files, and their lengths.
    files: Vec<(String, u64)>,
}

/// The note in `folder`; None if there is none that can be read.
fn read_note<T: DeserializeOwned>(folder: &Path) -> io::Result<Option<T>> {
    let Some(note) = open_quietly(&folder.join(Day::FILE))? else { return Ok(None) };
    let mut text = Vec::new();
    note.take(Day::LONGEST as u64).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text).ok())
}

fn of_packets(note: Day) -> Option<Noted> {
    let format = note.format.parse().ok()?;
    let packets = Packets { format, packets: note.packets, first: note.first, last: note.last };
    let holds = Holds::Packets(packets);
    let content = Content { bytes: note.bytes, sha256: note.sha256, holds };
    (content.published_name(note.day) == note.file).then(|| Noted {
        day: note.day,
        publication: note.publication.parse().ok(),
        files: vec![(note.file, content.bytes)],
        content,
    })
}

fn of_samples(note: SampleDay) -> Noted {
    let holds = Holds::Samples { samples: note.samples, reports: note.reports };
    let content = Content { bytes: note.bytes, sha256: note.sha256, holds };
    let files = [
        (SAMPLES_PACK, note.pack_bytes),
        (REPORTS_PACK, note.reports_bytes),
        (INDEX, note.index_bytes),
        (HASHES, note.hashes_bytes),
    ];
    Noted {
        day: note.day,
        publication: note.publication.parse().ok(),
        content,
        files: files.map(|(name, bytes)| (name.into(), bytes)).into(),
    }
}

/// Opens what is at `path` to be read, without following a link and without waiting for the other
/// end of a pipe; None if there is nothing, or a link or something that cannot be opened so.
pub(super) fn open_quietly(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match open(path, flags, Mode::empty()) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

pub(super) fn is_there(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// The names in `folder` that are text; none if it is not there.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(super) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
