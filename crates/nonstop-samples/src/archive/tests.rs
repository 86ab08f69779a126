use super::*;

/// A tar of `members`.
fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // As somebody would write it who means harm: the library's own check is gone around.
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, *bytes).expect("written");
    }
    tar.into_inner().expect("written")
}

fn sample() -> String {
    format!("samples/{}", "ab".repeat(32))
}

/// The members of `tar`, or what is wrong with it.
fn read_all(tar: &[u8]) -> Result<Vec<String>, String> {
    let mut seen = Vec::new();
    let each = |member: Member, bytes: &mut dyn Read, _: u64| {
        let mut all = Vec::new();
        bytes.read_to_end(&mut all).map_err(ArchiveError::Read)?;
        seen.push(format!("{member} {}", all.len()));
        Ok(())
    };
    match read(tar, each, |_| {}) {
        Ok(whole) => {
            assert_eq!(whole.bytes, tar.len() as u64);
            assert_eq!(whole.digest, Digest(Sha256::digest(tar).into()));
            Ok(seen)
        }
        Err(e) => Err(e.to_string()),
    }
}

#[test]
fn members_are_told_by_their_names() {
    let hash = "cd".repeat(32);
    let (one, two) = (format!("./reports/{hash}.json"), format!("reports/{hash}.2.json"));
    let sample = sample();
    let tar = tar_of(&[(&sample, b"abc"), (&one, b"{}"), (&two, b"{ }"), ("metadata.jsonl", b"")]);
    let found = read_all(&tar).expect("a day");
    let one = one.trim_start_matches("./");
    let wanted =
        [format!("{sample} 3"), format!("{one} 2"), format!("{two} 3"), "metadata.jsonl 0".into()];
    assert_eq!(found, wanted);
}

#[test]
fn what_is_not_understood_refuses_the_day_by_its_name() {
    let upper = format!("samples/{}", "AB".repeat(32));
    let run = format!("reports/{}.0.json", "ab".repeat(32));
    for name in ["samples/../../etc/passwd", "/etc/passwd", "samples/abc", &upper, &run, "x\u{1b}"]
    {
        let said = read_all(&tar_of(&[(name, b"x")])).expect_err(name);
        let shown: String = name.chars().flat_map(char::escape_debug).collect();
        assert!(said.starts_with(&shown), "{said}");
    }
    let twice = read_all(&tar_of(&[(&sample(), b"x"), (&sample(), b"x")])).expect_err("twice");
    assert!(twice.contains("twice"), "{twice}");
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_path(sample()).expect("a path");
    link.set_link_name("/etc/passwd").expect("a link");
    link.set_size(0);
    link.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&link, &b""[..]).expect("written");
    let said = read_all(&tar.into_inner().expect("written")).expect_err("a link");
    assert!(said.contains("no plain file"), "{said}");
}

#[test]
fn a_torn_tar_is_refused_wherever_it_ends() {
    let whole = tar_of(&[(&sample(), &[7; 3000]), ("metadata.jsonl", &[b' '; 700])]);
    assert!(read_all(&whole).is_ok());
    for end in (0..whole.len() - 1024).step_by(61) {
        assert!(read_all(&whole[..end]).is_err(), "cut at {end} of {}", whole.len());
    }
    let more = [whole.as_slice(), b"and more"].concat();
    assert!(read_all(&more).expect_err("more").contains("behind the end"));
}

#[test]
fn a_source_that_fails_is_no_fault_of_the_day() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk"))
        }
    }
    let failed = read(Fails, |_, _, _| Ok(()), |_| {});
    assert!(matches!(failed, Err(ArchiveError::Read(_))), "{failed:?}");
}

/// A tar of one member that is of another kind than a file.
fn one_of(kind: tar::EntryType, path: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_size(bytes.len() as u64);
    if kind.is_symlink() {
        header.set_link_name("/etc").expect("a link");
    }
    if kind.is_gnu_sparse() {
        // A hole of a gigabyte, and these bytes behind it.
        let gnu = header.as_gnu_mut().expect("of GNU");
        let octal = |of: &mut [u8; 12], n: u64| {
            of[..11].copy_from_slice(format!("{n:011o}").as_bytes());
        };
        octal(&mut gnu.sparse[0].offset, 1 << 30);
        octal(&mut gnu.sparse[0].numbytes, bytes.len() as u64);
        octal(&mut gnu.realsize, (1 << 30) + bytes.len() as u64);
    }
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, bytes).expect("written");
    tar.into_inner().expect("written")
}

#[test]
fn folders_are_folders() {
    use tar::EntryType;
    for name in ["samples", "samples/", "reports", "./reports/", "./"] {
        assert_eq!(read_all(&one_of(EntryType::Directory, name, b"")), Ok(vec![]), "{name}");
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Fifo] {
            let said = read_all(&one_of(kind, name, b"")).expect_err(name);
            assert_eq!(said, format!("{name}: it is no folder, which this name is for"));
        }
        assert!(read_all(&one_of(EntryType::Regular, name, b"x")).is_err(), "{name}");
    }
    assert_eq!(read_all(&one_of(EntryType::Regular, "samples/", b"")), Ok(vec![]));
    assert!(read_all(&one_of(EntryType::Regular, "samples", b"")).is_err());
}

#[test]
fn one_block_of_zeros_is_an_end() {
    let whole = tar_of(&[(&sample(), b"abc")]);
    let found = read_all(&whole[..whole.len() - BLOCK]).expect("a day");
    assert_eq!(found, [format!("{} 3", sample())]);
}

#[test]
fn holes_are_refused_before_they_are_written_out() {
    let none_of_it = |tar: &[u8]| {
        let each = |member: Member, _: &mut dyn Read, _: u64| panic!("{member} was given");
        read(tar, each, |_| {}).expect_err("holes").to_string()
    };
    let said = none_of_it(&one_of(tar::EntryType::GNUSparse, &sample(), b"abc"));
    assert!(said.starts_with(&sample()) && said.contains("--sparse"), "{said}");
    // The same as pax has it, in each of its versions.
    let version_1 = format!("GNUSparseFile.0/{}", "ab".repeat(32));
    for (name, records) in [
        (sample(), vec![("GNU.sparse.size", "1073741824"), ("GNU.sparse.numblocks", "0")]),
        (sample(), vec![("mtime", "1"), ("GNU.sparse.map", "1073741821,3")]),
        (version_1, vec![("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "1073741824")]),
    ] {
        let mut tar = tar::Builder::new(Vec::new());
        let records = records.iter().map(|(key, value)| (*key, value.as_bytes()));
        tar.append_pax_extensions(records).expect("written");
        let mut header = tar::Header::new_ustar();
        header.set_size(3);
        tar.append_data(&mut header, &name, &b"abc"[..]).expect("written");
        let said = none_of_it(&tar.into_inner().expect("written"));
        assert!(said.starts_with(&name) && said.contains("--sparse"), "{said}");
    }
}

#[test]
fn records_of_pax_that_tell_no_holes_change_nothing() {
    let mut tar = tar::Builder::new(Vec::new());
    let records = [("mtime", &b"1764201600.5"[..]), ("SCHILY.xattr.user.note", b"GNU.sparse.")];
    tar.append_pax_extensions(records).expect("written");
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    tar.append_data(&mut header, sample(), &b"abc"[..]).expect("written");
    let found = read_all(&tar.into_inner().expect("written")).expect("a day");
    assert_eq!(found, [format!("{} 3", sample())]);
}

/// How many bytes of a tar are read that begins with a member of the kind `kind`, of 3 GiB of zeros,
/// and what is said of it.
fn read_of_much(kind: tar::EntryType) -> (u64, String) {
    const MUCH: u64 = 3 << 30;
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(MUCH);
    header.set_cksum();
    let mut much = header.as_bytes()[..].chain(io::repeat(0).take(MUCH + 1024));
    let failed = read(&mut much, |member, _, _| panic!("{member} was given"), |_| {});
    let (_, rest) = much.into_inner();
    match failed.expect_err("too much") {
        ArchiveError::Refused(why) => (MUCH + 1024 - rest.limit(), why),
        e => panic!("{e}"),
    }
}

#[test]
fn what_stands_between_members_is_not_taken_into_memory_however_much_it_is() {
    use tar::EntryType;
    for kind in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
    ] {
        let (read, said) = read_of_much(kind);
        assert!(read <= BETWEEN, "{kind:?}: {read} bytes were read");
        assert!(said.contains("between two members"), "{kind:?}: {said}");
    }
    // A name that is longer than a head has room for is no harm.
    let mut tar = tar::Builder::new(Vec::new());
    let records = [("SCHILY.xattr.user.note", &[b'x'; 50_000][..])];
    tar.append_pax_extensions(records).expect("written");
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    tar.append_data(&mut header, sample(), &b"abc"[..]).expect("written");
    let found = read_all(&tar.into_inner().expect("written")).expect("a day");
    assert_eq!(found, [format!("{} 3", sample())]);
}
