//! Nothing of what is done inside is in a byte of what outside sees.

use crate::{
    http::Client,
    lab::{ALICE, BOB, World},
};
use nonstop_airlock::target::Side;
use nonstop_model::ExportState;
use std::{thread, time::Duration};

/// All that outside can ask for, as it was answered, without the time of the answer.
fn seen(world: &World) -> Vec<(String, String)> {
    let mut client = Client::to(world.address(Side::Outside, ALICE));
    let all = b"<D:propfind xmlns:D='DAV:'><D:allprop/><D:include><D:quota-available-bytes/>\
        <D:quota-used-bytes/></D:include></D:propfind>";
    let patch = b"<D:propertyupdate xmlns:D='DAV:'><D:set><D:prop><x/></D:prop></D:set>\
        </D:propertyupdate>";
    let mut found = Vec::new();
    for path in [
        "/",
        "/dav/",
        "/dav/e1/",
        "/dav/e1/import/",
        "/dav/e1/import/brought",
        "/dav/e1/export/",
        "/dav/e1/export/shown",
        "/dav/e1/export/hidden",
        "/dav/e1/export/folder/",
        "/dav/e1/export/folder/deep",
        "/dav/e1/export/blocked",
        "/dav/e1/capture/",
        "/verdicts/",
        "/status.json",
        "/dav/e2/import/",
    ] {
        for (method, depth, body) in [
            ("OPTIONS", "", &b""[..]),
            ("GET", "", b""),
            ("HEAD", "", b""),
            ("PROPFIND", "0", b""),
            ("PROPFIND", "1", all),
            ("PROPPATCH", "", patch),
            ("DELETE", "1", b""),
            ("LOCK", "", b""),
            ("MKCOL", "", b""),
        ] {
            // What would change something is asked where nothing can be changed.
            let changes = ["PROPPATCH", "DELETE", "LOCK", "MKCOL"].contains(&method);
            if changes && path.contains("import") {
                continue;
            }
            let depth = [("Depth", depth)];
            let fields = if depth[0].1.is_empty() { &[][..] } else { &depth[..] };
            let mut got = client.ask(method, path, fields, body);
            got.fields.remove("date");
            let body = String::from_utf8_lossy(&got.body).into_owned();
            found.push((
                format!("{method} {path}"),
                format!("{} {:?} {body}", got.status, got.fields),
            ));
        }
    }
    // An upload that does not fit, though the room inside is another.
    let huge = [("Content-Length", "99999999999"), ("Expect", "100-continue")];
    let mut got = Client::to(world.address(Side::Outside, ALICE));
    let mut refused = got.ask("PUT", "/dav/e1/import/huge", &huge, b"");
    refused.fields.remove("date");
    found.push(("PUT huge".into(), format!("{refused:?}")));
    found
}

#[test]
fn what_is_done_inside_changes_no_byte_of_what_outside_sees() {
    let world = World::new();
    let mut outside = Client::to(world.address(Side::Outside, ALICE));
    let mut inside = Client::to(world.address(Side::Inside, ALICE));
    assert_eq!(outside.ask("PUT", "/dav/e1/import/brought", &[], b"in").status, 201);
    assert_eq!(inside.ask("PUT", "/export/shown", &[], b"released").status, 201);
    world.until("shown", ExportState::Released);
    crate::lab::wait("the import to be seen inside", || {
        (inside.ask("GET", "/import/brought", &[], b"").status == 200).then_some(())
    });
    let before = seen(&world);
    let listed = before.iter().any(|(_, text)| text.contains("shown"));
    assert!(listed, "what is released is seen");
    // All that a machine can do.
    let secret = b"<D:propertyupdate xmlns:D='DAV:'><D:set><D:prop><secret xmlns='urn:x'>SECRET\
        </secret></D:prop></D:set></D:propertyupdate>";
    let lock = b"<D:lockinfo xmlns:D='DAV:'><D:lockscope><D:exclusive/></D:lockscope><D:locktype>\
        <D:write/></D:locktype><D:owner>SECRET</D:owner></D:lockinfo>";
    for (method, path, fields, body, status) in [
        ("PROPPATCH", "/export/shown", &[][..], &secret[..], 207),
        ("PROPPATCH", "/export/", &[][..], &secret[..], 207),
        ("LOCK", "/export/shown", &[("Depth", "0")][..], &lock[..], 200),
        ("PUT", "/export/hidden", &[][..], b"HOLD SECRET", 201),
        ("PUT", "/export/blocked", &[][..], b"BLOCKED SECRET", 201),
        ("MKCOL", "/export/folder", &[][..], b"", 201),
        ("PUT", "/export/folder/deep", &[][..], b"HOLD SECRET", 201),
        ("MKCOL", "/export/SECRET", &[][..], b"", 201),
        ("PUT", "/export/big", &[][..], &[b"HOLD".as_slice(), &vec![7; 8 << 20]].concat(), 201),
        ("PUT", "/import/brought", &[][..], b"SECRET", 403),
        ("PROPPATCH", "/import/brought", &[][..], &secret[..], 403),
        ("DELETE", "/import/brought", &[][..], b"", 403),
        ("MKCOL", "/capture/SECRET", &[][..], b"", 403),
    ] {
        let got = inside.ask(method, path, fields, body);
        assert_eq!(got.status, status, "{method} {path}: {}", String::from_utf8_lossy(&got.body));
    }
    world.until("hidden", ExportState::Held);
    world.until("folder/deep", ExportState::Held);
    world.until("blocked", ExportState::Blocked);
    assert_eq!(seen(&world), before);
    // A newer version that is held, and the name taken away inside.
    let token = {
        let found = inside.ask("PROPFIND", "/export/shown", &[("Depth", "0")], b"").text();
        let at = found.find("urn:uuid:").expect("a lock");
        found[at..at + 45].to_string()
    };
    let held = format!("(<{token}>)");
    assert_eq!(inside.ask("PUT", "/export/shown", &[("If", &held)], b"HOLD SECRET").status, 204);
    world.until("shown", ExportState::Held);
    assert_eq!(seen(&world), before);
    assert_eq!(inside.ask("DELETE", "/export/shown", &[("If", &held)], b"").status, 204);
    assert_eq!(inside.ask("DELETE", "/export/folder", &[], b"").status, 204);
    thread::sleep(Duration::from_secs(2));
    assert_eq!(seen(&world), before);
    assert!(!before.iter().any(|(_, text)| text.contains("SECRET")));
}

#[test]
fn what_outside_keeps_of_a_name_is_not_seen_inside_nor_by_another_account() {
    let world = World::new();
    let mut outside = Client::to(world.address(Side::Outside, ALICE));
    let path = "/dav/e1/import/brought";
    assert_eq!(outside.ask("PUT", path, &[], b"in").status, 201);
    let patch = b"<D:propertyupdate xmlns:D='DAV:'><D:set><D:prop><note xmlns='urn:x'>OUTSIDE\
        </note></D:prop></D:set></D:propertyupdate>";
    assert_eq!(outside.ask("PROPPATCH", path, &[], patch).status, 207);
    assert!(outside.ask("PROPFIND", path, &[("Depth", "0")], b"").text().contains("OUTSIDE"));
    let mut inside = Client::to(world.address(Side::Inside, ALICE));
    let found = crate::lab::wait("the import to be seen inside", || {
        let got = inside.ask("PROPFIND", "/import/brought", &[("Depth", "0")], b"");
        (got.status == 207).then(|| got.text())
    });
    assert!(!found.contains("OUTSIDE"), "{found}");
    let mut bob = Client::to(world.address(Side::Outside, BOB));
    for (method, path) in [
        ("GET", path),
        ("PROPFIND", path),
        ("PUT", "/dav/e1/import/x"),
        ("DELETE", path),
        ("LOCK", path),
        ("GET", "/dav/e1/"),
    ] {
        let depth = [("Depth", "0")];
        let got = bob.ask(method, path, if method == "DELETE" { &[] } else { &depth }, b"");
        let there = String::from_utf8_lossy(&got.body).into_owned();
        assert_eq!(got.status, 404, "{method} {path}: {there}");
    }
    let listed = bob.ask("PROPFIND", "/dav/", &[("Depth", "1")], b"").text();
    assert!(listed.contains("/dav/e2/") && !listed.contains("e1"), "{listed}");
}
