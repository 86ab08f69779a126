use super::*;
use std::{fs, path::Path, process::Command};

struct Bytes(Vec<u8>);

impl Content for Bytes {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn write(&self, to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.0.chunks(1000).try_for_each(to)
    }
}

fn item(name: &str, bytes: &[u8]) -> Item<'static> {
    Item { name: name.into(), content: Box::new(Bytes(bytes.to_vec())) }
}

fn written(items: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut disc = Disc::new("SAMPLES").expect("a name");
    for (name, bytes) in items {
        disc.add(item(name, bytes)).expect("a file");
    }
    let mut all = Vec::new();
    disc.write(&mut all).expect("written");
    all
}

/// Files of many names and lengths, more than a sector of a folder has room for.
fn many() -> Vec<(String, Vec<u8>)> {
    let long = format!("{}.bin.zip", "0123456789abcdef".repeat(4));
    let mut items = vec![
        (long, vec![1; 5000]),
        ("検体 その1.exe".into(), vec![2; 2048]),
        ("empty".into(), vec![]),
        ("a.b.c.d".into(), b"x".to_vec()),
        ("UPPER and lower.TXT".into(), vec![3; 2049]),
        ("l".repeat(103), vec![5; 1]),
    ];
    items.extend(
        (0..60).map(|n| (format!("{n:02}-{}.dll", "n".repeat(40)), vec![n; usize::from(n) * 100])),
    );
    items
}

fn same(folder: &Path, items: &[(String, Vec<u8>)], who: &str) {
    let count = fs::read_dir(folder).expect("a folder").count();
    for (name, bytes) in items {
        let found = fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{who}: {name}: {e}"));
        assert!(found == *bytes, "{who}: {name}");
    }
    assert_eq!(count, items.len(), "{who}");
}

#[test]
fn libarchive_7z_and_isoinfo_read_every_name_and_byte() {
    let dir = tempfile::tempdir().expect("a folder");
    let (items, path) = (many(), dir.path().join("disc.iso"));
    let disc = written(&items);
    assert_eq!(disc.len() % SECTOR, 0);
    assert_eq!(disc, written(&items), "the same files are the same disc");
    fs::write(&path, &disc).expect("written");
    let image = path.display();
    let run = |line: &str| {
        let output = Command::new("sh")
            .args(["-c", line])
            .env("LC_ALL", "C.UTF-8")
            .current_dir(dir.path())
            .output()
            .expect("sh");
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{line}: {out}{err}");
        out.into_owned()
    };
    for (without, who) in [("joliet", "rock ridge"), ("rockridge", "joliet")] {
        run(&format!("mkdir got && bsdtar -xpf {image} --options 'iso9660:!{without}' -C got"));
        if who == "rock ridge" {
            assert_eq!(run("stat -c %a got/empty"), "444\n");
        }
        same(&dir.path().join("got"), &items, who);
        fs::remove_dir_all(dir.path().join("got")).expect("removed");
    }
    run(&format!("7z x -ogot {image}"));
    same(&dir.path().join("got"), &items, "7z");
    let listed =
        run(&format!("isoinfo -d -i {image}; isoinfo -J -f -i {image}; isoinfo -R -f -i {image}"));
    assert!(listed.contains("Volume id: SAMPLES"), "{listed}");
    assert!(listed.contains("Rock Ridge signatures version 1 found"), "{listed}");
    assert!(listed.contains("Joliet with UCS level 3 found"), "{listed}");
    assert_eq!(listed.matches("UPPER and lower.TXT").count(), 2, "{listed}");
    let plain = run(&format!("isoinfo -f -i {image} | head -2"));
    assert!(plain.contains("/S0000000.ZIP;1"), "{plain}");
}

#[test]
fn names_that_a_guest_cannot_read_are_refused() {
    let mut disc = Disc::new("SAMPLES").expect("a name");
    let (long, wide) = ("x".repeat(104), "検".repeat(47));
    for name in ["", "a/b", "..", ".", "a\\b", "a:b", "a\n", "x ", "x.", "a;1", &long, &wide] {
        let refused = disc.add(item(name, b""));
        assert!(matches!(refused, Err(DiscError::Name(..))), "{name}");
    }
    disc.add(item("One.exe", b"")).expect("a file");
    assert!(matches!(disc.add(item("one.EXE", b"")), Err(DiscError::Twice(_))));
    for volume in ["", "samples", "A B", &"A".repeat(17)] {
        assert!(Disc::new(volume).is_err(), "{volume}");
    }
}

#[test]
fn a_disc_whose_content_is_not_what_it_should_be_is_not_written() {
    struct Wrong(i64);
    impl Content for Wrong {
        fn bytes(&self) -> u64 {
            10
        }

        fn write(&self, to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
            to(&vec![0; (10 + self.0) as usize])
        }
    }
    for off in [-1, 1] {
        let mut disc = Disc::new("X").expect("a name");
        disc.add(Item { name: "x".into(), content: Box::new(Wrong(off)) }).expect("a file");
        assert!(disc.write(&mut Vec::new()).is_err(), "{off}");
    }
}
