"""Draw a video of the world from a seed: which scenes it has, and what each of them shows.

A scene lasts 2 to 12 s and shows one thing, or two side by side. Neighbouring scenes never share a
thing, so that every appearance of a thing is one scene.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, get_args

import numpy as np

from bench.world.things import ALL_THINGS, COLOURS, SEEN_THINGS, Thing
from hybrid.errors import InputError

__all__ = [
    "FRAME_RATES",
    "VISIBLE_LEVEL",
    "WORLD_VERSION",
    "Backdrop",
    "Placement",
    "Scene",
    "Split",
    "World",
    "make_scene",
    "make_world",
]

Split = Literal["train", "validation", "test"]

WORLD_VERSION: Final = 1
"""One more with every change of what a seed draws or how it is filmed; names of kept files hold it: none is stale."""

FRAME_RATES: Final = (Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30))
SHORTEST_SECONDS: Final = 2.0
LONGEST_SECONDS: Final = 12.0
VISIBLE_LEVEL: Final = 0.4
"""A thing counts as visible while its scene has at least this brightness in a fade."""

FEWEST_THINGS: Final = 3
"""Two may be shown at once, and the scene that follows needs another."""
_MOST_SEEDS: Final = 1_000_000_000
_FADE_SECONDS = 0.3
# Far apart, so that no seed of one split can meet one of another.
_SEED_BASE: Final[dict[Split, int]] = {"train": 0, "validation": 1_000_000_000, "test": 2_000_000_000}
_BACKDROPS: Final = ("plain", "gradient", "stripes", "checks", "blobs")


@dataclass(frozen=True, slots=True)
class Placement:
    """A thing in a scene.

    Lengths are fractions of the picture's width (x) and height (y, radius); the radius is that of
    the circle that the thing would be. It swings around (x, y) by (swing_x, swing_y).
    """

    thing: Thing
    x: float
    y: float
    radius: float
    angle: float
    swing_x: float
    swing_y: float
    swing_hertz: float
    phase: float
    rgb: tuple[float, float, float]

    def centre(self, seconds: float) -> tuple[float, float]:
        """Where its middle is after so many seconds of the scene."""
        swing = float(np.sin(2 * np.pi * self.swing_hertz * seconds + self.phase))
        return self.x + self.swing_x * swing, self.y + self.swing_y * swing


@dataclass(frozen=True, slots=True)
class Backdrop:
    """What lies behind the things: two dull colours in a pattern."""

    kind: str
    first: tuple[float, float, float]
    second: tuple[float, float, float]
    angle: float
    period: float
    phase: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A stretch of the video with the same things: [start_seconds, end_seconds).

    Attributes:
        placements: one, or two from left to right.
        brightness: factor on every colour.
        noise: standard deviation of the camera's noise at 320x240, in levels of 255.
        fade_in, fade_out: seconds from and to black; 0 for a hard cut.
    """

    start_seconds: float
    end_seconds: float
    placements: tuple[Placement, ...]
    backdrop: Backdrop
    brightness: float
    noise: float
    fade_in: float
    fade_out: float

    @property
    def things(self) -> tuple[Thing, ...]:
        """What it shows, from left to right."""
        return tuple(placement.thing for placement in self.placements)

    def level(self, seconds: float) -> float:
        """Brightness of the fade at a time of the video, 0 to 1."""
        since, until = seconds - self.start_seconds, self.end_seconds - seconds
        rising = since / self.fade_in if self.fade_in else 1.0
        falling = until / self.fade_out if self.fade_out else 1.0
        return float(np.clip(min(rising, falling), 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class World:
    """A whole video, before it is drawn.

    Attributes:
        name: of its file, without the suffix.
        frame_rate: frames per second.
        width, height: in pixels.
        scenes: in order, without gaps, from 0 s.
        seed: of the camera's noise.
    """

    name: str
    frame_rate: Fraction
    width: int
    height: int
    scenes: tuple[Scene, ...]
    seed: int

    @property
    def duration_seconds(self) -> float:
        """The end of the last scene."""
        return self.scenes[-1].end_seconds

    def scene_at(self, seconds: float) -> Scene:
        """The scene that is shown at a time; the first or last one outside of the video."""
        for scene in self.scenes:
            if seconds < scene.end_seconds:
                return scene
        return self.scenes[-1]

    def visible_at(self, seconds: float) -> tuple[Thing, ...]:
        """The things that can be seen at a time, from left to right."""
        scene = self.scene_at(seconds)
        return scene.things if scene.level(seconds) >= VISIBLE_LEVEL else ()


def make_world(
    split: Split,
    seed: int,
    *,
    seconds: float = 300.0,
    noise: float = 6.0,
    shortest: float = SHORTEST_SECONDS,
    longest: float = LONGEST_SECONDS,
    things: int = 24,
    frame_rate: Fraction | None = None,
) -> World:
    """Draw a video.

    Args:
        split: decides, with the seed, everything; in ``train`` the held-out things do not occur.
        seed: 0 to 999,999,999.
        seconds: about how long it is; the last scene may end up to ``longest`` later.
        noise: largest camera noise of a scene.
        shortest, longest: limits of a scene's length.
        things: how many kinds of things it shows at most, 3 to 48; a training video has 42 to choose from.
        frame_rate: by default one of :data:`FRAME_RATES`.

    Raises:
        InputError: a value is not legal.
    """
    _check_world(split, seed, seconds, noise, shortest, longest, things, frame_rate)
    rng = np.random.default_rng(_SEED_BASE[split] + seed)
    known = SEEN_THINGS if split == "train" else ALL_THINGS
    chosen = [known[i] for i in rng.permutation(len(known))[:things]]
    scenes: list[Scene] = []
    now = 0.0
    fade_in = 0.0
    while now < seconds:
        before = scenes[-1].things if scenes else ()
        shown = _draw_things(rng, [thing for thing in chosen if thing not in before])
        end = now + float(rng.uniform(shortest, longest))
        fade_out = _FADE_SECONDS if rng.random() < 0.3 else 0.0
        scenes.append(
            make_scene(rng, shown, start=now, end=end, noise=noise, fade_in=fade_in, fade_out=fade_out),
        )
        now, fade_in = end, fade_out
    rate = frame_rate or FRAME_RATES[int(rng.integers(len(FRAME_RATES)))]
    return World(f"{split}-{seed:03d}", rate, 320, 240, tuple(scenes), _SEED_BASE[split] + seed)


def _check_world(
    split: str,
    seed: int,
    seconds: float,
    noise: float,
    shortest: float,
    longest: float,
    things: int,
    frame_rate: Fraction | None,
) -> None:
    if split not in get_args(Split):
        raise InputError(f"the split is {split!r}; legal are {', '.join(get_args(Split))}")
    # A seed beyond would be one of the next split.
    if not 0 <= seed < _MOST_SEEDS:
        raise InputError(f"the seed is {seed}; it must be 0 to {_MOST_SEEDS - 1}")
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"the video is to last {seconds} s; it must be more than 0 s")
    if not (math.isfinite(noise) and noise >= 0):
        raise InputError(f"the noise is {noise}; it must be 0 or more")
    if not (math.isfinite(longest) and 0 < shortest <= longest):
        raise InputError(f"scenes are to last {shortest} to {longest} s; the first must be above 0, and not the longer")
    if not FEWEST_THINGS <= things <= len(ALL_THINGS):
        raise InputError(f"there are {things} kinds of things; legal are {FEWEST_THINGS} to {len(ALL_THINGS)}")
    if frame_rate is not None and frame_rate <= 0:
        raise InputError(f"the frame rate is {frame_rate}; it must be above 0")


def _draw_things(rng: np.random.Generator, known: Sequence[Thing]) -> tuple[Thing, ...]:
    count = 2 if rng.random() < 0.5 else 1
    return tuple(known[i] for i in rng.permutation(len(known))[:count])


def make_scene(
    rng: np.random.Generator,
    things: Sequence[Thing],
    *,
    start: float = 0.0,
    end: float = LONGEST_SECONDS,
    noise: float = 6.0,
    fade_in: float = 0.0,
    fade_out: float = 0.0,
) -> Scene:
    """Draw a scene that shows these things, from left to right.

    Args:
        rng: all draws come from it.
        things: one or two.
        start, end: of the scene, in seconds of the video.
        noise: largest camera noise.
        fade_in, fade_out: seconds from and to black.
    """
    return Scene(
        start_seconds=start,
        end_seconds=end,
        placements=tuple(_draw_placement(rng, thing, index, len(things)) for index, thing in enumerate(things)),
        backdrop=_draw_backdrop(rng),
        brightness=float(rng.uniform(0.75, 1.05)),
        noise=float(rng.uniform(0, noise)),
        fade_in=fade_in,
        fade_out=fade_out,
    )


def _draw_placement(rng: np.random.Generator, thing: Thing, index: int, count: int) -> Placement:
    u = rng.random(10)
    radius = 0.13 + 0.08 * float(u[0])
    # Two things keep to their halves: what is left of what is never in doubt.
    left, right = (0.17, 0.83) if count == 1 else ((0.16, 0.34), (0.66, 0.84))[index]
    colour = COLOURS[thing.colour]
    return Placement(
        thing=thing,
        x=left + (right - left) * float(u[1]),
        y=0.26 + 0.48 * float(u[2]),
        radius=radius,
        angle=0.5 * float(u[3]) - 0.25,
        swing_x=0.05 * float(u[4]),
        swing_y=0.08 * float(u[5]),
        swing_hertz=0.05 + 0.3 * float(u[6]),
        phase=2 * np.pi * float(u[7]),
        rgb=_shade(colour, 0.9 + 0.1 * float(u[8]), 12 * float(u[9]) - 6),
    )


def _shade(rgb: tuple[int, int, int], factor: float, tint: float) -> tuple[float, float, float]:
    red, green, blue = (min(255.0, max(0.0, value * factor + tint)) for value in rgb)
    return red, green, blue


def _draw_backdrop(rng: np.random.Generator) -> Backdrop:
    u = rng.random(10)
    grey = 45 + 90 * float(u[0])
    other = grey + (20 + 30 * float(u[1])) * (1 if u[2] < 0.5 else -1)
    tint = 24 * (u[3:6] - 0.5)
    return Backdrop(
        kind=_BACKDROPS[int(u[6] * len(_BACKDROPS))],
        first=(grey + float(tint[0]), grey + float(tint[1]), grey + float(tint[2])),
        second=(other + float(tint[0]), other + float(tint[1]), other + float(tint[2])),
        angle=np.pi * float(u[7]),
        period=0.12 + 0.3 * float(u[8]),
        phase=2 * np.pi * float(u[9]),
    )
