"""Reads and draws the bar code of the made clips: the frame's number in 12 cells of 16 px.

Lowest bit first, rows 0 to 31 of 192x108.
"""

import numpy as np

WIDTH, HEIGHT, CELL, BITS = 192, 108, 16, 12


def draw(number, width=WIDTH, height=HEIGHT):
    """uint8 [height, width, 3]: a moving picture with the number on top."""
    x, y = np.arange(width), np.arange(height)[:, None]
    wave = 110 + 30 * np.sin((x + 2 * number) / 9.0) + 30 * np.sin((y - number) / 7.0)
    image = np.stack([wave, np.full((height, width), 128.0), 255 - wave], 2).clip(0, 255).astype(np.uint8)
    image[:32] = 128
    for bit in range(BITS):
        image[:32, bit * CELL : (bit + 1) * CELL] = 255 * (number >> bit & 1)
    return image


def read(rgb):
    """The number in a picture (of any scale), or None where it is not legible."""
    height, width = rgb.shape[:2]
    sx, sy = width / WIDTH, height / HEIGHT
    row = rgb[int(6 * sy) : max(int(6 * sy) + 1, int(26 * sy))].astype(float).mean(axis=(0, 2))
    number = 0
    for bit in range(BITS):
        left = int((bit * CELL + 4) * sx)
        value = row[left : max(left + 1, int(((bit + 1) * CELL - 4) * sx))].mean()
        if 90 < value < 165:
            return None
        number |= int(value > 128) << bit
    return number
