"""The fine stage: how long a question takes, and how many questions a second can be answered.

``python -m bench.latency.fine [--shape 3b|scaled|tiny] [--tokens 20 60 120] [--out FILE]``

All ways run in one process on the same random weights, the same frames and the same fixed lengths of
replies. ``upstream`` is how a published checkpoint is called: frames in their final size (decoding
and resizing are given to it for free) through transformers' image processor and ``generate``, one
question after another. ``strong`` is the most that transformers does: features from the vision
tower kept, questions about a window in one padded batch, the best size of batch. Ours is measured
``cold`` (features kept, the window new), ``warm`` (the window known), for many questions about one
window, for as many about different windows, and for one question about all segments of an hour.

Each is set against a floor: the time in which the device, at the rates that it reaches here in a
plain product of matrices and a plain copy, could do the arithmetic or read the bytes that no
implementation can avoid. The result says whether ours and ``generate`` wrote the same tokens.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.latency.fine_models import SHAPES, FineModel, make_model
from bench.memory import most_resident_mb
from bench.report import circumstances, print_table, write_result
from hybrid.errors import first_line
from hybrid.gens.frame_features import FrameFeatures
from hybrid.gens.loop.options import LoopOptions
from hybrid.gens.prompt import PromptSpec
from hybrid.values import ByteArray

if TYPE_CHECKING:
    import torch

    from hybrid.gens.loop.runner import Reply
    from hybrid.gens.qwen import QwenScorer

SIDE = 112


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured."""

    frames: int
    tokens: int
    questions: int
    windows: int
    segments: int
    repeats: int
    upstream_repeats: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One way: seconds a question (the middle one of the repeats), and its floor if it has one."""

    way: str
    tokens: int
    questions: int
    seconds: float
    floor_seconds: float | None = None


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    arguments = _arguments(argv)
    from hybrid.runtime import choose_device, choose_dtype, ensure_torchvision, settle_process

    settle_process()
    ensure_torchvision()
    device = choose_device(arguments.device)
    dtype = choose_dtype(arguments.dtype, device)
    shape = SHAPES[arguments.shape or ("3b" if device.type == "cuda" else "scaled")]
    bench = Bench(
        make_model(shape, device=device, dtype=dtype), arguments.frames, arguments.windows, graphs=arguments.graphs
    )
    rates = device_rates(device, dtype)
    rows: list[Measured] = []
    checks: dict[str, Any] = {}
    with most_resident_mb() as most:
        for tokens in arguments.tokens:
            plan = Plan(
                frames=arguments.frames,
                tokens=tokens,
                questions=arguments.questions,
                windows=arguments.windows,
                segments=arguments.segments,
                repeats=arguments.repeats,
                upstream_repeats=arguments.upstream_repeats,
            )
            measured, checks[str(tokens)] = bench.measure(plan, rates, strong=not arguments.no_strong)
            rows += measured
    print(f"{rates['flops'] / 1e9:.0f} GFLOP/s in a product of matrices, {rates['bytes'] / 1e9:.1f} GB/s read")
    print_table(HEADER, [_row(row, rows) for row in rows])
    _plot(rows)
    write_result(
        {
            "benchmark": "fine",
            **circumstances(),
            "shape": arguments.shape or ("3b" if device.type == "cuda" else "scaled"),
            "device": _device_name(device),
            "dtype": str(dtype).removeprefix("torch."),
            "frames": arguments.frames,
            "graphs": arguments.graphs,
            "rates": rates,
            "peak_mb": _peak_mb(device, most[0]),
            "checks": checks,
            "rows": [
                {name: getattr(row, name) for name in ("way", "tokens", "questions", "seconds", "floor_seconds")}
                for row in rows
            ],
        },
        arguments.out,
    )


HEADER = ("way", "tokens", "questions", "s/question", "x upstream", "x strong", "floor s", "% of floor")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shape", choices=sorted(SHAPES), help="by default 3b on CUDA, else scaled")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--frames", type=int, default=256)
    parser.add_argument("--tokens", type=int, nargs="+", default=[20, 60, 120])
    parser.add_argument("--questions", type=int, default=32, help="at once, about one window and about several")
    parser.add_argument("--windows", type=int, default=8, help="different windows; questions are spread over them")
    parser.add_argument("--segments", type=int, default=15, help="of --frames frames: 15 of 240 s are an hour")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--upstream-repeats", type=int, default=3)
    parser.add_argument("--graphs", action="store_true", help="CUDA graphs and our own kernels for decoding")
    parser.add_argument("--no-strong", action="store_true", help="leave the strong baseline out")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(argv)


class Bench:
    """Everything that is measured on one model."""

    def __init__(self, model: FineModel, frames: int, windows: int, *, graphs: bool) -> None:
        self._graphs = graphs
        rng = np.random.default_rng(0)
        self.model = model
        # Coarse blocks with grain: noise alone would look alike to the model in every frame.
        coarse = rng.integers(0, 200, (windows, frames, 4, 4, 3), dtype=np.uint8).repeat(28, 2).repeat(28, 3)
        self.windows: list[list[ByteArray]] = [
            list(window + rng.integers(0, 50, window.shape, dtype=np.uint8)) for window in coarse
        ]
        self.features: list[FrameFeatures] = self.scorer(1).features_of(self.windows)

    def scorer(self, tokens: int, *, constrained: bool = False, batch: int = 32) -> Ours:
        """Ours, with replies of so many tokens."""
        options = LoopOptions(constrained=constrained, batch=batch, prefix_bytes=64 * 2**30, graphs=self._graphs)
        return Ours(self.model.scorer(PromptSpec(max_new_tokens=tokens), options))

    def measure(self, plan: Plan, rates: dict[str, float], *, strong: bool) -> tuple[list[Measured], dict[str, Any]]:
        """All ways at one length of replies, and what they wrote compared."""
        features = self.features
        ours, theirs = self.scorer(plan.tokens, batch=plan.questions), Theirs(self.model, plan.tokens)
        question = iter(_questions())
        floors = Floors(self.model, rates, plan, ours.lengths(features[0], next(question)))
        rows: list[Measured] = []
        static_cache: str | None = None

        def add(way: str, count: int, repeats: int, run: Callable[[int], object], floor: float | None = None) -> None:
            run(-1)
            times = [_timed(self.model, run, place) / count for place in range(repeats)]
            rows.append(Measured(way, plan.tokens, count, statistics.median(times), floor))

        def window(place: int) -> int:
            return place % len(self.windows)

        spec = PromptSpec(max_new_tokens=plan.tokens)
        add(
            "upstream",
            1,
            plan.upstream_repeats,
            lambda n: theirs.from_frames(self.windows[window(n)], spec, next(question)),
            floors.upstream(),
        )
        if strong:
            for batch in (1, 4, 16):
                if batch > plan.questions:
                    continue
                add(
                    f"strong, one window, batch {batch}",
                    batch,
                    plan.upstream_repeats,
                    lambda n, batch=batch: theirs.from_features(  # type: ignore[misc]
                        ours.scorer, features[window(n)], [next(question) for _ in range(batch)]
                    ),
                )

            if self.model.model.device.type == "cuda":
                try:
                    add(
                        "strong, one window, static cache",
                        1,
                        plan.upstream_repeats,
                        lambda n: theirs.from_features(ours.scorer, features[window(n)], [next(question)], static=True),
                    )
                except Exception as exc:  # compiled by transformers itself, which not all of its versions can here
                    static_cache = first_line(exc)

        def cold(n: int) -> None:
            ours.forget()
            ours.run([features[window(n)]], [next(question)])

        def many(n: int) -> None:
            ours.run([features[window(n)]] * plan.questions, [next(question) for _ in range(plan.questions)])

        def distinct(n: int) -> None:
            ours.forget()
            count = len(self.windows)
            ours.run([features[place % count] for place in range(count)], [next(question) for _ in range(count)])

        add("ours, cold", 1, plan.repeats, cold, floors.cold())
        ours.run(features, [next(question) for _ in features])
        add("ours, warm", 1, plan.repeats, lambda n: ours.run([features[window(n)]], [next(question)]), floors.warm())
        add(f"ours, one window x{plan.questions}", plan.questions, plan.repeats, many, floors.many())
        add(
            f"ours, {len(self.windows)} new windows",
            len(self.windows),
            plan.repeats,
            distinct,
            floors.distinct(len(self.windows)),
        )
        rows += self._parts(plan, question, ours, floors)
        rows += self._segments(plan, question)
        rows += self._constrained(plan, question)
        return rows, {**self._checks(plan, ours, theirs, spec), "static_cache_failed": static_cache}

    def _parts(self, plan: Plan, question: Iterator[str], ours: Ours, floors: Floors) -> list[Measured]:
        """Reading a window, and one step of decoding with one row and with many, as ours reports them."""
        read, step, steps = [], [], []
        for n in range(plan.repeats):
            features = self.features[n % len(self.features)]
            ours.forget()
            alone = ours.run([features], [next(question)])[0]
            read.append(alone.seconds["prefix"])
            step.append(alone.seconds["decode"] / (plan.tokens - 1))
            many = ours.run([features] * plan.questions, [next(question) for _ in range(plan.questions)])
            steps.append(sum(reply.seconds["decode"] for reply in many) / (plan.tokens - 1))
        rows = plan.questions
        return [
            Measured("  reading a window", plan.tokens, 1, statistics.median(read), floors.read()),
            Measured("  a step, 1 row", plan.tokens, 1, statistics.median(step), floors.step(rows=1, prefixes=1)),
            Measured(
                f"  a step, {rows} rows",
                plan.tokens,
                rows,
                statistics.median(steps),
                floors.step(rows=rows, prefixes=1),
            ),
        ]

    def _segments(self, plan: Plan, question: Iterator[str]) -> list[Measured]:
        """One question about every segment of an hour whose prefixes are kept."""
        ours = self.scorer(plan.tokens, batch=plan.segments)
        # The same content under another key is another segment to the cache, and costs the same.
        parts = [replace(self.features[n % len(self.features)], key=f"segment {n}") for n in range(plan.segments)]
        ours.run(parts, [next(question)] * len(parts))
        times = []
        for _ in range(plan.repeats):
            asked = next(question)
            times.append(_timed(self.model, lambda _, asked=asked: ours.run(parts, [asked] * len(parts)), 0))  # type: ignore[misc]
        return [Measured(f"ours, all {plan.segments} segments", plan.tokens, 1, statistics.median(times))]

    def _constrained(self, plan: Plan, question: Iterator[str]) -> list[Measured]:
        """Warm, in GenS's form; and the time until the first entry is there."""
        ours = self.scorer(plan.tokens, constrained=True)
        ours.run(self.features, [next(question) for _ in self.features], hold_open=True)
        whole, first, first_cold = [], [], []
        for n in range(plan.repeats):
            features = self.features[n % len(self.features)]
            whole.append(_timed(self.model, lambda _, f=features: ours.run([f], [next(question)], hold_open=True), 0))  # type: ignore[misc]
            first.append(ours.first_entry(features, next(question)))
            ours.forget()
            first_cold.append(ours.first_entry(features, next(question)))
            ours.run([features], [next(question)], hold_open=True)
        return [
            Measured("ours, warm, in its form", plan.tokens, 1, statistics.median(whole)),
            Measured("ours, first entry, warm", plan.tokens, 1, statistics.median(first)),
            Measured("ours, first entry, cold", plan.tokens, 1, statistics.median(first_cold)),
        ]

    def _checks(self, plan: Plan, ours: Ours, theirs: Theirs, spec: PromptSpec) -> dict[str, Any]:
        """Whether all ways write the same tokens (in 32 bits they must), and how often the form changes them."""
        asked = [text for text, _ in zip(_questions(), range(4), strict=False)]
        windows = [n % len(self.windows) for n in range(4)]
        expected = [theirs.from_frames(self.windows[n], spec, text) for n, text in zip(windows, asked, strict=True)]
        ours.forget()
        together = ours.run([self.features[n] for n in windows], asked)
        agreed = [
            sum(a == b for a, b in zip(mine.ids, reference, strict=True)) / len(reference)
            for mine, reference in zip(together, expected, strict=True)
        ]
        form = self.scorer(plan.tokens, constrained=True).run([self.features[n] for n in windows], asked)
        return {
            "replies": len(asked),
            "same_as_generate": sum(share == 1 for share in agreed),
            "tokens_agreeing": statistics.mean(agreed),
            "changed_by_the_form": sum(mine.ids != other.ids for mine, other in zip(together, form, strict=True)),
        }


class Ours:
    """Our scorer, asked for replies of a fixed length."""

    def __init__(self, scorer: QwenScorer) -> None:
        self.scorer = scorer

    def features_of(self, windows: list[list[ByteArray]]) -> list[FrameFeatures]:
        """What an index would keep."""
        return [self.scorer.encode_frames(frames) for frames in windows]

    def forget(self) -> None:
        """Drop what is kept of windows."""
        self.scorer.prefix_cache.clear()

    def lengths(self, features: FrameFeatures, question: str) -> tuple[int, int]:
        """Tokens of the prefix and of what follows it."""
        request = self.scorer._requests([features], [question])[0]
        return request.prefix_tokens, len(request.suffix)

    def run(
        self, features: Sequence[FrameFeatures], questions: Sequence[str], *, hold_open: bool = False
    ) -> list[Reply]:
        """Ask, decode and read the replies.

        Args:
            features: one per question.
            questions: what is asked.
            hold_open: with a form: no reply closes before its limit, so that all have one length.
        """
        requests = self.scorer._requests(features, questions)
        if hold_open:
            requests = [replace(request, tables=self._held_open(request.tables)) for request in requests]
        replies = self.scorer._runner.run(requests)
        for window, reply in zip(features, replies, strict=True):
            self.scorer._scores(window, reply, {})
        return replies

    def first_entry(self, features: FrameFeatures, question: str) -> float:
        """Seconds until the first entry of a reply in its form is complete."""
        came: list[float] = []

        def note(_: int, ids: Sequence[int], finished: bool) -> None:
            if not came and (finished or "," in self.scorer._text(ids)):
                came.append(time.perf_counter())

        requests = self.scorer._requests([features], [question])
        requests = [replace(request, tables=self._held_open(request.tables)) for request in requests]
        started = time.perf_counter()
        self.scorer._runner.run(requests, on_tokens=note)
        return came[0] - started

    def _held_open(self, tables: Any) -> Any:
        """The form without its closing brace, and without a need to reach it."""
        grammar = self.scorer._grammar
        assert grammar is not None
        known: dict[int, Any] = self.__dict__.setdefault("_open_tables", {})
        if id(tables) not in known:
            following = tables.following.copy()
            closing = [n for n, token in enumerate(grammar.token_ids) if token in grammar.closing_ids]
            following[:, closing] = -1
            known[id(tables)] = replace(tables, following=following, distance=np.zeros_like(tables.distance))
        return known[id(tables)]


class Theirs:
    """transformers' own ``generate`` on the same model."""

    def __init__(self, model: FineModel, tokens: int) -> None:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        self._model = model
        self._processor = Qwen2VLImageProcessorPil.from_pretrained(model.folder)
        self._length = {"do_sample": False, "min_new_tokens": tokens, "max_new_tokens": tokens}

    def from_frames(self, frames: list[ByteArray], spec: PromptSpec, question: str) -> list[int]:
        """As a published checkpoint is called: pixels in, one question."""
        pixels = self._processor(
            images=frames, size={"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE}, return_tensors="pt"
        )
        blocks = tuple(int(n) // 4 for n in pixels["image_grid_thw"].prod(-1))
        text = self._model.tokenizer(spec.render(question, tokens_per_block=blocks), return_tensors="pt")
        inputs = {**text, "image_grid_thw": pixels["image_grid_thw"]}
        inputs["pixel_values"] = pixels["pixel_values"].to(self._model.model.dtype)
        return self._generate(inputs)[0]

    def from_features(
        self, scorer: QwenScorer, features: FrameFeatures, questions: Sequence[str], *, static: bool = False
    ) -> list[list[int]]:
        """Features kept, all questions about a window in one batch, filled up on the left."""
        import torch

        requests = scorer._requests([features] * len(questions), questions)
        prefix = scorer._visual_prefix(tuple(rows * columns for rows, columns in features.grids))
        whole = [[*prefix.ids, *request.suffix] for request in requests]
        longest = max(map(len, whole))
        ids = torch.tensor([[0] * (longest - len(each)) + each for each in whole])
        mask = torch.tensor([[0] * (longest - len(each)) + [1] * len(each) for each in whole])
        device = self._model.model.device
        embedded = self._model.model.get_input_embeddings()(ids.to(device)).clone()
        visual = ids == self._model.model.config.image_token_id
        embedded[visual.to(device)] = torch.cat(features.items).repeat(len(questions), 1)
        grid = torch.tensor([(1, 2 * rows, 2 * columns) for rows, columns in features.grids]).repeat(len(questions), 1)
        inputs = {"input_ids": ids, "inputs_embeds": embedded, "attention_mask": mask, "image_grid_thw": grid}
        return self._generate(inputs, **({"cache_implementation": "static"} if static else {}))

    def _generate(self, inputs: dict[str, Any], **options: Any) -> list[list[int]]:
        import torch

        model = self._model.model
        kinds = (inputs["input_ids"] == model.config.image_token_id).long()
        moved = {name: part.to(model.device) for name, part in {**inputs, "mm_token_type_ids": kinds}.items()}
        with torch.inference_mode():
            written = model.generate(**moved, **self._length, **options)
        new: list[list[int]] = written[:, -self._length["max_new_tokens"] :].tolist()
        return new


class Floors:
    """The least time that a device with these rates needs, in seconds a question."""

    def __init__(self, model: FineModel, rates: dict[str, float], plan: Plan, lengths: tuple[int, int]) -> None:
        self._shape = model.shape
        self._value_bytes = model.model.dtype.itemsize
        self._rates = rates
        self._plan = plan
        self._prefix, self._suffix = lengths

    def upstream(self) -> float:
        """Vision, reading, and one row of decoding."""
        return self._vision() + self.cold()

    def cold(self) -> float:
        """Reading, and one row of decoding."""
        return self.read() + self.warm()

    def read(self) -> float:
        """Reading a window."""
        return self._flops(self._shape.read_flops(self._prefix))

    def warm(self) -> float:
        """Reading the question, and one row of decoding."""
        return self._question() + self._decode(rows=1, prefixes=1)

    def many(self) -> float:
        """The same for many questions about one window together."""
        rows = self._plan.questions
        return self._question() + self._decode(rows=rows, prefixes=1) / rows

    def distinct(self, windows: int) -> float:
        """One question each about new windows together."""
        return self.read() + self._question() + self._decode(rows=windows, prefixes=windows) / windows

    def _question(self) -> float:
        return self._flops(self._shape.read_flops(self._suffix, before=self._prefix))

    def _decode(self, *, rows: int, prefixes: int) -> float:
        """All steps but the first token, which comes with the question."""
        return (self._plan.tokens - 1) * self.step(rows=rows, prefixes=prefixes)

    def step(self, *, rows: int, prefixes: int) -> float:
        """One step with so many rows that read so many different prefixes."""
        read = self._shape.step_bytes(
            rows=rows,
            tails=self._suffix + self._plan.tokens // 2,
            prefixes=prefixes * self._prefix,
            value_bytes=self._value_bytes,
            head_rows=self._shape.vocabulary,
        )
        flops = rows * self._shape.read_flops(1, before=self._prefix + self._suffix)
        return max(read / self._rates["bytes"], self._flops(flops))

    def _vision(self) -> float:
        shape = self._shape
        weights = shape.vision_layers * (
            4 * shape.vision_hidden**2 + 3 * shape.vision_hidden * shape.vision_intermediate
        )
        return self._flops(2 * weights * (SIDE // 14) ** 2 * self._plan.frames)

    def _flops(self, flops: float) -> float:
        return flops / self._rates["flops"]


def device_rates(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Operations a second in a product of large matrices, and bytes a second of a large read."""
    import torch

    size = 8192 if device.type == "cuda" else 1024
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    many = torch.ones((2**32 if device.type == "cuda" else 2**28) // dtype.itemsize, device=device, dtype=dtype)

    def best(run: Callable[[], object]) -> float:
        times = []
        for _ in range(6):
            _synchronise(device)
            started = time.perf_counter()
            run()
            _synchronise(device)
            times.append(time.perf_counter() - started)
        return min(times)

    return {"flops": 2 * size**3 / best(lambda: one @ other), "bytes": many.nbytes / best(lambda: many.sum())}


def _questions() -> Iterator[str]:
    """Questions of one length without end, none twice in a benchmark."""
    number = 100_000
    while True:
        number += 1
        yield f"What happens after the person in the kitchen puts down object number {number}, and where is it then?"


def _timed(model: FineModel, run: Callable[[int], object], place: int) -> float:
    _synchronise(model.model.device)
    started = time.perf_counter()
    run(place)
    _synchronise(model.model.device)
    return time.perf_counter() - started


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def _device_name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def _peak_mb(device: torch.device, resident: float) -> float:
    import torch

    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else resident


def _row(row: Measured, rows: list[Measured]) -> list[str]:
    same = [other for other in rows if other.tokens == row.tokens]
    upstream = next(other.seconds for other in same if other.way == "upstream")
    strong = min((other.seconds for other in same if other.way.startswith("strong")), default=None)
    return [
        row.way,
        str(row.tokens),
        str(row.questions),
        f"{row.seconds:.4g}",
        f"{upstream / row.seconds:.1f}",
        f"{strong / row.seconds:.1f}" if strong is not None else "",
        f"{row.floor_seconds:.3g}" if row.floor_seconds is not None else "",
        f"{100 * row.floor_seconds / row.seconds:.0f}" if row.floor_seconds is not None else "",
    ]


def _plot(rows: list[Measured]) -> None:
    """Bars of speed against upstream, each further character a doubling by a quarter."""
    for tokens in sorted({row.tokens for row in rows}):
        same = [row for row in rows if row.tokens == tokens]
        upstream = same[0].seconds
        print(f"speed against upstream, {tokens} tokens (each # is a factor of 2^(1/4))")
        for row in same:
            bar = "#" * max(0, round(4 * np.log2(max(upstream / row.seconds, 1))))
            print(f"  {row.way:28} {upstream / row.seconds:8.1f} {bar}")


if __name__ == "__main__":
    main()
