-- Roles. `loader` owns the tables; `machine` is what every machine's role is a member of, and no
-- more than a word in pg_hba.conf: it owns nothing and is granted nothing.
create role loader login;
create role machine nologin;
create role reader login replication;

revoke all on database darknet from public;
grant connect on database darknet to public;
revoke all on schema public from public;
grant usage on schema public to public;
revoke usage on language plpgsql from public;

-- Days, attached or beside: parts.d20301231_p7 holds what publication p7 is to make of a day.
create schema parts authorization loader;
grant usage on schema public to loader;

create table public.packets (
    time      timestamptz not null,  -- when it was captured, to the microsecond
    src       inet,                  -- addresses; null where it is no IP
    dst       inet,
    protocol  int2,                  -- of IP: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6
    sport     int4,                  -- of TCP, UDP, SCTP and the like
    dport     int4,
    tcp_flags int2,                  -- CWR 128, ECE 64, URG 32, ACK 16, PSH 8, RST 4, SYN 2, FIN 1
    ttl       int2,                  -- or the hop limit of IPv6
    length    int4 not null,         -- bytes on the wire
    icmp_type int2,
    icmp_code int2,
    payload   bytea                  -- the first bytes of what TCP, UDP or ICMP carry
) partition by range (time);
alter table public.packets owner to loader;
comment on table public.packets is 'One row for each packet of a day''s file, one partition a day';

create table public.days (
    day         date primary key,
    begins      timestamptz not null,
    ends        timestamptz not null,  -- the first instant after it
    rows        bigint not null,     -- in packets
    first       timestamptz,         -- of its packets
    last        timestamptz,
    publication text not null,       -- what put it there
    sha256      text not null,       -- of the file that it was loaded from
    part        text not null unique,
    loaded      timestamptz not null default now()
);
alter table public.days owner to loader;
comment on table public.days is 'The days that packets has';

-- Loaded whole, and not yet to be seen.
create table parts.staged (
    part        text primary key,
    day         date not null,
    day_from    timestamptz not null,
    day_until   timestamptz not null,
    rows        bigint not null,
    first       timestamptz,
    last        timestamptz,
    publication text not null,
    sha256      text not null,
    staged      timestamptz not null default now()
);
alter table parts.staged owner to loader;

grant select on public.packets, public.days to public;

-- How far the reader is, for whoever must know that machines see a change.
create function parts.written() returns pg_lsn
    language sql volatile security definer set search_path = pg_catalog
    as 'select pg_current_wal_flush_lsn()';
create function parts.replayed() returns pg_lsn
    language sql volatile security definer set search_path = pg_catalog
    as $$ select max(replay_lsn) from pg_stat_replication where application_name = 'reader' $$;
revoke execute on function parts.written(), parts.replayed() from public;
grant execute on function parts.written(), parts.replayed() to loader;

-- Statistics show a role only itself.
create function public.own_activity()
    returns table (pid int, state text, query_start timestamptz, xact_start timestamptz, query text)
    language sql stable security definer set search_path = pg_catalog
    as $$ select pid, state, query_start, xact_start, query
          from pg_stat_activity where usename = session_user $$;
create view public.activity as select * from public.own_activity();
grant select on public.activity to public;
comment on view public.activity is 'The connections of your own machine';
