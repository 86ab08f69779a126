-- A first look by psql: `psql -f first_look.sql`, or line by line.
-- psql での最初の一歩: `psql -f first_look.sql`、または 1 行ずつ。

-- Which days there are. どの日があるか。
SELECT * FROM days ORDER BY day;

-- The columns of a packet. パケットの列。
\d packets

-- Ten packets of the newest day. 最新の日のパケット 10 個。
SELECT time, src, sport, dst, dport, protocol, tcp_flags, ttl, length
FROM packets WHERE time >= (SELECT max(first) FROM days) ORDER BY time LIMIT 10;

-- ICMP of that day by type: what says "unreachable" (3) or "time exceeded" (11) is backscatter.
-- その日の ICMP を種類別に。到達不能 (3) や時間超過 (11) はバックスキャッタ。
SELECT icmp_type, icmp_code, count(*) FROM packets
WHERE time >= (SELECT max(first) FROM days) AND protocol = 1
GROUP BY 1, 2 ORDER BY 3 DESC;
