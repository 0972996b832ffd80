"""The folder of a run: it survives being cut anywhere, and goes on only with its own settings."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.accuracy.run import record
from bench.accuracy.run.record import Failure, LineFile, RunFolder, Sample, SettingsDifferError, part_of, read_run
from hybrid.errors import InputError

SETTINGS = {"frames": 8, "encoder": {"weights": "abc"}, "sampler": None}
SESSION = {"commit": "0"}


def sample(number: int, *, method: str = "aks", failure: Failure | None = None) -> Sample:
    return Sample(
        method=method,
        id=f"q{number}",
        video="v.mp4",
        session=0,
        selection={"frames": [number]},
        seconds={"select": 0.5},
        measures={"recall@1": number / 10},
        degraded=("gens: no",),
        failure=failure,
    )


def test_samples_come_back(tmp_path: Path) -> None:
    kept = [sample(1), sample(2, failure=Failure("answer", "no reply")), sample(1, method="clip")]
    with RunFolder(tmp_path, SETTINGS, SESSION) as folder:
        for one in kept:
            folder.add(one)
    with RunFolder(tmp_path, SETTINGS, SESSION) as folder:
        assert list(folder.samples.values()) == kept
        assert folder.session == 1
    assert read_run(tmp_path) == (SETTINGS, {one.key: one for one in kept})
    assert len(json.loads((tmp_path / "run.json").read_text())["sessions"]) == 2


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_a_run_that_was_cut_anywhere_goes_on(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    place = tmp_path_factory.mktemp("run")
    wanted = [sample(number) for number in range(5)]
    with RunFolder(place, SETTINGS, SESSION) as folder:
        folder.add(*wanted)
    file = place / "samples.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[: cut % (len(whole) + 1)])
    with RunFolder(place, SETTINGS, SESSION) as folder:
        there = list(folder.samples.values())
        assert there == wanted[: len(there)]
        folder.add(*wanted[len(there) :])
    assert file.read_bytes() == whole


def test_a_last_line_of_zeros_is_dropped_but_not_one_in_the_middle(tmp_path: Path) -> None:
    place = tmp_path / "lines.jsonl"
    place.write_bytes(b'{"a": 1}\n\0\0\0\n')
    with LineFile(place) as file:
        assert file.lines == [{"a": 1}]
        file.add({"a": 2})
    assert place.read_bytes() == b'{"a": 1}\n{"a": 2}\n'
    place.write_bytes(b'{"a": 1}\n\0\0\0\n{"a": 2}\n')
    with pytest.raises(InputError, match=r"line 2: not a JSON object; choose another folder"):
        LineFile(place)


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "notes.txt"
    place.write_text("my notes")
    with pytest.raises(InputError, match="it holds something else"):
        LineFile(place)
    assert place.read_text() == "my notes"


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    with RunFolder(tmp_path, SETTINGS, SESSION) as folder:
        folder.add(sample(1))
    other = {**SETTINGS, "frames": 16, "encoder": {"weights": "xyz"}}
    with pytest.raises(SettingsDifferError, match=r"frames: 8 there, 16 now; encoder.weights: 'abc' there, 'xyz' now"):
        RunFolder(tmp_path, other, SESSION)
    with RunFolder(tmp_path, SETTINGS, SESSION) as folder:  # nothing was changed, and the folder is free again
        assert len(folder.samples) == 1


def test_a_sampler_may_be_needed_later_but_not_change(tmp_path: Path) -> None:
    for sampler in (None, {"weights": "1"}, None, {"weights": "1"}):
        with RunFolder(tmp_path, {**SETTINGS, "sampler": sampler}, SESSION):
            pass
    assert read_run_settings(tmp_path)["sampler"] == {"weights": "1"}
    with pytest.raises(SettingsDifferError, match=r"sampler\.weights: '1' there, '2' now"):
        RunFolder(tmp_path, {**SETTINGS, "sampler": {"weights": "2"}}, SESSION)


def read_run_settings(folder: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads((folder / "run.json").read_text())["settings"]
    return document


def test_scores_are_held_to_be_those_of_their_name(tmp_path: Path) -> None:
    for scores in ({}, {"a": {"weights": "1"}}, {"b": {"weights": "2"}}, {}):
        with RunFolder(tmp_path, {**SETTINGS, "scores": scores}, SESSION):
            pass
    assert read_run_settings(tmp_path)["scores"] == {"a": {"weights": "1"}, "b": {"weights": "2"}}
    with pytest.raises(SettingsDifferError, match=r"scores\.b\.weights: '2' there, '3' now"):
        RunFolder(tmp_path, {**SETTINGS, "scores": {"a": {"weights": "1"}, "b": {"weights": "3"}}}, SESSION)


def test_a_run_of_before_there_were_scores_goes_on(tmp_path: Path) -> None:
    with RunFolder(tmp_path, SETTINGS, SESSION) as folder:
        folder.add(sample(1))
    with RunFolder(tmp_path, {**SETTINGS, "scores": {}}, SESSION) as folder:
        assert len(folder.samples) == 1


def test_a_file_with_a_bad_sample_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[LineFile] = []

    class Watched(LineFile):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            opened.append(self)

    monkeypatch.setattr(record, "LineFile", Watched)
    (tmp_path / "samples.jsonl").write_text('{"method": "aks"}\n')
    with pytest.raises(InputError, match="this is no sample of a run"):
        RunFolder(tmp_path, SETTINGS, SESSION)
    assert [file._file.closed for file in opened] == [True]
    (tmp_path / "samples.jsonl").unlink()
    with RunFolder(tmp_path, SETTINGS, SESSION) as folder:  # and the folder is free again
        assert folder.samples == {}


def test_two_processes_do_not_write_to_one_folder(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from bench.accuracy.run.record import RunFolder
from hybrid.errors import InputError
try:
    RunFolder(Path({str(tmp_path)!r}), {SETTINGS!r}, {{}})
except InputError as exc:
    print(exc)
"""
    with RunFolder(tmp_path, SETTINGS, SESSION):
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "another run is writing there" in run.stdout


def test_what_was_kept_survives_a_kill(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from bench.accuracy.run.record import RunFolder, Sample
with RunFolder(Path({str(tmp_path)!r}), {SETTINGS!r}, {{}}) as folder:
    for number in range(100_000):
        folder.add(Sample("aks", f"q{{number}}", "v.mp4", 0))
        print(number, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 20:
                process.send_signal(signal.SIGKILL)
                break
        acknowledged = [int(line), *(int(rest) for rest in process.stdout if rest.endswith("\n") and rest.strip())]
    with RunFolder(tmp_path, SETTINGS, SESSION) as folder:
        assert len(folder.samples) >= max(acknowledged) + 1
        assert list(folder.samples) == [("aks", f"q{number}") for number in range(len(folder.samples))]


@pytest.mark.parametrize("document", [{"settings": None}, {"settings": []}, {"sessions": [1]}])
def test_a_record_whose_parts_are_no_objects_is_none(tmp_path: Path, document: dict[str, object]) -> None:
    with RunFolder(tmp_path, SETTINGS, SESSION):
        pass
    file = tmp_path / "run.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps({**whole, **document}))
    with pytest.raises(InputError, match="is not the record of a run"):
        read_run(tmp_path)


def test_a_part_of_the_settings_that_is_no_object_is_named(tmp_path: Path) -> None:
    assert part_of({"dataset": {"name": "lvb"}}, "dataset", tmp_path) == {"name": "lvb"}
    for other in ({}, {"dataset": None}, {"dataset": [1]}):
        with pytest.raises(InputError, match=r"run\.json is not the record of a run: its dataset is"):
            part_of(other, "dataset", tmp_path)
