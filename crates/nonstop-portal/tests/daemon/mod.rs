//! A daemon's side of the portal's socket, with a small lab of invented people.
//!
//! It speaks the real protocol over a real socket, and like `nonstopd` it takes the person from
//! the connection that the portal hands over, not from what is asked.

use nonstop_api::{
    AccountView, ApiError, ConnectView, DesktopView, EnvironmentStateView, EnvironmentView,
    ErrorCode, LabView, MachineStateView, MachineView, MeView, Problem, Reply, Request,
    RequestView, SessionView, StatsView, TemplateView, TraceVerification, TraceView,
};
use nonstop_model::{
    AccountState, EnvironmentId, Lab, MachineId, MachineRole, Period, Power, RdpPolicy, RequestId,
    RequestState, Role,
};
use std::{
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{Arc, Mutex},
};

/// Address of the researcher.
pub const ALICE: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 1);
/// Address of a member of the staff.
pub const SATO: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 2);

/// What alice writes into the form: every character that means something to a browser.
pub const HOSTILE: &str =
    "</textarea></td><script>alert(1)</script><img src=x onerror=alert(2)> \" onmouseover='x' & {}";

/// What was asked, by whom.
pub type Asked = Arc<Mutex<Vec<(Ipv4Addr, Request)>>>;

/// A lab whose portal listens on a port that was free just now.
pub fn lab(dir: &Path, demo: bool) -> Lab {
    let free = TcpListener::bind((ALICE, 0)).expect("a port");
    let port = free.local_addr().expect("bound").port();
    let text = format!(
        "version: 1\nname: Hotaru malware lab\nrun: {}\nportal:\n  port: {port}\nsoftware_keys: {demo}\n",
        dir.display()
    );
    Lab::parse("lab.yaml", &text).expect("a lab")
}

/// Answers at the portal's socket of `lab` until the process ends.
pub fn serve(lab: &Lab) -> Asked {
    let listener = UnixListener::bind(lab.portal_socket()).expect("a socket");
    let (asked, demo) = (Asked::default(), lab.software_keys);
    let kept = Arc::clone(&asked);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            answer(&socket, &asked, demo);
        }
    });
    kept
}

fn answer(socket: &UnixStream, asked: &Asked, demo: bool) {
    let Ok((request, fd)) = nonstop_api::receive_with_fd::<Request>(socket) else { return };
    let reply = match fd {
        None if request == Request::PortalAddresses => Ok(Reply::Addresses(vec![ALICE, SATO])),
        None => Err(ApiError::new(ErrorCode::Forbidden, "nobody asks")),
        Some(fd) => {
            let stream = TcpStream::from(fd);
            let Ok(IpAddr::V4(who)) = stream.local_addr().map(|a| a.ip()) else { return };
            asked.lock().expect("not poisoned").push((who, request.clone()));
            reply(who, request, demo)
        }
    };
    // The portal may have gone; then nobody wants it.
    let _gone = nonstop_api::send(socket, &reply);
}

fn reply(who: Ipv4Addr, request: Request, demo: bool) -> Result<Reply, ApiError> {
    let staff = who == SATO;
    let missing = |what: String| Err(ApiError::new(ErrorCode::NotFound, format!("there is no {what}")));
    Ok(match request {
        Request::WhoAmI => Reply::Me(MeView {
            account: Some(if staff { sato() } else { alice() }),
            actor: if staff { "sato" } else { "alice" }.into(),
            lab: LabView { name: "Hotaru malware lab".into(), software_keys: demo, connect: connect() },
        }),
        Request::AccountList => Reply::Accounts(vec![alice(), boris(), sato()]),
        Request::AccountShow { name } => {
            match [alice(), boris(), sato()].into_iter().find(|a| a.name == name) {
                Some(account) => Reply::Account(account),
                None => return missing(format!("account `{name}`")),
            }
        }
        Request::AccountAdd { .. } => Reply::Account(boris()),
        Request::TemplateList => Reply::Templates(templates()),
        Request::RequestApply { .. } => Reply::Request(open()),
        Request::RequestList => Reply::Requests(vec![open(), refused(), approved()]),
        Request::RequestApprove { id } if id == RequestId(1) => {
            return Err(ApiError::new(ErrorCode::Conflict, "request r1 was already approved"));
        }
        Request::RequestApprove { .. } => Reply::Environment(ready(staff)),
        Request::EnvironmentList { .. } if staff => {
            Reply::Environments(vec![stuck(), preparing(), ready(staff)])
        }
        Request::EnvironmentList { .. } => Reply::Environments(vec![preparing(), ready(staff)]),
        Request::EnvironmentShow { id } => {
            let mut all = vec![preparing(), ready(staff)];
            if staff {
                all.push(stuck());
            }
            match all.into_iter().find(|e| e.id == id) {
                Some(environment) => Reply::Environment(environment),
                None => return missing(format!("environment {id}")),
            }
        }
        Request::SessionList { all } => Reply::Sessions(sessions(all)),
        Request::TraceList { .. } => Reply::Trace(trace()),
        Request::TraceVerify => Reply::TraceVerified(TraceVerification {
            rows: 5,
            head: "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c".into(),
            broken_at: None,
        }),
        Request::Stats => Reply::Stats(StatsView {
            accounts: 12,
            environments: 3,
            machines: 3,
            sessions: 2,
            memory_mib: 8192,
            capacity_memory_mib: 49_152,
            quarantined: 0,
            trace_rows: 5,
        }),
        Request::Plan | Request::Check | Request::ReachShow | Request::PortalAddresses => {
            return Err(ApiError::new(ErrorCode::Forbidden, "only an admin may do that"));
        }
        _ => Reply::Done,
    })
}

fn connect() -> ConnectView {
    ConnectView {
        host: "lab.example.ac.jp".into(),
        port: 2222,
        host_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4mgl+VnJWxyUMGJvGdmoIPRBbKzQm5k2cRP+k9HTkU"
            .into(),
        fingerprint: "SHA256:0DPQcVhxm1Yg6b6XkQ1Z5x1D1oQz7tJ8m1Fb0pZx0yE".into(),
        portal_port: 8080,
    }
}

fn account(id: u8, name: &str, full: &str, at: &str, role: Role) -> AccountView {
    AccountView {
        name: name.parse().expect("a name"),
        full_name: full.into(),
        affiliation: at.into(),
        role,
        state: AccountState::Active,
        sources: vec!["192.0.2.0/24".parse().expect("a network")],
        keys: vec!["SHA256:pYJ4sM0iQ2tqzK8m4o1gk0bJm0bqv3Yw0m5v8h1xq9A".into()],
        uid: 70_000 + u32::from(id),
        address: Ipv4Addr::new(127, 64, 0, id),
        added_at: at_time("2030-01-07T01:00:00Z"),
    }
}

fn alice() -> AccountView {
    account(1, "alice", "Alice Arisawa", "Hotaru University", Role::Researcher)
}

fn sato() -> AccountView {
    account(2, "sato", "佐藤 花子", "Hotaru Lab", Role::Staff)
}

fn boris() -> AccountView {
    let boris = account(3, "boris", "Boris <b>Brand</b>", "Kaede Institute", Role::Researcher);
    AccountView { state: AccountState::Suspended, sources: vec![], ..boris }
}

fn templates() -> Vec<TemplateView> {
    let template = |name: &str, title: &str, title_ja: &str, rdp, memory_mib| TemplateView {
        name: name.parse().expect("a name"),
        title: title.into(),
        title_ja: title_ja.into(),
        rdp,
        machines: vec![MachineRole::Analyst],
        memory_mib,
    };
    let small = template("shell", "Small machine without a desktop", "", RdpPolicy::None, 512);
    vec![
        template("desktop", "Analyst desktop", "解析用デスクトップ", RdpPolicy::Guest, 2048),
        TemplateView { machines: vec![MachineRole::Debugger, MachineRole::Debuggee], ..small },
    ]
}

fn request(id: u32, purpose: &str, state: RequestState) -> RequestView {
    RequestView {
        id: RequestId(id),
        account: "alice".parse().expect("a name"),
        template: "desktop".parse().expect("a name"),
        period: period("2030-01-08T00:00:00Z", "2030-01-11T09:00:00Z"),
        purpose: purpose.into(),
        made_at: at_time("2030-01-07T23:10:00Z"),
        state,
    }
}

fn open() -> RequestView {
    request(3, HOSTILE, RequestState::Open)
}

fn refused() -> RequestView {
    let state = RequestState::Refused { by: "sato".into(), reason: "The period is too long.".into() };
    request(2, "Look at macro samples of 2029", state)
}

fn approved() -> RequestView {
    let state = RequestState::Approved { by: "sato".into(), environment: EnvironmentId(1) };
    request(1, "Compare packers of family K in the samples of December", state)
}

fn machine(id: u32, state: MachineStateView, shown: bool) -> MachineView {
    let address = Ipv4Addr::new(10, 77, 0, 16 * u8::try_from(id).expect("small") + 2);
    MachineView {
        id: MachineId(id),
        role: MachineRole::Analyst,
        power: Power::On,
        state,
        address,
        generation: 1,
        desktop: Some(DesktopView {
            address,
            port: 3389,
            user: Some("analyst".into()),
            password: shown.then(|| "k7pq2mzx9rtv4bnw8hdc".into()),
        }),
    }
}

fn environment(id: u32, state: EnvironmentStateView, machines: Vec<MachineView>) -> EnvironmentView {
    EnvironmentView {
        id: EnvironmentId(id),
        account: "alice".parse().expect("a name"),
        template: "desktop".parse().expect("a name"),
        title: "Analyst desktop".into(),
        title_ja: "解析用デスクトップ".into(),
        period: period("2030-01-08T00:00:00Z", "2030-01-11T09:00:00Z"),
        state,
        destroy_at: None,
        rdp: RdpPolicy::Guest,
        problem: None,
        machines,
    }
}

fn ready(staff: bool) -> EnvironmentView {
    environment(1, EnvironmentStateView::Ready, vec![machine(1, MachineStateView::Ready, !staff)])
}

fn preparing() -> EnvironmentView {
    let machines = vec![machine(2, MachineStateView::Starting, false)];
    environment(2, EnvironmentStateView::Preparing, machines)
}

fn stuck() -> EnvironmentView {
    let problem = Problem {
        message: "the image `desktop` is damaged: disk.qcow2 has another digest".into(),
        help: "build it again with `nonstop image build desktop`".into(),
    };
    let machines = vec![machine(4, MachineStateView::Off, false)];
    EnvironmentView {
        account: "boris".parse().expect("a name"),
        problem: Some(problem),
        ..environment(4, EnvironmentStateView::Preparing, machines)
    }
}

fn sessions(all: bool) -> Vec<SessionView> {
    let session = |id, closed_at| SessionView {
        id,
        account: "alice".parse().expect("a name"),
        source: "192.0.2.17".into(),
        key: "SHA256:pYJ4sM0iQ2tqzK8m4o1gk0bJm0bqv3Yw0m5v8h1xq9A".into(),
        opened_at: at_time("2030-01-08T01:20:00Z"),
        closed_at,
    };
    let mut sessions = vec![session(9, None)];
    if all {
        sessions.push(session(8, Some(at_time("2030-01-08T01:19:00Z"))));
    }
    sessions
}

fn trace() -> Vec<TraceView> {
    let row = |seq, actor: &str, action: &str, subject: &str, detail| TraceView {
        seq,
        at: at_time("2030-01-08T01:20:00Z"),
        actor: actor.into(),
        action: action.into(),
        subject: subject.into(),
        detail,
        hash: format!("{seq:064x}"),
    };
    vec![
        row(5, "alice", "session.open", "alice", serde_json::json!({"source": "192.0.2.17"})),
        row(4, "sato", "request.approve", "r1", serde_json::json!({"environment": "e1"})),
        row(3, "alice", "request.apply", "r3", serde_json::json!({"purpose": HOSTILE})),
        row(2, "sato", "account.suspend", "boris", serde_json::json!({"reason": "left"})),
        row(1, "admin:root", "account.add", "sato", serde_json::Value::Null),
    ]
}

fn period(from: &str, until: &str) -> Period {
    Period::new(at_time(from), at_time(until)).expect("a period")
}

/// A time of the invented lab.
pub fn at_time(text: &str) -> jiff::Timestamp {
    text.parse().expect("a time")
}

/// The clock of the invented lab.
pub fn now() -> jiff::Timestamp {
    at_time("2030-01-08T01:23:45Z")
}
