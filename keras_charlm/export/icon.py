"""The page's icon, as SVG and PNG from one drawing: three characters, and the cursor after them."""

from __future__ import annotations

import struct
import zlib

import numpy as np

SIZES = (180, 192, 512)


PAPER, INK, ACCENT = (0x23, 0x2B, 0x3A), (0xFA, 0xF8, 0xF4), (0xE8, 0x9B, 0x5C)


# Within the middle four fifths, which every mask leaves: circles (x, y, r) and a bar (x, y, w, h)
# with round ends, in units of the icon's width.
CIRCLES = ((0.25, 0.58, 0.065), (0.43, 0.58, 0.065), (0.61, 0.58, 0.065))


BAR = (0.735, 0.30, 0.05, 0.40)


def svg() -> str:
    """The icon as SVG text."""
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="{r}" fill="{_hex(INK)}"/>' for x, y, r in CIRCLES)
    x, y, w, h = BAR
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><rect width="1" height="1" '
        f'rx=".22" fill="{_hex(PAPER)}"/>{dots}<rect x="{x}" y="{y}" width="{w}" height="{h}" '
        f'rx="{w / 2}" fill="{_hex(ACCENT)}"/></svg>\n'
    )


def png(size: int) -> bytes:
    """The icon as a PNG file of `size` by `size` pixels, to the corners: devices cut their own."""
    at = (np.arange(size) + 0.5) / size
    x, y = at[None, :], at[:, None]
    image = np.empty((size, size, 3))
    image[:] = PAPER

    def paint(distance, color):
        # Distance outside the shape, in pixels: half a pixel each way smooths the edge.
        cover = np.clip(0.5 - distance * size, 0, 1)[..., None]
        image[:] = image * (1 - cover) + np.array(color) * cover

    for cx, cy, r in CIRCLES:
        paint(np.hypot(x - cx, y - cy) - r, INK)
    left, top, w, h = BAR
    nearest = np.clip(y, top + w / 2, top + h - w / 2)
    paint(np.hypot(x - left - w / 2, y - nearest) - w / 2, ACCENT)
    rows = np.zeros((size, 1 + 3 * size), np.uint8)  # each begins with its filter: none
    rows[:, 1:] = image.round().reshape(size, -1)
    header = struct.pack(">2I5B", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)),
                           (b"IEND", b"")))  # fmt: skip


def _hex(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
