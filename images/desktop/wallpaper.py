"""Draws the wallpaper: NONSTOP over a night sky that turns into dawn. Prints a PNG."""
import math
import struct
import sys
import zlib

W, H = 1920, 1080
TOP, MIDDLE, BOTTOM = (9, 20, 44), (24, 74, 124), (226, 124, 84)
UNIT = 46.0  # half the height of a letter
STROKE = 11.0
GAP = 40.0


def mix(a, b, t):
    return tuple(x + (y - x) * t for x, y in zip(a, b))


def sky(y):
    t = y / (H - 1)
    return mix(TOP, MIDDLE, t / 0.62) if t < 0.62 else mix(MIDDLE, BOTTOM, ((t - 0.62) / 0.38) ** 1.6)


def segment(px, py, ax, ay, bx, by):
    dx, dy = bx - ax, by - ay
    t = max(0.0, min(1.0, ((px - ax) * dx + (py - ay) * dy) / ((dx * dx + dy * dy) or 1.0)))
    return math.hypot(px - ax - t * dx, py - ay - t * dy)


def path(points):
    lines = list(zip(points, points[1:]))
    return lambda x, y: min(segment(x, y, *a, *b) for a, b in lines)


def arc(cx, cy, r, start, end, steps=24):
    return [(cx + r * math.cos(start + (end - start) * i / steps),
             cy + r * math.sin(start + (end - start) * i / steps)) for i in range(steps + 1)]


# Each letter: width and the distance to its strokes; y runs from -1 (top) to 1.
def letters():
    pi = math.pi
    n = path([(0, 1), (0, -1), (1.3, 1), (1.3, -1)])
    o = path(arc(0.85, 0, 0.92, 0, 2 * pi, 48))
    s = path(arc(0.62, -0.5, 0.5, -0.35, -pi, 16) + arc(0.62, -0.5, 0.5, pi, pi / 2, 10)
             + arc(0.62, 0.5, 0.5, -pi / 2, pi / 2, 16) + arc(0.62, 0.5, 0.5, pi / 2, pi - 0.35, 12))
    t = path([(0, -1), (1.3, -1), (0.65, -1), (0.65, 1)])
    p = path([(0, 1), (0, -1), (0.6, -1)] + arc(0.6, -0.45, 0.55, -pi / 2, pi / 2, 20) + [(0, 0.1)])
    return {"N": (1.3, n), "O": (1.7, o), "S": (1.2, s), "T": (1.3, t), "P": (1.15, p)}


def coverage(text, x0, y0):
    """Alpha of the text's pixels, by (x, y)."""
    shapes, alpha, x = letters(), {}, x0
    for letter in text:
        width, distance = shapes[letter]
        for py in range(int(y0 - UNIT - STROKE - 2), int(y0 + UNIT + STROKE + 3)):
            for px in range(int(x - STROKE - 2), int(x + width * UNIT + STROKE + 3)):
                d = distance((px + 0.5 - x) / UNIT, (py + 0.5 - y0) / UNIT) * UNIT
                a = max(0.0, min(1.0, STROKE / 2 - d + 0.5))
                if a > 0:
                    alpha[px, py] = max(a, alpha.get((px, py), 0.0))
        x += width * UNIT + GAP
    return alpha


def text_width(text):
    return sum(letters()[c][0] * UNIT for c in text) + GAP * (len(text) - 1)


def stars(count):
    """Places and brightness from a small generator of our own: the same everywhere."""
    state = 2014
    for _ in range(count):
        values = []
        for _ in range(3):
            state = (state * 1103515245 + 12345) % (1 << 31)
            values.append(state / (1 << 31))
        yield int(values[0] * W), int(values[1] ** 1.5 * H * 0.6), values[2]


def main():
    rows = []
    for y in range(H):
        r, g, b = (int(v + 0.5) for v in sky(y))
        rows.append(bytearray(bytes((r, g, b)) * W))
    for x, y, bright in stars(420):
        for c in range(3):
            i = x * 3 + c
            rows[y][i] = min(255, int(rows[y][i] + 40 + 150 * bright ** 3))
    # Two ridges stand before the dawn.
    for base, height, colour, waves in (
        (850, 60, (20, 46, 82), ((0.0041, 0.3, 1.0), (0.011, 1.9, 0.4), (0.029, 0.7, 0.12))),
        (930, 70, (11, 25, 48), ((0.0033, 2.2, 1.0), (0.0093, 0.4, 0.45), (0.034, 2.9, 0.1))),
    ):
        pixel = bytes(colour)
        for x in range(W):
            top = base - height * sum(a * math.sin(x * f + p) for f, p, a in waves)
            first = int(top)
            for y in range(max(0, first), H):
                rows[y][x * 3:x * 3 + 3] = pixel
    text = "NONSTOP"
    x0, y0 = (W - text_width(text)) / 2, 690.0
    for (x, y), a in coverage(text, x0, y0).items():
        for c in range(3):
            i = x * 3 + c
            rows[y][i] = int(rows[y][i] + (245 - rows[y][i]) * a * 0.96 + 0.5)
    raw = b"".join(b"\0" + bytes(row) for row in rows)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    sys.stdout.buffer.write(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(raw, 9))
        + chunk(b"IEND", b"")
    )


main()
