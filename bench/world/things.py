"""What exists in the world: things of eight colours and six shapes.

Some pairs of colour and shape are held out: they never occur in training, so that a model that
finds them has understood the pair and not learned it by heart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["ALL_THINGS", "COLOURS", "HELD_OUT", "NAMELESS_SHAPES", "SEEN_THINGS", "SHAPES", "Thing"]

COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (215, 38, 38),
    "orange": (242, 138, 28),
    "yellow": (240, 226, 48),
    "green": (42, 168, 66),
    "cyan": (64, 208, 216),
    "blue": (42, 74, 216),
    "purple": (146, 58, 184),
    "white": (246, 246, 246),
}
"""RGB of each colour at full brightness."""

SHAPES: Final = ("circle", "square", "triangle", "star", "cross", "ring")

NAMELESS_SHAPES: Final = ("diamond", "hexagon", "bar")
"""Only in training pictures, where no question names them: they show that a colour is not bound to the known shapes."""


@dataclass(frozen=True, slots=True, order=True)
class Thing:
    """A kind of object: one colour and one shape."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"


ALL_THINGS: Final = tuple(Thing(colour, shape) for colour in COLOURS for shape in SHAPES)

HELD_OUT: Final = frozenset(
    {
        Thing("orange", "circle"),
        Thing("cyan", "square"),
        Thing("purple", "triangle"),
        Thing("green", "star"),
        Thing("white", "cross"),
        Thing("yellow", "ring"),
    }
)
"""Never shown and never asked about in training; every colour but red and blue, and every shape, once."""

SEEN_THINGS: Final = tuple(thing for thing in ALL_THINGS if thing not in HELD_OUT)
