"""``python -m bench.accuracy`` from end to end: real video files, small real models, a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.accuracy import __main__ as runner
from bench.accuracy.run.record import read_run
from hybrid.engine import Engine, models
from hybrid.errors import InputError
from tests.bench.accuracy.conftest import Run, Server


def report_of(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / "report.json").read_text())
    return document


def test_every_question_under_every_method_is_measured(
    whole_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert whole_run(tmp_path, "--skip-missing", "--by", "category") == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out.splitlines()[-1])
    assert document == report_of(tmp_path)
    report = document["report"]
    assert (report["questions"], report["videos"]) == (4, 2)
    assert "1 videos are not in" in printed.err
    settings, samples = read_run(tmp_path)
    assert len(samples) == 3 * 4
    assert len(settings["encoder"]["weights"]) == 32
    assert len(settings["sampler"]["weights"]) == 16
    assert (settings["options"]["frames"], settings["options"]["within_seconds"]) == (5, [1.0, 2.0, 5.0])
    session = json.loads((tmp_path / "run.json").read_text())["sessions"][0]
    assert {"command", "commit", "machine", "versions"} <= session.keys()
    for sample in samples.values():
        assert sample.selection is not None
        seconds = [frame["seconds"] for frame in sample.selection["frames"]]
        assert len(seconds) <= 5
        assert sample.measures.keys() >= {"recall@1", "all_hit@2", "precision@5", "frame_f1"}
        assert sample.seconds["select"] > 0
    # The second clip lasts a little more than 21 s, so that there are 22 samples; its moment is at 1 s.
    uniform = samples["uniform", "two_0"]
    assert [frame["ordinal"] for frame in (uniform.selection or {})["frames"]] == [0, 5, 10, 15, 21]
    assert (uniform.measures["recall@1"], uniform.measures["precision@5"]) == (1.0, 2 / 5)
    mean = report["measures"]["all"]["uniform"]["recall@1"]
    assert mean["value"] == pytest.approx(np.mean([samples["uniform", q].measures["recall@1"] for q in IDS]))
    assert report["measures"]["category=S2O"]["aks"]["recall@2"]["questions"] == 4
    assert report["differences"]["to"]["recall@1"].keys() == {"aks", "uniform"}
    assert (tmp_path / "report.txt").read_text().startswith("all\nmethod ")
    with Image.open(tmp_path / "latency.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10


IDS = ("one_0", "one_1", "one_2", "two_0")


def test_a_run_that_was_stopped_goes_on_where_it_was(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, ...]] = []
    ask_many = Engine.ask_many

    def counted(self: Engine, video: Any, questions: Any, **options: Any) -> Any:
        asked.append((str(options.get("select")), *questions))
        if len(asked) == 5:
            raise KeyboardInterrupt
        return ask_many(self, video, questions, **options)

    methods = ("--method", "aks", "--method", "clip")
    monkeypatch.setattr(Engine, "ask_many", counted)
    assert run(tmp_path, "--skip-missing", methods=methods) == 130
    assert "the same command goes on" in capsys.readouterr().err
    lines = (tmp_path / "samples.jsonl").read_bytes()
    assert len(lines.splitlines()) == 2  # two calls warm up, the fifth was stopped
    (tmp_path / "samples.jsonl").write_bytes(lines + lines[:100])
    assert run(tmp_path, "--skip-missing", methods=methods) == 0
    again = (tmp_path / "samples.jsonl").read_bytes()
    assert again.startswith(lines)
    keys = [(line["method"], line["id"]) for line in map(json.loads, again.splitlines())]
    assert sorted(keys) == sorted((method, name) for method in ("aks", "clip") for name in IDS)
    done = len(asked)
    assert run(tmp_path, "--skip-missing", methods=methods) == 0
    assert len(asked) == done
    assert (tmp_path / "samples.jsonl").read_bytes() == again


def test_other_settings_are_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = ("--method", "uniform")
    assert run(tmp_path, "--skip-missing", methods=methods) == 0
    for more, said in (
        (("--frames", "6"), "options.frames: 5 there, 6 now"),
        (("--subset", "2"), "questions: 4 there, 2 now"),
        (("--within", "3"), "options.within_seconds: [1.0, 2.0, 5.0] there, [3.0] now"),
    ):
        assert run(tmp_path, "--skip-missing", *more, methods=methods) == 2
        assert said in capsys.readouterr().err
    # Another method is no other setting: its samples are its own.
    assert run(tmp_path, "--skip-missing", methods=("--method", "uniform", "--method", "clip")) == 0
    assert len(read_run(tmp_path)[1]) == 8


def test_a_run_is_of_one_grid_and_says_of_which(
    run: Run, tmp_path: Path, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "run", tmp_path / "other"
    mixed = ("--archive", str(tmp_path / "archive"))
    one = ("--skip-missing", *mixed, "--only", "category=S2O")
    methods = ("--method", "uniform")
    assert run(out, *one, "--rate", "1", methods=methods) == 0
    _, samples = read_run(out)
    index = samples["uniform", "one_0"].index or {}
    assert (index["rate"], index["policy"], index["decoder"]) == (1.0, "exact", "pyav")
    assert len(index["encoder"]["weights"]) == 32
    assert report_of(out)["index"] == index
    assert "candidates: 1 a second, exact, pyav, compared by " in (out / "report.txt").read_text()
    # Another run makes the index of one of the videos anew.
    assert run(other, *one, "--subset", "1", "--rate", "2", methods=methods) == 0
    assert (report_of(other)["index"]["rate"], report_of(other)["report"]["videos"]) == (2.0, 1)
    assert run(tmp_path / "third", *one, methods=methods) == 2
    said = capsys.readouterr().err
    assert "is not made like those of the run's other videos (rate: " in said
    assert "say --rate, --sampling, --decoder and --dtype" in said
    # What is said is made so, whatever the archive holds.
    assert run(tmp_path / "fourth", *one, "--sampling", "exact", "--rate", "2", methods=methods) == 0
    # Resumed on indexes that were made anew meanwhile, and reported from samples of two grids.
    assert run(out, *one, "--rate", "1", "--method", "clip", methods=methods) == 0
    line = json.loads((tmp_path / "fourth" / "samples.jsonl").read_text().splitlines()[0])
    with (out / "samples.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    assert run(out, *one, "--rate", "1", "--report-only", methods=methods) == 2
    assert "rate: " in capsys.readouterr().err
    assert run(out, *one, "--rate", "1", "--method", "aks", methods=methods) == 2
    assert "rate: " in capsys.readouterr().err


def test_a_resumed_run_does_not_go_on_with_indexes_of_another_grid(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods, archives = ("--method", "uniform"), [("--archive", str(tmp_path / name)) for name in ("a", "b")]
    for given, rate in zip(archives, ("1", "2"), strict=True):
        assert run(tmp_path / rate, "--skip-missing", *given, "--rate", rate, methods=methods) == 0
    assert run(tmp_path / "run", "--skip-missing", *archives[0], methods=methods) == 0
    before = (tmp_path / "run" / "samples.jsonl").read_bytes()
    assert run(tmp_path / "run", "--skip-missing", *archives[1], methods=("--method", "clip")) == 2
    assert "rate: 1.0 there, 2.0 now" in capsys.readouterr().err
    assert (tmp_path / "run" / "samples.jsonl").read_bytes() == before


def test_each_setting_of_a_selector_is_a_method_of_its_own(run: Run, tmp_path: Path) -> None:
    names = ("uniform", "uniform:centred", "aks", "aks:depth=0", "focus", "focus:seed=9", "tifre")
    assert run(tmp_path, "--skip-missing", methods=tuple(part for name in names for part in ("--method", name))) == 0
    _, samples = read_run(tmp_path)
    assert list(report_of(tmp_path)["report"]["methods"]) == list(names)
    details = {name: (samples[name, "two_0"].selection or {})["stages"][-1]["details"] for name in names}
    assert [details[name]["options"].get("depth") for name in names] == [None, None, 5, 0, None, None, None]
    assert [details[name]["options"].get("centred") for name in names[:2]] == [False, True]
    assert [details[name].get("seed") for name in names] == [None, None, None, None, 42, 9, None]
    ordinals = {n: [f["ordinal"] for f in (samples[n, "two_0"].selection or {})["frames"]] for n in names}
    assert ordinals["uniform"] != ordinals["uniform:centred"]
    assert ordinals["aks"] != ordinals["aks:depth=0"]


def test_visual_measures_are_computed_where_they_are_asked_for(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = ("--method", "uniform", "--method", "clip")
    assert run(tmp_path, "--skip-missing", "--subset", "2", "--visual", methods=methods) == 0
    _, samples = read_run(tmp_path)
    for sample in samples.values():
        assert 0 < sample.measures["visual_precision"] <= 1
        assert sample.measures["temporal_recall"] == sample.measures["recall@5"]
        assert sample.seconds["visual"] > 0
    assert "LV-Haystack" in (tmp_path / "report.txt").read_text()
    assert run(tmp_path, "--skip-missing", "--subset", "2", methods=methods) == 2
    assert "options.visual: True there, None now" in capsys.readouterr().err


def test_what_fails_is_recorded_and_ends_nothing(
    run: Run, tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.replies = lambda body: 400 if "green square" in str(body["messages"]) else "The answer is B."
    methods = ("--method", "uniform", "--method", "clip")
    answer = ("--answer", f"openai:{server.url}#vlm", "--side", "64")
    assert run(tmp_path, *answer, methods=methods) == 1
    _, samples = read_run(tmp_path)
    failures = {key: sample.failure for key, sample in samples.items() if sample.failure is not None}
    assert {(key, failure.step) for key, failure in failures.items()} == {
        *((("uniform", name), step) for name, step in (("one_1", "answer"), ("gone_0", "index"))),
        *((("clip", name), step) for name, step in (("one_1", "answer"), ("gone_0", "index"))),
    }
    assert "BadRequestError" in failures["uniform", "one_1"].reason
    assert "gone.mp4: there is no such file" in failures["clip", "gone_0"].reason
    assert samples["uniform", "one_1"].measures.keys() >= {"recall@1"}  # what was selected is still measured
    assert "accuracy" not in samples["uniform", "one_1"].measures
    printed = capsys.readouterr().out
    assert "uniform: 1 failed: answer: no reply from vlm" in printed
    report = report_of(tmp_path)["report"]
    assert report["measures"]["all"]["clip"]["accuracy"]["value"] == 1.0
    assert report["measures"]["all"]["clip"]["accuracy"]["questions"] == 3
    assert report["methods"]["clip"]["failed"] == 2
    asked = len(server.requests)
    assert run(tmp_path, *answer, methods=methods) == 1  # failures are not tried again by themselves
    assert len(server.requests) == asked
    server.replies = lambda body: "no idea"
    assert run(tmp_path, *answer, "--retry-failed", methods=methods) == 1
    assert len(server.requests) == asked + 2
    _, samples = read_run(tmp_path)
    again = samples["uniform", "one_1"]
    assert (again.failure, again.measures["accuracy"], (again.reply or {})["option"]) == (None, 0.0, None)
    assert report_of(tmp_path)["report"]["methods"]["uniform"]["unreadable"] == 1


def test_the_model_is_shown_the_selected_frames(run: Run, tmp_path: Path, server: Server, videos: Path) -> None:
    template = tmp_path / "template.txt"
    template.write_text("{question} Choose:\n{options}\n")
    more = ("--skip-missing", "--answer", f"openai:{server.url}#vlm", "--answer-prompt", str(template), "--times")
    assert run(tmp_path / "run", *more, "--seed", "3", methods=("--method", "aks")) == 0
    _, samples = read_run(tmp_path / "run")
    assert [request["seed"] for request in server.requests] == [3] * 4
    sample = samples["aks", "two_0"]
    number = next(n for n in range(4) if "blue circle" in server.texts(n)[-1])
    frames = (sample.selection or {})["frames"]
    assert server.texts(number) == [
        *(f"[{frame['seconds']:.1f} s]" for frame in frames),
        "When is the blue circle shown? Choose:\nA. at once\nB. later\nC. never",
    ]
    assert (sample.reply or {})["text"] == "B"
    assert (sample.measures["accuracy"], (sample.reply or {})["pictures"]) == (1.0, len(frames))
    # The ground of the clip's scenes tells which frame a picture is of.
    grounds = [tuple(int(c) for c in picture[-10, 10]) for picture in server.pictures(number)]
    for frame, ground in zip(frames, grounds, strict=True):
        want = (220, 220, 220) if frame["seconds"] < 7 else (20, 60, 60) if frame["seconds"] < 13 else (180, 200, 170)
        assert np.abs(np.subtract(ground, want)).max() < 25


def test_a_server_that_refuses_everything_ends_the_run(
    run: Run, tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.replies = lambda body: 401
    assert run(tmp_path, "--answer", f"openai:{server.url}#vlm", methods=("--method", "uniform")) == 2
    assert "refuses every request for 'vlm'" in capsys.readouterr().err
    assert len(server.requests) == 1
    assert read_run(tmp_path)[1] == {}


def test_a_password_in_the_command_is_not_kept(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--answer", "openai:https://somebody:secret@host/v1#m"])
    assert run(tmp_path, "--skip-missing", methods=("--method", "uniform")) == 0
    for file in ("run.json", "report.json"):
        assert "secret" not in (text := (tmp_path / file).read_text())
        assert "openai:https://***@host/v1#m" in text


def test_a_report_is_made_without_a_model(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path, "--skip-missing", methods=("--method", "uniform")) == 0
    before = report_of(tmp_path)["report"]["measures"]
    monkeypatch.setattr(models, "load_encoder", None)
    assert run(tmp_path, "--skip-missing", "--report-only", methods=("--method", "uniform")) == 0
    assert report_of(tmp_path)["report"]["measures"] == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--method", "best"), "there is no selector 'best'"),
        (("--method", "aks:dept=3"), "aks has no option 'dept'; its options are: depth=5"),
        (("--method", "hybrid+bolt:power=x"), "power is 'x'; it must be a number"),
        (("--method", "llm+aks"), "before the plus sign clip, gens, hybrid are legal"),
        (("--method", "uniform", "--frames", "0"), "frames is 0"),
        (("--method", "uniform", "--only", "level=L9"), "no question has level=L9"),
        (("--method", "uniform", "--split", "test"), "--split is for the world"),
        (("--method", "uniform", "--resamples", "0"), "resamples is 0; it must be at least 1"),
        (("--method", "uniform", "--within", "2", "-1"), "--within is -1; tolerances are seconds, 0 or more"),
        (("--method", "uniform", "--within", "nan"), "--within is nan"),
        (("--method", "uniform", "--by", "colour"), "--by is 'colour', but no question has this label; legal are cat"),
        (("--method", "uniform", "--only", "category"), "--only is 'category'; it must be LABEL=VALUE"),
        (("--method", "uniform", "--subset", "0"), "--subset is 0"),
        (("--method", "uniform", "--per-kind", "0"), "--per-kind is 0"),
        (("--method", "uniform", "--rate", "0"), "rate is 0"),
        (("--method", "uniform", "--seed", "-1"), "--seed is -1"),
        (("--method", "uniform", "--prompt", "no/such/file"), "no/such/file"),
        (("--method", "uniform", "--report-only"), "is not the record of a run"),
        (("--method", "uniform", "--report-only", "--retry-failed"), "--retry-failed has nothing to do"),
        (("--method", "uniform", "--answer", "claude"), "legal are openai:URL#MODEL"),
        (("--method", "uniform", "--side", "0", "--answer", "openai:http://h/v1#m"), "side is 0"),
    ],
)
def test_what_cannot_be_run_is_said_before_any_work(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.setattr(models, "load_encoder", None)  # loading it would be work
    assert run(tmp_path, *more, methods=()) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "samples.jsonl").exists()


def test_a_first_request_that_is_refused_ends_the_run(
    run: Run, tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = ("--skip-missing", "--answer", f"openai:{server.url}#vlm", "--side", "64")
    server.replies = lambda body: 400
    assert run(tmp_path, *answer, methods=("--method", "uniform")) == 2
    said = capsys.readouterr().err
    assert "the first request of the run was refused: no reply from vlm: BadRequestError" in said
    assert "see whether the model takes pictures" in said
    assert (len(server.requests), read_run(tmp_path)[1]) == (1, {})
    server.replies = lambda body: 400 if len(server.requests) > 2 else "B"
    assert run(tmp_path, *answer, methods=("--method", "uniform")) == 1
    failed = [key for key, sample in read_run(tmp_path)[1].items() if sample.failure is not None]
    assert len(failed) == 3
    # Refused again, but this is not the first request of the run any more.
    assert run(tmp_path, *answer, "--retry-failed", methods=("--method", "uniform")) == 1


@pytest.mark.parametrize("more", [("--by", "colour"), ("--world-videos", "0"), ("--only", "a=b"), ("--within", "-1")])
def test_the_world_is_not_filmed_for_what_cannot_be_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    given = ["--dataset", "world", "--videos", str(tmp_path / "videos"), "--archive", str(tmp_path / "archive")]
    assert runner.main([*given, "--method", "uniform", "--out", str(tmp_path / "run"), *more]) == 2
    assert more[0].rpartition("-")[2] in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_ends_the_run(
    run: Run, tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = ("--method", "uniform", "--method", "clip")
    answer = ("--skip-missing", "--answer", f"openai:{server.url}#vlm", "--side", "64", "--retries", "1")
    server.replies = lambda body: 503
    assert run(tmp_path, *answer, methods=methods) == 2
    assert (
        "the first request of the run got no reply: no reply from vlm: InternalServerError" in capsys.readouterr().err
    )
    assert (len(server.requests), read_run(tmp_path)[1]) == (2, {})
    # One that dies on the way, after two of eight samples.
    server.requests.clear()
    server.replies = lambda body: "B" if len(server.requests) <= 2 else 503
    assert run(tmp_path, *answer, methods=methods) == 2
    said = capsys.readouterr().err
    assert "3 requests in a row got no reply: no reply from vlm: InternalServerError: Error code: 503" in said
    assert server.url in said
    assert "with --retry-failed it does again what failed" in said
    samples = read_run(tmp_path)[1]
    assert [sample.failure is None for sample in samples.values()] == [True, True, False, False]
    assert len(server.requests) == 2 + 3 * 2
    # A passing silence ends nothing.
    server.requests.clear()
    server.replies = lambda body: 503 if len(server.requests) <= 4 else "B"
    assert run(tmp_path, *answer, "--retry-failed", methods=methods) == 1
    assert run(tmp_path, *answer, "--retry-failed", methods=methods) == 0


def test_a_report_is_of_the_run_and_not_of_the_command(
    whole_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(runner, "save_plot", lambda *_, title: titles.append(title) or True)
    assert whole_run(tmp_path, "--skip-missing", methods=("--method", "uniform")) == 0
    assert whole_run(tmp_path, "--skip-missing", "--report-only", "--frames", "9", methods=("--method", "uniform")) == 0
    assert titles == ["longvideobench, 5 frames, 4 questions to 2 videos"] * 2
    assert whole_run(tmp_path, "--skip-missing", "--report-only", methods=("--method", "aks:depth=3")) == 2
    assert "holds no sample of 'aks:depth=3'; its methods are: uniform" in capsys.readouterr().err


def test_an_archive_may_lie_in_a_bucket(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def opened(place: object, **_: object) -> Any:
        raise InputError(f"opened {place!r}")

    monkeypatch.setattr("bench.accuracy.__main__.open_archive", opened)
    assert run(tmp_path, "--archive", "s3://bucket/place", methods=("--method", "uniform")) == 2
    assert "opened 's3://bucket/place'" in capsys.readouterr().err
