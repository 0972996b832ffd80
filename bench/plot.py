"""Curves as a picture, with nothing but Pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

__all__ = ["Curve", "draw_curves"]

_SIZE = (1200, 760)
_BOX = (90, 70, 1170, 680)
_COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7b4b94", "#b8860b", "#444444", "#008b8b", "#a0522d")


@dataclass(frozen=True, slots=True)
class Curve:
    """A line.

    Attributes:
        label: for the legend.
        points: (x > 0, y) in order.
        mark: one more point, drawn as a large dot.
    """

    label: str
    points: Sequence[tuple[float, float]]
    mark: tuple[float, float] | None = None


def draw_curves(
    curves: Sequence[Curve], path: Path, *, title: str, x_label: str, y_label: str, target: tuple[float, float]
) -> None:
    """Draw lines over a logarithmic x axis, and save them as a PNG.

    Args:
        curves: at least one, with at least one point.
        path: where to.
        title, x_label, y_label: written beside them.
        target: grey lines are drawn at this x and this y.
    """
    every = [point for curve in curves for point in (*curve.points, *([curve.mark] if curve.mark else []))]
    low, high = math.log10(min(x for x, _ in every) / 1.3), math.log10(max(x for x, _ in every) * 1.3)
    low, high = min(low, math.log10(target[0] / 1.5)), max(high, math.log10(target[0] * 1.5))
    bottom = min(0.9, *(math.floor(10 * y) / 10 for _, y in every))
    left, top, right, below = _BOX

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - low) / (high - low)
        return left + across * (right - left), below - (y - bottom) / (1.005 - bottom) * (below - top)

    image = Image.new("RGB", _SIZE, "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(18)
    for tick in range(math.floor(low) - 1, math.ceil(high) + 1):
        for digit in (1, 2, 5):
            value = digit * 10.0**tick
            if low <= math.log10(value) <= high:
                x, _ = at(value, 1)
                pen.line([x, top, x, below], fill="#e8e8e8")
                pen.text((x, below + 8), f"{value:g}", fill="black", font=font, anchor="ma")
    step = 0.02 if bottom >= 0.8 else 0.1
    for number in range(round((1 - bottom) / step) + 1):
        value = 1 - number * step
        _, y = at(10**low, value)
        pen.line([left, y, right, y], fill="#e8e8e8")
        pen.text((left - 10, y), f"{value:.2f}", fill="black", font=font, anchor="rm")
    x, y = at(*target)
    pen.line([x, top, x, below], fill="#888888", width=2)
    pen.line([left, y, right, y], fill="#888888", width=2)
    pen.rectangle(_BOX, outline="black")
    for number, curve in enumerate(curves):
        _draw(pen, [at(*point) for point in curve.points], None if curve.mark is None else at(*curve.mark), number)
        height = below - 30 - 26 * (len(curves) - number)
        pen.line([left + 20, height, left + 60, height], fill=_COLOURS[number % len(_COLOURS)], width=4)
        pen.text((left + 70, height), curve.label, fill="black", font=font, anchor="lm")
    pen.text((left + 20, below - 20), "large dot: the default", fill="black", font=font, anchor="lm")
    pen.text((left, 25), title, fill="black", font=ImageFont.load_default(24))
    pen.text(((left + right) / 2, below + 40), x_label, fill="black", font=font, anchor="ma")
    pen.text((left, top - 24), y_label, fill="black", font=font, anchor="ra")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _draw(
    pen: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], mark: tuple[float, float] | None, number: int
) -> None:
    colour = _COLOURS[number % len(_COLOURS)]
    pen.line(list(points), fill=colour, width=3)
    for x, y in points:
        pen.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colour)
    if mark is not None:
        x, y = mark
        pen.ellipse([x - 9, y - 9, x + 9, y + 9], fill=colour, outline="black", width=2)
