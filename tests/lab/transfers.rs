//! Files on their way in and out: through a real tunnel, from inside real machines, and as whoever
//! took over one of the airlock's programs.

use crate::samples;
use anyhow::{Context, Result, bail, ensure};
use nonstop_testkit::{
    pc::Pc,
    place::wait_for,
    services,
    ssh::{Forward, Tunnel},
};
use nonstop_tests::{Environment, GuestShell, World, desktop_with_shell};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{fs, time::Duration};

/// Exports of `study` are released when they are clean; those of `watched` reach traffic, so that a
/// person looks at each.
const TEMPLATES: [(&str, &str); 3] = [
    (
        "study",
        "version: 1\ntitle: study\nrdp: none\ndomain: intermediate\nmachines:\n\
         - {role: analyst, image: micro, memory_mib: 96, reach: [reports, airlock]}\n",
    ),
    (
        "watched",
        "version: 1\ntitle: watched\nrdp: none\ndomain: intermediate\nmachines:\n\
         - {role: analyst, image: micro, memory_mib: 96, reach: [pcap, airlock]}\n",
    ),
    (
        "desk",
        "version: 1\ntitle: desk\nrdp: none\ndomain: intermediate\nmachines:\n\
         - {role: analyst, image: desk, memory_mib: 768, vcpus: 2, reach: [reports, airlock]}\n",
    ),
];

/// The researcher's end of the tunnel, and the lab's.
const NEAR: u16 = 18_081;
const FAR: u16 = 8081;
/// A small guest without KVM, beside others.
const SOON: Duration = Duration::from_secs(90);

fn a_lab(name: &str, yaml: &str) -> Result<World> {
    let mut world = World::off(name, yaml)?;
    let templates = world.lab.dir().join("templates");
    for (name, text) in &TEMPLATES[..2] {
        fs::write(templates.join(format!("{name}.yaml")), text)?;
    }
    world.lab.start()?;
    Ok(world)
}

/// A researcher with a machine, a shell in it, and an open tunnel to the transfers.
struct Researcher {
    pc: Pc,
    environment: Environment,
    shell: GuestShell,
    _tunnel: Tunnel,
}

impl Researcher {
    fn new(world: &World, account: &str, host: u8, template: &str) -> Result<Researcher> {
        let pc = world.lab.researcher(account, host)?;
        let environment = world.environment(account, template)?;
        let shell = world.shell(&environment)?;
        let target = format!("{}:{FAR}", world.address_of(account)?);
        let tunnel = pc.tunnel(&world.host_key()?, &[Forward { port: NEAR, target }])?;
        Ok(Researcher { pc, environment, shell, _tunnel: tunnel })
    }

    /// Runs curl on the researcher's PC; gives the status and the body.
    fn curl(&self, path: &str, more: &[&str]) -> Result<(u16, Vec<u8>)> {
        let url = format!("http://127.0.0.1:{NEAR}/dav/{}/{path}", self.environment.id);
        let mut words = vec!["curl", "-sS", "--max-time", "60", "--noproxy", "*"];
        words.extend(["-w", "%{stderr}%{http_code}"]);
        words.extend(more);
        words.push(&url);
        let output = self.pc.output(&words)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let status = said.trim().rsplit(|c: char| !c.is_ascii_digit()).next();
        let status = status.and_then(|code| code.parse().ok());
        Ok((status.with_context(|| format!("curl {path}: {said}"))?, output.stdout))
    }

    /// Sends one request from inside the machine, with the body in its file `body`, if any.
    fn inside(&mut self, method: &str, path: &str, body: Option<&str>) -> Result<(u16, String)> {
        let length = body.map_or("echo 0".into(), |file| format!("wc -c <{file}"));
        let rest = body.map_or("true".into(), |file| format!("cat {file}"));
        let request = format!(
            "printf '{method} {path} HTTP/1.1\\r\\nHost: airlock\\r\\nConnection: close\\r\\n\
             Content-Length: '$({length})'\\r\\n\\r\\n'; {rest}"
        );
        let gate = self.gate()?;
        let said = self.shell.ask(&request, &gate, 8443)?;
        let status = said.split_whitespace().nth(1).and_then(|code| code.parse().ok());
        let plain = said.replace('\r', "");
        let body = plain.split_once("\n\n").map_or("", |(_, body)| body);
        Ok((status.with_context(|| format!("{method} {path}: {said:?}"))?, body.into()))
    }

    /// The host's address on the machine's segment.
    fn gate(&self) -> Result<String> {
        let (net, last) = self.environment.address.rsplit_once('.').context("an address")?;
        Ok(format!("{net}.{}", last.parse::<u8>()? - 1))
    }

    /// Makes a file in the machine by `line`, and exports it as `name`.
    fn export(&mut self, name: &str, line: &str) -> Result<()> {
        self.shell.run_for(&format!("{line} >/tmp/body"), SOON)?;
        let (status, said) = self.inside("PUT", &format!("/export/{name}"), Some("/tmp/body"))?;
        ensure!(status == 201 || status == 204, "PUT {name}: {status} {said}");
        Ok(())
    }
}

/// The latest export called `name`, as the operator sees it.
fn latest(world: &World, name: &str) -> Result<Option<Value>> {
    let all = world.lab.cli(&["export", "list", "--all"])?;
    let mut found: Vec<Value> = all.as_array().cloned().unwrap_or_default();
    found.retain(|x| x["about"]["path"] == name);
    Ok(found.into_iter().max_by_key(|x| x["about"]["version"].as_u64()))
}

/// Waits until the latest export called `name` is in `state`.
fn until(world: &World, name: &str, state: &str) -> Result<Value> {
    wait_for(&format!("{name} to be {state}"), SOON, || {
        let found = latest(world, name)?.with_context(|| format!("no export {name}"))?;
        match found["state"] == state {
            true => Ok(Some(found)),
            false => bail!("it is {}: {}", found["state"], found["rules"]),
        }
    })
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[test]
fn files_go_in_and_come_out_screened_and_nobody_else_sees_them() -> Result<()> {
    let world = a_lab("transfers", "")?;
    let mut alice = Researcher::new(&world, "alice", 10, "study")?;
    let mut bob = Researcher::new(&world, "bob", 11, "study")?;

    // In: what is put at home is read in the machine, byte for byte, and nowhere else.
    let file = alice.pc.folder().join("list.txt");
    fs::write(&file, "住所 addresses\n".repeat(5000))?;
    let upload = format!("{}", file.display());
    let (status, said) = alice.curl("import/list.txt", &["-T", &upload])?;
    ensure!(status == 201, "{status} {}", String::from_utf8_lossy(&said));
    let gate = alice.gate()?;
    let digest = sha256(&fs::read(&file)?);
    wait_for("the import inside", SOON, || {
        let line = format!("wget -qO- http://{gate}:8443/import/list.txt | sha256sum");
        let said = alice.shell.run(&line)?;
        Ok(said.contains(&digest).then_some(()))
    })?;
    let (status, said) = bob.inside("GET", "/import/list.txt", None)?;
    ensure!(status == 404, "another's machine: {status} {said}");
    let other = format!("http://127.0.0.1:{NEAR}/dav/{}/import/list.txt", alice.environment.id);
    let words = ["curl", "-sS", "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}", &other];
    let status = bob.pc.run(&words)?;
    ensure!(status == "404", "another account: {status}");

    // Out: what a machine writes is screened, released, and read at home with the right hash.
    alice.export("result.txt", "seq 1 20000")?;
    let released = until(&world, "result.txt", "released")?;
    let expected: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    let got = wait_for("the release outside", SOON, || {
        let (status, body) = alice.curl("export/result.txt", &[])?;
        Ok((status == 200).then_some(body))
    })?;
    ensure!(got == expected.as_bytes(), "{} bytes", got.len());
    ensure!(released["about"]["sha256"] == sha256(&got).as_str(), "{released}");
    let trace = world.lab.state().join("trace").join(sha256(&got));
    ensure!(fs::read(&trace)? == got, "every export's bytes are kept");
    let other = format!("http://127.0.0.1:{NEAR}/dav/{}/export/result.txt", alice.environment.id);
    let words = ["curl", "-sS", "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}", &other];
    ensure!(bob.pc.run(&words)? == "404", "another account sees a release");
    let (status, _) = bob.inside("GET", "/export/result.txt", None)?;
    ensure!(status == 404, "another's machine sees an export: {status}");

    // A later version that is blocked leaves the released one outside.
    let sealed = "{ printf 'Salted__'; head -c 60000 /dev/urandom; }";
    alice.export("result.txt", sealed)?;
    let blocked = until(&world, "result.txt", "blocked")?;
    ensure!(blocked["about"]["version"] == 2, "{blocked}");
    let (status, body) = alice.curl("export/result.txt", &[])?;
    ensure!(status == 200 && body == expected.as_bytes(), "{status}, {} bytes", body.len());
    let (status, _) = alice.inside("GET", "/export/result.txt", None)?;
    ensure!(status == 404, "what is blocked is gone from the machine's view: {status}");

    // DELETE withdraws what is not released: a file that waits for a person here.
    alice.export("later.bin", "head -c 50000 /dev/urandom")?;
    until(&world, "later.bin", "held")?;
    let (status, _) = alice.inside("DELETE", "/export/later.bin", None)?;
    ensure!(status == 204, "DELETE: {status}");
    until(&world, "later.bin", "withdrawn")?;
    let (status, _) = alice.curl("export/later.bin", &[])?;
    ensure!(status == 404, "{status}");
    world.whole(2)
}

#[test]
fn each_rule_blocks_holds_and_passes_through_the_real_door() -> Result<()> {
    let world = a_lab("rules", "airlock: { file_mib: 2 }")?;
    let mut alice = Researcher::new(&world, "alice", 10, "study")?;
    // Name, how it is made inside, the state it comes to, and the rule that says so.
    let examples: [(&str, &str, &str, &str); 8] = [
        ("table.csv", "for i in 1 2 3 4 5 6 7 8 9; do echo $i,$((i * i)); done", "released", ""),
        (
            "picture.png",
            "printf '\\211PNG\\r\\n\\032\\n\\0\\0\\0\\rIHDR\\0\\0\\0\\1\\0\\0\\0\\1\\10\\6\\0\\0\\0\\037\\025\\304\\211\\0\\0\\0\\rIDATx\\234c\\370\\377\\377\\377\\177\\0\\t\\373\\3\\375\\005CE\\312\\0\\0\\0\\0IEND\\256B`\\202'",
            "released",
            "",
        ),
        ("tool", "cat /bin/busybox | head -c 1000000", "blocked", "type"),
        (
            "sealed.bin",
            "{ printf 'Salted__'; head -c 50000 /dev/urandom; }",
            "blocked",
            "encrypted",
        ),
        ("noise.bin", "head -c 300000 /dev/urandom", "held", ""),
        ("files.tar.gz", "tar cz /modules 2>/dev/null", "held", "archive"),
        ("big.txt", "yes 0123456789 | head -c 3000000", "held", "size"),
        ("plain.txt", "echo nothing odd here", "released", ""),
    ];
    for (name, line, _, _) in examples {
        alice.export(name, line)?;
    }
    let mut odd = Vec::new();
    for (name, _, state, rule) in examples {
        match until(&world, name, state) {
            Err(e) => odd.push(format!("{name}: {e:#}")),
            Ok(found) if !found["rules"].to_string().contains(rule) => {
                odd.push(format!("{name}: {}", found["rules"]));
            }
            Ok(_) => {}
        }
    }
    ensure!(odd.is_empty(), "{}", odd.join("\n"));

    // What the researcher sees inside: each verdict with its rule and how to mend it, and no more of
    // what is gone; outside nothing but what was released.
    let (status, told) = alice.inside("GET", "/status.json", None)?;
    ensure!(status == 200, "{status}");
    let told: Value = serde_json::from_str(&told).with_context(|| told.clone())?;
    let told = told["exports"].as_array().context("no exports")?.clone();
    let sealed =
        told.iter().find(|x| x["path"] == "sealed.bin").context("sealed.bin is not told")?;
    ensure!(sealed["state"] == "blocked", "{sealed}");
    let finding = &sealed["findings"][0];
    for word in ["rule", "says", "mend", "says_ja", "mend_ja"] {
        ensure!(finding[word].as_str().is_some_and(|text| !text.is_empty()), "{word}: {finding}");
    }
    let (_, page) = alice.inside("GET", "/status", None)?;
    ensure!(page.contains("sealed.bin") && page.contains("encrypted"), "{page}");
    let verdicts =
        alice.shell.run(&format!("wget -qO- http://{}:8443/verdicts/", alice.gate()?))?;
    ensure!(verdicts.contains("sealed.bin") && verdicts.contains("noise.bin"), "{verdicts}");
    let (status, listed) = alice.curl("export/", &["-X", "PROPFIND", "-H", "Depth: 1"])?;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    ensure!(status == 207 && listed.contains("table.csv"), "{status} {listed}");
    for hidden in ["tool", "sealed", "noise", "files.tar", "big.txt"] {
        ensure!(!listed.contains(hidden), "{hidden} is seen outside: {listed}");
        for name in ["sealed.bin", "noise.bin", "tool"] {
            let (status, body) = alice.curl(&format!("export/{name}"), &[])?;
            ensure!(status == 404, "{name}: {status} {}", String::from_utf8_lossy(&body));
        }
    }

    // What the operator does: bytes from the quarantine, a release, a refusal, and nothing twice.
    let sealed = until(&world, "sealed.bin", "blocked")?;
    let kept = sealed["about"]["sha256"].as_str().context("no hash")?;
    let kept = world.lab.state().join("quarantine/exports").join(kept);
    ensure!(fs::metadata(&kept)?.len() == 50_008, "{}", kept.display());
    let (noise, big) = (until(&world, "noise.bin", "held")?, until(&world, "big.txt", "held")?);
    let (noise, big) =
        (noise["id"].as_str().context("an id")?, big["id"].as_str().context("an id")?);
    world.lab.cli(&["export", "release", noise, "--reason", "random numbers, as agreed"])?;
    world.lab.cli(&["export", "refuse", big, "--reason", "too large: send a summary"])?;
    let twice = world.lab.cli_refuses(&["export", "release", big, "--reason", "again"])?;
    ensure!(twice.contains("refused"), "{twice}");
    let (status, body) = alice.curl("export/noise.bin", &[])?;
    ensure!(status == 200 && body.len() == 300_000, "{status}, {} bytes", body.len());
    let (_, told) = alice.inside("GET", "/status.json", None)?;
    ensure!(told.contains("too large: send a summary"), "{told}");
    world.lab.cli(&["export", "revoke", noise, "--reason", "a mistake"])?;
    let (status, _) = alice.curl("export/noise.bin", &[])?;
    ensure!(status == 404, "revoked, and still there: {status}");
    let verified = world.lab.cli(&["trace", "verify"])?;
    ensure!(verified["broken_at"].is_null(), "{verified}");
    Ok(())
}

/// A rule of the lab's own, as a program: holds what bears a word.
const WORD: &str = "#!/bin/sh
if grep -q 'for the lab alone'; then
    echo '{\"findings\": [{\"rule\": \"word\", \"verdict\": \"block\", \"says\": \"it bears the word\"}]}'
else
    echo '{\"findings\": []}'
fi
";

/// The folder of rules that `world`'s lab is to have: those that are shipped, and one more program.
fn own_rules(world: &World) -> Result<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../templates/screening");
    let rules = world.lab.dir().join("screening");
    fs::create_dir_all(rules.join("programs"))?;
    for file in ["eicar.yar", "programs/addresses"] {
        fs::copy(format!("{shipped}/{file}"), rules.join(file))?;
    }
    let word = rules.join("programs/word");
    fs::write(&word, WORD)?;
    for path in [rules.clone(), rules.join("programs"), word] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(rules)
}

#[test]
fn what_was_published_and_what_the_labs_own_rules_know_does_not_leave() -> Result<()> {
    let mut world = World::off("own-rules", "")?;
    let templates = world.lab.dir().join("templates");
    for (name, text) in &TEMPLATES[..2] {
        fs::write(templates.join(format!("{name}.yaml")), text)?;
    }
    let rules = own_rules(&world)?;
    let own = format!("screening: {{ rules: {} }}", rules.display());
    world.lab = world.lab.with_data().yaml(&own);
    world.lab.start()?;

    // A day that machines may read, copied out of the data domain.
    let day = world.lab.dir().join("2025-01-31.pcap");
    nonstop_tests::write_pcap(&day, 1_738_281_600, 200)?;
    let day = day.display().to_string();
    world.lab.cli(&["data", "publish", "--wait", "120", "--domain", "intermediate", &day])?;
    let mut alice = Researcher::new(&world, "alice", 10, "watched")?;
    alice.export("notes.txt", "wget -qO- http://10.80.0.3/2025-01-31.pcap")?;
    let taken = until(&world, "notes.txt", "blocked")?;
    ensure!(taken["rules"].to_string().contains("protected"), "{taken}");
    let (status, _) = alice.curl("export/notes.txt", &[])?;
    ensure!(status == 404, "{status}");

    // A sample and its report, whoever has them from wherever; a byte more is something else.
    let sample = "harmless, and not to leave";
    let folder = samples::day(&world.lab, "2025-01-31", sample.as_bytes())?.display().to_string();
    world.lab.cli(&["data", "publish", "--wait", "120", "--domain", "intermediate", &folder])?;
    let mut bob = Researcher::new(&world, "bob", 11, "study")?;
    let report = sha256(sample.as_bytes());
    let report = format!("wget -qO- http://reports/reports/{report}/2025-01-31");
    for (name, line, state) in [
        ("sample.txt", &*format!("printf '{sample}'"), "blocked"),
        ("report.json", &*report, "blocked"),
        ("words.txt", &*format!("echo '{sample}'"), "released"),
    ] {
        bob.export(name, line)?;
        let found = until(&world, name, state)?;
        let protected = found["rules"].to_string().contains("protected");
        ensure!(protected == (state == "blocked"), "{name}: {}", found["rules"]);
    }

    // Rules of the lab's own: of YARA, and of two programs that both see the whole file.
    let test_file =
        "printf 'X5O!P%%@AP[4\\\\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-%s!$H+H*' TEST-FILE";
    let many = "for a in 1 2 3 4 5; do for b in $(seq 1 250); do echo 192.0.$a.$b; done; done";
    let examples = [
        ("test.txt", test_file, "blocked", "yara"),
        ("many.txt", many, "held", "program"),
        ("word.txt", "echo this is for the lab alone", "blocked", "program"),
        ("good.txt", "echo 192.0.2.1, and nothing else", "released", "[]"),
    ];
    for (name, line, _, _) in examples {
        bob.export(name, line)?;
    }
    for (name, _, state, rule) in examples {
        let found = until(&world, name, state)?;
        ensure!(found["rules"].to_string().contains(rule), "{name}: {}", found["rules"]);
    }

    // Another rule is in force without a restart.
    fs::write(
        rules.join("word.yar"),
        "rule other_word { strings: $a = \"quite new\" condition: $a }",
    )?;
    bob.export("new.txt", "echo something quite new")?;
    let found = until(&world, "new.txt", "held")?;
    ensure!(found["rules"].to_string().contains("yara"), "{}", found["rules"]);
    Ok(())
}

/// What somebody does who runs code of their own as a program of the airlock: takes its place at its
/// port, speaks to the daemon with the client that comes, and tries whatever else that uid might do.
/// Arguments: the port, the daemon's socket, and as JSON what to ask, files, sockets and addresses.
const TAKEN: &str = r#"
import array, json, os, socket, struct, sys
port, door = int(sys.argv[1]), sys.argv[2]
asks, files, sockets, addresses = json.loads(sys.argv[3])

def frame(value):
    body = json.dumps(value).encode()
    return struct.pack(">I", len(body)) + body

def exactly(s, n):
    got = b""
    while len(got) < n:
        more = s.recv(n - len(got))
        if not more:
            raise EOFError(got)
        got += more
    return got

def answer(s):
    first, fds, _, _ = socket.recv_fds(s, 4, 4)
    if not first:
        raise EOFError("closed")
    (length,) = struct.unpack(">I", first + exactly(s, 4 - len(first)))
    return json.loads(exactly(s, length)), fds

def tried(what):
    try:
        return what()
    except Exception as e:
        return {"failed": f"{type(e).__name__}: {e}"}

def ask_all(client):
    told = []
    for ask in asks:
        def one():
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(10)
                s.connect(door)
                socket.send_fds(s, [frame({"ask": "begin"})], [client.fileno()])
                welcome, _ = answer(s)
                if "Ok" not in welcome:
                    return welcome
                s.sendall(frame(ask))
                said, fds = answer(s)
                texts = []
                for fd in fds:
                    texts.append(tried(lambda: os.pread(fd, 64, 0).decode("latin-1")))
                    os.close(fd)
                return {"said": said, "files": texts}
        told.append(tried(one))
    return told

def read(path):
    with open(path, "rb") as f:
        return {"READ": len(f.read(16))}

def speak(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect(path)
        s.sendall(frame({"request": "export_release", "id": "x1", "reason": "mine"}))
        s.sendall(frame({"ExportRelease": {"id": "x1", "reason": "mine"}}))
        said, _ = answer(s)
        return said

def connect(address):
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=3):
        return {"CONNECTED": address}

def own():
    near, far = socket.socketpair()
    return ask_all(far)[:1]

def loop():
    listener = socket.create_server(("127.0.0.1", 0))
    return connect("127.0.0.1:%d" % listener.getsockname()[1])

listener = socket.create_server(("0.0.0.0", port))
print("ready", flush=True)
client, _ = listener.accept()
print(json.dumps({
    "asks": ask_all(client),
    "forged": tried(own),
    "looped": tried(loop),
    "files": {path: tried(lambda: read(path)) for path in files},
    "sockets": {path: tried(lambda: speak(path)) for path in sockets},
    "addresses": {a: tried(lambda: connect(a)) for a in addresses},
}), flush=True)
"#;

/// Runs [`TAKEN`] as `uid` in the place of the service `side`, lets `client` connect, and gives what
/// came of it.
fn taken(
    world: &World,
    side: &str,
    (uid, port): (u32, u16),
    asks: &Value,
    client: impl FnOnce() -> Result<()>,
) -> Result<Value> {
    let (mut files, state) = (Vec::new(), world.lab.state());
    walk(&state, &mut files)?;
    let mine = format!("{}/airlock/{side}", state.display());
    files.retain(|path| !path.starts_with(&mine));
    files.push("/run/nonstop/wanted.json".into());
    let sockets = ["admin", "portal", "login", "data", "inside", "outside"];
    let sockets = sockets.map(|name| format!("/run/nonstop/{name}.sock"));
    let addresses =
        ["127.0.0.1:22", "127.64.0.1:8080", "127.64.0.1:8081", "10.77.0.2:80", "10.80.0.3:80"];
    let what = serde_json::json!([asks, files, sockets, addresses]).to_string();
    world.lab.stop_service(side)?;
    let (uid, port) = (uid.to_string(), port.to_string());
    let door = format!("/run/nonstop/{side}.sock");
    let words =
        ["--reuid", &uid, "--regid", &uid, "--clear-groups", "/usr/bin/python3", "-c", TAKEN];
    let mut command = world.lab.inside()?.command("setpriv");
    command.args(words).args([&port, &door, &what]);
    let mut running = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .context("run setpriv")?;
    let mut said = std::io::BufReader::new(running.stdout.take().context("its words")?);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line)?;
    let done = if line.trim() == "ready" { client() } else { Ok(()) };
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut said, &mut rest)?;
    let output = running.wait_with_output()?;
    let told = serde_json::from_str(&rest)
        .with_context(|| format!("{line} {rest} {}", String::from_utf8_lossy(&output.stderr)))?;
    done?;
    world.lab.start_service(side)?;
    Ok(told)
}

fn walk(folder: &std::path::Path, files: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && !["images", "machines"].iter().any(|n| entry.file_name() == *n) {
            walk(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path().display().to_string());
        }
    }
    Ok(())
}

/// What no taken-over program may have got, whatever it was asked.
fn got_nothing(told: &Value) -> Result<()> {
    let all = |key: &str| told[key].as_object().cloned().unwrap_or_default();
    ensure!(all("files").len() > 5, "{told}");
    for (path, said) in all("files") {
        ensure!(said["failed"].is_string(), "it reads {path}: {said}");
    }
    for (address, said) in all("addresses") {
        ensure!(said["failed"].is_string(), "it reaches {address}");
    }
    ensure!(told["looped"]["failed"].is_string(), "it speaks to others on the host: {told}");
    for (path, said) in all("sockets") {
        ensure!(said["failed"].is_string() || said["Err"].is_object(), "{path}: {said}");
    }
    ensure!(!told["forged"].to_string().contains("\"Ok\""), "{}", told["forged"]);
    Ok(())
}

#[test]
fn who_takes_over_a_program_of_the_airlock_gets_no_byte_out_and_gives_no_verdict() -> Result<()> {
    let world = a_lab("taken", "")?;
    let mut alice = Researcher::new(&world, "alice", 10, "watched")?;
    let mut bob = Researcher::new(&world, "bob", 11, "watched")?;
    alice.export("secret.txt", "echo hers, and not released")?;
    bob.export("other.txt", "echo his, and not released")?;
    for name in ["secret.txt", "other.txt"] {
        let held = until(&world, name, "held")?;
        ensure!(held["rules"].to_string().contains("review"), "{held}");
    }
    let (hers, his) = (alice.environment.id.clone(), bob.environment.id.clone());
    let at = |environment: &str, root: &str, path: &str| serde_json::json!({ "environment": environment, "root": root, "path": path });
    let mut asks = Vec::new();
    for (environment, name) in [(&hers, "secret.txt"), (&his, "other.txt")] {
        for root in ["export", "import", "capture"] {
            let place = at(environment, root, name);
            asks.push(serde_json::json!({ "ask": "open", "place": place }));
            asks.push(serde_json::json!({ "ask": "look", "place": place }));
            asks.push(serde_json::json!({ "ask": "list", "place": at(environment, root, "") }));
        }
        let place = at(environment, "export", "mine.txt");
        asks.push(serde_json::json!({ "ask": "create", "place": place, "bytes": 4 }));
        asks.push(serde_json::json!({ "ask": "remove", "place": at(environment, "export", name) }));
    }
    for word in ["export_release", "release", "decide", "exports"] {
        asks.push(serde_json::json!({ "ask": word, "id": "x1", "reason": "mine" }));
    }
    let asks = Value::Array(asks);

    // Outside, with her own connection: nothing of what waits, neither name nor byte.
    let told = taken(&world, "outside", (services::OUTSIDE_UID, FAR), &asks, || {
        alice.pc.output(&[
            "curl",
            "-s",
            "--max-time",
            "3",
            &format!("http://127.0.0.1:{NEAR}/"),
        ])?;
        Ok(())
    })?;
    got_nothing(&told)?;
    let said = told["asks"].to_string();
    for word in ["secret", "other", "hers", "his, and"] {
        ensure!(!said.contains(word), "{word}: {said}");
    }
    for (ask, said) in
        asks.as_array().into_iter().flatten().zip(told["asks"].as_array().into_iter().flatten())
    {
        let opened = said["files"].as_array().is_some_and(|files| !files.is_empty());
        ensure!(!opened, "{ask}: {said}");
    }

    // Inside, with her machine's connection: her machine's own, and nothing of his.
    let gate = alice.gate()?;
    let told = taken(&world, "inside", (services::INSIDE_UID, 8443), &asks, || {
        // The connection has to live while the asks are made.
        alice.shell.run_for(&format!("sleep 25 | nc {gate} 8443; true"), SOON)?;
        Ok(())
    })?;
    got_nothing(&told)?;
    let said = told["asks"].to_string();
    ensure!(said.contains("hers, and not released"), "the way in is tried at all: {said}");
    ensure!(!said.contains("his, and"), "{said}");

    // Neither has decided, removed, or let out anything.
    until(&world, "other.txt", "held")?;
    let hers = latest(&world, "secret.txt")?.context("gone")?;
    ensure!(["held", "withdrawn"].contains(&hers["state"].as_str().unwrap_or("")), "{hers}");
    let (status, body) = alice.curl("export/secret.txt", &[])?;
    ensure!(status == 404, "{status} {}", String::from_utf8_lossy(&body));
    let verified = world.lab.cli(&["trace", "verify"])?;
    ensure!(verified["broken_at"].is_null(), "{verified}");
    Ok(())
}

/// The programs of litmus with all that they need, in one file for any Linux.
fn litmus() -> Result<std::path::PathBuf> {
    let folder = std::env::temp_dir().join(format!("litmus-{}", std::process::id()));
    let line = format!(
        "set -e; mkdir -p {0}/lib; cp /usr/libexec/litmus/* {0}/; cp -r /usr/share/litmus/htdocs {0}/
         ldd /usr/libexec/litmus/basic | grep -o '/[^ ]*' | xargs -I% cp -L % {0}/lib/
         tar -C {0} -cf {0}.tar .; rm -r {0}",
        folder.display()
    );
    nonstop_testkit::place::Place::here().run(&["sh", "-c", &line])?;
    Ok(folder.with_extension("tar"))
}

/// Fails unless litmus passed all its suites.
fn all_passed(said: &str) -> Result<()> {
    let whole = ["basic", "copymove", "props", "locks", "http"]
        .iter()
        .all(|suite| said.contains(&format!("`{suite}'")));
    ensure!(whole && !said.contains("FAIL") && !said.contains("WARNING"), "{said}");
    let summaries: Vec<&str> = said.lines().filter(|line| line.starts_with("<- summary")).collect();
    ensure!(summaries.len() == 5 && summaries.iter().all(|l| l.contains("0 failed")), "{said}");
    Ok(())
}

#[test]
fn a_desktop_has_its_folders_whatever_is_restarted_and_litmus_passes_both_ways() -> Result<()> {
    let world = World::off("desk-transfers", "")?;
    desktop_with_shell(&world.lab, "desk")?;
    let mut world = world;
    fs::write(world.lab.dir().join("templates/desk.yaml"), TEMPLATES[2].1)?;
    world.lab.start()?;
    let mut alice = Researcher::new(&world, "alice", 10, "desk")?;
    let machine = alice.environment.machine.clone();
    let long = Duration::from_secs(300);
    let as_user = |line: &str| format!("runuser -u researcher -- sh -c 'cd ~ && {line}'");

    // There at login: nothing was asked, and nothing done.
    wait_for("the folders", long, || {
        let said = alice.shell.run(&as_user("ls -d import/. export/. capture/. verdicts/."))?;
        Ok((!said.contains("cannot access") && said.contains("verdicts/.")).then_some(()))
    })?;
    // Out by an ordinary copy, in by an ordinary upload.
    alice.shell.run_for(&as_user("seq 1 5000 > /tmp/n.txt; cp /tmp/n.txt export/n.txt"), SOON)?;
    until(&world, "n.txt", "released")?;
    let file = litmus()?;
    let (status, said) = alice.curl("import/litmus.tar", &["-T", &file.display().to_string()])?;
    ensure!(status == 201, "{status} {}", String::from_utf8_lossy(&said));
    wait_for("the import in the home", SOON, || {
        let said = alice.shell.run_for(&as_user("stat -c %s import/litmus.tar"), SOON)?;
        Ok((said.trim() == fs::metadata(&file)?.len().to_string()).then_some(()))
    })?;

    // The airlock is killed: who asks is told soon, and it comes back by itself.
    world.lab.auto_restart("inside", false)?;
    world.lab.kill_service("inside", 9)?;
    let begun = std::time::Instant::now();
    alice.shell.run_for(&as_user("ls export/ ; echo more > export/away.txt"), SOON)?;
    ensure!(begun.elapsed() < Duration::from_secs(30), "hung for {:?}", begun.elapsed());
    world.lab.auto_restart("inside", true)?;
    world.lab.start_service("inside")?;
    wait_for("what was exported before", SOON, || {
        let said = alice.shell.run_for(&as_user("cat export/n.txt | wc -l"), SOON)?;
        Ok((said.trim() == "5000").then_some(()))
    })?;
    wait_for("a file to be taken again", SOON, || {
        let line = "echo again > export/again.txt && cat export/again.txt";
        Ok((alice.shell.run_for(&as_user(line), SOON)?.trim() == "again").then_some(()))
    })?;
    until(&world, "again.txt", "released")?;

    // So is the machine's own end of it.
    alice.shell.run("pkill -9 -x mount.davfs")?;
    wait_for("the folders again", SOON, || {
        let said = alice.shell.run_for(&as_user("cat export/again.txt"), SOON)?;
        Ok((said.trim() == "again").then_some(()))
    })?;

    // A verdict is a file beside, with its rule and what to do.
    let sealed = "(printf Salted__; head -c 50000 /dev/urandom) > export/sealed.bin";
    alice.shell.run_for(&as_user(sealed), SOON)?;
    until(&world, "sealed.bin", "blocked")?;
    wait_for("the verdict in the home", SOON, || {
        let said = alice.shell.run_for(&as_user("cat verdicts/*sealed*; ls export"), SOON)?;
        let (text, list) = (said.contains("encrypted"), said.lines().any(|l| l == "sealed.bin"));
        Ok((text && !list).then_some(()))
    })?;
    wait_for("the window", SOON, || {
        let said =
            alice.shell.run("pgrep -af nonstop/terminal.*Exports; pgrep -af 'xterm.*Exports'")?;
        Ok(said.contains("Exports").then_some(()))
    })?;

    // litmus, from inside and through the tunnel.
    let line = "rm -rf /tmp/l && mkdir /tmp/l && cd /tmp/l && tar xf ~researcher/import/litmus.tar && \
        for t in basic copymove props locks http; do \
        lib/ld-linux-x86-64.so.2 --library-path lib ./$t --htdocs htdocs http://airlock:8443/export/; done";
    all_passed(&alice.shell.run_for(line, long)?)?;
    let url = format!("http://127.0.0.1:{NEAR}/dav/{}/import/", alice.environment.id);
    let words = ["sh", "-c", &format!("cd {} && litmus -k {url}", alice.pc.folder().display())];
    let output = alice.pc.output(&words)?;
    all_passed(&String::from_utf8_lossy(&output.stdout))?;

    // Off and on. The port of tests has one client at a time, and QEMU stays.
    let boot = "cat /proc/sys/kernel/random/boot_id";
    let before = alice.shell.run(boot)?;
    world.lab.cli(&["environment", "power", &alice.environment.id, "reset"])?;
    drop(alice.shell);
    let mut shell = wait_for("the guest again", long, || {
        let mut shell = GuestShell::connect(&world.lab, &machine)?;
        Ok((shell.run(boot)? != before).then_some(shell))
    })?;
    wait_for("the folders after a reset", long, || {
        let said = shell.run_for(&as_user("cat export/n.txt | wc -l"), SOON)?;
        Ok((said.trim() == "5000").then_some(()))
    })?;
    fs::remove_file(&file)?;
    Ok(())
}
