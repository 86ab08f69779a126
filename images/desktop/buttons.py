"""Draws the window manager's few pictures, as XPM, into the folder given."""
import math
import os
import sys

WIDE, HIGH = 26, 26
out = sys.argv[1]
LIGHT, HOT = "#e6ecf3", "#6fb3ff"


def xpm(name, width, rows, colours):
    lines = ['"%d %d %d 1"' % (width, len(rows), len(colours))]
    lines += ['"%s c %s"' % c for c in colours.items()]
    lines += ['"%s"' % r for r in rows]
    path = os.path.join(out, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write("/* XPM */\nstatic char *p[] = {\n" + ",\n".join(lines) + "};\n")


def shade(alpha, fore, back):
    f, b = ([int(c[i:i + 2], 16) for i in (1, 3, 5)] for c in (fore, back))
    return "#%02x%02x%02x" % tuple(round(x * alpha + y * (1 - alpha)) for x, y in zip(f, b))


def button(name, strokes):
    """Two states, one above the other: as it is, and pressed."""
    for suffix, back in (("A", "#1f4e79"), ("I", "#2a3340")):
        colours, rows = {}, []
        for state, fore in enumerate((LIGHT if suffix == "A" else "#9aa6b5", HOT)):
            for i, letter in enumerate("abcdefghij" if state == 0 else "klmnopqrst"):
                colours[letter] = shade(i / 9, fore, back)
            for y in range(HIGH):
                row = ""
                for x in range(WIDE):
                    d = min(distance(x - 2.5, y - 2.5, *s) for s in strokes)
                    level = max(0.0, min(1.0, 1.3 - d))
                    row += ("abcdefghij" if state == 0 else "klmnopqrst")[round(level * 9)]
                rows.append(row)
        xpm("%s%s.xpm" % (name, suffix), WIDE, rows, colours)
        if suffix == "A":
            xpm("%s.xpm" % name, WIDE, rows, colours)


def distance(px, py, ax, ay, bx, by):
    dx, dy = bx - ax, by - ay
    t = max(0.0, min(1.0, ((px - ax) * dx + (py - ay) * dy) / ((dx * dx + dy * dy) or 1.0)))
    return math.hypot(px - ax - t * dx, py - ay - t * dy)


def box(l, t, r, b):
    return [(l, t, r, t), (r, t, r, b), (r, b, l, b), (l, b, l, t)]


button("close", [(6, 6, 14, 14), (14, 6, 6, 14)])
button("maximize", box(6, 6, 14, 14))
button("restore", box(5, 8, 12, 15) + [(8, 5, 15, 5), (15, 5, 15, 12)])
button("minimize", [(6, 13.5, 14, 13.5)])
button("rollup", [(6, 12, 10, 8), (10, 8, 14, 12)])
button("rolldown", [(6, 8, 10, 12), (10, 12, 14, 8)])
button("hide", [(6, 10, 14, 10)])
button("depth", box(7, 7, 13, 13))

# The menu's button: the letter N in a ring.
W, H = 36, 24
letters = "abcdefghij"
strokes = [(13, 17, 13, 7), (13, 7, 22, 17), (22, 17, 22, 7)]
rows = ["".join(letters[round(9 * max(0.0, min(1.0, 1.5 - min(
    distance(x + 0.5, y + 0.5, *s) for s in strokes))))] for x in range(W)) for y in range(H)]
colours = {l: shade(i / 9, "#ffffff", "#1f4e79") for i, l in enumerate(letters)}
xpm("taskbar/start.xpm", W, rows, colours)
xpm("taskbar/icewm.xpm", W, rows, colours)
