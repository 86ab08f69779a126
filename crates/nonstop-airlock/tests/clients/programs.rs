//! litmus, cadaver, davfs2, rclone and curl.

use crate::lab::{World, output, run, wait};
use nonstop_airlock::target::Side;
use nonstop_model::ExportState;
use std::{fs, os::unix::fs::PermissionsExt};

#[test]
fn litmus_passes_whole_on_both_sides() {
    for side in [Side::Inside, Side::Outside] {
        let world = World::new();
        let output = output(&world.work(), "litmus", &[&world.url(side)]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for suite in ["basic", "copymove", "props", "locks", "http"] {
            let line = format!("<- summary for `{suite}': of ");
            let found = text.lines().find(|text| text.starts_with(&line)).unwrap_or_default();
            assert!(found.contains(" 0 failed."), "{side:?} {suite}: {found}\n{text}");
        }
        assert!(output.status.success() && !text.contains("WARNING"), "{text}");
    }
}

#[test]
fn cadaver_puts_moves_locks_and_gets() {
    let world = World::new();
    let work = world.work();
    fs::write(work.join("in.txt"), "cadaver's").expect("written");
    let script = "mkcol 報告\ncd 報告\nput in.txt\nlock in.txt\npropset in.txt colour blue\n\
                  propget in.txt colour\nunlock in.txt\nmove in.txt out.txt\ncopy out.txt more.txt\n\
                  ls\nget out.txt back.txt\ndelete more.txt\nquit\n";
    fs::write(work.join("script"), script).expect("written");
    let url = world.url(Side::Outside);
    let said = run(&work, "sh", &["-c", &format!("cadaver {url} < script")]);
    assert!(said.contains("Value of colour is: blue"), "{said}");
    assert!(!said.contains("failed"), "{said}");
    assert_eq!(fs::read_to_string(work.join("back.txt")).expect("got"), "cadaver's");
    let listed = run(&work, "curl", &["-s", &format!("{url}%E5%A0%B1%E5%91%8A/")]);
    assert!(listed.contains("out.txt") && !listed.contains("more.txt"), "{listed}");
}

#[test]
fn davfs2_mounts_export_and_what_is_written_there_is_released() {
    let world = World::new();
    let work = world.work();
    fs::create_dir_all(work.join("mnt")).expect("a folder");
    // It keeps them as a user of its own.
    let cache = work.join("cache");
    fs::create_dir_all(&cache).expect("a folder");
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).expect("chmod");
    // Kernels of late ask for more of a folder at once than it has room for by itself.
    let conf = format!(
        "use_locks 0\nask_auth 0\ndelay_upload 0\nbuf_size 1024\ncache_dir {}\n",
        cache.display()
    );
    fs::write(work.join("davfs2.conf"), conf).expect("written");
    let url = world.url(Side::Inside);
    // In a mount namespace of its own, which takes the mount with it.
    let script = format!(
        "set -e; mount -t tmpfs none /run; mkdir -p /run/mount.davfs; chmod 1777 /run/mount.davfs; \
         mount.davfs -o conf={0}/davfs2.conf,uid=0,gid=0 {url} {0}/mnt < /dev/null\n\
         echo 'by davfs2' > {0}/mnt/result.txt; mkdir {0}/mnt/more; cp {0}/mnt/result.txt {0}/mnt/more/copy.txt\n\
         mv {0}/mnt/more/copy.txt {0}/mnt/more/moved.txt; ls -R {0}/mnt; cat {0}/mnt/more/moved.txt\n\
         dd if=/dev/zero of={0}/mnt/big bs=1M count=5 2>/dev/null; umount {0}/mnt",
        work.display()
    );
    let said = run(&work, "unshare", &["-m", "sh", "-c", &script]);
    assert!(said.contains("moved.txt") && said.contains("by davfs2"), "{said}");
    let released = world.until("result.txt", ExportState::Released);
    assert_eq!(released.bytes, 10);
    assert_eq!(world.until("big", ExportState::Released).bytes, 5 << 20);
    world.until("more/moved.txt", ExportState::Released);
    let outside = world.url(Side::Outside).replace("import/", "export/result.txt");
    assert_eq!(run(&work, "curl", &["-sf", &outside]), "by davfs2\n");
}

#[test]
fn rclone_copies_a_tree_there_and_back() {
    let world = World::new();
    let work = world.work();
    for n in 0..60 {
        let folder = work.join(format!("from/{}", n % 5));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(format!("資料 {n}.txt")), format!("{n}").repeat(n * 500))
            .expect("written");
    }
    let remote = format!(":webdav,url='{}',vendor=other:", world.url(Side::Outside));
    let config = "--config=/dev/null";
    run(&work, "rclone", &[config, "copy", "from", &format!("{remote}tree"), "--transfers=8"]);
    run(&work, "rclone", &[config, "copy", &format!("{remote}tree"), "back"]);
    run(&work, "diff", &["-r", "from", "back"]);
    run(&work, "rclone", &[config, "moveto", &format!("{remote}tree"), &format!("{remote}moved")]);
    let about = run(&work, "rclone", &[config, "about", &remote, "--json"]);
    assert!(about.contains("\"free\"") && about.contains("\"used\""), "{about}");
    run(&work, "rclone", &[config, "purge", &format!("{remote}moved")]);
    assert_eq!(run(&work, "rclone", &[config, "lsf", &remote]), "");
}

#[test]
fn curl_puts_gets_resumes_and_is_told_what_is_wrong() {
    let world = World::new();
    let work = world.work();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(work.join("in"), &bytes).expect("written");
    let url = format!("{}in", world.url(Side::Outside));
    run(&work, "curl", &["-sf", "-T", "in", &url]);
    fs::write(work.join("out"), &bytes[..1_000_000]).expect("written");
    run(&work, "curl", &["-sf", "-C", "-", "-o", "out", &url]);
    assert_eq!(fs::read(work.join("out")).expect("got"), bytes);
    let code = |args: &[&str]| {
        let args = [&["-s", "-o", "said", "-w", "%{http_code}"], args].concat();
        run(&work, "curl", &args)
    };
    assert_eq!(code(&["-r", "10-19", &url]), "206");
    assert_eq!(fs::read(work.join("said")).expect("got"), bytes[10..20]);
    assert_eq!(code(&["-T", "in", "-H", "If-Match: \"x\"", &url]), "412");
    assert_eq!(code(&["-T", "in", "-H", "If-None-Match: *", &url]), "412");
    // Chunks without a length, as from a pipe.
    let piped = format!("cat in | curl -sf -T - {url}2");
    run(&work, "sh", &["-c", &piped]);
    run(&work, "curl", &["-sf", "-o", "out2", &format!("{url}2")]);
    assert_eq!(fs::read(work.join("out2")).expect("got"), bytes);
    // More than an environment may hold: told before the bytes are sent.
    fs::File::create(work.join("huge")).expect("made").set_len(65 << 20).expect("sparse");
    assert_eq!(code(&["-T", "huge", "-H", "Accept-Language: ja", &url]), "507");
    let said = fs::read_to_string(work.join("said")).expect("a reason");
    assert!(said.contains("割り当て容量"), "{said}");
    run(&work, "curl", &["-sf", "-X", "DELETE", &url]);
    wait("the file to be gone", || (code(&[&url]) == "404").then_some(()));
}
