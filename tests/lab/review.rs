//! Exports that wait for a person: seen, decided once, and told of inside and outside as each is to
//! know.

use super::portal::{NEAR, ORIGIN, page, send};
use anyhow::{Context, Result, ensure};
use nonstop_testkit::{
    pc::Pc,
    place::wait_for,
    ssh::{Forward, Tunnel},
};
use nonstop_tests::{GuestShell, World};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

/// The near end of a researcher's tunnel to the file transfer.
const FILES: u16 = 8081;

/// A small guest that may export, in a lab where a person looks at every file.
const TEMPLATE: &str = "version: 1\ntitle: exports\nrdp: none\nmachines:\n\
    - {role: analyst, image: micro, memory_mib: 96, reach: [airlock]}\n";

/// A PNG of one red pixel.
const DOT: &[u8] =
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90wS\xde\0\0\0\x0c\
    IDATx\x9cc\xf8\xcf\xc0\0\0\x03\x01\x01\0\xc9\xfe\x92\xef\0\0\0\0IEND\xaeB`\x82";

/// Asks for the preview of x2, and prints what it comes with.
const PICTURE: &str = "curl -sS -o /dev/null -D - --max-time 20 --noproxy '*' \
    http://127.0.0.1:8000/exports/x2/preview.png";

const POLICY: &str = "screening: { review: all }\n";

/// A lab with alice in a machine, and people of the staff.
struct Reviewed {
    world: World,
    alice: Pc,
    staff: Vec<Pc>,
    shell: GuestShell,
    /// The host's address on the machine's segment.
    gate: String,
    _tunnels: Vec<Tunnel>,
}

impl Reviewed {
    fn new(name: &str, staff: &[&str]) -> Result<Reviewed> {
        let mut world = World::off(name, POLICY)?;
        fs::write(world.lab.dir().join("templates/exports.yaml"), TEMPLATE)?;
        world.lab.start()?;
        let alice = world.lab.researcher("alice", 10)?;
        let staff: Vec<Pc> = (11..)
            .zip(staff)
            .map(|(number, name)| world.lab.person(name, "staff", number))
            .collect::<Result<_>>()?;
        let host_key = world.host_key()?;
        let mut tunnels = Vec::new();
        for pc in std::iter::once(&alice).chain(&staff) {
            let address = world.address_of(pc.account())?;
            let mut forwards = vec![Forward { port: NEAR, target: format!("{address}:8080") }];
            if pc.account() == "alice" {
                forwards.push(Forward { port: FILES, target: format!("{address}:{FILES}") });
            }
            tunnels.push(pc.tunnel(&host_key, &forwards)?);
        }
        for pc in std::iter::once(&alice).chain(&staff) {
            wait_for("the portal", Duration::from_secs(30), || page(pc, "/").map(|_| Some(())))?;
        }
        let environment = world.environment("alice", "exports")?;
        let shell = world.shell(&environment)?;
        let (net, last) = environment.address.rsplit_once('.').context("an address")?;
        let gate = format!("{net}.{}", last.parse::<u8>()? - 1);
        Ok(Reviewed { world, alice, staff, shell, gate, _tunnels: tunnels })
    }

    /// Writes `text`, as printf takes it, to `name` in the machine's export folder.
    fn export(&mut self, name: &str, text: &str) -> Result<()> {
        self.shell.run(&format!("printf '{text}' >/tmp/body"))?;
        let said = self.http(&format!("PUT /export/{name}"), "/tmp/body")?;
        ensure!(said.contains(" 201 ") || said.contains(" 204 "), "{name}: {said}");
        Ok(())
    }

    /// What the machine gets from the airlock, to which it sends `file`.
    fn http(&mut self, what: &str, file: &str) -> Result<String> {
        let request = format!(
            "printf '{what} HTTP/1.1\\r\\nHost: airlock:8443\\r\\nContent-Length: '$(wc -c <{file})\
             '\\r\\nConnection: close\\r\\n\\r\\n'; cat {file}"
        );
        self.shell.ask(&request, &self.gate, 8443)
    }

    /// The export `id` as an admin sees it.
    fn shown(&self, id: &str) -> Result<Value> {
        self.world.lab.cli(&["export", "show", id])
    }

    /// Waits until the export `id` is in `state`.
    fn wait_for(&self, id: &str, state: &str) -> Result<Value> {
        wait_for(&format!("{id} to be {state}"), Duration::from_secs(60), || {
            let shown = self.shown(id)?;
            ensure!(shown["state"] == state, "{id} is {}", shown["state"]);
            Ok(Some(shown))
        })
    }

    /// What alice gets of `name` outside.
    fn outside(&self, name: &str) -> Result<(u16, String)> {
        let reply = self.alice.http_get(FILES, &format!("/dav/e1/export/{name}"), &[])?;
        Ok((reply.status, reply.body))
    }
}

#[test]
fn staff_release_or_refuse_what_waits_and_the_researcher_reads_why_inside() -> Result<()> {
    let mut lab = Reviewed::new("review", &["sato"])?;
    lab.export("counts.csv", "port,count\\n23,1500\\n")?;
    let held = lab.wait_for("x1", "held")?;
    ensure!(held["rules"].to_string().contains("review"), "{held}");
    let sato = &lab.staff[0];

    // Outside there is a number; staff have the file, before them and in the queue.
    let (told, queue) = (page(&lab.alice, "/transfers")?, page(sato, "/exports")?);
    ensure!(told.contains("/exports/x1") && !told.contains("counts.csv"), "{told}");
    ensure!(queue.contains("/exports/x1") && queue.contains("counts.csv"), "{queue}");
    ensure!(page(sato, "/")?.contains("1 waiting"), "staff are told wherever they are");
    ensure!(lab.outside("counts.csv")?.0 == 404, "nothing is outside yet");
    let noted = send(&lab.alice, "/exports/x1", "/exports/x1/note", &["note=counts by port"])?;
    ensure!(noted == "/exports/x1?done=noted", "{noted}");
    let review = page(sato, "/exports/x1")?;
    for part in ["counts by port", "<th scope=\"col\"><bdi>port</bdi></th>", "1500"] {
        ensure!(review.contains(part), "{part}: {review}");
    }
    let own = lab.alice.http_post(NEAR, "/exports/x1/release", &[ORIGIN], &[])?;
    ensure!(own.status == 403, "{}", own.headers);

    // Released: within a second it can be fetched, and its owner sees what it was.
    let done = send(sato, "/exports/x1", "/exports/x1/release", &["reason=counts only"])?;
    ensure!(done == "/exports?done=export_released", "{done}");
    wait_for("counts.csv outside", Duration::from_secs(5), || {
        Ok((lab.outside("counts.csv")? == (200, "port,count\n23,1500\n".into())).then_some(()))
    })?;
    let mine = page(&lab.alice, "/exports/x1")?;
    ensure!(mine.contains("counts.csv") && mine.contains("/exports/x1/receipt"), "{mine}");
    ensure!(page(&lab.alice, "/exports/x1/receipt")?.contains("x1"), "the receipt");

    // The bytes themselves: an admin's, whole, and nobody else's.
    let out = lab.world.lab.dir().join("fetched.csv");
    let words = ["export", "fetch", "x1", "--out"];
    lab.world.lab.cli(&[&words[..], &[&out.display().to_string()]].concat())?;
    ensure!(fs::read_to_string(&out)? == "port,count\n23,1500\n", "as it was exported");
    ensure!(fs::metadata(&out)?.permissions().mode() & 0o777 == 0o600, "root's alone");

    // A picture is seen as pixels of our own.
    let octal: String = DOT.iter().map(|byte| format!("\\{byte:03o}")).collect();
    lab.export("dot.png", &octal)?;
    lab.wait_for("x2", "held")?;
    let sato = &lab.staff[0];
    let review = page(sato, "/exports/x2")?;
    ensure!(review.contains("/exports/x2/preview.png"), "{review}");
    let picture = sato.output(&["sh", "-c", PICTURE])?;
    let shown = String::from_utf8_lossy(&picture.stdout).into_owned();
    ensure!(shown.contains("image/png") && shown.contains("nosniff"), "{shown}");
    ensure!(lab.alice.http_get(NEAR, "/exports/x2/preview.png", &[])?.status == 403, "not hers");

    // Refused: the reason is inside, and outside there is none of it.
    lab.export("sources.csv", "source\\n192.0.2.7\\n")?;
    lab.wait_for("x3", "held")?;
    let sato = &lab.staff[0];
    let reason = "reason=take the addresses out";
    let done = send(sato, "/exports/x3", "/exports/x3/refuse", &[reason])?;
    ensure!(done == "/exports?done=export_refused", "{done}");
    let inside = lab.http("GET /status", "/dev/null")?;
    ensure!(inside.contains("take the addresses out"), "{inside}");
    for path in ["/transfers?all=1", "/exports/x3"] {
        let outside = page(&lab.alice, path)?;
        for secret in ["take the addresses out", "sources.csv"] {
            ensure!(!outside.contains(secret), "{path}: {outside}");
        }
    }
    ensure!(lab.outside("sources.csv")?.0 == 404, "it stays in");

    // Taken back: not to be had any more.
    let sato = &lab.staff[0];
    let back = send(sato, "/exports/x1", "/exports/x1/revoke", &["reason=by mistake"])?;
    ensure!(back == "/exports/x1?done=export_revoked", "{back}");
    wait_for("counts.csv to be gone", Duration::from_secs(5), || {
        Ok((lab.outside("counts.csv")?.0 == 404).then_some(()))
    })?;
    let trace = page(&lab.staff[0], "/trace?verify=1")?;
    for action in ["export.release", "export.refuse", "export.revoke"] {
        ensure!(trace.contains(action), "no {action} in the trace: {trace}");
    }
    Ok(())
}

#[test]
fn of_two_who_decide_at_once_one_does_and_the_other_is_told() -> Result<()> {
    let mut lab = Reviewed::new("review-two", &["sato", "tanaka"])?;
    for round in 1..=3 {
        let id = format!("x{round}");
        lab.export(&format!("file-{round}.txt"), "results\\n")?;
        lab.wait_for(&id, "held")?;
        let tokens: Vec<String> =
            lab.staff.iter().map(|pc| token(pc, &id)).collect::<Result<_>>()?;
        let start = Arc::new(Barrier::new(2));
        let replies = thread::scope(|scope| {
            let both: Vec<_> = lab
                .staff
                .iter()
                .zip(&tokens)
                .zip(["release", "refuse"])
                .map(|((pc, token), act)| {
                    let (start, id) = (start.clone(), id.as_str());
                    scope.spawn(move || {
                        start.wait();
                        let path = format!("/exports/{id}/{act}");
                        pc.http_post(NEAR, &path, &[ORIGIN], &[token, "reason=at once"])
                    })
                })
                .collect();
            let joined = both.into_iter().map(|one| one.join().expect("no panic"));
            joined.collect::<Result<Vec<_>>>()
        })?;
        let first = replies.iter().position(|reply| reply.status == 303).context("nobody did")?;
        let (done, told) = (lab.staff[first].account(), &replies[1 - first]);
        ensure!(told.status == 409, "{}\n{}", told.headers, told.body);
        ensure!(told.body.contains(done), "it says who: {}", told.body);
        ensure!(!told.body.contains(&format!("/exports/{id}/release")), "no form leads on: {id}");
        let shown = lab.shown(&id)?;
        ensure!(shown["state"] == ["released", "refused"][first], "{shown}");
        let decisions = shown["about"]["decisions"].as_array().context("decisions")?;
        let people = decisions.iter().filter(|d| d["by"] == "sato" || d["by"] == "tanaka");
        ensure!(people.count() == 1, "{shown}");
    }
    Ok(())
}

/// The token of the page on which `pc` sees the export `id`, as a field.
fn token(pc: &Pc, id: &str) -> Result<String> {
    let html = page(pc, &format!("/exports/{id}"))?;
    let token = html.split("name=\"token\" value=\"").nth(1).and_then(|t| t.split('"').next());
    Ok(format!("token={}", token.context("a form without a token")?))
}
