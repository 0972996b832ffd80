"""What a run selected, for those who evaluate elsewhere: no question is asked again.

    python -m bench.accuracy.export RUN --method hybrid --to lmms-eval --out FOLDER [--clips]
    python -m bench.accuracy.export RUN --method hybrid --to rag --out FILE.json --frames 64 [--consumer qwen2_vl]

``RUN`` is the folder of ``python -m bench.accuracy``. See :mod:`hybrid.exports` for the forms and their traps.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.accuracy.record import read_run
from hybrid.engine import Engine
from hybrid.errors import HybridError, InputError
from hybrid.exports.gens_rag import save_rag_file
from hybrid.exports.lmms_eval import Images, save_selection
from hybrid.values import Answer

__all__ = ["answers_of", "main"]


def answers_of(run: Path, method: str, *, allow_degraded: bool = False) -> dict[str, Answer]:
    """The answers of a method by question.

    Args:
        run: the run's folder.
        method: which.
        allow_degraded: take answers of which a stage did not do as asked; the files do not tell them from others.

    Raises:
        InputError: the run has none, or not all yet, or some questions failed or are degraded: a file that lacks
            them, or holds what another method chose, would not say so.
    """
    settings, samples = read_run(run)
    own = {name: sample for (done, name), sample in samples.items() if done == method}
    if not own:
        methods = ", ".join(sorted({done for done, _ in samples})) or "none"
        raise InputError(f"{run} holds no samples of {method!r}; its methods are: {methods}")
    failed = [name for name, sample in own.items() if sample.selection is None]
    if failed:
        raise InputError(f"{len(failed)} questions have no selection, first {failed[0]}; run again with --retry-failed")
    wanted = settings["dataset"]["questions"]
    if len(own) != wanted:
        raise InputError(
            f"{run} is not finished: it holds {len(own)} of {wanted} samples of {method!r}; repeat the run's command, "
            "which goes on where it was"
        )
    degraded = [sample for sample in own.values() if sample.degraded]
    if degraded and not allow_degraded:
        raise InputError(
            f"{len(degraded)} of {len(own)} samples of {method!r} are degraded, first {degraded[0].id} "
            f"({degraded[0].degraded[0]}); --allow-degraded exports them as they are"
        )
    return {name: Answer.from_dict(sample.selection) for name, sample in own.items() if sample.selection is not None}


def main(argv: Sequence[str] | None = None) -> None:
    """Read, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path)
    parser.add_argument("--method", required=True)
    parser.add_argument("--to", choices=("lmms-eval", "rag"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--archive", help="folder of the indexes, or s3://BUCKET/PREFIX; needed for lmms-eval")
    parser.add_argument("--allow-degraded", action="store_true", help="export samples that fell back as well")
    parser.add_argument("--clips", action="store_true", help="for lmms-eval: a clip of the frames besides")
    parser.add_argument("--frames", type=int, default=64, help="for rag: how many the model is shown at most")
    parser.add_argument("--consumer", choices=("llava", "qwen2_vl"), default="llava", help="for rag")
    given = parser.parse_args(argv)
    answers = answers_of(given.run, given.method, allow_degraded=given.allow_degraded)
    if given.to == "rag":
        short = save_rag_file(answers, given.out, frames=given.frames, consumer=given.consumer)
        print(f"{len(answers)} lines, {len(short)} with fewer than {given.frames} frames: {given.out}")
        return
    if given.archive is None:
        raise InputError("lmms-eval is given pictures: name the folder of the indexes (--archive) to decode them")
    with Engine.open(given.archive) as engine:

        def images(answer: Answer) -> Images:
            return engine.read_frames(answer.video, [frame.ordinal for frame in answer.frames])

        save_selection(answers, images, given.out, clips=given.clips)
    print(f"{len(answers)} questions: {given.out}")


if __name__ == "__main__":
    try:
        main()
    except HybridError as exc:
        sys.exit(f"bench.accuracy.export: {exc}")
