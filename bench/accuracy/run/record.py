"""The folder of a run: what decides its numbers, and a line for each sample, written as it goes.

* ``run.json``: the settings, and for each session (a run that was stopped and went on has several) command, commit,
  machine and versions;
* ``samples.jsonl``: a line a sample, on disk before the next one begins. A line that a killed run left half written
  is cut off and done again; if a sample has several lines, the last one holds.

A run goes on only with the settings that it began with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Literal

from filelock import FileLock, Timeout

from hybrid.errors import HybridError, InputError, SaveError
from hybrid.storage.atomic import write_atomically
from hybrid.storage.foreign_json import STORED, ForeignJsonError, parse_json, read_json

__all__ = [
    "Failure",
    "Line",
    "LineFile",
    "RunFolder",
    "Sample",
    "SettingsDifferError",
    "differences",
    "part_of",
    "read_run",
]

RUN_FILE: Final = "run.json"
SAMPLES_FILE: Final = "samples.jsonl"
LOCK_FILE: Final = ".lock"
FORMAT: Final = 1
_OPTIONAL: Final = {"sampler"}
_BY_NAME: Final = {"scores"}

Line = dict[str, Any]


class SettingsDifferError(HybridError):
    """A run was to go on with other settings than it began with."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a sample has no number: in which step, and the reason."""

    step: Literal["index", "select", "frames", "answer"]
    reason: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One question under one method.

    Attributes:
        method: its name.
        id: of the question.
        video: its name.
        session: which session of the run wrote it.
        selection: the answer of hybrid (:meth:`hybrid.answers.Answer.to_dict`); None if there is none.
        seconds: time by step: ``select``, ``frames`` (read for the VideoQA model), ``answer``.
        measures: what was measured, by name.
        degraded: what stages did not do as asked (their fallback reasons).
        reply: of the VideoQA model, with ``option``, the place of what it chose; None if none was asked.
        failure: why something is missing; None if nothing is.
        index: how the index of its video was made (:func:`bench.accuracy.run.grid.grid_of`); None if there is none.
    """

    method: str
    id: str
    video: str
    session: int
    selection: Mapping[str, Any] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    degraded: tuple[str, ...] = ()
    reply: Mapping[str, Any] | None = None
    failure: Failure | None = None
    index: Mapping[str, Any] | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Method and question."""
        return self.method, self.id

    def to_dict(self) -> Line:
        """Ready for ``json.dumps``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, line: Mapping[str, Any]) -> Sample:
        """Rebuild it from :meth:`to_dict`.

        Raises:
            InputError: it is no sample.
        """
        try:
            failure = line["failure"]
            return cls(
                **{
                    **line,
                    "degraded": tuple(line["degraded"]),
                    "failure": None if failure is None else Failure(**failure),
                }
            )
        except (KeyError, TypeError) as exc:
            raise InputError(f"this is no sample of a run: {exc}") from exc


class LineFile:
    """A file of JSON lines that grows by whole lines. Use it as a context manager.

    Args:
        path: made if it is not there. A last line that is not whole is cut off.

    Raises:
        InputError: it holds something else than JSON objects.
        SaveError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("a+b")
            try:
                self._file.seek(0)
                self.lines = self._take_over(self._file.read())
            except BaseException:
                self._file.close()
                raise
        except OSError as exc:
            raise SaveError(f"{path}: cannot be written: {exc.strerror or exc}") from exc

    def add(self, *lines: Mapping[str, Any]) -> None:
        """Write lines; they are on disk when this returns.

        Raises:
            SaveError: the disk is full.
        """
        try:
            self._file.write(b"".join(json.dumps(line).encode("ascii") + b"\n" for line in lines))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as exc:
            raise SaveError(f"{self._path}: cannot be written: {exc.strerror or exc}") from exc

    def __enter__(self) -> LineFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _take_over(self, data: bytes) -> list[Line]:
        whole = data.rfind(b"\n") + 1
        lines, end = [], 0
        for number, raw in enumerate(data[:whole].splitlines(keepends=True), 1):
            line = _json_object(raw)
            if line is None:
                if end + len(raw) < whole:
                    raise InputError(f"{self._path}, line {number}: not a JSON object; choose another folder for --out")
                break  # a machine that lost power can leave a last line of zeros
            lines.append(line)
            end += len(raw)
        rest = data[end:]
        if rest and not lines and not rest.startswith(b"{"[: len(rest)]):
            raise InputError(f"{self._path}: it holds something else; choose another folder for --out")
        if rest:
            self._file.truncate(end)
        return lines


class RunFolder:
    """The folder of one run, held by this process alone. Use it as a context manager.

    Args:
        folder: made if it is not there.
        settings: what decides the numbers, ready for ``json.dumps``. ``sampler`` may be None in a session whose
            methods do not need it, and is held to be the one of the other sessions; so it is with every entry of
            ``scores``, which a session whose methods do not need it lacks.
        session: command, commit, machine and versions of this session.

    Raises:
        SettingsDifferError: the folder holds a run with other settings.
        InputError: it holds something else, or another process writes to it.
        SaveError: it cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], session: Mapping[str, Any]) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise SaveError(f"{folder}: cannot be made: {exc.strerror or exc}") from exc
        self._lock = FileLock(folder / LOCK_FILE)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as exc:
            raise InputError(f"{folder}: another run is writing there; wait for it, or choose another --out") from exc
        try:
            self.session = self._begin(json.loads(json.dumps(settings)), dict(session))
            self._file = LineFile(folder / SAMPLES_FILE)
            try:
                samples = [Sample.from_dict(line) for line in self._file.lines]
            except BaseException:
                self._file.__exit__(None, None, None)
                raise
        except BaseException:
            self._lock.release()
            raise
        self.samples = {sample.key: sample for sample in samples}

    def add(self, *samples: Sample) -> None:
        """Keep samples; they are on disk when this returns.

        Raises:
            SaveError: the disk is full.
        """
        self._file.add(*(sample.to_dict() for sample in samples))
        self.samples.update((sample.key, sample) for sample in samples)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, value, trace)
        self._lock.release()

    def _begin(self, settings: Line, session: Line) -> int:
        """Check the settings against those of earlier sessions, note this one, and give its number."""
        path = self.folder / RUN_FILE
        sessions: list[Line] = []
        if path.exists():
            before = _read_record(path)
            known = before["settings"]
            for optional in _OPTIONAL & known.keys() & settings.keys():
                filled = settings[optional] if known[optional] is None else known[optional]
                known[optional], settings[optional] = filled, settings[optional] or filled
            for merged in _BY_NAME & settings.keys():
                known.setdefault(merged, {})
                known[merged], settings[merged] = (
                    {**settings[merged], **known[merged]},
                    {**known[merged], **settings[merged]},
                )
            changes = differences(known, settings)
            if changes:
                raise SettingsDifferError(
                    f"{self.folder} holds a run with other settings ({'; '.join(changes)}); repeat it with the ones it "
                    "has, or choose another folder for --out"
                )
            sessions = before["sessions"]
        session["started"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
        sessions = [*sessions, session]
        text = json.dumps({"format": FORMAT, "settings": settings, "sessions": sessions}, indent=2) + "\n"
        _replace(path, text)
        return len(sessions) - 1


def read_run(folder: Path) -> tuple[Line, dict[tuple[str, str], Sample]]:
    """The settings and the samples of a run, which may still be going on; nothing is changed.

    Raises:
        InputError: there is no run in that folder.
        SaveError: it cannot be read.
    """
    settings = _read_record(folder / RUN_FILE)["settings"]
    try:
        data = (folder / SAMPLES_FILE).read_bytes()
    except OSError as exc:
        raise SaveError(f"{folder / SAMPLES_FILE}: cannot be read: {exc.strerror or exc}") from exc
    lines = [line for raw in data[: data.rfind(b"\n") + 1].splitlines() if (line := _json_object(raw)) is not None]
    samples = [Sample.from_dict(line) for line in lines]
    return settings, {sample.key: sample for sample in samples}


def part_of(settings: Mapping[str, Any], name: str, path: Path) -> Line:
    """One part of a run's settings.

    Raises:
        InputError: it is not there, or no object: this is the record of something else.
    """
    part = settings.get(name)
    if not isinstance(part, dict):
        raise InputError(f"{path / RUN_FILE} is not the record of a run: its {name} is {part!r:.60}, not an object")
    return part


def _read_record(path: Path) -> Line:
    try:
        document = read_json(path, limits=STORED, names=True)
        if document["format"] != FORMAT:
            raise InputError(f"{path} has the format {document['format']}; this version writes {FORMAT}")
        settings, sessions = document["settings"], document["sessions"]
        if not all(isinstance(part, dict) for part in (settings, *sessions)):
            raise TypeError("its settings or sessions are no objects")
        return {"settings": settings, "sessions": list(sessions)}
    except ForeignJsonError as exc:
        raise InputError(f"{exc}; this is not the record of a run; choose another folder for --out") from exc
    except (OSError, KeyError, TypeError) as exc:
        raise InputError(f"{path} is not the record of a run: {exc}; choose another folder for --out") from exc


def _replace(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode())
    except OSError as exc:
        raise SaveError(f"{path}: cannot be written: {exc.strerror or exc}") from exc


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What differs, one line each: ``frames: 64 there, 32 now``."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        return [
            change
            for key in keys
            for change in differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if before == now else [f"{name}: {before!r} there, {now!r} now"]


def _json_object(raw: bytes) -> Line | None:
    try:
        line = parse_json(raw, where="a line", limits=STORED, names=True)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None
