"""The fine stage: how long a question takes, and how many questions a second can be answered.

``python -m bench.latency.fine [--shape 3b|scaled|tiny] [--tokens 60 20 120] [--graphs] [--out FILE]``

All ways run in one process on the same random weights, the same frames and the same fixed lengths of
replies. ``upstream`` is how a published checkpoint is called: frames in their final size (decoding
and resizing are given to it for free) through transformers' image processor and ``generate``, one
question after another. ``strong`` is the most that transformers does: features from the vision
tower kept, questions about a window in one padded batch, the best size of batch (and, with
``--static``, its compiled static cache). Ours is measured ``cold`` (features kept, the window new),
``warm`` (the window known), for many questions about one window, for as many about different
windows, and for one question about all segments of an hour.

Each is set against a floor: the time in which the device, at the rates that it reaches here in a
plain product of matrices and a plain copy, could do the arithmetic or read the bytes that no
implementation can avoid. The result says whether ours and ``generate`` wrote the same tokens.

What is measured is printed, and kept in ``--out``, as it comes; where ``--budget-seconds`` runs out,
what is left is named as not measured.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.command import make_parser, run_command
from bench.latency.fine.floors import Floors, device_rates
from bench.latency.fine.inputs import make_frames, make_questions
from bench.latency.fine.models import SHAPES, FineModel, make_model
from bench.latency.fine.profile import profile_ours
from bench.latency.fine.record import Record
from bench.latency.fine.ways import Ours, Theirs
from bench.report import circumstances
from hybrid.fine.features import FrameFeatures
from hybrid.fine.prompt import PromptSpec
from hybrid.values import ByteArray

if TYPE_CHECKING:
    import torch

    from hybrid.fine.writer import Reply

_PROFILED_TOKENS = 13
"""Three recordings of four steps, behind the token that comes with the question."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    started = time.perf_counter()
    arguments = _arguments(argv)
    from hybrid.runtime import choose_device, choose_dtype, ensure_torchvision, settle_process

    settle_process()
    ensure_torchvision()
    device = choose_device(arguments.device)
    dtype = choose_dtype(arguments.dtype, device)
    name = arguments.shape or ("3b" if device.type == "cuda" else "scaled")
    rates = device_rates(device, dtype)
    model = make_model(SHAPES[name], device=device, dtype=dtype)
    about = {
        **circumstances(),
        "shape": name,
        "device": _device_name(device),
        "dtype": str(dtype).removeprefix("torch."),
        "frames": arguments.frames,
        "graphs": arguments.graphs,
        "rates": rates,
    }
    record = Record(
        about,
        arguments.out,
        device=device,
        until=None if arguments.budget_seconds is None else started + arguments.budget_seconds,
        keep_going=arguments.keep_going,
        only=arguments.only,
    )
    print(f"{rates['flops'] / 1e9:.0f} GFLOP/s in a product of matrices, {rates['bytes'] / 1e9:.1f} GB/s moved")
    print(f"ready after {time.perf_counter() - started:.1f} s", flush=True)
    bench = Bench(model, record, arguments, rates)
    if arguments.profile:
        record.attempt("profile", lambda: bench.profile(arguments.tokens[0]))
    for tokens in arguments.tokens:
        bench.measure(tokens)
    record.finish()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--shape", choices=sorted(SHAPES), help="by default 3b on CUDA, else scaled")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--frames", type=int, default=256)
    parser.add_argument("--tokens", type=int, nargs="+", default=[60, 20, 120])
    parser.add_argument("--questions", type=int, default=32, help="at once, about one window")
    parser.add_argument("--windows", type=int, default=4, help="that are encoded, and taken in turn")
    parser.add_argument("--distinct", type=int, nargs="+", default=[8, 32], help="new windows at once, a question each")
    parser.add_argument("--segments", type=int, default=15, help="of --frames frames: 15 of 240 s are an hour")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--checks", type=int, default=2, help="replies that are compared with those of generate")
    parser.add_argument("--upstream-repeats", type=int, default=3)
    parser.add_argument("--graphs", action="store_true", help="CUDA graphs and our own kernels")
    parser.add_argument("--no-strong", action="store_true", help="leave the strong baseline out")
    parser.add_argument("--static", action="store_true", help="the strong baseline's static cache too (compiles)")
    parser.add_argument("--profile", action="store_true", help="print where the time of reading and decoding goes")
    parser.add_argument("--only", nargs="+", metavar="WAY", help="measure only what begins so: warm parts upstream ...")
    parser.add_argument("--budget-seconds", type=float, help="begin nothing new after so long")
    parser.add_argument("--keep-going", action="store_true", help="go on with the next way where one fails")
    return parser.parse_args(argv)


class Bench:
    """Everything that is measured on one model.

    Args:
        model: on which.
        record: takes what is measured.
        arguments: of the command line.
        rates: of the device.
    """

    def __init__(
        self, model: FineModel, record: Record, arguments: argparse.Namespace, rates: dict[str, float]
    ) -> None:
        self.model, self.record, self.arguments, self._rates = model, record, arguments, rates
        self.windows: list[list[ByteArray]] = make_frames(arguments.windows, arguments.frames)
        scorer = self._ours(2).scorer
        self.features: list[FrameFeatures] = [scorer.encode_frames(frames) for frames in self.windows]
        self._question = make_questions()

    def profile(self, tokens: int) -> dict[str, Any]:
        """Where the time goes; see :func:`bench.latency.fine.profile.profile_ours`."""
        ours = self._ours(min(tokens, _PROFILED_TOKENS), batch=self.arguments.questions)
        return profile_ours(ours, self.features, self._question, rows=self.arguments.questions)

    def measure(self, tokens: int) -> None:
        """All ways at one length of replies, and what they wrote compared."""
        arguments, add = self.arguments, self.record.measure
        ours = self._ours(tokens, batch=max(arguments.questions, *arguments.distinct))
        floors = self._floors(ours, tokens)
        add("warm", tokens, lambda n: self._warm(ours, n), repeats=arguments.repeats, floor=floors.warm())
        add("cold", tokens, lambda n: self._cold(ours, n), repeats=arguments.repeats, floor=floors.cold())
        self._parts(ours, tokens, floors)
        count = arguments.questions
        add(
            f"one window x{count}",
            tokens,
            lambda n: self._many(ours, n, count),
            questions=count,
            repeats=arguments.repeats,
            floor=floors.many(count),
        )
        theirs = Theirs(self.model, tokens)
        spec = PromptSpec(max_new_tokens=tokens)
        add(
            "upstream",
            tokens,
            lambda n: theirs.from_frames(self.windows[n % len(self.windows)], spec, next(self._question)),
            repeats=arguments.upstream_repeats,
            floor=floors.upstream(),
        )
        for distinct in arguments.distinct:
            add(
                f"{distinct} new windows",
                tokens,
                lambda n, distinct=distinct: self._new_windows(ours, distinct),  # type: ignore[misc]
                questions=distinct,
                repeats=max(1, arguments.repeats // 2),
                floor=floors.distinct(distinct),
            )
        self._segments(tokens, floors)
        self._constrained(tokens)
        if not arguments.no_strong:
            self._strong(theirs, ours, tokens)
        if arguments.graphs:
            plain = self._ours(tokens, graphs=False)
            add("warm, without graphs", tokens, lambda n: self._warm(plain, n), repeats=2, floor=floors.warm())
        self.record.attempt(f"checks {tokens}", lambda: self._checks(tokens, ours, theirs))

    def _ours(self, tokens: int, *, graphs: bool | None = None, **options: Any) -> Ours:
        return Ours(self.model, tokens, graphs=self.arguments.graphs if graphs is None else graphs, **options)

    def _floors(self, ours: Ours, tokens: int) -> Floors:
        prefix, suffix = ours.lengths(self.features[0], next(self._question))
        self.record.attempt("lengths", lambda: {"prefix_tokens": prefix, "question_tokens": suffix})
        return Floors(
            shape=self.model.shape,
            value_bytes=self.model.model.dtype.itemsize,
            rates=self._rates,
            frames=self.arguments.frames,
            tokens=tokens,
            prefix=prefix,
            suffix=suffix,
            head_rows=self.model.shape.vocabulary,
        )

    def _window(self, n: int) -> FrameFeatures:
        return self.features[n % len(self.features)]

    def _ask(self, count: int) -> list[str]:
        return list(itertools.islice(self._question, count))

    def _know_all(self, ours: Ours) -> None:
        """Have all windows read, before what is known of them is measured."""
        for window in self.features:
            ours.run([window], self._ask(1))

    def _warm(self, ours: Ours, n: int) -> list[Reply]:
        if n < 0:
            self._know_all(ours)
        return ours.run([self._window(n)], self._ask(1))

    def _many(self, ours: Ours, n: int, count: int) -> list[Reply]:
        if n < 0:
            self._know_all(ours)
        return ours.run([self._window(n)] * count, self._ask(count))

    def _cold(self, ours: Ours, n: int) -> list[Reply]:
        ours.forget()
        return ours.run([self._window(n)], self._ask(1))

    def _renamed(self, count: int, name: str) -> list[FrameFeatures]:
        """The same content under another key is another window to the cache, and costs the same."""
        return [replace(self._window(n), key=f"{name} {n}") for n in range(count)]

    def _new_windows(self, ours: Ours, count: int) -> list[Reply]:
        ours.forget()
        return ours.run(self._renamed(count, "window"), self._ask(count))

    def _parts(self, ours: Ours, tokens: int, floors: Floors) -> None:
        """Reading a window or a question, and a step of decoding with one row and with many, as ours reports them."""
        rows, steps = self.arguments.questions, max(1, tokens - 1)
        found: dict[str, list[float]] = {"read": [], "question": [], "step": [], "steps": []}

        def once(n: int) -> None:
            alone = self._cold(ours, n)[0]
            many = ours.run([self._window(n)] * rows, self._ask(rows))
            found["read"].append(alone.seconds["prefix"])
            found["question"].append(alone.seconds["prefill"])
            found["step"].append(alone.seconds["decode"] / steps)
            found["steps"].append(sum(reply.seconds["decode"] for reply in many) / steps)

        def all_of_it() -> None:
            for n in range(-1, self.arguments.repeats):
                once(n)
            for part, label, floor in (
                ("read", "  reading a window", floors.read()),
                ("question", "  reading a question", floors.question()),
                ("step", "  a step, 1 row", floors.step(rows=1, prefixes=1)),
                ("steps", f"  a step, {rows} rows", floors.step(rows=rows, prefixes=1)),
            ):
                self.record.add(label, tokens, found[part][1:], floor=floor)

        self.record.attempt(f"parts {tokens}", all_of_it)

    def _segments(self, tokens: int, floors: Floors) -> None:
        """One question about every segment of an hour whose prefixes are kept."""
        count = self.arguments.segments
        ours = self._ours(tokens, batch=count)
        parts = self._renamed(count, "segment")
        self.record.measure(
            f"all {count} segments",
            tokens,
            lambda n: ours.run(parts, self._ask(1) * count),
            repeats=self.arguments.repeats,
            floor=floors.segments(count),
        )
        ours.forget()

    def _constrained(self, tokens: int) -> None:
        """Warm, in GenS's form; and the time until the first entry is there."""
        ours, repeats = self._ours(tokens, constrained=True), self.arguments.repeats
        self.record.measure("warm, in its form", tokens, lambda n: self._warm(ours, n), repeats=repeats)

        def first(n: int, cold: bool) -> float:
            if cold:
                ours.forget()
            return ours.first_entry(self._window(n), next(self._question))

        def both() -> None:
            self._know_all(ours)
            for label, cold in (("first entry, warm", False), ("first entry, cold", True)):
                self.record.add(label, tokens, [first(n, cold) for n in range(repeats)])

        self.record.attempt(f"first entries {tokens}", both)

    def _strong(self, theirs: Theirs, ours: Ours, tokens: int) -> None:
        for batch in (1, 4, 16):
            if batch <= self.arguments.questions:
                self.record.measure(
                    f"strong, batch {batch}",
                    tokens,
                    lambda n, batch=batch: theirs.from_features(ours.scorer, self._window(n), self._ask(batch)),  # type: ignore[misc]
                    questions=batch,
                    repeats=max(1, self.arguments.upstream_repeats - 1),
                )
        if self.arguments.static:
            self.record.measure(
                "strong, static cache",
                tokens,
                lambda n: theirs.from_features(ours.scorer, self._window(n), self._ask(1), static=True),
                repeats=self.arguments.upstream_repeats,
                optional=True,
            )

    def _checks(self, tokens: int, ours: Ours, theirs: Theirs) -> dict[str, Any]:
        """Whether all ways write the same tokens (in 32 bits they must), and how often the form changes them."""
        asked: list[str] = self._ask(self.arguments.checks)
        spec = PromptSpec(max_new_tokens=tokens)
        expected = [theirs.from_frames(self.windows[n % len(self.windows)], spec, text) for n, text in enumerate(asked)]
        ours.forget()
        windows = [self._window(n) for n in range(len(asked))]
        mine = [list(reply.ids) for reply in ours.run(windows, asked)]
        form = [list(reply.ids) for reply in self._ours(tokens, constrained=True).run(windows, asked)]
        equal = [[a == b for a, b in zip(*pair, strict=True)] for pair in zip(mine, expected, strict=True)]
        return {
            "replies": len(asked),
            "same_as_generate": sum(all(each) for each in equal),
            "tokens_before_the_first_difference": [([*each, False]).index(False) for each in equal],
            "tokens_agreeing": statistics.mean(sum(each) / len(each) for each in equal),
            "changed_by_the_form": sum(one != other for one, other in zip(mine, form, strict=True)),
        }


def _device_name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    run_command(main)
