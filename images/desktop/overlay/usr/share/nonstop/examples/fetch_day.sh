#!/bin/sh
# A day as a file: fetches it, checks it, counts its packets, and compares with the rdb.
# 1 日分をファイルで取得し、検査し、パケットを数え、rdb と比べる。
#
#     ./fetch_day.sh [2026-11-27]
set -eu
cd "${NONSTOP_DOWNLOADS:-$HOME}"

# Days and their files: the newest unless one is named.
# 日とファイルの一覧。指定がなければ最新の日。
list=$(curl -fsS http://pcap/SHA256SUMS)
file=$(echo "$list" | awk '{print $2}' | sort | grep -F "${1:-}" | tail -n 1)
[ "$file" ] || { echo "no such day / その日はありません: ${1:-}" >&2; exit 1; }

# -C - goes on where an earlier try ended. 途中で切れても続きから取得する。
curl -f -C - -o "$file" "http://pcap/$file"

# What was published is what was received. 公開されたものと同じかを確かめる。
echo "$list" | grep -F " $file" | sha256sum -c -

# One line a packet. パケットごとに 1 行。
in_file=$(tshark -r "$file" -T fields -e frame.number 2>/dev/null | wc -l)
in_rdb=$(psql -AtXc "SELECT rows FROM days WHERE day = '${file%%.*}'")
echo "$file: $in_file packets in the file, $in_rdb in the rdb / ファイルに $in_file、rdb に $in_rdb"
[ "$in_file" = "$in_rdb" ]
