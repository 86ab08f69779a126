#!/usr/bin/python3
"""The ports that a day's packets went to most.
その日のパケットの宛先ポートの上位。

    ./top_ports.py [2026-11-27]
"""
from lab import bars, chosen_day, show, table

day = chosen_day()
# The bounds of time let PostgreSQL read one partition alone.
# 時刻の範囲を書くと、PostgreSQL はその日のパーティションだけを読む。
ports = table("""
    SELECT CASE protocol WHEN 6 THEN 'tcp' WHEN 17 THEN 'udp' ELSE protocol::text END AS protocol,
           dport AS port, count(*) AS packets, count(DISTINCT src) AS sources
    FROM packets
    WHERE time BETWEEN :first AND :last AND dport IS NOT NULL
    GROUP BY protocol, dport ORDER BY packets DESC, port LIMIT 15""",
    first=day["first"], last=day["last"])
ports["share"] = (100 * ports.packets / day.rows).round(1).astype(str) + " %"
ports[""] = bars(ports.packets, 30)
print(f"{day.day}: {day.rows} packets / パケット")
show(ports)
