//! The folders of one data domain: what lies in them, and the effects that publish a day.
//!
//! Each effect can be repeated, and each is announced to a [`Hand`] before it is done, so that a
//! test can cut the power there. Nobody but root writes anywhere but in the inbox.

use super::{
    lease::is_written,
    plan::{Seen, TakenFile},
};
use jiff::{Timestamp, civil::Date};
use nonstop_api::day::Day;
use nonstop_model::{Content, Publication, PublicationId, publication::published_name};
use rustix::{
    fs::{CWD, Mode, OFlags, RenameFlags, open, renameat_with, statvfs},
    io::Errno,
};
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
    /// What is written beside the file.
    pub day: Day,
    /// The file's length.
    pub bytes: u64,
    /// When the file was changed last, in nanoseconds since 1970.
    pub modified_ns: i64,
}

const PREPARED: &str = ".new-";
const REMOVED: &str = ".old-";

/// The folders of one data domain, for its days of packets.
#[derive(Clone)]
pub struct Folders {
    root: PathBuf,
    /// The group of those who may read what is published.
    readers: Option<u32>,
    pub(super) hand: Arc<dyn Hand>,
}

impl Folders {
    /// Those under `root`, of which members of the group `readers` may read what is published.
    pub fn new(root: PathBuf, readers: Option<u32>, hand: Arc<dyn Hand>) -> Folders {
        Folders { root, readers, hand }
    }

    /// Where files arrive.
    pub fn inbox(&self) -> PathBuf {
        self.root.join("inbox/pcap")
    }

    /// Where the folders of days are.
    pub fn published(&self) -> PathBuf {
        self.root.join("published/pcap")
    }

    /// Where the files are that were not fit.
    pub fn rejected(&self) -> PathBuf {
        self.root.join("rejected/pcap")
    }

    fn taking(&self) -> PathBuf {
        self.root.join("taking")
    }

    fn taken(&self, id: PublicationId) -> PathBuf {
        self.taking().join(id.to_string())
    }

    fn prepared(&self, id: PublicationId) -> PathBuf {
        self.published().join(format!("{PREPARED}{id}"))
    }

    fn shown_at(&self, day: Date) -> PathBuf {
        self.published().join(day.to_string())
    }

    /// Makes them. An inbox that is there keeps its owner and rights.
    pub fn make(&self) -> io::Result<()> {
        let inbox_was_there = self.inbox().exists();
        for (path, mode) in [
            (self.root.clone(), 0o711),
            (self.root.join("inbox"), 0o755),
            (self.inbox(), 0o755),
            (self.taking(), 0o700),
            (self.root.join("published"), 0o711),
            (self.published(), 0o750),
            (self.root.join("rejected"), 0o700),
            (self.rejected(), 0o700),
        ] {
            if inbox_was_there && path.starts_with(self.root.join("inbox")) {
                continue;
            }
            fs::create_dir_all(&path)?;
            if path.metadata()?.permissions().mode() & 0o7777 != mode {
                fs::set_permissions(&path, Permissions::from_mode(mode))?;
            }
        }
        match self.readers {
            Some(gid) if self.published().metadata()?.gid() != gid => {
                chown(self.published(), None, Some(gid))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Bytes that are free where they lie.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let stat = statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// What lies there of `publication`.
    pub fn see(&self, publication: &Publication) -> io::Result<Seen> {
        let (id, folder) = (publication.id, self.taken(publication.id));
        let day = publication.day;
        let prepared = self.read_day(&self.prepared(id), day)?;
        let shown = match day {
            Some(day) => self.shown(day)?.and_then(|shown| shown.day.publication.parse().ok()),
            None => None,
        };
        Ok(Seen {
            in_inbox: is_there(&self.inbox().join(&publication.file))?,
            taken: self.taken_file(&folder.join(&publication.file))?,
            leftovers: is_there(&folder)? || is_there(&self.prepared(id))?,
            prepared: prepared.is_some_and(|shown| shown.day.publication == id.to_string()),
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

    /// The published file of `day`, to be read.
    pub fn open_shown(&self, shown: &Shown) -> io::Result<File> {
        File::open(self.shown_at(shown.day.day).join(&shown.day.file))
    }

    /// Makes the folder of `day` with the file of `publication`, beside the published ones.
    pub fn prepare(
        &self,
        publication: &Publication,
        day: Date,
        content: &Content,
        now: Timestamp,
    ) -> io::Result<()> {
        let folder = self.prepared(publication.id);
        self.remove_tree(&folder, "remove a folder that was prepared in part")?;
        self.make_folder(&folder, 0o700)?;
        let name = published_name(day, content.format);
        self.hand.about_to("give the file its place in the new folder")?;
        let taken = self.taken(publication.id).join(&publication.file);
        fs::hard_link(taken, folder.join(&name))?;
        let sum = format!("{}  {name}\n", content.sha256);
        self.write(&folder.join(format!("{name}.sha256")), sum.as_bytes())?;
        let note = Day {
            day,
            file: name,
            format: content.format.word().into(),
            bytes: content.bytes,
            packets: content.packets,
            first: content.first,
            last: content.last,
            sha256: content.sha256.clone(),
            published: now,
            publication: publication.id.to_string(),
        };
        let note = serde_json::to_vec_pretty(&note).map_err(io::Error::other)?;
        self.hand.about_to("let the readers into the new folder")?;
        chown(&folder, Some(0), self.readers)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o750))?;
        // Last: it says that the rest is there.
        self.write(&folder.join(Day::FILE), &note)?;
        sync_folder(&folder)?;
        sync_folder(&self.published())
    }

    /// Puts the prepared folder of `publication` in place of the one of `day`, in one step.
    pub fn exchange(&self, publication: &Publication, day: Date) -> io::Result<()> {
        let (new, place) = (self.prepared(publication.id), self.shown_at(day));
        self.hand.about_to("show the new folder")?;
        match renameat_with(CWD, &new, CWD, &place, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => renameat_with(CWD, &new, CWD, &place, RenameFlags::EXCHANGE)?,
            moved => moved?,
        }
        self.hand.about_to("make that last")?;
        sync_folder(&self.published())
    }

    /// What is published of `day`; None if nothing is, or nothing that can be read.
    pub fn shown(&self, day: Date) -> io::Result<Option<Shown>> {
        self.read_day(&self.shown_at(day), Some(day))
    }

    fn read_day(&self, folder: &Path, day: Option<Date>) -> io::Result<Option<Shown>> {
        let Some(note) = open_quietly(&folder.join(Day::FILE))? else { return Ok(None) };
        let mut text = Vec::new();
        note.take(Day::LONGEST as u64).read_to_end(&mut text)?;
        let Ok(read) = serde_json::from_slice::<Day>(&text) else { return Ok(None) };
        let plain = !read.file.contains('/') && !read.file.starts_with('.');
        if Some(read.day) != day || !plain {
            return Ok(None);
        }
        let Some(file) = open_quietly(&folder.join(&read.file))? else { return Ok(None) };
        let about = file.metadata()?;
        let modified_ns = about.mtime().saturating_mul(1_000_000_000) + about.mtime_nsec();
        Ok(Some(Shown { day: read, bytes: about.len(), modified_ns }))
    }

    /// The days that have a folder.
    pub fn shown_days(&self) -> io::Result<Vec<Date>> {
        let names = names(&self.published())?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Publications of which something lies where files are taken to and days are prepared.
    pub fn begun(&self) -> io::Result<Vec<PublicationId>> {
        let taken = names(&self.taking())?;
        let prepared = names(&self.published())?;
        let prepared = prepared.iter().filter_map(|name| name.strip_prefix(PREPARED));
        let all = taken.iter().map(String::as_str).chain(prepared);
        let mut ids: Vec<_> = all.filter_map(|name| name.parse().ok()).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Removes what was needed on the way of `id`, and what it replaced.
    pub fn clean(&self, id: PublicationId) -> io::Result<()> {
        self.remove_tree(&self.prepared(id), "remove what was prepared or replaced")?;
        self.remove_tree(&self.taken(id), "remove the folder that the file was taken to")?;
        sync_folder(&self.published())?;
        sync_folder(&self.taking())
    }

    /// Moves the file of `publication` to the rejected ones, with `reason` beside it.
    pub fn put_aside(&self, publication: &Publication, reason: &str) -> io::Result<()> {
        let id = publication.id;
        self.write(&self.rejected().join(format!("{id}.txt")), format!("{reason}\n").as_bytes())?;
        self.hand.about_to("move the file to the rejected ones")?;
        let to = self.rejected().join(format!("{id}-{}", publication.file));
        fs::rename(self.taken(id).join(&publication.file), to)?;
        sync_folder(&self.rejected())
    }

    /// Moves files that a publication took of which the database knows nothing back to the inbox.
    /// Gives their names there.
    pub fn give_back(&self, id: PublicationId) -> io::Result<Vec<String>> {
        let folder = self.taken(id);
        let mut given = Vec::new();
        for name in names(&folder)? {
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
    pub fn unpublish(&self, day: Date) -> io::Result<()> {
        let away = self.published().join(format!("{REMOVED}{day}"));
        self.remove_tree(&away, "remove what is left of a folder that was taken away")?;
        self.hand.about_to("take the folder of a day away")?;
        absent_is_fine(fs::rename(self.shown_at(day), &away))?;
        sync_folder(&self.published())?;
        self.remove_tree(&away, "remove a folder that was taken away")
    }

    /// Removes what is left of folders that were taken away.
    pub fn sweep(&self) -> io::Result<()> {
        for name in names(&self.published())? {
            if name.starts_with(REMOVED) {
                let path = self.published().join(name);
                self.remove_tree(&path, "remove what is left of a folder that was taken away")?;
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

    fn remove_tree(&self, path: &Path, what: &str) -> io::Result<()> {
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

fn is_there(path: &Path) -> io::Result<bool> {
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

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(super) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
