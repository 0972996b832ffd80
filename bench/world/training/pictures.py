"""An endless, seeded stream of labelled pictures, drawn in the background while a model learns.

On a fixed set of pictures the towers learn that set by heart; here no picture comes twice. Some
things have a colour or a shape without a name: without them the towers learn which colours and
shapes go together, and cannot see the pairs that were held out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from bench.world.draw import draw_scene
from bench.world.scenes import LONGEST_SECONDS, VISIBLE_LEVEL, Placement, Scene, make_scene
from bench.world.things import ALL_THINGS, COLOURS, HELD_OUT, NAMELESS_SHAPES, SEEN_THINGS, SHAPES, Thing
from hybrid.values import ByteArray, IntArray

__all__ = [
    "NAMELESS",
    "NOT_LABELLED",
    "NO_COLOUR",
    "NO_SHAPE",
    "PICTURE_SIDE",
    "Pictures",
    "check_pictures",
    "label_of",
    "model_picture",
    "stream_pictures",
]

PICTURE_SIDE: Final = 64
"""Pixels per side of what both tiny models look at."""

NAMELESS: Final = ""
"""Stands for a colour or a shape that has no name."""
NOT_LABELLED: Final = -100

NO_COLOUR: Final = len(COLOURS)
NO_SHAPE: Final = len(SHAPES)
_COLOUR_NUMBER: Final = {colour: number for number, colour in enumerate(COLOURS)} | {NAMELESS: NOT_LABELLED}
_SHAPE_NUMBER: Final = {shape: number for number, shape in enumerate(SHAPES)} | {NAMELESS: NOT_LABELLED}
_NAMELESS_SHARE: Final = 0.3
# In RGB; how far a nameless colour stays from the colours that its shape must not have.
_KEEP_AWAY: Final = 130
_DRAWN = (128, 96)
_PICTURES_PER_SCENE = 2


@dataclass(frozen=True, slots=True)
class Pictures:
    """A batch.

    Attributes:
        pixels: uint8 [N, 64, 64, 3] RGB.
        labels: int64 [N, 4]: colour and shape of the left thing, then of the right one; numbers in
            the order of :mod:`bench.world.things`, one past the end for nothing, -100 for what has no name.
        things: per picture, what can be seen, from left to right; a colour or shape without a name is "".
    """

    pixels: ByteArray
    labels: IntArray
    things: tuple[tuple[Thing, ...], ...]


def label_of(things: tuple[Thing, ...]) -> list[int]:
    """The four numbers of a picture that shows these things."""
    numbers: list[int] = []
    for thing in things:
        numbers += [_COLOUR_NUMBER[thing.colour], _SHAPE_NUMBER[thing.shape]]
    return numbers + [NO_COLOUR, NO_SHAPE] * (2 - len(things))


def model_picture(scene: Scene, seconds: float, rng: np.random.Generator) -> ByteArray:
    """A moment of a scene as the models see it: drawn smaller than in a video, then resized as they do it.

    Returns:
        uint8 [64, 64, 3] RGB.
    """
    drawn = draw_scene(replace(scene, noise=0.0), seconds, width=_DRAWN[0], height=_DRAWN[1])
    small = Image.fromarray(drawn).resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BICUBIC)
    # What is left of the camera's noise when 320x240 pixels become 64x64.
    left = scene.noise * 0.3
    pixels = np.asarray(small, np.float32) + rng.standard_normal((PICTURE_SIDE, PICTURE_SIDE, 1), np.float32) * left
    return np.clip(pixels, 0, 255).astype(np.uint8)


class _DrawnBatches(Dataset[Pictures]):
    """Batch number ``n`` is always the same, whoever asks and in whatever order."""

    def __init__(self, *, seed: int, size: int, things: tuple[Thing, ...], nameless: float) -> None:
        self._seed, self._size, self._things, self._nameless = seed, size, things, nameless

    def __getitem__(self, number: int) -> Pictures:
        rng = np.random.default_rng([self._seed, number])
        pixels: list[ByteArray] = []
        shown: list[tuple[Thing, ...]] = []
        while len(pixels) < self._size:
            count = 2 if rng.random() < 0.6 else 1
            things = tuple(self._things[i] for i in rng.permutation(len(self._things))[:count])
            scene = make_scene(rng, things, noise=10.0, fade_in=0.3, fade_out=0.3)
            placed = [_unname(rng, p) if rng.random() < self._nameless else (p, p.thing) for p in scene.placements]
            scene = replace(scene, placements=tuple(placement for placement, _ in placed))
            things = tuple(thing for _, thing in placed)
            for _ in range(_PICTURES_PER_SCENE):
                seconds = rng.uniform(0, 0.3) if rng.random() < 0.06 else rng.uniform(0.3, LONGEST_SECONDS - 0.3)
                visible = scene.level(seconds) >= VISIBLE_LEVEL
                pixels.append(model_picture(scene, seconds, rng))
                shown.append(things if visible else ())
        labels = np.array([label_of(things) for things in shown], dtype=np.int64)
        return Pictures(np.stack(pixels), labels, tuple(shown))


def _unname(rng: np.random.Generator, placement: Placement) -> tuple[Placement, Thing]:
    """The thing with another colour or shape, one that has no name, and what it is called then."""
    thing = placement.thing
    if rng.random() < 0.4:
        shape = NAMELESS_SHAPES[int(rng.integers(len(NAMELESS_SHAPES)))]
        return replace(placement, thing=Thing(thing.colour, shape)), Thing(thing.colour, NAMELESS)
    forbidden = [COLOURS[pair.colour] for pair in HELD_OUT if pair.shape == thing.shape]
    while True:
        rgb = rng.uniform(0, 255, 3)
        # Dull colours are those of the backdrop.
        if np.ptp(rgb) > 90 and all(np.abs(rgb - other).sum() > _KEEP_AWAY for other in forbidden):
            red, green, blue = rgb.tolist()
            return replace(placement, rgb=(red, green, blue)), Thing(NAMELESS, thing.shape)


def stream_pictures(
    *,
    seed: int,
    size: int,
    first: int,
    last: int,
    things: tuple[Thing, ...] = SEEN_THINGS,
    nameless: float = _NAMELESS_SHARE,
    workers: int = 1,
) -> Iterator[Pictures]:
    """Batches ``first`` to ``last - 1`` of the stream of a seed.

    Args:
        seed: names the stream.
        size: pictures per batch; even.
        first, last: numbers of the batches, so that a stopped run can go on.
        things: what may be shown.
        nameless: share of things whose colour or shape is replaced by one without a name.
        workers: processes that draw ahead; 0 draws in this one.
    """
    batches = _DrawnBatches(seed=seed, size=size, things=things, nameless=nameless)
    yield from DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="spawn" if workers else None,
    )


def check_pictures(seed: int) -> tuple[list[Pictures], list[Pictures]]:
    """Pictures of other seeds to check a training with: of pairs that it shows, and of all pairs."""
    seen, every = (
        list(stream_pictures(seed=seed + number, size=256, first=0, last=8, nameless=0.0, workers=0, things=things))
        for number, things in ((1, SEEN_THINGS), (2, ALL_THINGS))
    )
    return seen, every
