"""Teach the tiny GenS's vision tower to see: which thing is on the left, and which on the right.

Two linear heads per place (colour and shape) read the frame's one visual token; they are thrown
away afterwards. Colour and shape are told apart, so that pairs that were never shown can be read too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.world.checkpointing import Means, Run, learning_rate, stop_unless_finite
from bench.world.gens_model import PATCH_RULE, make_model, make_tokenizer
from bench.world.pictures import NO_COLOUR, NO_SHAPE, NOT_LABELLED, Pictures, check_pictures, label_of, stream_pictures
from bench.world.things import HELD_OUT
from hybrid.errors import HybridError
from hybrid.fine.qwen.preprocess import patchify
from hybrid.fine.qwen.vision_encoder import encode_patches

__all__ = ["Heads", "exact_share", "frame_features", "label_loss"]

_HELD_OUT = torch.zeros(NO_COLOUR + 1, NO_SHAPE + 1, dtype=torch.bool)
for _thing in HELD_OUT:
    _HELD_OUT[tuple(label_of((_thing,))[:2])] = True
_CLASSES = (NO_COLOUR + 1, NO_SHAPE + 1) * 2


class Heads(nn.Module):
    """Reads the four labels of :class:`bench.world.pictures.Pictures` from a frame's feature."""

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
    for place in (0, 2):
        colour, shape = labels[:, place], labels[:, place + 1]
        no_colour, no_shape = held_out.T[shape.clamp(min=0)], held_out[colour.clamp(min=0)]
        no_colour, no_shape = no_colour & (shape >= 0)[:, None], no_shape & (colour >= 0)[:, None]
        for logits, label, none in ((read[place], colour, no_colour), (read[place + 1], shape, no_shape)):
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
    first = 0
    state = run.resume()
    if state is not None:
        tower.load_state_dict(state["tower"])
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        first = int(state["step"])
    seen, unseen = check_pictures(seed)
    means = Means()
    for step, pictures in enumerate(stream_pictures(seed=seed, size=batch, first=first, last=steps), start=first):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps=steps, peak=peak, warm_up=200)
        labels = torch.from_numpy(pictures.labels)
        read = heads(frame_features(tower, pictures.pixels))
        loss = label_loss(read, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        stop_unless_finite(step, loss=loss, gradient=nn.utils.clip_grad_norm_(parameters, 1.0), peak=peak)
        optimizer.step()
        means.add(loss=loss)
        if (step + 1) % 100 == 0 or step + 1 == steps:
            run.log(step=step + 1, **means.take())
        if (step + 1) % 500 == 0 or step + 1 == steps:
            run.log(
                step=step + 1,
                exact_on_seen_pairs=round(exact_share(tower, heads, seen), 4),
                exact_on_all_pairs=round(exact_share(tower, heads, unseen), 4),
            )
        done = {"tower": tower.state_dict(), "heads": heads.state_dict(), "optimizer": optimizer.state_dict()}
        run.save({**done, "step": step + 1}, now=step + 1 == steps)


def main() -> None:
    """``python -m bench.world.train_vision --out FOLDER``."""
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
    try:
        main()
    except HybridError as exc:
        sys.exit(f"bench.world.train_vision: {exc}")
