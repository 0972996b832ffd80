"""Teach the tiny GenS's vision encoder to see: which thing is on the left, and which on the right.

Two linear heads per place (colour and shape) read the frame's one visual token; they are thrown
away afterwards. Colour and shape are told apart, so that pairs that were never shown can be read too.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.command import run_command
from bench.world.things import HELD_OUT
from bench.world.training.checkpointing import Means, Progress, Run
from bench.world.training.gens_model import PATCH_RULE, make_model, make_tokenizer
from bench.world.training.pictures import (
    NO_COLOUR,
    NO_SHAPE,
    NOT_LABELLED,
    Pictures,
    check_pictures,
    label_of,
    stream_pictures,
)
from hybrid.fine.qwen.preprocess import patchify
from hybrid.fine.qwen.vision_encoder import encode_patches

__all__ = ["Heads", "exact_share", "frame_features", "label_loss"]

_HELD_OUT = torch.zeros(NO_COLOUR + 1, NO_SHAPE + 1, dtype=torch.bool)
for _thing in HELD_OUT:
    _HELD_OUT[tuple(label_of((_thing,))[:2])] = True
_CLASSES = (NO_COLOUR + 1, NO_SHAPE + 1) * 2


class Heads(nn.Module):
    """Reads the four labels of :class:`bench.world.training.pictures.Pictures` from a frame's feature."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.readers = nn.ModuleList(nn.Linear(width, classes) for classes in _CLASSES)

    def forward(self, features: Tensor) -> list[Tensor]:
        """[N, width] -> four times [N, classes]."""
        return [reader(features) for reader in self.readers]


def label_loss(read: list[Tensor], labels: Tensor) -> Tensor:
    """Sum of the four cross entropies; what has no name is left out.

    Where a thing is orange, "circle" does not compete with its shape, because that pair is held out: else
    the tower would learn that what is orange is no circle, and could not see one.

    Args:
        read: four times [N, classes].
        labels: int64 [N, 4].
    """
    losses = []
    held_out = _HELD_OUT.to(labels.device)
    for side in (0, 2):
        colour, shape = labels[:, side], labels[:, side + 1]
        no_colour, no_shape = held_out.T[shape.clamp(min=0)], held_out[colour.clamp(min=0)]
        no_colour, no_shape = no_colour & (shape >= 0)[:, None], no_shape & (colour >= 0)[:, None]
        for logits, label, none in ((read[side], colour, no_colour), (read[side + 1], shape, no_shape)):
            competing = logits.masked_fill(none, -1e4)
            total = functional.cross_entropy(competing, label, ignore_index=NOT_LABELLED, reduction="sum")
            # A batch in which nothing has a name teaches nothing; its mean would be no number.
            losses.append(total / (label != NOT_LABELLED).sum().clamp(min=1))
    return torch.stack(losses).sum()


def frame_features(visual: Any, pixels: Any) -> Tensor:
    """The visual token of each frame: uint8 [N, 64, 64, 3] -> [N, width]."""
    patches = torch.from_numpy(patchify(pixels, PATCH_RULE))
    return encode_patches(visual, patches, rows=1, columns=1, fill_batches=False)[:, 0]


def exact_share(visual: Any, heads: Heads, batches: list[Pictures]) -> float:
    """Share of the pictures of which all four labels are read right."""
    right = total = 0
    with torch.inference_mode():
        for batch in batches:
            labels = torch.from_numpy(batch.labels)
            read = torch.stack([logits.argmax(-1) for logits in heads(frame_features(visual, batch.pixels))], dim=1)
            right += int((read == labels).all(dim=1).sum())
            total += len(labels)
    return right / total


def train(folder: Path, *, steps: int, batch: int, peak: float, seed: int, replan: bool = False) -> None:
    """Train the tower, or go on with it; the result is ``vision.pt`` in the folder.

    Raises:
        InputError: the folder's run has another plan, and ``replan`` is off.
        TrainingFailedError: a loss is no number.
    """
    torch.manual_seed(seed)
    tower = make_model(make_tokenizer()).model.visual
    heads = Heads(tower.config.out_hidden_size)
    parameters = [*tower.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.98), weight_decay=0.02)
    plan = {"steps": steps, "batch": batch, "peak": peak, "seed": seed}
    run = Run(folder, "vision", plan=plan, replan=replan)
    progress = Progress(
        run, run.resume(), optimizer, {"tower": tower, "heads": heads}, parameters, steps=steps, peak=peak
    )
    seen, unseen = check_pictures(seed)
    means = Means()
    drawn = stream_pictures(seed=seed, size=batch, first=progress.first, last=steps)
    for step, pictures in enumerate(drawn, start=progress.first):
        loss = label_loss(heads(frame_features(tower, pictures.pixels)), torch.from_numpy(pictures.labels))
        progress.take(step, loss)
        means.add(loss=loss)
        if progress.due(step, 100):
            run.log(step=step + 1, **means.take())
        if progress.due(step, 500):
            run.log(
                step=step + 1,
                exact_on_seen_pairs=round(exact_share(tower, heads, seen), 4),
                exact_on_all_pairs=round(exact_share(tower, heads, unseen), 4),
            )
        progress.save(step)


def main() -> None:
    """``python -m bench.world.training.vision --out FOLDER``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; a stopped run goes on")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--peak", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--replan", action="store_true", help="go on with another plan than the run began with")
    given = vars(parser.parse_args())
    train(given.pop("out"), **given)


if __name__ == "__main__":
    run_command(main)
