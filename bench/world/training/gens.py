"""Teach the tiny GenS to read windows and to write GenS's replies, on top of a trained vision encoder.

First it learns to name what each frame shows, which ties words to what is seen; then replies, from
a few frames and short scenes up to windows of 256 frames.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.nn import functional

from bench.command import run_command
from bench.world.scenes import WORLD_VERSION
from bench.world.things import ALL_THINGS, HELD_OUT, SEEN_THINGS
from bench.world.training.bank import Bank, join_banks, make_bank
from bench.world.training.checkpointing import Means, Progress, Run, save_whole
from bench.world.training.curriculum import CURRICULUM, BatchPlan, Chapter, draw_batch, stream_batches
from bench.world.training.gens_model import make_model, make_tokenizer, name_what_is_seen, save_checkpoint
from bench.world.training.guide import Guide
from bench.world.training.packing import NOT_TAUGHT, Packed, WindowPacker
from bench.world.training.pictures import stream_pictures
from bench.world.training.vision import Heads, frame_features
from bench.world.training.windows import Window, draw_window
from hybrid.errors import InputError

__all__ = ["Plan", "agree_on_steps", "exact_replies", "predict", "train"]

_GUIDE_WEIGHT: Final = 0.3


def predict(model: Any, packed: Packed, chosen: Tensor) -> Tensor:
    """Logits of the next token at some places of a batch.

    Args:
        model: a ``Qwen2_5_VLForConditionalGeneration``.
        packed: the batch, on the model's device.
        chosen: bool [B, L].

    Returns:
        float32 [chosen places, vocabulary].
    """
    language = model.model.language_model
    embeddings = language.embed_tokens(packed.ids)
    visual = packed.ids == model.config.image_token_id
    embeddings = embeddings.masked_scatter(visual.unsqueeze(-1), packed.features.to(embeddings.dtype))
    positions = packed.positions.unsqueeze(0).expand(3, -1, -1)
    hidden = language(
        inputs_embeds=embeddings,
        position_ids=positions,
        attention_mask={"full_attention": packed.visible()},
        use_cache=False,
    ).last_hidden_state
    logits: Tensor = model.lm_head(hidden[chosen]).float()
    return logits


def exact_replies(model: Any, batches: Sequence[tuple[Packed, list[Window]]]) -> dict[str, float]:
    """Share of replies that greedy decoding would write without a fault, by kind of question.

    Every token of a reply is predicted from the right ones before it: if all are right, greedy
    decoding writes the same.
    """
    right: dict[str, list[bool]] = {}
    with torch.inference_mode():
        for packed, windows in batches:
            taught = packed.targets != NOT_TAUGHT
            wrong = predict(model, packed, taught).argmax(-1) != packed.targets[taught]
            faults = torch.zeros(int(packed.question.max()) + 1, dtype=torch.long, device=wrong.device)
            faults.index_add_(0, packed.question[taught], wrong.long())
            asked = [question for window in windows for question in window.questions]
            for question, count in zip(asked, faults.tolist(), strict=True):
                right.setdefault(question.kind, []).append(count == 0)
                if question.kind == "object" and question.things[0] in HELD_OUT:
                    right.setdefault("object, unseen pair", []).append(count == 0)
    return {kind: round(float(np.mean(values)), 3) for kind, values in sorted(right.items())}


def loss_of_batch(model: Any, guide: Guide, packed: Packed, held_out: Sequence[tuple[int, ...]]) -> dict[str, Tensor]:
    """Mean loss over the tokens that a batch teaches, as ``text``, and the guide's losses.

    Args:
        model: is taught.
        guide: watches it.
        packed: the batch, on the model's device.
        held_out: tokens of the colour and the shape of each pair that is not taught.
    """
    taught = packed.targets != NOT_TAUGHT
    logits, tokens = predict(model, packed, taught), packed.ids[taught]
    for colour, shape in held_out:
        # No competitor: else the model would learn that what is orange is never called a circle.
        logits = logits.masked_fill((tokens == colour)[:, None] & _one_of(logits, shape), -1e4)
    return {"text": functional.cross_entropy(logits, packed.targets[taught]), **guide.losses(packed)}


def _one_of(logits: Tensor, token: int) -> Tensor:
    return torch.arange(logits.shape[1], device=logits.device) == token


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is asked for; the same in all of its processes."""

    folder: Path
    vision: Path
    steps: int
    minutes: float | None
    peak: float
    seed: int
    scenes: int
    processes: int
    workers: int
    device: str
    precision: str
    larger: float
    start: Path | None
    skip: float
    init_method: str
    replan: bool = False

    @property
    def parts(self) -> int:
        """How many processes draw the bank; each draws frames of its own."""
        return max(self.processes, self.workers, 1)

    def deciding(self) -> dict[str, Any]:
        """What decides the result, as plain values; the folder, the machine and its speed are not among it."""
        return {
            "vision": _digest(self.vision),
            "start": None if self.start is None else str(self.start),
            "parts": self.parts,
            **{name: getattr(self, name) for name in _DECIDING},
        }


_DECIDING: Final = (
    "steps",
    "minutes",
    "peak",
    "seed",
    "scenes",
    "processes",
    "precision",
    "larger",
    "skip",
)


def _digest(file: Path) -> str:
    """Sixteen hexadecimal digits of a file's content.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except OSError as exc:
        raise InputError(
            f"--vision is {str(file)!r}, which cannot be read: {exc.strerror}; it is the vision.pt that "
            "python -m bench.world.training.vision --out FOLDER leaves in its folder"
        ) from exc


@dataclass(frozen=True, slots=True, eq=False)
class _Pupil:
    """What learns, and what it learns with."""

    model: Any
    guide: Guide
    packer: WindowPacker
    device: torch.device
    dtype: torch.dtype

    @property
    def learning(self) -> list[nn.Parameter]:
        """The weights that change."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def losses(self, packed: Packed) -> dict[str, Tensor]:
        """See :func:`loss_of_batch`; the batch may lie elsewhere."""
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            return loss_of_batch(self.model, self.guide, packed.to(self.device), self.packer.held_out)


def train(rank: int, plan: Plan) -> None:
    """One process of a training: draws batches of its own, and shares gradients with the others.

    Every process holds the same weights all the time; the first one writes. The checkpoint is
    written to ``folder/gens``.

    Raises:
        InputError: the folder's run has another plan, and ``replan`` is off.
        TrainingFailedError: a loss is no number.
    """
    if plan.device == "cpu":
        torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")
    if plan.processes > 1:
        distributed.init_process_group("gloo", init_method=plan.init_method, rank=rank, world_size=plan.processes)
    tokenizer = make_tokenizer()
    model, heads = _make_model(plan, tokenizer)
    mean, scale = _even_scale(model, seed=plan.seed)
    run = open_run(plan, logs=rank == 0)
    # Before the banks are drawn, which takes minutes: a run of another plan is refused at once.
    state = run.resume()
    parts, checked = _bank_parts(plan)
    if rank == 0:
        _make_banks([*parts, checked], model.model.visual)
    if plan.processes > 1:
        distributed.barrier()
    bank = join_banks([_read_bank(part.path) for part in parts])
    checks = _read_bank(checked.path)
    device = torch.device(plan.device)
    guide = Guide(model.to(device), heads.to(device), mean=mean.to(device), scale=scale)
    pupil = _Pupil(model, guide, WindowPacker(tokenizer), device, getattr(torch, plan.precision))
    optimizer = torch.optim.AdamW(_decayed(pupil.learning), lr=plan.peak, betas=(0.9, 0.98))
    if state is not None:
        if plan.minutes is not None or not plan.replan:
            plan = replace(plan, steps=int(state["steps"]))
    elif plan.start is not None:
        begun = type(model).from_pretrained(plan.start, dtype=torch.float32)
        pupil.model.load_state_dict(begun.state_dict())
    if state is None and plan.minutes is not None:
        own = _steps_in(plan.minutes * 60, pupil, bank, plan)
        plan = replace(plan, steps=agree_on_steps(own, processes=plan.processes))
        run.log(steps=plan.steps)
    progress = Progress(
        run, state, optimizer, {"model": model}, pupil.learning, steps=plan.steps, peak=plan.peak, warm_up=150
    )
    batches = BatchPlan(plan.steps, plan.seed, rank, plan.larger, plan.skip)
    stream = stream_batches(bank, batches, first=progress.first, workers=plan.workers)
    means = Means()
    for step, packed in enumerate(stream, start=progress.first):
        losses = pupil.losses(packed)
        loss = losses["text"] + _GUIDE_WEIGHT * (losses["pointing"] + losses["carrying"] + losses["knowing"])
        progress.take(step, loss, share=lambda: _share_gradients(pupil.learning, plan.processes))
        if rank > 0:
            continue
        means.add(**losses)
        chapter = batches.chapter(step)
        if progress.due(step, 50):
            run.log(step=step + 1, **means.take(), frames=list(chapter.lesson.frames))
        if progress.due(step, 250):
            run.log(step=step + 1, exact=_check(pupil, checks, chapter))
        if progress.save(step, steps=plan.steps):
            _write(pupil.model, tokenizer, plan.folder / "gens")
    if plan.processes > 1:
        distributed.barrier()
        distributed.destroy_process_group()


def open_run(plan: Plan, *, logs: bool) -> Run:
    """The run of a plan, in its folder."""
    return Run(plan.folder, "gens", plan=plan.deciding(), replan=plan.replan, logs=logs)


def _make_model(plan: Plan, tokenizer: Any) -> tuple[Any, Heads]:
    """The model with the trained tower, and the heads that were trained with the tower."""
    torch.manual_seed(plan.seed)
    model = make_model(tokenizer)
    seen = torch.load(plan.vision, weights_only=True)
    model.model.visual.load_state_dict(seen["tower"])
    model.model.visual.requires_grad_(False)
    heads = Heads(model.config.vision_config.out_hidden_size)
    heads.load_state_dict(seen["heads"])
    name_what_is_seen(model, tokenizer, list(heads.readers))
    return model, heads


def _write(model: Any, tokenizer: Any, folder: Path) -> None:
    """The checkpoint in half precision; the model that learns stays as it is."""
    written = make_model(tokenizer)
    written.load_state_dict(model.state_dict())
    save_checkpoint(written.half(), tokenizer, folder)


def _steps_in(seconds: float, pupil: _Pupil, bank: Bank, plan: Plan) -> int:
    """How many steps take about so long, by the time that a few of each chapter take."""
    expected, begins = 0.0, plan.skip
    for chapter in CURRICULUM:
        if chapter.until <= begins:
            continue
        rng = np.random.default_rng(plan.seed)
        windows = [draw_batch(rng, bank, chapter, larger=plan.larger) for _ in range(6)]
        batches = [pupil.packer.replies(several) for several in windows]
        for number, packed in enumerate([batches[0], *batches]):
            if number == 1:
                started = time.monotonic()
            losses = pupil.losses(packed)
            (losses["text"] + losses["pointing"]).backward()  # type: ignore[no-untyped-call]
            float(losses["text"].detach())
        share = (min(chapter.until, 1.0) - begins) / (1 - plan.skip)
        expected += (time.monotonic() - started) / len(batches) * share
        begins = chapter.until
    pupil.model.zero_grad()
    # A twentieth for the optimizer's step and the checks.
    return max(1, int(seconds / expected / 1.05))


def agree_on_steps(steps: int, *, processes: int) -> int:
    """The number of the first process, in all of them: each measured its own time, and all must end together."""
    if processes == 1:
        return steps
    agreed = torch.tensor([steps])
    distributed.broadcast(agreed, src=0)
    return int(agreed)


def _share_gradients(parameters: Sequence[nn.Parameter], processes: int) -> None:
    """Replace every gradient by its mean over the processes, in one message."""
    if processes == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    together = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(together)
    together /= processes
    done = 0
    for gradient in gradients:
        gradient.copy_(together[done : done + gradient.numel()].view_as(gradient))
        done += gradient.numel()


def _check(pupil: _Pupil, checks: Bank, chapter: Chapter) -> dict[str, float]:
    """Replies on scenes of other seeds, about things that were never shown as well."""
    rng = np.random.default_rng(7)
    batches = []
    held_out = sorted(HELD_OUT)
    lesson = chapter.lesson
    for number in range(12):
        frames = int(rng.integers(lesson.frames[0], lesson.frames[1] + 1))
        about = held_out[number % len(held_out)]
        windows = [draw_window(rng, checks, lesson, frames=frames, questions=16, about=about) for _ in range(2)]
        batches.append((pupil.packer.replies(windows).to(pupil.device), windows))
    return exact_replies(pupil.model, batches)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the frames that one process draws."""

    path: Path
    scenes: int
    seen_only: bool
    seed: int


def _bank_parts(plan: Plan) -> tuple[list[_Part], _Part]:
    """The parts of the bank to learn from, and the bank to check with; a file's name tells what decides its content."""
    made_of = f"{_digest(plan.vision)}-v{WORLD_VERSION}-seed{plan.seed}"
    parts = [
        _Part(
            plan.folder / f"bank-{made_of}-{plan.scenes}-{part}of{plan.parts}.pt",
            plan.scenes // plan.parts,
            True,
            plan.seed * 10_000 + part,
        )
        for part in range(plan.parts)
    ]
    return parts, _Part(plan.folder / f"checks-{made_of}.pt", 800, False, plan.seed * 10_000 + 1000)


def _make_banks(parts: Sequence[_Part], visual: Any) -> None:
    """The frames to learn from and those to check with; made once in a run, by several processes."""
    missing = [part for part in parts if not part.path.is_file()]
    if missing:
        spawn(_make_part, args=(missing, visual.state_dict()), nprocs=len(missing))  # type: ignore[no-untyped-call]


def _make_part(number: int, parts: Sequence[_Part], tower: dict[str, Tensor]) -> None:
    torch.set_num_threads(1)
    part = parts[number]
    visual = make_model(make_tokenizer()).model.visual
    visual.load_state_dict(tower)
    bank = make_bank(visual, scenes=part.scenes, things=SEEN_THINGS if part.seen_only else ALL_THINGS, seed=part.seed)
    save_whole(bank.state(), part.path)


def _read_bank(path: Path) -> Bank:
    return Bank.from_state(torch.load(path, weights_only=True))


def _even_scale(model: Any, *, seed: int) -> tuple[Tensor, float]:
    """Make features as large as the embeddings of words, around zero, through the tower's last layer.

    Returns:
        Their mean and their standard deviation before.
    """
    last = model.model.visual.merger.mlp[2]
    spread = model.model.language_model.embed_tokens.weight.std()
    (sample,) = stream_pictures(seed=seed, size=512, first=0, last=1, nameless=0.0, workers=0)
    with torch.no_grad():
        features = frame_features(model.model.visual, sample.pixels)
        mean = features.mean(0)
        before = (features - mean).std()
        last.weight.mul_(spread / before)
        last.bias.sub_(mean).mul_(spread / before)
    return mean, float(before)


def _decayed(parameters: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """Weight decay for matrices, not for vectors."""
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.01},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]


def main() -> None:
    """``python -m bench.world.training.gens --out FOLDER --vision FOLDER/vision.pt``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; a stopped run goes on")
    parser.add_argument("--vision", type=Path, required=True, help="the trained vision encoder's vision.pt")
    parser.add_argument("--start", type=Path, help="folder of a checkpoint of the same shape to start from")
    parser.add_argument("--skip", type=float, default=0.0, help="share of the curriculum that --start has behind it")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--minutes", type=float, help="as many steps as take about so long, in place of --steps")
    parser.add_argument("--peak", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--scenes", type=int, default=8000, help="scenes in the bank of frames")
    parser.add_argument("--processes", type=int, default=1, help="that share the work, of one thread each")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw batches ahead")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the arithmetic")
    parser.add_argument("--larger", type=float, default=1.0, help="batches so many times as large; for a GPU, 20")
    parser.add_argument("--replan", action="store_true", help="go on with another plan than the run began with")
    given = vars(parser.parse_args())
    given["out"].mkdir(parents=True, exist_ok=True)
    meeting = given["out"].resolve() / "meeting"
    meeting.unlink(missing_ok=True)
    plan = Plan(folder=given.pop("out"), init_method=f"file://{meeting}", **given)
    # Here first: an error of another process comes with its traceback.
    open_run(plan, logs=False).resume()
    if plan.processes == 1:
        train(0, plan)
    else:
        spawn(train, args=(plan,), nprocs=plan.processes)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    run_command(main)
