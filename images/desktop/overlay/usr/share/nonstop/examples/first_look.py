#!/usr/bin/python3
"""A first look at a sample, which is read and never run: fetched, its SHA-256 checked, then type,
size, entropy, headers, strings, and what reports say of it.
検体を実行せずに眺める。取得して SHA-256 を確かめ、種類・大きさ・エントロピー・ヘッダ・文字列、
そしてレポートの要約を表示する。

    ./first_look.py SHA256          from http://samples/ and http://reports/ / サーバーから
    ./first_look.py 1a2b3c4d        what its hash begins with is enough / 先頭だけでもよい
    ./first_look.py FILE            a file that is here already / 手元のファイル
"""
import hashlib
import json
import math
import os
import re
import struct
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

SAMPLES = os.environ.get("NONSTOP_SAMPLES", "http://samples")
REPORTS = os.environ.get("NONSTOP_REPORTS", "http://reports")
FOLDER = Path(os.environ.get("NONSTOP_DOWNLOADS", Path.home() / "samples"))


def plain(text):
    """`text` without what a terminal would obey: it was written by malware.
    端末を操作する文字を除く。マルウェアが書いた文字列なので。
    """
    return "".join(c if c.isprintable() else "." for c in str(text))[:160]


def get(url, json_wanted=True):
    """The answer to a request; None where the server has no such thing or cannot be reached.
    要求への応答。なければ、または届かなければ None。
    """
    headers = {"Accept": "application/json"} if json_wanted else {}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)
    except urllib.error.HTTPError as error:
        if error.code != 404:
            print(f"{url}: {error}", file=sys.stderr)
    except (urllib.error.URLError, OSError) as error:
        print(f"{url}: {error}", file=sys.stderr)
    return None


def fetch(digest):
    """The sample in a file that cannot be run, if it is what its name says; else None.
    検体を実行権のないファイルに保存する。名前のハッシュと違えば None。
    """
    answer = get(f"{SAMPLES}/samples/{digest}/plain", json_wanted=False)
    if answer is None:
        return None
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = FOLDER / f"{digest}.bin"
    part = path.with_suffix(".part")
    seen = hashlib.sha256()
    with answer, open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        while block := answer.read(1 << 20):
            seen.update(block)
            file.write(block)
    if seen.hexdigest() != digest:
        part.unlink()
        raise SystemExit(f"what came is not what was asked for / ハッシュが違います: {seen.hexdigest()}")
    part.rename(path)
    return path


def entropy(data):
    """Bits a byte: near 8 is packed or encrypted. 1 バイトあたりのビット。8 に近いと圧縮か暗号化。"""
    total = len(data) or 1
    return -sum(n / total * math.log2(n / total) for n in Counter(data).values()) + 0.0


def kind(data):
    """What the content says that it is. 内容から見た種類。"""
    if data[:2] == b"MZ" and pe_at(data) is not None:
        return "PE (Windows)"
    for start, name in [(b"\x7fELF", "ELF (Linux)"), (b"MZ", "MS-DOS"), (b"%PDF-", "PDF"),
                        (b"PK\x03\x04", "zip (Office, JAR, APK …)"), (b"\xd0\xcf\x11\xe0", "OLE (Office)"),
                        (b"{\\rtf", "RTF"), (b"#!", "script / スクリプト"), (b"\x1f\x8b", "gzip")]:
        if data.startswith(start):
            return name
    try:
        data[:65536].decode("utf-8")
        return "text / テキスト"
    except UnicodeDecodeError:
        return "data / データ"


def pe_at(data):
    """Where the PE header begins; None if there is none. PE ヘッダの位置。"""
    if len(data) < 64:
        return None
    at = struct.unpack_from("<I", data, 60)[0]
    return at if data[at:at + 4] == b"PE\0\0" and len(data) >= at + 96 else None


PE_MACHINES = {0x14c: "x86", 0x8664: "x86-64", 0x1c4: "ARM", 0xaa64: "ARM64"}
PE_SUBSYSTEMS = {1: "driver", 2: "GUI", 3: "console", 10: "EFI application"}


def pe(data):
    """The header and the sections. ヘッダとセクション。"""
    at = pe_at(data)
    machine, sections, stamp, _, _, optional, flags = struct.unpack_from("<HHIIIHH", data, at + 4)
    entry = struct.unpack_from("<I", data, at + 40)[0]
    subsystem = struct.unpack_from("<H", data, at + 92)[0]
    print("  machine / 機種    ", PE_MACHINES.get(machine, hex(machine)), "DLL" if flags & 0x2000 else "EXE")
    print("  linked / 作成時刻 ", time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(stamp)), "(claimed / 自称)")
    print("  subsystem         ", PE_SUBSYSTEMS.get(subsystem, subsystem))
    print("  entry / 開始位置  ", hex(entry))
    for n in range(min(sections, 96)):
        row = at + 24 + optional + 40 * n
        if row + 40 > len(data):
            print("  (the table of sections is cut off / セクション表が途中で切れている)")
            break
        name, virtual, address, size, offset = struct.unpack_from("<8sIIII", data, row)
        body = data[offset:offset + size]
        where = "  <- entry / 開始" if address <= entry < address + max(virtual, size) else ""
        print(f"  section {plain(name.rstrip(bytes(1)).decode('latin-1')):9}"
              f" {size:9} bytes  entropy {entropy(body):.2f}{where}")


ELF_MACHINES = {2: "SPARC", 3: "x86", 8: "MIPS", 20: "PowerPC", 40: "ARM", 62: "x86-64", 183: "ARM64", 243: "RISC-V"}
ELF_TYPES = {1: "object", 2: "program", 3: "shared or PIE", 4: "core"}


def elf(data):
    """The header and the sections. ヘッダとセクション。"""
    if len(data) < 52:
        return
    wide, order = data[4] == 2, ">" if data[5] == 2 else "<"
    of, machine = struct.unpack_from(order + "HH", data, 16)
    layout = order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH")
    if len(data) < 16 + struct.calcsize(layout):
        return
    head = struct.unpack_from(layout, data, 16)
    entry, sections_at, size, count, names = head[3], head[5], head[10], head[11], head[12]
    print("  machine / 機種    ", ELF_MACHINES.get(machine, machine), "64" if wide else "32", "bit",
          "little-endian" if order == "<" else "big-endian")
    print("  type / 形         ", ELF_TYPES.get(of, of))
    print("  entry / 開始位置  ", hex(entry))
    row = struct.Struct(order + ("IIQQQQ" if wide else "IIIIII"))

    def section(n):
        at = sections_at + size * n
        return row.unpack_from(data, at) if at + row.size <= len(data) else None

    table = section(names)
    for n in range(1, min(count, 96)):
        found = section(n)
        if found is None or table is None:
            print("  (the table of sections is cut off / セクション表が途中で切れている)")
            break
        start = table[4] + found[0]
        name = data[start:start + 64].split(b"\0")[0].decode("latin-1")
        # 8: takes no room in the file. ファイルに中身がない。
        body = b"" if found[1] == 8 else data[found[4]:found[4] + found[5]]
        print(f"  section {plain(name):20} {found[5]:9} bytes  entropy {entropy(body):.2f}")
    if count == 0:
        print("  no sections: stripped of them / セクションがない")


def pdf(data):
    """The words that make a reader act. 閲覧ソフトを動かす語。"""
    print("  version           ", plain(data[5:8].decode("latin-1")))
    for word in ("/JavaScript", "/JS", "/OpenAction", "/AA", "/Launch", "/EmbeddedFile", "/URI", "/ObjStm"):
        count = len(re.findall(re.escape(word.encode()) + rb"(?![A-Za-z])", data))
        if count:
            print(f"  {word:18} {count}")


def strings(data):
    """Runs of 6 or more printable letters, in ASCII and UTF-16. 6 文字以上の文字列。"""
    found = [m.group().decode() for m in re.finditer(rb"[\x20-\x7e]{6,}", data)]
    found += [m.group().decode("utf-16-le") for m in re.finditer(rb"(?:[\x20-\x7e]\0){6,}", data)]
    return list(dict.fromkeys(found))


TELLING = re.compile(r"https?://|\b\d{1,3}(?:\.\d{1,3}){3}\b|\\\\|HKEY|\\Software|/bin/|/etc/|powershell|cmd\.exe",
                     re.I)


def local(path):
    """What the file itself tells. ファイル自身から分かること。"""
    data = path.read_bytes()
    found = kind(data)
    print(f"type / 種類        {found}")
    print(f"size / 大きさ      {len(data)} bytes")
    print(f"entropy            {entropy(data):.2f} of 8")
    for name, look in [("PE", pe), ("ELF", elf), ("PDF", pdf)]:
        if found.startswith(name):
            try:
                look(data)
            except (struct.error, IndexError, ValueError, OverflowError, OSError) as error:
                print("  broken header / ヘッダが壊れている:", plain(error))
    texts = strings(data)
    telling = [text for text in texts if TELLING.search(text)]
    print(f"strings / 文字列   {len(texts)}, {len(telling)} of them telling / そのうち注目 {len(telling)}")
    for text in (telling + [text for text in texts if text not in telling])[:20]:
        print("   ", plain(text))


def metadata(digest):
    """What the lab says of the sample. ラボの記録。"""
    answer = get(f"{SAMPLES}/samples/{digest}.json")
    if answer is None:
        return
    with answer:
        of = json.load(answer)
    for name, key in [("family / 種別", "family"), ("tags / タグ", "tags"), ("first / 初出", "first_seen"),
                      ("last / 最終", "last_seen"), ("source / 出所", "source")]:
        value = of.get(key)
        if value:
            print(f"{name:14}", plain(", ".join(value) if isinstance(value, list) else value))


def several(name, values):
    """One line of a report: how many, and the first of them. 数と、はじめのいくつか。"""
    values = [plain(value) for value in dict.fromkeys(map(str, values))]
    if values:
        more = f" … (+{len(values) - 5})" if len(values) > 5 else ""
        print(f"  {name:18} {len(values)}: {', '.join(values[:5])}{more}")


def texts(of, *keys):
    """The texts of the list under `keys` of a report; of entries that are objects, what names them.
    レポートの一覧を文字列で。
    """
    for key in keys:
        of = of.get(key) if isinstance(of, dict) else None
    names = ("name", "request", "domain", "ip", "process_name", "description")
    for entry in of if isinstance(of, list) else []:
        if isinstance(entry, dict):
            entry = next((entry[name] for name in names if entry.get(name)), None)
        if entry is not None:
            yield entry


def report(url, day):
    """A summary of one report of CAPE or Cuckoo. レポート 1 つの要約。"""
    answer = get(url)
    if answer is None:
        return
    with answer:
        of = json.load(answer)
    info = of.get("info") or {}
    print(f"report / レポート  {day}  score {plain(info.get('score', of.get('malscore', '-')))}"
          f"  {plain(info.get('started', ''))}")
    several("processes", texts(of, "behavior", "processes"))
    several("files", texts(of, "behavior", "summary", "files"))
    several("registry", [*texts(of, "behavior", "summary", "keys"), *texts(of, "behavior", "summary", "regkey_written")])
    several("mutexes", [*texts(of, "behavior", "summary", "mutexes"), *texts(of, "behavior", "summary", "mutex")])
    several("names / 名前", [*texts(of, "network", "dns"), *texts(of, "network", "domains")])
    several("addresses / 宛先", texts(of, "network", "hosts"))
    several("signatures", texts(of, "signatures"))


def reports(digest):
    """Summaries of all reports of the sample. すべてのレポートの要約。"""
    answer = get(f"{REPORTS}/reports/{digest}.json")
    if answer is None:
        print("reports / レポート none or not reached / なし、または届かない")
        return
    with answer:
        listed = json.load(answer)
    for entry in listed if isinstance(listed, list) else listed.get("reports", []):
        day = plain(entry.get("day", ""))
        report(REPORTS + (entry.get("path") or f"/reports/{digest}/{day}"), day)


def whole(prefix):
    """The SHA-256 that begins so. 先頭から SHA-256 全体を求める。"""
    if len(prefix) == 64:
        return prefix
    for server, words in [(SAMPLES, "samples"), (REPORTS, "reports")]:
        answer = get(f"{server}/{words}/{prefix}.json")
        if answer is not None:
            with answer:
                found = re.search("[0-9a-f]{64}", answer.geturl() + answer.read(4096).decode("latin-1"))
            if found and found.group().startswith(prefix):
                return found.group()
    raise SystemExit(f"no sample, or several, begin so / 見つからないか、複数あります: {prefix}")


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    wanted = sys.argv[1]
    if re.fullmatch("[0-9A-Fa-f]{8,64}", wanted) and not os.path.exists(wanted):
        digest = whole(wanted.lower())
        path = fetch(digest)
        checked = "checked / 確認済み"
    else:
        path = Path(wanted)
        if not path.is_file():
            raise SystemExit(f"no such file / ファイルがありません: {plain(wanted)}")
        digest, checked = hashlib.sha256(path.read_bytes()).hexdigest(), "of this file / このファイル"
    print(f"SHA-256            {digest}" + (f"  {checked}" if path else ""))
    if path:
        print(f"file / ファイル    {plain(path)}")
        local(path)
        metadata(digest)
    reports(digest)


if __name__ == "__main__":
    main()
