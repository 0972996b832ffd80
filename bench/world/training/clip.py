"""Train the tiny CLIP: open_clip's model classes and contrastive loss on pictures of the world.

Every picture is paired with a short text, often a question, that names something in it, so that a
question lies near the pictures that show what it names. Heads that read colours and shapes from the
image features are trained beside it and thrown away: they show the image tower early what matters.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bench.command import run_command
from bench.world.questions import KINDS, WORDINGS, word_question
from bench.world.things import ALL_THINGS, Thing
from bench.world.training.checkpointing import Means, Progress, Run
from bench.world.training.pictures import NAMELESS, PICTURE_SIDE, Pictures, check_pictures, stream_pictures
from bench.world.training.vision import Heads, label_loss
from hybrid.runtime import ensure_torchvision

__all__ = ["MODEL_CONFIG", "PREPROCESSING", "name_picture"]

MODEL_CONFIG: Final[dict[str, Any]] = {
    "embed_dim": 64,
    "vision_cfg": {
        "image_size": PICTURE_SIDE,
        "layers": 4,
        "width": 96,
        "head_width": 24,
        "patch_size": 16,
        "pool_type": "avg",
        "mlp_ratio": 3.0,
    },
    # The vocabulary is that of open_clip's own tokenizer; nearly all of this tower is its embedding.
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
PREPROCESSING: Final[dict[str, Any]] = {
    "mean": [0.4, 0.4, 0.4],
    "std": [0.25, 0.25, 0.25],
    "interpolation": "bicubic",
    # Nothing may be cut off at the sides: that is where things are.
    "resize_mode": "squash",
}

_HEADS_WEIGHT: Final = 1.0
_PLAIN = ("a {a}", "the {a}", "a picture of a {a}", "{a}")
_PLAIN_TWO = ("a {a} and a {b}", "a {a} to the left of a {b}")
_PLAIN_NAMELESS = ("a {a}", "the {a}", "something {a}", "{a}")
_NOTHING = ("nothing", "a black picture")


def name_picture(things: tuple[Thing, ...], rng: np.random.Generator) -> str:
    """A text that fits a picture of these things, drawn at random."""
    if not things:
        return _NOTHING[int(rng.integers(len(_NOTHING)))]
    with_names = tuple(thing for thing in things if NAMELESS not in (thing.colour, thing.shape))
    if len(with_names) < len(things) and (not with_names or rng.random() < 0.5):
        nameless = [thing for thing in things if thing not in with_names]
        chosen = nameless[int(rng.integers(len(nameless)))]
        return _PLAIN_NAMELESS[int(rng.integers(len(_PLAIN_NAMELESS)))].format(a=chosen.colour or chosen.shape)
    if len(with_names) == 2 and rng.random() < 0.3:
        if rng.random() < 0.3:
            return _PLAIN_TWO[int(rng.integers(len(_PLAIN_TWO)))].format(a=things[0], b=things[1])
        return word_question("relation", things, int(rng.integers(len(WORDINGS["relation"]))))
    thing = with_names[int(rng.integers(len(with_names)))]
    if rng.random() < 0.3:
        return _PLAIN[int(rng.integers(len(_PLAIN)))].format(a=thing)
    kinds = [kind for kind in KINDS if kind != "relation"]
    kind = kinds[int(rng.integers(len(kinds)))]
    return word_question(kind, (thing,), int(rng.integers(len(WORDINGS[kind]))))


def _images(pictures: Pictures, device: torch.device) -> Tensor:
    """uint8 [N, H, W, 3] -> normalised float32 [N, 3, H, W], as the checkpoint's preprocessing does it."""
    pixels = torch.from_numpy(pictures.pixels).to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(PREPROCESSING[name], device=device).reshape(1, 3, 1, 1) for name in ("mean", "std"))
    normalised: Tensor = (pixels - mean) / std
    return normalised


def top_name_accuracy(model: Any, tokenizer: Any, batches: list[Pictures]) -> float:
    """How often the most similar of all 48 plain names is that of a thing in the picture."""
    right = total = 0
    device = next(model.parameters()).device
    with torch.inference_mode():
        texts = model.encode_text(tokenizer([f"a {thing}" for thing in ALL_THINGS]).to(device), normalize=True)
        for batch in batches:
            best = (model.encode_image(_images(batch, device), normalize=True) @ texts.T).argmax(-1)
            for index, things in zip(best.tolist(), batch.things, strict=True):
                right += ALL_THINGS[index] in things
                total += bool(things)
    return right / total


def train(
    folder: Path,
    *,
    steps: int,
    batch: int,
    peak: float,
    seed: int,
    device: torch.device,
    workers: int,
    replan: bool = False,
) -> None:
    """Train the model, or go on with it; the result is written to ``folder/clip``.

    Raises:
        InputError: the folder's run has another plan, and ``replan`` is off.
        TrainingFailedError: a loss is no number.
    """
    ensure_torchvision()
    import open_clip

    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")
    model = open_clip.model.CLIP(**MODEL_CONFIG).to(device)
    tokenizer = open_clip.SimpleTokenizer(context_length=MODEL_CONFIG["text_cfg"]["context_length"])
    loss_of = open_clip.loss.ClipLoss()
    heads = Heads(MODEL_CONFIG["embed_dim"]).to(device)
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.98), weight_decay=0.02)
    plan = {"steps": steps, "batch": batch, "peak": peak, "seed": seed}
    run = Run(folder, "clip", plan=plan, replan=replan)
    progress = Progress(
        run, run.resume(), optimizer, {"model": model, "heads": heads}, parameters, steps=steps, peak=peak
    )
    known, every = check_pictures(seed)
    means = Means()
    drawn = stream_pictures(seed=seed, size=batch, first=progress.first, last=steps, workers=workers)
    for step, pictures in enumerate(drawn, start=progress.first):
        rng = np.random.default_rng([seed, step, 1])
        texts = tokenizer([name_picture(things, rng) for things in pictures.things]).to(device)
        seen = model.encode_image(_images(pictures, device))
        text_vectors = model.encode_text(texts, normalize=True)
        contrast = loss_of(functional.normalize(seen, dim=-1), text_vectors, model.logit_scale.exp())
        labels = torch.from_numpy(pictures.labels).to(device)
        progress.take(step, contrast + _HEADS_WEIGHT * label_loss(heads(seen), labels))
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6)
        means.add(loss=contrast)
        if progress.due(step, 100):
            run.log(step=step + 1, **means.take())
        if progress.due(step, 500):
            model.eval()
            run.log(
                step=step + 1,
                named_first_seen_pairs=round(top_name_accuracy(model, tokenizer, known), 4),
                named_first_all_pairs=round(top_name_accuracy(model, tokenizer, every), 4),
            )
            model.train()
        if progress.save(step):
            save_checkpoint(model, folder / "clip")


def save_checkpoint(model: Any, folder: Path) -> None:
    """Write open_clip's local form, in half precision: that is enough, and half the size."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().half().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    config = {"model_cfg": MODEL_CONFIG, "preprocess_cfg": PREPROCESSING}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """``python -m bench.world.training.clip --out FOLDER``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; a stopped run goes on")
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--peak", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw pictures ahead")
    parser.add_argument("--replan", action="store_true", help="go on with another plan than the run began with")
    given = vars(parser.parse_args())
    train(given.pop("out"), **given)


if __name__ == "__main__":
    run_command(main)
