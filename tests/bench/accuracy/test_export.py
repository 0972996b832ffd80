"""What a run selected goes to other evaluations whole, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.accuracy import export
from bench.accuracy.export import answers_of
from bench.accuracy.run.record import RunFolder, Sample, read_run
from hybrid.answers import Answer, AnswerFrame
from hybrid.engine import Engine
from hybrid.errors import InputError
from hybrid.export.benchmarks.lmms_eval import read_selection
from tests.bench.accuracy.conftest import Run

SETTINGS = {"dataset": {"name": "longvideobench", "questions": 3, "digest": "0"}}


def write_run(place: Path, count: int, *, degraded: tuple[str, ...] = ()) -> Path:
    """A run over three questions, of which some are done; those after the first are as asked."""
    frames = (AnswerFrame(1.0, 1, 30, None, None),)
    with RunFolder(place, SETTINGS, {}) as folder:
        for number in range(count):
            own = () if number else degraded
            answer = Answer(f"Is it {number}?", "v.mp4", "0", 10.0, (), frames, ())
            folder.add(Sample("aks", f"q{number}", "v.mp4", 0, selection=answer.to_dict(), degraded=own))
    return place


def test_what_was_selected_goes_to_other_evaluations(run: Run, tmp_path: Path, archive: Path) -> None:
    assert run(tmp_path / "run", "--skip-missing", methods=("--method", "uniform")) == 0
    given = [str(tmp_path / "run"), "--method", "uniform", "--archive", str(archive), "--frames", "5"]
    export.main([*given, "--to", "lmms-eval", "--out", str(tmp_path / "frames")])
    line = read_selection(tmp_path / "frames").find({}, "two.mp4", "When is the blue circle shown?\nA. at once")
    assert line.id == "two_0"
    assert [path.name for path in line.images][:2] == ["0000_0.000s.jpg", "0001_4.972s.jpg"]
    export.main([*given, "--to", "rag", "--out", str(tmp_path / "rag.json")])
    assert len((tmp_path / "rag.json").read_text().splitlines()) == 4


def test_a_run_goes_to_akss_evaluation(
    run: Run, tmp_path: Path, annotations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "run", "--skip-missing", "--with-options", methods=("--method", "uniform")) == 0
    out = tmp_path / "aks"
    given = [str(tmp_path / "run"), "--method", "uniform", "--to", "aks", "--out", str(out)]
    with pytest.raises(InputError, match="name its file with --data"):
        export.main(given)
    capsys.readouterr()
    export.main([*given, "--data", str(annotations), "--frames", "5"])
    assert "4 lists, 0 with fewer than 5 frames" in capsys.readouterr().out
    lists = json.loads((out / "selected_frames.json").read_text())
    joined = json.loads((out / "include_frame_idx.json").read_text())
    assert [annotation["id"] for annotation in joined] == ["one_0", "one_1", "one_2", "two_0"]
    assert [annotation["frame_idx"] for annotation in joined] == lists
    assert joined[0]["candidates"] == ["at once", "later", "never"]  # all of the benchmark's own fields
    samples = read_run(tmp_path / "run")[1]
    native = [frame["frame_number"] for frame in (samples["uniform", "two_0"].selection or {})["frames"]]
    assert lists[3] == native == sorted(native)
    export.main([*given, "--data", str(annotations), "--frames", "8"])
    assert "--repeat fills them with their own" in capsys.readouterr().out
    export.main([*given, "--data", str(annotations), "--frames", "8", "--repeat"])
    repeated = json.loads((out / "selected_frames.json").read_text())
    assert [len(numbers) for numbers in repeated] == [8] * 4
    assert set(repeated[3]) == set(native)
    with pytest.raises(InputError, match="the loader would take the first 3 only"):
        export.main([*given, "--data", str(annotations), "--frames", "3"])
    other = tmp_path / "other.json"
    other.write_text(json.dumps(json.loads(annotations.read_text())[1:]))
    with pytest.raises(InputError, match="has no annotation for question one_0"):
        export.main([*given, "--data", str(other), "--frames", "5"])
    other.write_text(json.dumps([{"question": "?"}]))
    with pytest.raises(InputError, match="have none of the keys id, question_id, qid"):
        export.main([*given, "--data", str(other), "--frames", "5"])


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    place = write_run(tmp_path / "run", 2)
    given = [str(place), "--method", "aks", "--to", "rag", "--out", str(tmp_path / "rag.json")]
    with pytest.raises(
        InputError, match=r"is not finished: it holds 2 of 3 samples of 'aks'; repeat the run's command"
    ):
        export.main(given)
    assert not (tmp_path / "rag.json").exists()
    write_run(place, 3)
    export.main(given)
    assert len((tmp_path / "rag.json").read_text().splitlines()) == 3


def test_samples_that_fell_back_are_exported_only_where_that_is_allowed(tmp_path: Path) -> None:
    place = write_run(tmp_path / "run", 3, degraded=("gens: the reply holds no scores",))
    given = [str(place), "--method", "aks", "--to", "rag", "--out", str(tmp_path / "rag.json")]
    with pytest.raises(InputError, match=r"1 of 3 samples of 'aks' are degraded, first q0 \(gens: the reply holds no"):
        export.main(given)
    assert not (tmp_path / "rag.json").exists()
    export.main([*given, "--allow-degraded"])
    assert len((tmp_path / "rag.json").read_text().splitlines()) == 3
    assert list(answers_of(place, "aks", allow_degraded=True)) == ["q0", "q1", "q2"]


def test_an_archive_may_lie_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(place: object) -> Any:
        raise InputError(f"opened {place!r}")

    monkeypatch.setattr(Engine, "open", opened)
    given = [str(write_run(tmp_path, 3)), "--method", "aks", "--to", "lmms-eval", "--out", str(tmp_path / "out")]
    with pytest.raises(InputError, match="opened 's3://bucket/place'"):
        export.main([*given, "--archive", "s3://bucket/place"])
