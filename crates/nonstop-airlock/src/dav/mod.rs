//! WebDAV, class 1 and 2: what each method does with what a URL names.

mod change;
mod copy;
mod get;
mod held;
mod lock;
mod multi;
mod propfind;
mod proppatch;
mod put;
mod resource;

use crate::{
    asker::Asker,
    guard,
    http::{Answer, Body},
    locks::Locks,
    pages,
    properties::Properties,
    refusal::{Lang, Outcome, Refusal},
    target::{Side, Spot, Target},
};
use jiff::Timestamp;
use nonstop_api::airlock::Place;
use nonstop_http::Head;
use nonstop_model::{EnvironmentId, Root};
use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

/// What all connections of a side share.
#[derive(Debug)]
pub(crate) struct Site {
    /// Whom it talks to.
    pub(crate) side: Side,
    /// The daemon's socket.
    pub(crate) socket: PathBuf,
    /// Properties of names.
    pub(crate) properties: Properties,
    /// Locks of names.
    pub(crate) locks: Locks,
    turns: Mutex<HashMap<EnvironmentId, Turn>>,
}

/// Whose turn it is to change something in an environment, and when its properties were swept last.
#[derive(Debug, Default, Clone)]
struct Turn {
    lock: Arc<RwLock<()>>,
    swept: Option<Instant>,
}

/// How often properties of what is gone are swept.
const SWEEP: Duration = Duration::from_secs(3600);
/// Folders that a sweep looks into.
const FOLDERS: usize = 20_000;

impl Site {
    /// One that nobody has talked to yet.
    pub(crate) fn new(side: Side, socket: PathBuf, properties: Properties) -> Site {
        Site { side, socket, properties, locks: Locks::default(), turns: Mutex::default() }
    }

    /// Whether `place` may be changed by the clients of this side.
    pub(crate) fn is_writable(&self, place: &Place) -> bool {
        match self.side {
            Side::Inside => place.root == Root::Export,
            Side::Outside => place.root == Root::Import,
        }
    }

    /// The lock around changes in an environment: shared by those that do not look first.
    fn turn(&self, environment: EnvironmentId) -> Arc<RwLock<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() > 4096 {
            turns.retain(|_, turn| Arc::strong_count(&turn.lock) > 1);
        }
        Arc::clone(&turns.entry(environment).or_default().lock)
    }

    /// Whether it is time to sweep an environment's properties; it is not again for a while.
    fn is_sweep_due(&self, environment: EnvironmentId) -> bool {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = turns.entry(environment).or_default();
        let due = turn.swept.is_none_or(|at| at.elapsed() > SWEEP);
        if due {
            turn.swept = Some(Instant::now());
        }
        due
    }
}

/// One client's conversation.
pub(crate) struct Talk<'a> {
    pub(crate) site: &'a Site,
    pub(crate) asker: Asker<'a>,
    /// The address that the client connected to.
    pub(crate) own: Ipv4Addr,
    /// The machine's environment, once it is known.
    environment: Option<EnvironmentId>,
}

/// A request that is being answered.
pub(crate) struct Request<'r> {
    pub(crate) head: &'r Head,
    pub(crate) lang: Lang,
}

impl<'a> Talk<'a> {
    /// One with a client that connected to `own`.
    pub(crate) fn new(site: &'a Site, asker: Asker<'a>, own: Ipv4Addr) -> Talk<'a> {
        Talk { site, asker, own, environment: None }
    }

    /// The answer to `head`, whose body is `body`.
    pub(crate) fn answer(&mut self, head: &Head, body: &mut Body<'_>) -> Answer<'a> {
        let lang = Lang::of(head.list("accept-language").as_deref());
        let request = Request { head, lang };
        let done = self.done(&request, body);
        done.unwrap_or_else(|refusal| {
            let answer = refusal.answer(lang);
            match refusal.status {
                405 => answer.field("Allow", ALLOW),
                _ => answer,
            }
        })
    }

    fn done(&mut self, request: &Request<'_>, body: &mut Body<'_>) -> Outcome<Answer<'a>> {
        let head = request.head;
        guard::admit(self.site.side, self.own, head)?;
        // Answered for any name, and without the daemon: clients ask before they know anything.
        if head.method == "OPTIONS" {
            return Ok(options());
        }
        let Target { spot, .. } = self.target(&head.target, request)?;
        match head.method.as_str() {
            "GET" | "HEAD" => self.get(request, &spot),
            "PROPFIND" => self.propfind(request, &spot, body),
            method => {
                let Spot::In(place) = spot else {
                    return Err(match method {
                        "PUT" | "DELETE" | "MKCOL" | "COPY" | "MOVE" | "PROPPATCH" | "LOCK" => {
                            Refusal::read_only()
                        }
                        method => Refusal::method(method),
                    });
                };
                match method {
                    "PUT" => self.put(request, &place, body),
                    "DELETE" => self.delete(request, &place),
                    "MKCOL" => self.mkcol(request, &place, body),
                    "COPY" => self.copy_or_move(request, &place, false),
                    "MOVE" => self.copy_or_move(request, &place, true),
                    "PROPPATCH" => self.proppatch(request, &place, body),
                    "LOCK" => self.lock(request, &place, body),
                    "UNLOCK" => self.unlock(request, &place),
                    method => Err(Refusal::method(method)),
                }
            }
        }
    }

    /// What `target` names, to this client.
    fn target(&mut self, target: &str, request: &Request<'_>) -> Outcome<Target> {
        if self.site.side == Side::Inside && self.environment.is_none() {
            let own = self.asker.environments(false)?.first().map(|found| found.id);
            self.environment = own;
            if let Some(own) = own {
                self.sweep(own);
            }
        }
        let host = guard::host(request.head);
        let target = Target::parse(self.site.side, self.environment, target, &host)?;
        if let (Side::Outside, Spot::In(place)) = (self.site.side, &target.spot) {
            self.sweep(place.environment);
        }
        Ok(target)
    }

    /// Forgets properties of what is no longer there, once in a while.
    fn sweep(&mut self, environment: EnvironmentId) {
        if !self.site.is_sweep_due(environment) {
            return;
        }
        // To be tried again with the next due one; nothing depends on it but room.
        let _left_for_later = self.swept(environment);
    }

    fn swept(&mut self, environment: EnvironmentId) -> Outcome<()> {
        fn failed<E>(_: E) -> Refusal {
            Refusal::new(500, "", "")
        }
        let root = match self.site.side {
            Side::Inside => Root::Export,
            Side::Outside => Root::Import,
        };
        let root = Place { environment, root, path: nonstop_model::EntryPath::ROOT };
        // That it is the client's own is the daemon's word.
        let found = self.asker.look(&root)?.ok_or_else(Refusal::not_found)?;
        let properties = &self.site.properties;
        properties.seen(environment, Timestamp::now().as_second()).map_err(failed)?;
        if !properties.has_any(environment).map_err(failed)? {
            return Ok(());
        }
        let turn = self.site.turn(environment);
        let _turn = turn.write().unwrap_or_else(PoisonError::into_inner);
        let mut there = BTreeSet::from([found.id]);
        let mut folders = vec![root];
        let mut looked = 0;
        while let Some(folder) = folders.pop() {
            looked += 1;
            if looked > FOLDERS {
                return Ok(());
            }
            for entry in self.asker.list(&folder)? {
                if let (nonstop_api::airlock::EntryKind::Folder, Some(name)) =
                    (&entry.what, &entry.name)
                {
                    let path = folder.path.join(name).map_err(failed)?;
                    folders.push(Place { path, ..folder.clone() });
                }
                there.insert(entry.id);
            }
        }
        properties.keep(environment, &there).map_err(failed)
    }
}

const ALLOW: &str = "OPTIONS, GET, HEAD, PUT, DELETE, MKCOL, COPY, MOVE, PROPFIND, PROPPATCH, \
                     LOCK, UNLOCK";

fn options<'a>() -> Answer<'a> {
    Answer::empty(200)
        .field("DAV", "1, 2")
        .field("Allow", ALLOW)
        // Without it Windows takes it to be a server of FrontPage's.
        .field("MS-Author-Via", "DAV")
        .field("Accept-Ranges", "bytes")
}

pub(crate) use resource::{Below, Resource};

/// The pages of [`pages`], which are made from what is seen here.
impl<'a> Talk<'a> {
    fn status(&mut self, request: &Request<'_>, json: bool) -> Outcome<Answer<'a>> {
        let (exports, more) = self.asker.exports()?;
        let quota = match self.environment {
            Some(environment) => {
                let path = nonstop_model::EntryPath::ROOT;
                let place = Place { environment, root: Root::Export, path };
                Some(self.asker.quota(&place)?)
            }
            None => None,
        };
        let welcome = self.asker.welcome()?;
        Ok(match json {
            true => pages::status_json(&welcome, quota, &exports, more),
            false => pages::status(request.lang, &welcome, quota, &exports, more),
        })
    }
}
