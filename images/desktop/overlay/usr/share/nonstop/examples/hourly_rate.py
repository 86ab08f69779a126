#!/usr/bin/python3
"""Packets of each hour, and from how many sources: a day's rhythm.
1 時間ごとのパケット数と送信元数。1 日のリズムが見える。

    ./hourly_rate.py [2026-11-27]
"""
from lab import bars, chosen_day, show, table

day = chosen_day()
hours = table("""
    SELECT date_trunc('hour', time) AS hour, count(*) AS packets, count(DISTINCT src) AS sources
    FROM packets WHERE time BETWEEN :first AND :last GROUP BY 1 ORDER BY 1""",
    first=day["first"], last=day["last"])
hours["hour"] = hours.hour.dt.strftime("%m-%d %H:%M %Z")
hours[""] = bars(hours.packets)
print(f"{day.day}: {day.rows} packets / パケット")
show(hours)
