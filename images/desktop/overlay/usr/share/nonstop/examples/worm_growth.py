#!/usr/bin/python3
"""How a worm spreads: sources seen on its port for the first time, by hour, over all days.
ワームの広がり。そのポートで初めて見た送信元の数を、全部の日にわたって 1 時間ごとに数える。

    ./worm_growth.py [445]
"""
from lab import bars, chosen_port, show, table

port = chosen_port(445)
# Each source counts once, in the hour of its first packet. A machine that is ill scans until it is
# healed, so the sum of first sights is how many have been ill so far.
# 送信元は最初のパケットの時刻に 1 回だけ数える。その累計が、これまでに感染していた台数。
growth = table("""
    SELECT date_trunc('hour', first) AS hour, count(*) AS new
    FROM (SELECT src, min(time) AS first FROM packets
          WHERE dport = :port AND protocol = 6 AND tcp_flags & 18 = 2 GROUP BY src) AS seen
    GROUP BY 1 ORDER BY 1""", port=port)
if growth.empty:
    raise SystemExit(f"nobody knocked at port {port} / 該当する送信元はありません")
# Hours without a new source are rows too. 新しい送信元のない時間も行にする。
growth = growth.set_index("hour").resample("h").sum().reset_index()
growth["all"] = growth.new.cumsum()
growth[""] = bars(growth["all"])
growth["hour"] = growth.hour.dt.strftime("%Y-%m-%d %H:%M %Z")
print(f"port / ポート {port}:")
show(growth)
