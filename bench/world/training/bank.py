"""A bank of frames as the tiny GenS's language model sees them: features of many short scenes.

The vision encoder is frozen by the time the language model learns, so every frame is encoded once.
Windows are put together from the bank's scenes in any order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from bench.world.scenes import LONGEST_SECONDS, make_scene
from bench.world.things import Thing
from bench.world.training.pictures import model_picture
from bench.world.training.vision import frame_features

__all__ = ["Bank", "join_banks", "make_bank"]

FRAMES_PER_SCENE: Final = int(LONGEST_SECONDS)
_SCENES_PER_BATCH: Final = 32


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """Encoded scenes.

    Attributes:
        features: float32 [scenes, 12, width]: one frame per second of each scene.
        black: float32 [n, width]: frames in the dark of a fade.
        by_things: which scenes show exactly these things, from left to right.
        known: everything that some scene shows, in order.
    """

    features: Tensor
    black: Tensor
    by_things: dict[tuple[Thing, ...], tuple[int, ...]]
    known: tuple[Thing, ...]

    def state(self) -> dict[str, Any]:
        """For ``torch.save``."""
        things = [(tuple((t.colour, t.shape) for t in key), numbers) for key, numbers in self.by_things.items()]
        return {"features": self.features.half(), "black": self.black.half(), "things": things}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Bank:
        """The bank of a :meth:`state`."""
        by_things = {tuple(Thing(*pair) for pair in key): tuple(numbers) for key, numbers in state["things"]}
        return bank_of(state["features"].float(), state["black"].float(), by_things)


def bank_of(features: Tensor, black: Tensor, by_things: dict[tuple[Thing, ...], tuple[int, ...]]) -> Bank:
    """A bank; what it knows is read from the scenes."""
    return Bank(features, black, by_things, tuple(sorted({thing for key in by_things for thing in key})))


def join_banks(banks: Sequence[Bank]) -> Bank:
    """One bank of the scenes of several."""
    by_things: dict[tuple[Thing, ...], tuple[int, ...]] = {}
    done = 0
    for bank in banks:
        for things, numbers in bank.by_things.items():
            by_things[things] = by_things.get(things, ()) + tuple(number + done for number in numbers)
        done += len(bank.features)
    features, black = (torch.cat([getattr(bank, name) for bank in banks]) for name in ("features", "black"))
    return bank_of(features, black, by_things)


def make_bank(visual: Any, *, scenes: int, things: Sequence[Thing], seed: int) -> Bank:
    """Draw and encode scenes.

    Args:
        visual: the trained vision encoder.
        scenes: how many; two fifths show one thing, the others two.
        things: what they may show.
        seed: of everything that is drawn.
    """
    rng = np.random.default_rng(seed)
    shown = [_draw_things(rng, things) for _ in range(scenes)]
    encoded = [_encode(visual, batch, rng) for batch in _batches(shown)]
    by_things: dict[tuple[Thing, ...], list[int]] = defaultdict(list)
    for number, key in enumerate(shown):
        by_things[key].append(number)
    black = [
        model_picture(make_scene(rng, key, noise=10.0, fade_in=1.0), rng.uniform(0, 0.3), rng) for key in shown[:256]
    ]
    with torch.inference_mode():
        dark = frame_features(visual, np.stack(black))
    return bank_of(torch.cat(encoded), dark, {key: tuple(numbers) for key, numbers in by_things.items()})


def _draw_things(rng: np.random.Generator, things: Sequence[Thing]) -> tuple[Thing, ...]:
    count = 1 if rng.random() < 0.4 else 2
    return tuple(things[i] for i in rng.permutation(len(things))[:count])


def _batches(shown: list[tuple[Thing, ...]]) -> Iterator[list[tuple[Thing, ...]]]:
    for start in range(0, len(shown), _SCENES_PER_BATCH):
        yield shown[start : start + _SCENES_PER_BATCH]


def _encode(visual: Any, shown: list[tuple[Thing, ...]], rng: np.random.Generator) -> Tensor:
    pictures = []
    for things in shown:
        scene = make_scene(rng, things, noise=10.0)
        offset = rng.uniform(0, 1)
        pictures += [model_picture(scene, second + offset, rng) for second in range(FRAMES_PER_SCENE)]
    with torch.inference_mode():
        return frame_features(visual, np.stack(pictures)).reshape(len(shown), FRAMES_PER_SCENE, -1)
