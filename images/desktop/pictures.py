"""Prints `wallpaper`, NONSTOP over a night sky that turns into dawn, as PNG (`wallpaper WIDTH HIGH`:
scaled to that, as PPM), or `logo`, as BMP."""
import math
import struct
import sys
import zlib

W, H = 1920, 1080
TOP, MIDDLE, BOTTOM = (9, 20, 44), (24, 74, 124), (226, 124, 84)


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


def coverage(text, unit, middle, y0):
    """Alpha of the text's pixels, by (x, y). A letter is two units high, centred on y0."""
    stroke, gap = 0.24 * unit, 0.87 * unit
    width = sum(letters()[c][0] * unit for c in text) + gap * (len(text) - 1)
    x0 = middle - width / 2
    shapes, alpha, x = letters(), {}, x0
    for letter in text:
        width, distance = shapes[letter]
        for py in range(int(y0 - unit - stroke - 2), int(y0 + unit + stroke + 3)):
            for px in range(int(x - stroke - 2), int(x + width * unit + stroke + 3)):
                d = distance((px + 0.5 - x) / unit, (py + 0.5 - y0) / unit) * unit
                a = max(0.0, min(1.0, stroke / 2 - d + 0.5))
                if a > 0:
                    alpha[px, py] = max(a, alpha.get((px, py), 0.0))
        x += width * unit + gap
    return alpha


def stars(count):
    """Places and brightness from a small generator of our own: the same everywhere."""
    state = 2014
    for _ in range(count):
        values = []
        for _ in range(3):
            state = (state * 1103515245 + 12345) % (1 << 31)
            values.append(state / (1 << 31))
        yield int(values[0] * W), int(values[1] ** 1.5 * H * 0.6), values[2]


def wallpaper():
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
            for y in range(max(0, int(top)), H):
                rows[y][x * 3:x * 3 + 3] = pixel
    write(rows, coverage("NONSTOP", 46.0, W / 2, 690.0), (245, 245, 245))
    return rows


def logo():
    """On the colour of the login window."""
    rows = [bytearray(bytes((0xe8, 0xee, 0xf5)) * 250) for _ in range(80)]
    write(rows, coverage("NONSTOP", 15.0, 125.0, 40.0), (0x1f, 0x4e, 0x79))
    return rows


def write(rows, alpha, colour):
    for (x, y), a in alpha.items():
        for c in range(3):
            i = x * 3 + c
            rows[y][i] = int(rows[y][i] + (colour[c] - rows[y][i]) * a + 0.5)


def png(rows):
    raw = b"".join(b"\0" + bytes(row) for row in rows)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", len(rows[0]) // 3, len(rows), 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size)
            + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))


def bmp(rows):
    """What xrdp reads: from the bottom up, blue first, rows filled up to four bytes."""
    width = len(rows[0]) // 3
    data = b"".join(
        b"".join(bytes(reversed(row[i:i + 3])) for i in range(0, len(row), 3)) + b"\0" * (-len(row) % 4)
        for row in reversed(rows))
    return (b"BM" + struct.pack("<IHHI", 54 + len(data), 0, 0, 54)
            + struct.pack("<IiiHHIIiiII", 40, width, len(rows), 1, 24, 0, len(data), 2835, 2835, 0, 0)
            + data)


def ppm(rows, width, high):
    """Scaled, each pixel weighed from the four nearest."""
    have, out = len(rows[0]) // 3, bytearray(b"P6\n%d %d\n255\n" % (width, high))
    columns = [divmod((x * (have - 1) * 256) // (width - 1), 256) for x in range(width)]
    for y in range(high):
        y0, fy = divmod((y * (len(rows) - 1) * 256) // (high - 1), 256)
        up, down = rows[y0], rows[min(y0 + 1, len(rows) - 1)]
        row = [u * (256 - fy) + d * fy for u, d in zip(up, down)]
        for x, fx in columns:
            i, j = x * 3, min(x + 1, have - 1) * 3
            out += bytes((row[i + c] * (256 - fx) + row[j + c] * fx + 32768) >> 16 for c in range(3))
    return bytes(out)


if sys.argv[1] == "logo":
    picture = bmp(logo())
elif len(sys.argv) == 4:
    picture = ppm(wallpaper(), int(sys.argv[2]), int(sys.argv[3]))
else:
    picture = png(wallpaper())
sys.stdout.buffer.write(picture)
