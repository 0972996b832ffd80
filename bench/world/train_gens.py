"""Teach the tiny GenS to read windows and to write GenS's replies, on top of a trained vision tower.

First it learns to name what each frame shows, which ties words to what is seen; then replies, from
a few frames and short scenes up to windows of 256 frames.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.nn import functional

from bench.world.bank import Bank, join_banks, make_bank
from bench.world.checkpointing import Run, learning_rate
from bench.world.gens_model import make_model, make_tokenizer, name_what_is_seen, save_checkpoint
from bench.world.packing import NOT_TAUGHT, Packed, WindowPacker
from bench.world.pictures import stream_pictures
from bench.world.questions import Kind
from bench.world.things import ALL_THINGS, HELD_OUT, SEEN_THINGS
from bench.world.train_vision import Heads, frame_features, label_loss
from bench.world.windows import Lesson, Window, draw_window

__all__ = ["CURRICULUM", "exact_replies", "predict"]

_ALL: Final[dict[Kind, float]] = {
    "object": 1.0,
    "relation": 0.7,
    "first": 0.6,
    "last": 0.6,
    "after": 1.2,
    "before": 1.2,
}
_TOKENS_PER_PART: Final = 32
_TOKENS_PER_FRAME: Final = 4
_GUIDE_WEIGHT: Final = 0.3


@dataclass(frozen=True, slots=True)
class Chapter:
    """A part of the training.

    Attributes:
        until: share of the steps at which it ends.
        lesson: what it teaches.
        captions: share of its steps that teach captions instead of replies.
        parts: captions or questions per window.
        tokens: about how many a process takes per step.
    """

    until: float
    lesson: Lesson
    captions: float
    parts: int
    tokens: int


CURRICULUM: Final = (
    Chapter(0.10, Lesson((4, 12), 3, {"object": 1.0}), captions=1.0, parts=10, tokens=2000),
    Chapter(0.28, Lesson((3, 12), 3, {"object": 1.0}, things=(4, 8)), captions=0.2, parts=12, tokens=1500),
    Chapter(0.48, Lesson((6, 32), 6, _ALL, things=(4, 10)), captions=0.15, parts=16, tokens=2500),
    Chapter(0.70, Lesson((6, 80), 12, _ALL), captions=0.1, parts=16, tokens=2500),
    Chapter(1.01, Lesson((12, 256), 12, _ALL), captions=0.05, parts=16, tokens=3500),
)


def predict(model: Any, packed: Packed, chosen: Tensor) -> Tensor:
    """Logits of the next token at some places of a batch.

    Args:
        model: a ``Qwen2_5_VLForConditionalGeneration``.
        packed: the batch.
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
        attention_mask={"full_attention": packed.mask},
        use_cache=False,
    ).last_hidden_state
    logits: Tensor = model.lm_head(hidden[chosen])
    return logits


class Guide:
    """Three lessons beside the text, for what a small model else learns only after many thousands of steps.

    * Pointing: wherever a label is to be written, the first head of the last layer is taught to look at
      the frame that has it.
    * Carrying: what that head takes from a frame is taught to read as the label of the frame.
    * Knowing what is asked: at the end of a question, the middle of the model is taught to hold what the
      question names in the form in which the vision tower shows it, and at each frame what the frame
      shows: the frozen heads that were trained with the tower must read it there. So the two are alike.

    Args:
        model: what is watched.
        heads: trained with the vision tower, on its features before they were scaled and centred.
        mean, scale: [width] mean and standard deviation of those features.
    """

    def __init__(self, model: Any, heads: Heads, *, mean: Tensor, scale: float) -> None:
        config = model.config.text_config
        self._size = config.hidden_size // config.num_attention_heads
        self._turns = model.model.language_model.rotary_emb.inv_freq
        self._heads, self._scale = heads.requires_grad_(False), scale
        for reader in cast(Iterable[nn.Linear], self._heads.readers):
            reader.bias.add_(reader.weight @ mean)
        self._seen: dict[str, Tensor] = {}
        layers = model.model.language_model.layers
        layers[-1].self_attn.q_proj.register_forward_hook(partial(self._keep, "query"))
        layers[-1].self_attn.k_proj.register_forward_hook(partial(self._keep, "key"))
        layers[-1].self_attn.v_proj.register_forward_hook(partial(self._keep, "value"))
        self._out = layers[-1].self_attn.o_proj
        self._words = model.model.language_model.embed_tokens
        layers[len(layers) // 2 - 1].register_forward_hook(partial(self._keep, "middle"))

    def _keep(self, name: str, _module: nn.Module, _given: tuple[Any, ...], made: Any) -> None:
        self._seen[name] = made[0] if isinstance(made, tuple) else made

    def losses(self, packed: Packed) -> dict[str, Tensor]:
        """Of each lesson, for the batch that was predicted last."""
        return {
            "pointing": self._pointing(packed),
            "carrying": self._carrying(packed),
            "knowing": self._knowing(packed),
        }

    def _carrying(self, packed: Packed) -> Tensor:
        taken = self._seen["value"][:, packed.frames, : self._size] @ self._out.weight[:, : self._size].T
        read = functional.normalize(taken, dim=-1) * taken.shape[-1] ** 0.5 @ self._words.weight.T
        return functional.cross_entropy(read.flatten(0, 1), packed.label_tokens.flatten())

    def _knowing(self, packed: Packed) -> Tensor:
        known = packed.about[..., 0] >= 0
        held = functional.normalize(self._seen["middle"][known], dim=-1)
        return label_loss(self._heads(held * (self._scale * held.shape[-1] ** 0.5)), packed.about[known])

    def _pointing(self, packed: Packed) -> Tensor:
        rows, places = (packed.points_to >= 0).nonzero(as_tuple=True)
        query = self._turn(self._seen["query"][rows, places, : self._size], packed.positions[rows, places])
        key = self._turn(self._seen["key"][:, packed.frames, : self._size], packed.positions[:, packed.frames])
        logits = torch.einsum("pd,pnd->pn", query, key[rows]) / self._size**0.5
        hidden = packed.frames[None, :] >= packed.sees[rows, places][:, None]
        return functional.cross_entropy(logits.masked_fill(hidden, -1e4), packed.points_to[rows, places])

    def _turn(self, states: Tensor, positions: Tensor) -> Tensor:
        """Rotary embedding; the three axes of a frame of one token have the same position."""
        angles = positions.unsqueeze(-1) * self._turns
        angles = torch.cat([angles, angles], dim=-1)
        left, right = states.chunk(2, dim=-1)
        return states * angles.cos() + torch.cat([-right, left], dim=-1) * angles.sin()


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
            faults = torch.zeros(int(packed.question.max()) + 1, dtype=torch.long)
            faults.index_add_(0, packed.question[taught], wrong.long())
            asked = [question for window in windows for question in window.questions]
            for question, count in zip(asked, faults.tolist(), strict=True):
                right.setdefault(question.kind, []).append(count == 0)
                if question.kind == "object" and question.things[0] in HELD_OUT:
                    right.setdefault("object, unseen pair", []).append(count == 0)
    return {kind: round(float(np.mean(values)), 3) for kind, values in sorted(right.items())}


def draw_batch(rng: np.random.Generator, bank: Bank, chapter: Chapter) -> list[Window]:
    """Windows of one length, about as many tokens of them as the chapter says."""
    least, most = chapter.lesson.frames
    # Even over the orders of magnitude: short windows are cheap, and there should be many.
    frames = int(np.exp(rng.uniform(np.log(least), np.log(most + 1))))
    per_window = frames * _TOKENS_PER_FRAME + chapter.parts * _TOKENS_PER_PART
    count = max(1, chapter.tokens // per_window)
    return [draw_window(rng, bank, chapter.lesson, frames=frames, questions=chapter.parts) for _ in range(count)]


def loss_of_batch(
    model: Any, guide: Guide, packer: WindowPacker, bank: Bank, chapter: Chapter, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Mean loss over the tokens that one batch of the chapter teaches, as ``text``, and the guide's losses."""
    windows = draw_batch(rng, bank, chapter)
    captions = rng.random() < chapter.captions
    packed = packer.captions(windows, rng, each=chapter.parts) if captions else packer.replies(windows)
    taught = packed.targets != NOT_TAUGHT
    logits = predict(model, packed, taught)
    for colour, shape in packer.held_out:
        # No competitor: else the model would learn that what is orange is never called a circle.
        logits = logits.index_put(
            ((packed.ids[taught] == colour).nonzero()[:, 0], torch.tensor(shape)), logits.new_tensor(-1e4)
        )
    return {"text": functional.cross_entropy(logits, packed.targets[taught]), **guide.losses(packed)}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is asked for; the same in all of its processes."""

    folder: Path
    vision: Path
    steps: int
    peak: float
    seed: int
    scenes: int
    processes: int
    start: Path | None
    meeting_place: str


def train(rank: int, plan: Plan) -> None:
    """One process of a training: draws batches of its own, and shares gradients with the others.

    Every process holds the same weights all the time; the first one writes. The checkpoint is
    written to ``folder/gens``.
    """
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=plan.meeting_place, rank=rank, world_size=plan.processes)
    torch.manual_seed(plan.seed)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    seen = torch.load(plan.vision, weights_only=True)
    model.model.visual.load_state_dict(seen["tower"])
    model.model.visual.requires_grad_(False)
    heads = Heads(model.config.vision_config.out_hidden_size)
    heads.load_state_dict(seen["heads"])
    name_what_is_seen(model, tokenizer, list(heads.readers))
    mean, scale = _even_scale(model, seed=plan.seed)
    _make_banks(plan, model.model.visual, rank)
    distributed.barrier()
    bank = join_banks([_read_bank(plan.folder / _BANK.format(part)) for part in range(plan.processes)])
    checks = _read_bank(plan.folder / _CHECKS)
    language = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(_decayed(language), lr=plan.peak, betas=(0.9, 0.98))
    run = Run(plan.folder, "gens")
    state = run.resume()
    first = 0
    if state is None and plan.start is not None:
        model.load_state_dict(load_file(plan.start / "model.safetensors"), strict=False)
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = int(state["step"])
    packer, guide = WindowPacker(tokenizer), Guide(model, heads, mean=mean, scale=scale)
    losses: list[dict[str, float]] = []
    for step in range(first, plan.steps):
        chapter = next(chapter for chapter in CURRICULUM if step / plan.steps < chapter.until)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps=plan.steps, peak=plan.peak, warm_up=150)
        rng = np.random.default_rng([plan.seed, step, rank])
        parts = loss_of_batch(model, guide, packer, bank, chapter, rng)
        loss = parts["text"] + _GUIDE_WEIGHT * (parts["pointing"] + parts["carrying"] + parts["knowing"])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        _share_gradients(language, plan.processes)
        nn.utils.clip_grad_norm_(language, 1.0)
        optimizer.step()
        losses.append({name: float(part.detach()) for name, part in parts.items()})
        if rank > 0:
            continue
        last = step + 1 == plan.steps
        if (step + 1) % 50 == 0 or last:
            means = {name: round(float(np.mean([one[name] for one in losses])), 4) for name in losses[0]}
            run.log(step=step + 1, **means, frames=list(chapter.lesson.frames))
            losses = []
        if (step + 1) % 250 == 0 or last:
            run.log(step=step + 1, exact=_check(model, packer, checks, chapter))
        run.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}, now=last)
    if rank == 0:
        save_checkpoint(model.half(), tokenizer, plan.folder / "gens")
    distributed.barrier()
    distributed.destroy_process_group()


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


def _check(model: Any, packer: WindowPacker, checks: Bank, chapter: Chapter) -> dict[str, float]:
    """Replies on scenes of other seeds, about things that were never shown as well."""
    rng = np.random.default_rng(7)
    batches = []
    held_out = sorted(HELD_OUT)
    lesson = chapter.lesson
    for number in range(12):
        frames = int(rng.integers(lesson.frames[0], lesson.frames[1] + 1))
        about = held_out[number % len(held_out)]
        windows = [draw_window(rng, checks, lesson, frames=frames, questions=16, about=about) for _ in range(2)]
        batches.append((packer.replies(windows), windows))
    return exact_replies(model, batches)


_BANK: Final = "bank-{}.pt"
_CHECKS: Final = "checks.pt"


def _make_banks(plan: Plan, visual: Any, rank: int) -> None:
    """The process's part of the frames to learn from, and in the last one those to check with; made once in a run."""
    wanted = [(_BANK.format(rank), plan.scenes // plan.processes, SEEN_THINGS, rank)]
    if rank == plan.processes - 1:
        wanted.append((_CHECKS, plan.scenes // 10, ALL_THINGS, 1000))
    for name, scenes, things, number in wanted:
        if not (plan.folder / name).is_file():
            bank = make_bank(visual, scenes=scenes, things=things, seed=plan.seed * 10_000 + number)
            torch.save(bank.state(), plan.folder / name)


def _read_bank(path: Path) -> Bank:
    return Bank.from_state(torch.load(path, weights_only=True))


def _even_scale(model: Any, *, seed: int) -> tuple[Tensor, float]:
    """Make features as large as the embeddings of words, around zero, through the tower's last layer.

    Returns:
        Their mean and their standard deviation before.
    """
    last = model.model.visual.merger.mlp[2]
    wanted = model.model.language_model.embed_tokens.weight.std()
    (sample,) = stream_pictures(seed=seed, size=512, first=0, last=1, nameless=0.0, workers=0)
    with torch.no_grad():
        features = frame_features(model.model.visual, sample.pixels)
        mean = features.mean(0)
        before = (features - mean).std()
        last.weight.mul_(wanted / before)
        last.bias.sub_(mean).mul_(wanted / before)
    return mean, float(before)


def _decayed(parameters: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """Weight decay for matrices, not for vectors."""
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.01},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]


def main() -> None:
    """``python -m bench.world.train_gens --out FOLDER --vision FOLDER/vision.pt``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; a stopped run goes on")
    parser.add_argument("--vision", type=Path, required=True, help="the trained vision tower's vision.pt")
    parser.add_argument("--start", type=Path, help="folder of a checkpoint of the same shape to start from")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--peak", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--scenes", type=int, default=8000, help="scenes in the bank of frames")
    parser.add_argument("--processes", type=int, default=2, help="of one thread each")
    given = vars(parser.parse_args())
    given["out"].mkdir(parents=True, exist_ok=True)
    meeting = given["out"].resolve() / "meeting"
    meeting.unlink(missing_ok=True)
    plan = Plan(folder=given.pop("out"), meeting_place=f"file://{meeting}", **given)
    spawn(train, args=(plan,), nprocs=plan.processes)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
