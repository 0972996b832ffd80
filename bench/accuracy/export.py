"""What a run selected, for those who evaluate elsewhere: no question is asked again.

    python -m bench.accuracy.export RUN --method hybrid --to lmms-eval --out FOLDER [--clips]
    python -m bench.accuracy.export RUN --method hybrid --to rag --out FILE.json --data FILE [--consumer qwen2_vl]
    python -m bench.accuracy.export RUN --method hybrid --to aks --out FOLDER --frames 64 --data lvb_val.json [--repeat]

``RUN`` is the folder of ``python -m bench.accuracy``. See :mod:`hybrid.export` for the forms and their traps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.accuracy.answerers.prompts import write_prompt
from bench.accuracy.run.record import part_of, read_run
from bench.command import make_parser, run_command
from bench.datasets.files import read_records
from bench.datasets.registry import load_questions
from hybrid.answers import Answer
from hybrid.engine import Engine
from hybrid.errors import InputError
from hybrid.export.benchmarks.aks_frames import save_aks_frames
from hybrid.export.benchmarks.gens_rag import save_rag_file
from hybrid.export.benchmarks.lmms_eval import save_selection
from hybrid.export.interface import Pictures
from hybrid.export.output_file import RAG, check_output

__all__ = ["answers_of", "export_aks", "main", "prompts_of"]

ID_KEYS = ("id", "question_id", "qid")
"""Under which data sets publish the id of a question."""


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
    expected = part_of(settings, "dataset", run).get("questions")
    if len(own) != expected:
        raise InputError(
            f"{run} is not finished: it holds {len(own)} of {expected} samples of {method!r}; "
            "repeat the run's command, which continues it"
        )
    degraded = [sample for sample in own.values() if sample.degraded]
    if degraded and not allow_degraded:
        raise InputError(
            f"{len(degraded)} of {len(own)} samples of {method!r} are degraded, first {degraded[0].id} "
            f"({degraded[0].degraded[0]}); --allow-degraded exports them as they are"
        )
    return {name: Answer.from_dict(sample.selection) for name, sample in own.items() if sample.selection is not None}


def export_aks(
    answers: Mapping[str, Answer], annotations: Path, folder: Path, *, frames: int, repeat: bool = False
) -> tuple[int, ...]:
    """Write the frame lists of AKS's authors, in the order of the benchmark's own file.

    Args:
        answers: by the benchmark's id of the question.
        annotations: the file that the run's questions came from. Of a run over some of them, both files that are
            written hold these alone.
        folder, frames, repeat: as in :func:`hybrid.export.benchmarks.aks_frames.save_aks_frames`.

    Returns:
        The places of the lists that are shorter than ``frames``.

    Raises:
        InputError: the annotations have no ids, or lack one of the run's; or as ``save_aks_frames``.
        DatasetError: the annotations cannot be read.
        SaveError: a file cannot be written.
    """
    records = read_records(annotations)
    key = next((key for key in ID_KEYS if records and key in records[0]), None)
    if key is None:
        raise InputError(
            f"the annotations of {annotations} have none of the keys {', '.join(ID_KEYS)}, so that it is not known "
            "which answer is to which of them; call hybrid.export.benchmarks.aks_frames.save_aks_frames with both in "
            "order"
        )
    asked = [record for record in records if str(record.get(key)) in answers]
    if len(asked) != len(answers):
        lacking = next(name for name in answers if name not in {str(record.get(key)) for record in records})
        raise InputError(f"{annotations} has no annotation for question {lacking}; take the file that the run was over")
    ordered = [_as_published(answers[str(record[key])], record) for record in asked]
    return save_aks_frames(ordered, asked, folder, frames=frames, repeat=repeat)


def _as_published(answer: Answer, annotation: Mapping[str, Any]) -> Answer:
    """The answer to the question as it is published: a run with --with-options asked it together with the options."""
    question = str(annotation.get("question", ""))
    return replace(answer, question=question) if answer.question.startswith(f"{question}\n") else answer


def prompts_of(run: Path, annotations: Path) -> dict[str, str]:
    """What the benchmark asks a model, by id: each question with its options.

    Raises:
        InputError: the run is not over a data set that can be loaded.
        DatasetError: the annotations cannot be read.
    """
    settings, _ = read_run(run)
    questions = load_questions(str(part_of(settings, "dataset", run).get("name")), annotations)
    return {question.id: write_prompt(question, "{question}\n{options}") for question in questions}


def main(argv: Sequence[str] | None = None) -> None:
    """Read, and write."""
    parser = make_parser(__doc__, out=False)
    parser.add_argument("run", type=Path)
    parser.add_argument("--method", required=True)
    parser.add_argument("--to", choices=("lmms-eval", "rag", "aks"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--archive", help="folder of the indexes, or s3://BUCKET/PREFIX; needed for lmms-eval")
    parser.add_argument("--allow-degraded", action="store_true", help="export samples that fell back as well")
    parser.add_argument("--clips", action="store_true", help="for lmms-eval: a clip of the frames besides")
    parser.add_argument("--frames", type=int, default=64, help="for rag and aks: how many are shown at most")
    parser.add_argument("--consumer", choices=("llava", "qwen2_vl"), default="llava", help="for rag")
    parser.add_argument("--data", type=Path, help="for aks and rag: the benchmark's annotation file")
    parser.add_argument("--repeat", action="store_true", help="for aks: fill short lists by repeating their frames")
    given = parser.parse_args(argv)
    if given.to == "aks" and given.data is None:
        raise InputError("AKS's files hold the benchmark's annotations: name its file with --data")
    if given.to == "rag":
        check_output(given.out, RAG, name="--out")
    if given.to == "lmms-eval" and given.archive is None:
        raise InputError("lmms-eval is given pictures: name the folder of the indexes (--archive) to decode them")
    answers = answers_of(given.run, given.method, allow_degraded=given.allow_degraded)
    if given.to == "rag":
        prompts = None if given.data is None else prompts_of(given.run, given.data)
        short = save_rag_file(answers, given.out, frames=given.frames, consumer=given.consumer, prompts=prompts)
        print(f"{len(answers)} lines, {len(short)} with fewer than {given.frames} frames: {given.out}")
        return
    if given.to == "aks":
        few = export_aks(answers, given.data, given.out, frames=given.frames, repeat=given.repeat)
        print(f"{len(answers)} lists, {len(few)} with fewer than {given.frames} frames: {given.out}")
        if few:
            print("AKS's loader shows uniform frames in the place of those; --repeat fills them with their own")
        return
    with Engine.open(given.archive) as engine:

        def images(answer: Answer) -> Pictures:
            return engine.read_frames(answer.video, [frame.ordinal for frame in answer.frames])

        save_selection(answers, images, given.out, clips=given.clips)
    print(f"{len(answers)} questions: {given.out}")


if __name__ == "__main__":
    run_command(main)
