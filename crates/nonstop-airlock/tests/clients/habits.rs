//! What Explorer, Finder and office programs send, replayed.

use crate::{
    http::{Client, Got},
    lab::{ALICE, World},
};
use nonstop_airlock::target::Side;
use nonstop_model::ExportState;
use std::{thread, time::Duration};

fn client(world: &World, side: Side) -> Client {
    Client::to(world.address(side, ALICE))
}

fn is(got: &Got, status: u16) {
    assert_eq!(got.status, status, "{}", String::from_utf8_lossy(&got.body));
}

const LOCK: &[u8] = b"<?xml version=\"1.0\" encoding=\"utf-8\" ?><D:lockinfo xmlns:D=\"DAV:\">\
    <D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype><D:owner>\
    <D:href>PC\\tanaka</D:href></D:owner></D:lockinfo>";
const AGENT: (&str, &str) = ("User-Agent", "Microsoft-WebDAV-MiniRedir/10.0.19045");

#[test]
fn explorer_mounts_writes_a_file_and_sets_its_times() {
    let world = World::new();
    let mut client = client(&world, Side::Outside);
    let translate = ("translate", "f");
    is(&client.ask("OPTIONS", "/", &[AGENT, translate], b""), 200);
    let zero = [AGENT, ("Depth", "0"), translate];
    is(&client.ask("PROPFIND", "/", &zero, b""), 207);
    is(&client.ask("PROPFIND", "/dav/e1/import", &zero, b""), 207);
    let listed = client.ask("PROPFIND", "/dav/e1/import", &[AGENT, ("Depth", "1")], b"");
    assert!(listed.text().contains("<D:collection/>"), "{}", listed.text());
    let path = "/dav/e1/import/%E5%A0%B1%E5%91%8A.docx";
    is(&client.ask("PROPFIND", path, &zero, b""), 404);
    is(&client.ask("PUT", path, &[AGENT, ("Content-Length", "0"), translate], b""), 201);
    let lock = client.ask("LOCK", path, &[AGENT, ("Timeout", "Second-3600")], LOCK);
    is(&lock, 200);
    let token = lock.field("lock-token").to_string();
    let held = format!("({token})");
    let times = b"<?xml version=\"1.0\" encoding=\"utf-8\" ?><D:propertyupdate xmlns:D=\"DAV:\" \
        xmlns:Z=\"urn:schemas-microsoft-com:\"><D:set><D:prop>\
        <Z:Win32CreationTime>Sun, 29 Nov 2026 01:00:00 GMT</Z:Win32CreationTime>\
        <Z:Win32LastModifiedTime>Sun, 29 Nov 2026 01:00:00 GMT</Z:Win32LastModifiedTime>\
        <Z:Win32FileAttributes>00000020</Z:Win32FileAttributes></D:prop></D:set></D:propertyupdate>";
    let patched = client.ask("PROPPATCH", path, &[AGENT, ("If", &held)], times);
    is(&patched, 207);
    assert!(patched.text().contains("200 OK") && !patched.text().contains("HTTP/1.1 4"));
    is(&client.ask("HEAD", path, &[AGENT, translate], b""), 200);
    is(&client.ask("PUT", path, &[AGENT], b"without the lock"), 423);
    is(&client.ask("PUT", path, &[AGENT, ("If", &held)], b"PK\x03\x04 the document"), 204);
    is(&client.ask("LOCK", path, &[AGENT, ("If", &held), ("Timeout", "Second-600")], b""), 200);
    is(&client.ask("PROPPATCH", path, &[AGENT, ("If", &held)], times), 207);
    is(&client.ask("UNLOCK", path, &[AGENT, ("Lock-Token", &token)], b""), 204);
    let found = client.ask("PROPFIND", path, &[AGENT, ("Depth", "0")], b"").text();
    assert!(found.contains("<Win32FileAttributes xmlns=\"urn:schemas-microsoft-com:\">00000020"));
    assert_eq!(client.ask("GET", path, &[AGENT], b"").body, b"PK\x03\x04 the document");
    // A new folder, and its name.
    is(&client.ask("MKCOL", "/dav/e1/import/New%20folder", &[AGENT], b""), 201);
    let to = format!("http://{}/dav/e1/import/CON", world.address(Side::Outside, ALICE));
    let moved = [AGENT, ("Destination", to.as_str()), ("Overwrite", "F")];
    is(&client.ask("MOVE", "/dav/e1/import/New%20folder", &moved, b""), 201);
    is(&client.ask("DELETE", "/dav/e1/import/CON", &[AGENT], b""), 204);
}

#[test]
fn finder_writes_in_chunks_beside_its_own_files_and_those_are_no_exports() {
    let world = World::new();
    let mut client = client(&world, Side::Inside);
    let agent = ("User-Agent", "WebDAVFS/3.0.0 (03008000) Darwin/23.0.0 (arm64)");
    is(&client.ask("PROPFIND", "/export/._result.csv", &[agent, ("Depth", "0")], b""), 404);
    is(&client.ask("PUT", "/export/result.csv", &[agent, ("Content-Length", "0")], b""), 201);
    let lock = client.ask("LOCK", "/export/result.csv", &[agent, ("Depth", "0")], LOCK);
    is(&lock, 200);
    let held = format!("({})", lock.field("lock-token"));
    let head = format!(
        "PUT /export/result.csv HTTP/1.1\r\nHost: {}\r\nX-Expected-Entity-Length: 11\r\n\
         If: {held}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na,b,c\r\n6\r\n1,2,3\n\r\n0\r\n\r\n",
        world.address(Side::Inside, ALICE)
    );
    client.send(head.as_bytes());
    is(&client.answer(false), 204);
    is(&client.ask("PUT", "/export/._result.csv", &[agent], b"\0\x05\x16\x07fork"), 201);
    is(&client.ask("PUT", "/export/.DS_Store", &[agent], b"\0\0\0\x01Bud1"), 201);
    let token = lock.field("lock-token").to_string();
    is(&client.ask("UNLOCK", "/export/result.csv", &[("Lock-Token", &token)], b""), 204);
    let released = world.until("result.csv", ExportState::Released);
    assert_eq!((released.bytes, released.version), (11, 1));
    thread::sleep(Duration::from_secs(2));
    assert_eq!(world.exports().len(), 1, "what Finder keeps for itself does not leave");
}

#[test]
fn a_copy_for_which_there_is_no_room_costs_nothing_that_was_there() {
    let world = World::with("quiet_seconds: 1, import_mib: 2, export_mib: 8, file_mib: 8");
    let (mut inside, mut outside) = (client(&world, Side::Inside), client(&world, Side::Outside));
    let large = vec![b'x'; 1 << 20];
    is(&inside.ask("MKCOL", "/export/d", &[], b""), 201);
    is(&inside.ask("PUT", "/export/x", &[], &large), 201);
    is(&inside.ask("PUT", "/export/d/x", &[], &large), 201);
    for path in ["x", "d/x"] {
        world.until(path, ExportState::Released);
    }
    is(&outside.ask("MKCOL", "/dav/e1/import/keep", &[], b""), 201);
    for path in ["keep.txt", "keep/inner.txt"] {
        is(&outside.ask("PUT", &format!("/dav/e1/import/{path}"), &[], b"keep"), 201);
    }
    let full = vec![b'x'; (2 << 20) - 100];
    is(&outside.ask("PUT", "/dav/e1/import/full", &[], &full), 201);
    for (from, to) in [("x", "keep.txt"), ("x", "keep"), ("d", "keep.txt"), ("d", "keep")] {
        let to = [("Destination", format!("/dav/e1/import/{to}"))];
        let to = to.each_ref().map(|(field, to)| (*field, to.as_str()));
        is(&outside.ask("COPY", &format!("/dav/e1/export/{from}"), &to, b""), 507);
        for path in ["keep.txt", "keep/inner.txt"] {
            let got = outside.ask("GET", &format!("/dav/e1/import/{path}"), &[], b"");
            assert_eq!((got.status, got.body.as_slice()), (200, &b"keep"[..]), "{to:?}: {path}");
        }
    }
    let listed = outside.ask("PROPFIND", "/dav/e1/import/", &[("Depth", "1")], b"").text();
    assert_eq!(listed.matches("<D:href>").count(), 4, "nothing is beside them: {listed}");
    // With room the same copy takes its place.
    is(&outside.ask("DELETE", "/dav/e1/import/full", &[], b""), 204);
    let to = [("Destination", "/dav/e1/import/keep")];
    is(&outside.ask("COPY", "/dav/e1/export/d", &to, b""), 204);
    assert_eq!(outside.ask("GET", "/dav/e1/import/keep/x", &[], b"").body, large);
    is(&outside.ask("GET", "/dav/e1/import/keep/inner.txt", &[], b""), 404);
}

#[test]
fn an_office_programs_save_is_one_version() {
    let world = World::new();
    let mut client = client(&world, Side::Inside);
    let address = world.address(Side::Inside, ALICE);
    let to = |name: &str| format!("http://{address}/export/{name}");
    is(&client.ask("PUT", "/export/Report.docx", &[], b"first"), 201);
    world.until("Report.docx", ExportState::Released);
    // Its owner's file, the new text under a name of its own, the old one aside, the new one in its place.
    is(&client.ask("PUT", "/export/~$Report.docx", &[], b"tanaka"), 201);
    is(&client.ask("PUT", "/export/~WRD0001.tmp", &[], b"second, half"), 201);
    is(&client.ask("PUT", "/export/~WRD0001.tmp", &[], b"second"), 204);
    is(
        &client.ask("MOVE", "/export/Report.docx", &[("Destination", &to("~WRL0002.tmp"))], b""),
        201,
    );
    is(
        &client.ask("MOVE", "/export/~WRD0001.tmp", &[("Destination", &to("Report.docx"))], b""),
        201,
    );
    is(&client.ask("DELETE", "/export/~WRL0002.tmp", &[], b""), 204);
    is(&client.ask("DELETE", "/export/~$Report.docx", &[], b""), 204);
    let second = crate::lab::wait("the second version", || {
        world.exports().into_iter().find(|export| export.version == 2)
    });
    world.until("Report.docx", ExportState::Released);
    assert_eq!((second.path.as_str(), second.bytes), ("Report.docx", 6));
    thread::sleep(Duration::from_secs(2));
    assert_eq!(world.exports().len(), 2, "nothing of what it did on the way");
    // An editor's: a temporary file renamed over the name.
    is(&client.ask("PUT", "/export/.goutputstream-X1", &[], b"third"), 201);
    let over = to("Report.docx");
    let moved = [("Destination", over.as_str()), ("Overwrite", "T")];
    is(&client.ask("MOVE", "/export/.goutputstream-X1", &moved, b""), 204);
    crate::lab::wait("the third version", || {
        world.exports().into_iter().find(|export| export.version == 3)
    });
    assert_eq!(world.exports().len(), 3);
}
