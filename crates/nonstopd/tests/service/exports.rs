//! Who is told what of an export, who decides on it, and how often.

use crate::lab::TestLab;
use nonstop_api::{ApiError, ErrorCode, ExportView, Reply, Request};
use nonstop_model::{
    BlobId, EnvironmentId, EnvironmentTemplate, ExportId, ExportState, MachineId, Password, Period,
    Role, Root, capacity::Room, screening::Verdict,
};
use nonstop_store::{ByHash, Grant, GrantedMachine, NewContent, Screening, Tree};
use nonstopd::caller::Caller;
use sha2::{Digest, Sha256};
use std::{fs, io::Read, time::Duration};

const TEMPLATE: &str = "version: 1\ntitle: t\nmachines:\n\
    - {role: analyst, image: micro, memory_mib: 96, reach: [airlock]}";

/// A lab in which alice's machine has exported something.
struct Exporting {
    lab: TestLab,
    environment: EnvironmentId,
    exports: u128,
}

impl Exporting {
    fn new() -> Exporting {
        let lab = TestLab::new("software_keys: true\n");
        let tanaka = Request::AccountAdd {
            name: "tanaka".parse().expect("a name"),
            full_name: "tanaka".into(),
            affiliation: "x".into(),
            role: Role::Staff,
            edition: None,
            sources: vec!["192.0.2.0/24".parse().expect("a network")],
            keys: Vec::new(),
        };
        lab.admin(tanaka).expect("added");
        let mut exporting = Exporting { lab, environment: EnvironmentId(0), exports: 0 };
        exporting.environment = exporting.grant("alice");
        exporting
    }

    fn grant(&self, account: &str) -> EnvironmentId {
        let (db, now) = (&self.lab.daemon.db, nonstopd::Clock::now(&*self.lab.clock));
        let machine = GrantedMachine {
            image: "micro".parse().expect("a name"),
            image_digest: "d".into(),
            guest_user: None,
            password: Password("secret".into()),
            desktop_port: None,
        };
        let until = now + Duration::from_secs(3600);
        db.write("sato", now, |w| {
            w.grant_environment(&Grant {
                account: account.parse().expect("a name"),
                template_name: "micro".parse().expect("a name"),
                template: EnvironmentTemplate::parse("t", TEMPLATE, None).expect("valid"),
                period: Period::new(now, until).expect("ordered"),
                machines: vec![machine],
                pool: self.lab.lab.network.pool,
                room: Room { memory_mib: 1 << 20, machines: 8 },
            })
        })
        .expect("granted")
    }

    /// The machine exports `text` as `name`, and the screening says `verdict`.
    fn export(&mut self, name: &str, text: &str, verdict: Verdict) -> ExportId {
        self.exports += 1;
        let (db, now) = (&self.lab.daemon.db, nonstopd::Clock::now(&*self.lab.clock));
        let sha256 = hex::encode(Sha256::digest(text));
        let kept = if verdict == Verdict::Block { ByHash::Quarantine } else { ByHash::Trace };
        let folder = match kept {
            ByHash::Trace => self.lab.lab.trace_store(),
            ByHash::Quarantine => self.lab.lab.quarantine().join("exports"),
        };
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(&sha256), text).expect("written");
        let screening = Screening {
            at: now,
            ms: 3,
            sha256,
            content_type: "text/plain".into(),
            verdict,
            findings: serde_json::json!([{
                "rule": "review", "verdict": verdict.word(), "says": "it says so", "mend": "so",
            }]),
            rules_digest: Some("cd".repeat(32)),
        };
        let tree = Tree {
            environment: self.environment,
            root: Root::Export,
            names: 10,
            bytes: 1 << 20,
            due_at: Some(now),
        };
        let blob = BlobId::from_bits(self.exports);
        db.write("nonstopd", now, |w| {
            let new =
                NewContent { blob: &blob, bytes: text.len() as u64, machine: Some(MachineId(1)) };
            w.put_file(&tree, &name.parse().expect("a path"), new).expect("put");
            let ids = w.submit_due(10)?;
            w.begin_screening(ids[0])?;
            w.export_screened(ids[0], &screening, Some(kept))?;
            Ok::<_, nonstop_store::StoreError>(ids[0])
        })
        .expect("exported")
    }

    fn shown(&self, who: &str, id: ExportId) -> Result<ExportView, ApiError> {
        match self.lab.person(who, Request::ExportShow { id })? {
            Reply::Export(view) => Ok(view),
            other => panic!("{other:?}"),
        }
    }

    fn listed(&self, who: &str) -> Vec<ExportView> {
        let asked = Request::ExportList { environment: None, waiting: false, all: true };
        match self.lab.person(who, asked).expect("listed") {
            Reply::Exports(views) => views,
            other => panic!("{other:?}"),
        }
    }

    fn release(&self, who: &str, id: ExportId) -> Result<Reply, ApiError> {
        self.lab.person(who, Request::ExportRelease { id, reason: "counts only".into() })
    }

    fn refuse(&self, who: &str, id: ExportId) -> Result<Reply, ApiError> {
        self.lab.person(who, Request::ExportRefuse { id, reason: "addresses in it".into() })
    }

    /// What is in the trace of `action`.
    fn traced(&self, action: &str) -> usize {
        let rows = self.lab.daemon.db.read(|read| read.trace_rows(100)).expect("rows");
        rows.iter().filter(|row| row.action == action).count()
    }
}

fn code(refused: Result<impl std::fmt::Debug, ApiError>) -> (ErrorCode, String) {
    let error = refused.expect_err("it is refused");
    (error.code, error.message)
}

#[test]
fn an_owner_is_told_number_state_and_rules_until_it_is_released() {
    let mut world = Exporting::new();
    let held = world.export("counts.csv", "port,count", Verdict::Hold);
    let blocked = world.export("sample.bin", "a sample", Verdict::Block);
    for id in [held, blocked] {
        let told = world.shown("alice", id).expect("one's own");
        assert_eq!((&told.about, told.rules.as_slice()), (&None, &["review".to_string()][..]));
        assert!(!told.decidable && told.undecidable.is_none());
        let all = world.shown("sato", id).expect("staff see all").about.expect("all of it");
        assert_eq!((all.findings.len(), all.sha256.map(|hash| hash.len())), (1, Some(64)));
        assert_eq!(code(world.shown("bob", id)).0, ErrorCode::NotFound);
    }
    let said = serde_json::to_string(&world.listed("alice")).expect("JSON");
    assert!(!said.contains("counts.csv") && !said.contains("it says so"), "{said}");
    assert_eq!(world.listed("bob"), []);
    assert_eq!(world.listed("sato").len(), 2);

    world.release("sato", held).expect("released");
    let about = world.shown("alice", held).expect("hers").about.expect("told with its release");
    assert_eq!(about.path.as_str(), "counts.csv");
    // What staff write to the trace of a release is not the owner's to read.
    let last = about.decisions.last().expect("decided");
    assert_eq!((last.state, last.reason.as_str()), (ExportState::Released, ""));
    assert_eq!(world.shown("alice", blocked).expect("hers").about, None);
}

#[test]
fn an_export_is_decided_on_once_and_who_comes_second_learns_who_was_first() {
    let mut world = Exporting::new();
    let id = world.export("counts.csv", "port,count", Verdict::Hold);
    assert!(world.shown("sato", id).expect("shown").decidable);
    for who in ["alice", "bob"] {
        assert_eq!(code(world.release(who, id)).0, ErrorCode::Forbidden, "{who}");
        assert_eq!(code(world.refuse(who, id)).0, ErrorCode::Forbidden, "{who}");
    }
    let no_reason = Request::ExportRelease { id, reason: " ".into() };
    assert_eq!(code(world.lab.person("sato", no_reason)).0, ErrorCode::Invalid);
    world.refuse("tanaka", id).expect("refused");
    let (late, said) = code(world.release("sato", id));
    assert_eq!(late, ErrorCode::Conflict);
    assert!(said.contains("refused") && said.contains("tanaka"), "{said}");
    assert_eq!(code(world.refuse("tanaka", id)).0, ErrorCode::Conflict);
    let shown = world.shown("sato", id).expect("shown");
    assert!(!shown.decidable && shown.state == ExportState::Refused);
    assert_eq!((world.traced("export.refuse"), world.traced("export.release")), (1, 0));
    // Refused for good: it is neither taken back nor let out.
    let revoke = Request::ExportRevoke { id, reason: "x".into() };
    assert_eq!(code(world.lab.person("sato", revoke)).0, ErrorCode::Conflict);
}

#[test]
fn nobody_decides_on_an_export_of_their_own() {
    let mut world = Exporting::new();
    world.environment = world.grant("sato");
    let id = world.export("own.txt", "mine", Verdict::Hold);
    let own = world.shown("sato", id).expect("shown");
    assert!(!own.decidable && own.undecidable.is_some(), "{own:?}");
    assert_eq!(code(world.release("sato", id)).0, ErrorCode::Forbidden);
    world.release("tanaka", id).expect("another may");
    let revoke = Request::ExportRevoke { id, reason: "mine".into() };
    assert_eq!(code(world.lab.person("sato", revoke)).0, ErrorCode::Forbidden);
}

#[test]
fn bytes_are_had_by_admins_alone_and_each_time_is_traced() {
    let mut world = Exporting::new();
    let id = world.export("counts.csv", "port,count", Verdict::Hold);
    let service = &world.lab.daemon.service;
    for who in ["alice", "sato"] {
        let account = world.lab.daemon.db.read(|read| read.account(&who.parse().expect("a name")));
        let caller = Caller::Person(account.expect("read"));
        let (reply, file) = service.answer_with_file(&caller, Request::ExportFetch { id });
        assert_eq!(code(reply).0, ErrorCode::Forbidden, "{who}");
        assert!(file.is_none(), "{who}");
    }
    assert_eq!(world.traced("export.fetch"), 0);
    let admin = Caller::Admin { user: "root".into() };
    let (reply, file) = service.answer_with_file(&admin, Request::ExportFetch { id });
    assert!(matches!(reply, Ok(Reply::Export(view)) if view.about.is_some()));
    let mut text = String::new();
    fs::File::from(file.expect("a file")).read_to_string(&mut text).expect("read");
    assert_eq!((text.as_str(), world.traced("export.fetch")), ("port,count", 1));
}

#[test]
fn a_note_is_its_owners_while_somebody_may_still_read_it() {
    let mut world = Exporting::new();
    let id = world.export("counts.csv", "port,count", Verdict::Hold);
    let note = |text: &str| Request::ExportNote { id, note: text.into() };
    world.lab.person("alice", note("counts by port\nand day")).expect("noted");
    let seen = world.shown("sato", id).expect("shown").note;
    assert_eq!(seen.as_deref(), Some("counts by port\nand day"));
    assert_eq!(code(world.lab.person("bob", note("x"))).0, ErrorCode::NotFound);
    assert_eq!(code(world.lab.person("sato", note("x"))).0, ErrorCode::Forbidden);
    assert_eq!(code(world.lab.person("alice", note(&"x".repeat(1001)))).0, ErrorCode::Invalid);
    assert_eq!(code(world.lab.person("alice", note("\u{1b}[2J"))).0, ErrorCode::Invalid);
    world.lab.admin(note("")).expect("in her name");
    assert_eq!(world.shown("sato", id).expect("shown").note, None);
    world.refuse("sato", id).expect("refused");
    assert_eq!(code(world.lab.person("alice", note("late"))).0, ErrorCode::Conflict);
}

#[test]
fn staff_are_told_how_many_wait_and_the_longest_comes_first() {
    let mut world = Exporting::new();
    let first = world.export("a.csv", "a", Verdict::Hold);
    world.export("b.csv", "b", Verdict::Pass);
    let second = world.export("c.csv", "c", Verdict::Hold);
    let waiting = |who: &str| match world.lab.person(who, Request::WhoAmI).expect("me") {
        Reply::Me(me) => me.exports_waiting,
        other => panic!("{other:?}"),
    };
    assert_eq!((waiting("alice"), waiting("sato")), (None, Some(2)));
    let asked = Request::ExportList { environment: None, waiting: true, all: false };
    let Ok(Reply::Exports(queue)) = world.lab.person("sato", asked) else { panic!("a list") };
    assert_eq!(queue.iter().map(|x| x.id).collect::<Vec<_>>(), [first, second]);
    world.release("sato", first).expect("released");
    assert_eq!(waiting("sato"), Some(1));
}

#[test]
fn lists_fit_into_an_answer_whatever_a_researcher_has_written() {
    let world = Exporting::new();
    let (db, now) = (&world.lab.daemon.db, nonstopd::Clock::now(&*world.lab.clock));
    let tree = |root, due_at| Tree {
        environment: world.environment,
        root,
        names: 20_000,
        bytes: 1 << 30,
        due_at,
    };
    // Each quote is twice as long on its way.
    let folder = ["\""; 3].map(|quote| quote.repeat(255));
    let file = |n: u128| format!("{}/{}{n:04}", folder.join("/"), "\"".repeat(250));
    let (note, says) = ("😀".repeat(1000), "\"".repeat(500));
    let finding = |n: usize| {
        serde_json::json!({ "rule": format!("yara.{n:090}"), "verdict": "block", "says": says,
            "mend": says, "says_ja": says, "mend_ja": says })
    };
    let findings = serde_json::json!((0..20).map(finding).collect::<Vec<_>>());
    let (exports, imports) = (tree(Root::Export, Some(now)), tree(Root::Import, None));
    let made = db.write("nonstopd", now, |w| {
        for tree in [&exports, &imports] {
            for depth in 1..=folder.len() {
                let path = folder[..depth].join("/").parse().expect("a path");
                w.make_folder(tree, &path).expect("made");
            }
        }
        for n in 0..1000 {
            let path = file(n).parse().expect("a path");
            let blob = BlobId::from_bits(n);
            let new = NewContent { blob: &blob, bytes: 1, machine: Some(MachineId(1)) };
            w.put_file(&exports, &path, new).expect("put");
            for id in w.submit_due(10)? {
                w.begin_screening(id)?;
                let screening = Screening {
                    at: now,
                    ms: 3,
                    sha256: format!("{n:064x}"),
                    content_type: "text/plain".into(),
                    verdict: Verdict::Hold,
                    findings: findings.clone(),
                    rules_digest: Some("cd".repeat(32)),
                };
                w.export_screened(id, &screening, None)?;
                w.note_export(id, &note)?;
            }
            let blob = BlobId::from_bits(1000 + n);
            let new = NewContent { blob: &blob, bytes: 1, machine: None };
            w.put_file(&imports, &path, new).expect("put");
        }
        Ok::<_, nonstop_store::StoreError>(())
    });
    made.expect("made");
    for import in db.read(|read| read.imports(None, None, true)).expect("read") {
        let checked = db.write("nonstopd", now, |w| {
            w.import_checked(import.id, &"ab".repeat(32), "text/plain", &findings, true)
        });
        checked.expect("checked");
    }
    let most = nonstop_api::MAX_MESSAGE_BYTES as usize;
    let asked = [
        Request::ExportList { environment: None, waiting: true, all: false },
        Request::ExportList { environment: None, waiting: false, all: true },
        Request::ImportList { environment: None, all: true },
    ];
    for asked in asked {
        for who in ["alice", "sato"] {
            let reply = world.lab.person(who, asked.clone());
            let bytes = serde_json::to_vec(&reply).expect("JSON").len();
            assert!(bytes < most, "{asked:?} to {who}: {bytes} bytes");
            match reply {
                Ok(Reply::Exports(all)) => assert_eq!(all.len(), 1000),
                Ok(Reply::Imports(all)) => {
                    assert_eq!(all.len(), 1000);
                    assert_eq!(all[999].findings[0].verdict, "block");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_loop_of_notes_does_not_fill_the_trace() {
    let mut world = Exporting::new();
    let id = world.export("counts.csv", "port,count", Verdict::Hold);
    let note = |n: usize| Request::ExportNote { id, note: ["あ", "い"][n % 2].repeat(1000) };
    let noted = (0..20_000).take_while(|n| world.lab.person("alice", note(*n)).is_ok()).count();
    assert!((100..2000).contains(&noted), "{noted}");
    let (refused, says) = code(world.lab.person("alice", note(noted)));
    assert_eq!(refused, ErrorCode::Capacity);
    assert!(says.contains(" more come in a day, the next in "), "{says}");
    world.lab.person("alice", note(noted + 1)).expect("the same as before is no new note");
    world.lab.admin(note(noted)).expect("who runs the lab may");
    world.refuse("sato", id).expect("and what else there is to do");
}
