//! The main job as people do it: in the portal, each through a tunnel of their own.

use anyhow::{Context, Result, bail};
use nonstop_testkit::{pc::Pc, place::wait_for, ssh::Forward};
use nonstop_tests::World;
use std::time::Duration;

/// The near end of everybody's tunnel to the portal.
pub(crate) const NEAR: u16 = 8000;

/// Where our own pages say that they are.
pub(crate) const ORIGIN: &str = "Origin: http://127.0.0.1:8000";

/// What `pc` sees at `path`.
pub(crate) fn page(pc: &Pc, path: &str) -> Result<String> {
    let reply = pc.http_get(NEAR, path, &[])?;
    if reply.status != 200 {
        bail!("{path}: {}\n{}", reply.headers, reply.body);
    }
    Ok(reply.body)
}

/// Opens the form at `form` and sends `fields` to `path`; gives where it leads.
pub(crate) fn send(pc: &Pc, form: &str, path: &str, fields: &[&str]) -> Result<String> {
    let body = page(pc, form)?;
    let token = body.split("name=\"token\" value=\"").nth(1).and_then(|t| t.split('"').next());
    let token = format!("token={}", token.context("a form without a token")?);
    let reply = pc.http_post(NEAR, path, &[ORIGIN], &[&[token.as_str()], fields].concat())?;
    let place = reply.headers.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("location").then(|| value.trim().to_string())
    });
    place.with_context(|| format!("{path}: {}\n{}", reply.headers, reply.body))
}

#[test]
fn a_researcher_applies_staff_approve_and_the_desktop_is_reached_as_the_page_says() -> Result<()> {
    let world = World::new("portal")?;
    let (alice, sato) =
        (world.lab.researcher("alice", 10)?, world.lab.person("sato", "staff", 11)?);
    let host_key = world.host_key()?;
    let portal = |name: &str| -> Result<Forward> {
        Ok(Forward { port: NEAR, target: format!("{}:8080", world.address_of(name)?) })
    };
    let _alices = alice.tunnel(&host_key, &[portal("alice")?])?;
    let _satos = sato.tunnel(&host_key, &[portal("sato")?])?;

    // The portal learns of a new account within a second; ssh connects only when it is asked.
    wait_for("the portal", Duration::from_secs(30), || page(&alice, "/").map(|_| Some(())))?;
    wait_for("the portal", Duration::from_secs(30), || page(&sato, "/").map(|_| Some(())))?;
    let apply = ["template=probe", "hours=2", "purpose=<script>alert(1)</script>"];
    let request = send(&alice, "/requests/new", "/requests/new", &apply)?;
    assert_eq!(request, "/requests/r1?done=applied");
    let reply = alice.http_post(NEAR, "/requests/r1/approve", &[ORIGIN], &[])?;
    assert_eq!(reply.status, 403, "without a token");
    let own = send(&alice, "/requests/r1", "/requests/r1/approve", &[]).expect_err("not hers");
    assert!(own.to_string().contains("403"), "{own}");
    assert!(!page(&sato, "/requests/r1")?.contains("<script"));
    let environment = send(&sato, "/requests/r1", "/requests/r1/approve", &[])?;
    assert_eq!(environment, "/environments/e1?done=approved");
    wait_for("the page to say ready", Duration::from_secs(120), || {
        let html = page(&alice, "/environments/e1")?;
        Ok((html.contains("ssh -N") && !html.contains("http-equiv=\"refresh\"")).then_some(()))
    })?;

    // The tunnel that the page names leads to the machine.
    let html = page(&alice, "/environments/e1")?;
    let forward = html.split(" -L ").nth(1).and_then(|rest| rest.split(' ').next());
    let (near, far) = forward.context("no tunnel named")?.split_once(':').context("no ports")?;
    let near: u16 = near.parse()?;
    let mut shell = world.shell(&world.ready("e1")?)?;
    shell.run("(nc -ll -p 3389 -e cat >/dev/null 2>&1 &)")?;
    let _desktop = alice.tunnel(&host_key, &[Forward { port: near, target: far.into() }])?;
    assert!(world.reaches_soon(&alice, near, "hello-desktop")?, "{near} to {far}");
    let file = page(&alice, "/environments/e1/rdp/analyst")?;
    assert!(file.contains(&format!("full address:s:localhost:{near}\r\n")), "{file}");

    let power = ["machine=analyst", "action=kill"];
    send(&alice, "/environments/e1", "/environments/e1/power", &power)?;
    world.machine_in("e1", "off")?;
    send(&alice, "/environments/e1/end", "/environments/e1/end", &[])?;
    world.in_state("e1", "ended")?;
    let trace = page(&sato, "/trace?verify=1")?;
    for action in ["request.apply", "request.approve", "machine.power", "environment.end"] {
        assert!(trace.contains(action), "no {action} in the trace: {trace}");
    }
    Ok(())
}

#[test]
fn a_suspended_person_is_cut_off_from_the_portal_and_without_the_daemon_it_says_so() -> Result<()> {
    let world = World::new("portal-cut")?;
    let (alice, sato) =
        (world.lab.researcher("alice", 10)?, world.lab.person("sato", "staff", 11)?);
    let host_key = world.host_key()?;
    let mut tunnels = Vec::new();
    for (pc, name) in [(&alice, "alice"), (&sato, "sato")] {
        let target = format!("{}:8080", world.address_of(name)?);
        tunnels.push(pc.tunnel(&host_key, &[Forward { port: NEAR, target }])?);
        wait_for("the portal", Duration::from_secs(30), || page(pc, "/").map(|_| Some(())))?;
    }
    let done = send(&sato, "/accounts/alice", "/accounts/alice/suspend", &["reason=tried out"])?;
    assert_eq!(done, "/accounts/alice?done=suspended");
    wait_for("alice to be cut off", Duration::from_secs(10), || {
        Ok(page(&alice, "/").is_err().then_some(()))
    })?;
    world.lab.stop_service("nonstopd")?;
    let reply = sato.http_get(NEAR, "/", &["Accept-Language: ja"])?;
    assert_eq!(reply.status, 503, "{}", reply.body);
    assert!(reply.body.contains("ラボが応答していません"), "{}", reply.body);
    world.lab.start_service("nonstopd")?;
    wait_for("the portal to be back", Duration::from_secs(30), || {
        page(&sato, "/").map(|_| Some(()))
    })
}
