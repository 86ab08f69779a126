#!/usr/bin/python3
"""Who scanned a port: by how many of our addresses each source tried.
あるポートを誰がスキャンしたか。送信元ごとに、試されたこちらのアドレスの数を見る。

    ./scan_sources.py [23] [2026-11-27]
"""
from lab import chosen_day, chosen_port, show, table

day, port = chosen_day(), chosen_port(23)
# A scan knocks: SYN without ACK in TCP, anything in UDP. Answers to packets with a forged source
# (backscatter) have ACK or RST and are left out.
# スキャンは TCP なら ACK のない SYN、UDP なら何でも。送信元を偽ったパケットへの応答
# (バックスキャッタ) には ACK か RST があり、除かれる。
sources = table("""
    SELECT host(src) AS source, count(*) AS packets, count(DISTINCT dst) AS addresses,
           min(time) AS first, max(time) AS last
    FROM packets
    WHERE time BETWEEN :first AND :last AND dport = :port
      AND (protocol = 17 OR protocol = 6 AND tcp_flags & 18 = 2)
    GROUP BY src ORDER BY addresses DESC, packets DESC, source LIMIT 20""",
    first=day["first"], last=day["last"], port=port)
if sources.empty:
    raise SystemExit(f"nobody scanned port {port} on {day.day} / スキャンはありません")
for column in ("first", "last"):
    sources[column] = sources[column].dt.strftime("%H:%M:%S")
print(f"{day.day}, port / ポート {port}:")
show(sources)
