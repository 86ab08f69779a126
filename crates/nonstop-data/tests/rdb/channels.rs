//! What two machines could say to each other by way of the rdb, and what one could use up.

use crate::world::{RDB, World, eventually};

#[test]
fn a_machine_is_its_segment_whatever_it_calls_itself() {
    let mut world = World::running("{}");
    let (alice, bob) = (world.machine(), world.machine());
    assert_eq!(alice.ask("select session_user"), "machine_00001");
    assert_eq!(bob.ask("select session_user, current_database()"), "machine_00002|darknet");
    assert_eq!(alice.ask("select count(*) from packets"), "0");
    eventually(5, "reports of connections", || world.fetches().lines().count() >= 2);
    assert!(world.fetches().contains(&bob.address), "{}", world.fetches());
}

/// What a machine tries, and a word of the refusal that it gets.
const REFUSED: &[(&str, &str)] = &[
    // A board to write on.
    ("notify board, 'hello'", "during recovery"),
    ("select pg_notify('board', 'hello')", "permission denied"),
    ("listen board", "during recovery"),
    ("create temp table note (words text)", "read-only transaction"),
    ("create unlogged table note (words text)", "read-only transaction"),
    ("create table packets_too (words text)", "read-only transaction"),
    ("create sequence counter", "read-only transaction"),
    ("create type mood as enum ('glad')", "read-only transaction"),
    ("create function f() returns int language sql as 'select 1'", "read-only transaction"),
    ("create extension pg_buffercache", "read-only transaction"),
    ("comment on table packets is 'hello'", "read-only transaction"),
    ("security label on table packets is 'hello'", "read-only transaction"),
    ("insert into packets (time, length) values (now(), 1)", "read-only transaction"),
    ("update days set rows = 0", "read-only transaction"),
    ("delete from days", "read-only transaction"),
    ("truncate packets", "read-only transaction"),
    ("drop table packets", "read-only transaction"),
    ("begin read write", "during recovery"),
    ("select * from days for update", "read-only transaction"),
    ("select lo_create(0)", "permission denied"),
    ("select lo_creat(-1)", "permission denied"),
    ("select lo_from_bytea(0, 'hello')", "permission denied"),
    ("select lo_put(1, 0, 'hello')", "permission denied"),
    ("select lo_import('/etc/passwd')", "permission denied"),
    ("select nextval(1262::regclass)", "permission denied"),
    ("prepare transaction 'hello'", "during recovery"),
    ("select pg_logical_emit_message(false, 'a', 'hello')", "permission denied"),
    ("select pg_export_snapshot()", "permission denied"),
    ("alter role current_user set work_mem = '1GB'", "read-only transaction"),
    ("alter role machine_00002 set application_name = 'hello'", "read-only transaction"),
    ("alter role current_user password 'hello'", "read-only transaction"),
    ("alter database darknet set work_mem = '1GB'", "read-only transaction"),
    ("alter system set work_mem = '1GB'", "permission denied"),
    ("grant machine_00001 to machine_00002", "read-only transaction"),
    // A lock that another feels.
    ("select pg_advisory_lock(1)", "permission denied"),
    ("select pg_advisory_lock_shared(1, 2)", "permission denied"),
    ("select pg_try_advisory_lock(1)", "permission denied"),
    ("select pg_try_advisory_xact_lock_shared(1)", "permission denied"),
    ("select pg_advisory_unlock_all()", "permission denied"),
    ("begin; lock table days in access exclusive mode", "during recovery"),
    ("begin; lock table days in share mode", "during recovery"),
    ("select * from pg_locks", "permission denied"),
    ("select pg_blocking_pids(1)", "permission denied"),
    // Who else is there, and what they do.
    ("select * from pg_stat_activity", "permission denied"),
    ("select pg_stat_get_activity(null)", "permission denied"),
    ("select pg_stat_get_backend_activity(1)", "permission denied"),
    ("select pg_stat_get_backend_idset()", "permission denied"),
    ("select * from pg_stat_ssl", "permission denied"),
    ("select * from pg_stat_database", "permission denied"),
    ("select * from pg_stat_user_tables", "permission denied"),
    ("select * from pg_statio_user_tables", "permission denied"),
    ("select * from pg_stat_xact_user_tables", "permission denied"),
    ("select * from pg_stat_bgwriter", "permission denied"),
    ("select * from pg_stat_slru", "permission denied"),
    ("select * from pg_stat_wal", "permission denied"),
    ("select * from pg_stat_wal_receiver", "permission denied"),
    ("select * from pg_stat_replication", "permission denied"),
    ("select * from pg_stat_progress_copy", "permission denied"),
    ("select * from pg_stat_recovery_prefetch", "permission denied"),
    ("select * from pg_replication_slots", "permission denied"),
    ("select * from pg_prepared_xacts", "permission denied"),
    ("select * from pg_backend_memory_contexts", "permission denied"),
    ("select * from pg_shmem_allocations", "permission denied"),
    ("select * from pg_file_settings", "permission denied"),
    ("select * from pg_hba_file_rules", "permission denied"),
    ("select rolpassword from pg_authid", "permission denied"),
    ("select pg_tablespace_size('pg_default')", "permission denied"),
    ("select pg_database_size('darknet')", "permission denied"),
    ("select pg_stat_reset()", "permission denied"),
    ("select pg_stat_clear_snapshot()", "permission denied"),
    ("select pg_last_wal_replay_lsn()", "permission denied"),
    ("select pg_last_xact_replay_timestamp()", "permission denied"),
    ("select pg_current_wal_lsn()", "permission denied"),
    ("select pg_current_snapshot()", "permission denied"),
    ("select txid_current_snapshot()", "permission denied"),
    ("select pg_postmaster_start_time()", "permission denied"),
    ("select pg_control_checkpoint()", "permission denied"),
    ("select pg_notification_queue_usage()", "permission denied"),
    ("select pg_listening_channels()", "permission denied"),
    // Another's connection, or the whole server.
    ("select pg_cancel_backend(1)", "permission denied"),
    ("select pg_terminate_backend(1)", "permission denied"),
    ("select pg_log_backend_memory_contexts(1)", "permission denied"),
    ("select pg_reload_conf()", "permission denied"),
    ("select pg_promote()", "permission denied"),
    ("select pg_wal_replay_pause()", "permission denied"),
    ("select pg_switch_wal()", "permission denied"),
    ("checkpoint", "must be superuser"),
    // Another role, a program, a file, the outside.
    ("set role machine_00002", "permission denied"),
    ("set role nonstop", "permission denied"),
    ("set role loader", "permission denied"),
    ("set session authorization nonstop", "permission denied"),
    ("copy days to program 'id'", "pg_execute_server_program"),
    ("copy days to '/tmp/out'", "pg_write_server_files"),
    ("copy days from '/etc/passwd'", "during recovery"),
    ("select pg_read_file('/etc/passwd')", "permission denied"),
    ("select pg_ls_dir('/')", "permission denied"),
    ("select pg_ls_tmpdir()", "permission denied"),
    ("load '/tmp/x'", "access to library"),
    ("do $$ begin loop null; end loop; end $$", "permission denied for language"),
    ("select * from parts.staged", "permission denied"),
    ("select parts.replayed()", "permission denied"),
    ("select * from nonstop.steps", "permission denied"),
    // Limits that only a superuser changes.
    ("set temp_file_limit = -1", "permission denied"),
    ("set log_statement = 'all'", "permission denied"),
    ("set log_min_messages = 'debug5'", "permission denied"),
    ("set max_worker_processes = 8", "cannot be changed"),
    ("set session_replication_role = 'replica'", "permission denied"),
    ("set jit_provider = 'llvmjit'", "cannot be changed"),
    ("set track_activities = off", "permission denied"),
];

#[test]
fn what_could_tell_another_machine_something_is_refused() {
    let mut world = World::running("{}");
    let (alice, bob) = (world.machine(), world.machine());
    assert_eq!(bob.ask("select 1"), "1");
    let mut open = Vec::new();
    for (sql, refusal) in REFUSED {
        let told = alice.ask(sql);
        if !told.contains("ERROR") || !told.contains(refusal) {
            open.push(format!("{sql}: {told}"));
        }
    }
    assert!(open.is_empty(), "not refused as expected:\n{}", open.join("\n"));
}

#[test]
fn statistics_show_a_machine_only_itself() {
    let mut world = World::running("{}");
    let (alice, bob) = (world.machine(), world.machine());
    let mut talker = bob.session();
    talker.say("set application_name = 'hello'; select 'a secret', pg_sleep(20);");
    eventually(10, "bob's query", || {
        world.reader("select query from pg_stat_activity").contains("a secret")
    });
    let seen = alice.ask("select state, query from activity");
    assert_eq!(seen, "active|select state, query from activity");
    assert!(bob.ask("select query from activity").contains("a secret"));
}

#[test]
fn functions_that_nobody_has_looked_at_are_closed() {
    let mut world = World::running("{}");
    let alice = world.machine();
    // Of what keeps or shows state, only what rights.sql names may be called.
    let open = alice.ask(
        "select string_agg(proname, ' ') from pg_proc p where pronamespace = 'pg_catalog'::regnamespace \
         and prokind = 'f' and has_function_privilege(oid, 'execute') \
         and provolatile <> 'i' and (proname like 'pg\\_stat%' and proname <> 'pg_statistics_obj_is_visible' \
              or proname like '%advisory%' or proname like 'lo\\_%' or proname like 'pg\\_ls%' \
              or proname like 'pg\\_%wal%' or proname like 'pg\\_replication%' \
              or proname like 'pg\\_logical%' or proname like 'pg\\_read%')",
    );
    assert_eq!(open, "");
    let volatile = alice.ask(
        "select count(*) from pg_proc where pronamespace = 'pg_catalog'::regnamespace \
         and prokind = 'f' and provolatile = 'v' and has_function_privilege(oid, 'execute') \
         and prorettype::regtype::text not like '%handler' and prorettype <> 'trigger'::regtype",
    );
    assert!(volatile.parse::<u32>().unwrap() < 30, "{volatile} volatile functions are open");
}

#[test]
fn what_people_and_programs_ask_of_the_catalog_is_answered() {
    let mut world = World::running("{}");
    let alice = world.machine();
    for command in
        ["\\d", "\\d+ packets", "\\dt", "\\dv", "\\l", "\\dn", "\\df", "\\du", "\\conninfo"]
    {
        let output = alice.psql("").args(["-c", command]).output().expect("psql");
        assert!(output.status.success(), "{command}: {}", crate::world::told(&output));
    }
    for sql in [
        "select table_name, column_name from information_schema.columns where table_name = 'packets'",
        "select * from pg_indexes limit 1",
        "select * from pg_settings limit 1",
        "show server_version",
        "select version()",
        "set timezone = 'Asia/Tokyo'; set work_mem = '64MB'; select now()",
        "begin; declare c cursor for select 1; fetch c; commit",
        "prepare p as select $1::int; execute p(1)",
        "copy (select 1) to stdout",
        "explain analyze select count(*) from packets",
    ] {
        let told = alice.ask(sql);
        assert!(!told.contains("ERROR"), "{sql}: {told}");
    }
}

#[test]
fn other_databases_replication_and_encryption_are_refused_by_the_front() {
    let mut world = World::running("{}");
    let alice = world.machine();
    let told = |words: &str| {
        let to = format!("host={RDB} connect_timeout=20 {words}");
        let mut command = alice.inside();
        command.args(["psql", "-qAtX", "-d", &to, "-c", "select session_user"]);
        crate::world::told(&command.output().expect("psql"))
    };
    assert!(told("dbname=postgres user=nonstop").contains("there is no database `postgres`"));
    assert!(told("dbname=template1").contains("there is no database"));
    assert!(told("dbname=darknet replication=database").contains("replication"));
    assert!(told("dbname=darknet replication=true").contains("replication"));
    assert!(told("dbname=darknet sslmode=require").contains("does not support SSL"));
    for user in ["nonstop", "loader", "reader", "postgres", "machine_00002", "root"] {
        assert_eq!(told(&format!("dbname=darknet user={user}")), "machine_00001", "{user}");
    }
    assert_eq!(told("user=root options='-c work_mem=1GB'"), "machine_00001");
}

#[test]
fn a_query_past_its_time_is_ended_whatever_it_set() {
    let mut world = World::running("{ query_seconds: 2 }");
    let alice = world.machine();
    let sleep = alice.ask("set statement_timeout = 0; select pg_sleep(3600)");
    assert!(sleep.contains("canceling statement"), "{sleep}");
    let spin = alice.ask(
        "set statement_timeout = 0; select count(*) from generate_series(1, 1000000) a, \
         generate_series(1, 1000000) b",
    );
    assert!(spin.contains("canceling statement"), "{spin}");
    let bomb = alice.ask(
        "set statement_timeout = 0; \
         select sum(regexp_count(repeat('ab', 10000) || n, '(a|b|ab)*c')) \
         from generate_series(1, 1000000) n",
    );
    assert!(bomb.contains("canceling statement") || bomb.contains("terminating"), "{bomb}");
    let mut idle = alice.session();
    idle.say("set idle_in_transaction_session_timeout = 0; begin; select 1;");
    let connections =
        || world.reader("select count(*) from pg_stat_activity where usename like 'machine%'");
    eventually(10, "a transaction", || connections() == "1");
    eventually(15, "a transaction that does nothing is ended", || connections() == "0");
    idle.say("select 2;");
    assert!(idle.end().contains("terminating connection"));
    assert_eq!(alice.ask("select 1"), "1");
}

#[test]
fn memory_and_room_on_the_disk_are_bounded_whatever_is_set() {
    let mut world = World::running("{ memory_mib: 128, temporary_mib: 16, query_seconds: 60 }");
    let (alice, bob) = (world.machine(), world.machine());
    let greedy = alice.ask(
        "set work_mem = '64GB'; select count(*) from (select array_agg(n) \
         from generate_series(1, 50000000) n) x",
    );
    assert!(greedy.contains("out of memory"), "{greedy}");
    let hash = alice.ask(
        "set work_mem = '64GB'; set hash_mem_multiplier = 1000; \
         select count(*) from (select distinct n::text || 'x' from generate_series(1, 20000000) n) x",
    );
    assert!(hash.contains("out of memory"), "{hash}");
    let sorted = alice.ask(
        "set work_mem = '64kB'; select count(*) from (select n from generate_series(1, 20000000) n \
         order by n desc offset 1) x",
    );
    assert!(sorted.contains("temporary file size exceeds"), "{sorted}");
    let plans = alice.ask("select repeat('a', 1000000000) || repeat('b', 70000000)");
    assert!(plans.contains("ERROR"), "{plans}");
    // What PostgreSQL writes when memory runs out, a client's words in it, fills no log.
    let spoken = alice.ask(
        "prepare spoken as select 'words of a machine'; \
                            select length(repeat('x', 900000000))",
    );
    assert!(spoken.contains("out of memory"), "{spoken}");
    let log = world.log();
    assert!(!log.contains("words of a machine") && !log.contains("MemoryContext"), "{log}");
    // Nobody else has felt it.
    assert_eq!(bob.ask("select 1"), "1");
    assert!(!world.log().contains("the reader ended"), "{}", world.log());
}

#[test]
fn a_machine_has_its_connections_and_half_open_ones_keep_nobody_out() {
    let mut world = World::running("{ connections: 3 }");
    let (alice, bob) = (world.machine(), world.machine());
    let mut held = Vec::new();
    for n in 1..=3 {
        let mut session = alice.session();
        session.say("select 1;");
        held.push(session);
        eventually(10, "a connection", || {
            world.reader("select count(*) from pg_stat_activity where usename like 'machine%'")
                == n.to_string()
        });
    }
    let told = alice.ask("select 1");
    assert!(told.contains("has 3 connections"), "{told}");
    assert_eq!(bob.ask("select 1"), "1");
    let ask = || {
        let since = std::time::Instant::now();
        for _ in 0..20 {
            assert_eq!(bob.ask("select 1"), "1");
        }
        since.elapsed()
    };
    let quiet = ask();
    // Thousands that say nothing, or half a greeting.
    let flood = "import socket,time\nheld=[]\nfor n in range(3000):\n s=socket.socket(); s.settimeout(2)\n \
                 try:\n  s.connect(('10.78.0.10',5432)); s.send(b'\\0\\0\\0' if n%2 else b''); held.append(s)\n \
                 except OSError: pass\nprint('flooded',flush=True)\ntime.sleep(60)";
    let mut flooding = alice
        .inside()
        .args(["python3", "-c", flood])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("python3");
    let flooded = ask();
    flooding.kill().unwrap();
    flooding.wait().unwrap();
    let bound = quiet * 4 + std::time::Duration::from_secs(2);
    assert!(flooded < bound, "20 connections of another took {flooded:?}, before {quiet:?}");
    drop(held);
    eventually(10, "alice's places are free again", || alice.ask("select 1") == "1");
}

#[test]
fn a_query_is_ended_by_its_own_segment_and_by_no_other() {
    let mut world = World::running("{}");
    let (alice, bob) = (world.machine(), world.machine());
    // What Ctrl-C in psql says, from either machine, with the true key.
    let script = "import socket,struct,sys,time\n\
        s=socket.create_connection(('10.78.0.10',5432))\n\
        b=struct.pack('!I',196608)+b'user\\0a\\0database\\0darknet\\0\\0'\n\
        s.send(struct.pack('!I',len(b)+4)+b)\n\
        g=b''\n\
        while b'Z\\0\\0\\0\\5I' not in g: g+=s.recv(4096)\n\
        k=g.index(b'K\\0\\0\\0\\x0c'); print(g[k+5:k+13].hex(),flush=True)\n\
        q=b'select pg_sleep(6)\\0'; s.send(b'Q'+struct.pack('!I',len(q)+4)+q)\n\
        r=b''\n\
        while b'Z\\0\\0\\0\\5I' not in r: r+=s.recv(4096)\n\
        print('canceled' if b'57014' in r else 'whole',flush=True)";
    let cancel = |machine: &crate::world::Machine, key: &str| {
        let script = format!(
            "import socket,struct\ns=socket.create_connection(('10.78.0.10',5432))\n\
             s.send(struct.pack('!II',16,80877102)+bytes.fromhex('{key}'))\nprint(s.recv(10))"
        );
        assert!(
            machine.inside().args(["python3", "-c", &script]).output().unwrap().status.success()
        );
    };
    let run = |canceller: &crate::world::Machine| {
        use std::io::{BufRead as _, BufReader};
        let mut child = alice
            .inside()
            .args(["python3", "-c", script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python3");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let key = lines.next().expect("a key");
        std::thread::sleep(std::time::Duration::from_millis(500));
        cancel(canceller, &key);
        let how = lines.next().expect("an end");
        child.wait().unwrap();
        how
    };
    assert_eq!(run(&bob), "whole");
    assert_eq!(run(&alice), "canceled");
}
