"""What the examples share: the newest day, a table from the rdb, bars of text.
例題が共有するもの: 最新の日、rdb からの表、文字の棒グラフ。
"""
import sys
import warnings

# pandas 2.2 tells of a change in pandas 3 with each import.
warnings.filterwarnings("ignore", category=DeprecationWarning)

import pandas as pd
import sqlalchemy

# Says neither host nor database nor user: libpq reads PGHOST and PGDATABASE (/etc/environment), and
# who asks is known by this machine's address.
# ホスト・データベース・ユーザーは書かない。libpq が PGHOST と PGDATABASE を読み、
# 誰が尋ねているかはこのマシンのアドレスで分かる。
RDB = sqlalchemy.create_engine("postgresql+psycopg://")


def table(query, **values):
    """The answer to `query`, in which `:name` stands for a value, as a DataFrame.
    `query` の答えを DataFrame で返す。`:name` には値が入る。
    """
    return pd.read_sql(sqlalchemy.text(query), RDB, params=values)


def chosen_day():
    """The row of `days` for the day named on the command line (2026-11-27), or the newest.
    コマンドラインで指定した日 (2026-11-27)、なければ最新の日の `days` の行。
    """
    days = table("SELECT * FROM days ORDER BY day")
    if days.empty:
        sys.exit("no day is published yet / 公開された日がまだありません")
    wanted = next((word for word in sys.argv[1:] if "-" in word), str(days.day.iloc[-1]))
    found = days[days.day.astype(str) == wanted]
    if found.empty:
        sys.exit(f"{wanted} is not here; there are / ありません。あるのは: "
                 + ", ".join(days.day.astype(str)))
    return found.iloc[0]


def chosen_port(usual):
    """The port named on the command line, or the usual one.
    コマンドラインで指定したポート、なければ `usual`。
    """
    return next((int(word) for word in sys.argv[1:] if word.isdigit()), usual)


def bars(values, width=40):
    """One bar of text for each value. 値ごとの文字の棒。"""
    most = max(values, default=0) or 1
    return ["█" * round(width * value / most) for value in values]


def show(frame):
    """The whole frame, however long. 表を省略せずに出す。"""
    print(frame.to_string(index=False))
