"""JSON that nobody should have written, in every file that is read as JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.robustness.hostile_case import TINY, Case, Ground, Maker, dataset_arguments, resealed
from indexes.format.failures import Attempt, Failure, remember_failure

__all__ = ["DOCUMENTS", "hostile_text"]

_VALUES: tuple[Any, ...] = (None, True, -1, 10**39, 1e308, "", "x" * 100, [], {}, [-1, -1], [[]], "\0", 16384)


def _with_any_value(document: Any, dice: random.Random) -> Any:
    """A document with some value of another type or size somewhere in it."""
    value = dice.choice(_VALUES)
    if isinstance(document, dict) and document:
        name = dice.choice(list(document))
        inner = document[name]
        deeper = isinstance(inner, dict | list) and inner and dice.random() < 0.7
        return {**document, name: _with_any_value(inner, dice) if deeper else value}
    if isinstance(document, list) and document:
        index = dice.randrange(len(document))
        return [*document[:index], _with_any_value(document[index], dice), *document[index + 1 :]]
    return value


def _value_text(data: bytes, text: str) -> bytes:
    """The document with a text in the place of its first value."""
    whole = data.decode("utf-8", "replace")
    at = whole.find(":") + 1
    return f'{whole[:at]} {text}, "x": 1{whole[whole.rfind("}") :]}'.encode("utf-8", "surrogatepass")


_TEXTS: tuple[tuple[str, Callable[[bytes, random.Random], bytes]], ...] = (
    ("brackets without end", lambda data, dice: b"[" * 200_000),
    ("objects without end", lambda data, dice: b'{"a":' * 200_000),
    ("a deep value", lambda data, dice: _value_text(data, "[" * 200_000 + "]" * 200_000)),
    ("a value a little too deep", lambda data, dice: _value_text(data, "[" * 990 + "]" * 990)),
    ("not a number", lambda data, dice: _value_text(data, "NaN")),
    ("endless", lambda data, dice: _value_text(data, dice.choice(["Infinity", "-Infinity", "1e999"]))),
    ("10,000 digits", lambda data, dice: _value_text(data, "9" * 10_000)),
    ("a number of 100 digits", lambda data, dice: _value_text(data, "9" * 100)),
    ("half of a surrogate pair", lambda data, dice: _value_text(data, '"\\ud800"')),
    ("half of a surrogate pair as a key", lambda data, dice: b'{"\\udfff": 1,' + data.lstrip()[1:]),
    ("a key twice", lambda data, dice: data.replace(b"{", b'{"x": 1, "x": 2, ', 1)),
    ("8 MB of text", lambda data, dice: _value_text(data, '"' + "why " * 2**21 + '"')),
    ("a million values", lambda data, dice: _value_text(data, "[" + "0," * 1_100_000 + "0]")),
    ("in UTF-16", lambda data, dice: data.decode().encode("utf-16")),
    ("in UTF-32", lambda data, dice: data.decode().encode("utf-32")),
    ("with a byte order mark", lambda data, dice: b"\xef\xbb\xbf" + data),
    ("not in UTF-8", lambda data, dice: data.replace(b'"', b'"\xff\xfe', 2)),
    ("surrogates in UTF-8", lambda data, dice: data.replace(b'"', b'"\xed\xa0\x80', 1)),
    ("nothing", lambda data, dice: b""),
    ("zeros", lambda data, dice: bytes(1000)),
    ("cut", lambda data, dice: data[: dice.randrange(1, max(2, len(data)))]),
    ("null", lambda data, dice: b"null"),
    ("a number", lambda data, dice: b"7"),
    ("a text", lambda data, dice: b'"text"'),
    ("an empty list", lambda data, dice: b"[]"),
    ("a list of lists", lambda data, dice: b"[[[]]]"),
    ("an empty object", lambda data, dice: b"{}"),
    ("a value of another kind", lambda data, dice: json.dumps(_with_any_value(json.loads(data), dice)).encode()),
    ("another value of another kind", lambda data, dice: json.dumps(_with_any_value(json.loads(data), dice)).encode()),
)


def hostile_text(data: bytes, dice: random.Random) -> tuple[str, bytes]:
    """A hostile document made from a sound one, and what is hostile about it."""
    name, change = dice.choice(_TEXTS)
    return name, change(data, dice)


def _ask(ground: Ground, folder: Path, *more: str) -> tuple[str, ...]:
    archive = str(ground.copy_of(ground.archive, folder))
    return ("ask", str(ground.clip), *more, "--archive", archive, *TINY)


def _questions(ground: Ground, folder: Path, dice: random.Random) -> Case:
    name, data = hostile_text(b'{"question": "a red circle", "id": "q1"}', dice)
    path = folder / "questions.jsonl"
    path.write_bytes(b"a blue square\n" + data.replace(b"\n", b" ") + b"\n")
    command = _ask(ground, folder, "--questions", str(path), "--no-fine")
    return Case("documents", f"questions: {name}", command, "questions")


def _plain_question(ground: Ground, folder: Path, dice: random.Random) -> Case:
    name, text = dice.choice([("8 MB", "why " * 2**21), ("zero byte", "a\0b"), ("10,001 characters", "x" * 10_001)])
    path = folder / "questions.txt"
    path.write_text(text + "\n", encoding="utf-8")
    command = _ask(ground, folder, "--questions", str(path), "--no-fine")
    return Case("documents", f"a question of {name}", command, "questions", refused=name != "zero byte")


def _prompt(ground: Ground, folder: Path, dice: random.Random) -> Case:
    sound = {"frame_size": [112, 112], "max_new_tokens": 64, "question": "Question: {question}", "video_fps": 1.0}
    if dice.random() < 0.2:
        side = dice.choice([16_384, 10**6, 3_585])
        name, data = f"frames of {side} pixels", json.dumps({**sound, "frame_size": [side, side]}).encode()
    else:
        name, data = hostile_text(json.dumps(sound).encode(), dice)
    path = folder / "prompt.json"
    path.write_bytes(data)
    command = _ask(ground, folder, "a red circle", "--prompt", str(path))
    return Case("documents", f"prompt: {name}", command, "ask", refused=name.startswith("frames of"))


def _in_file(ground: Ground, folder: Path, dice: random.Random, path: Path) -> str:
    name, data = hostile_text(path.read_bytes(), dice)
    path.write_bytes(data)
    return name


def _sampler(ground: Ground, folder: Path, dice: random.Random) -> Case:
    model = ground.copy_of(ground.sampler, folder)
    file = dice.choice(["config.json", "config.json", "preprocessor_config.json"])
    name = _in_file(ground, folder, dice, model / file)
    command = _ask(ground, folder, "a red circle", "--sampler", str(model))
    return Case("documents", f"sampler's {file}: {name}", command, "ask")


def _header(ground: Ground, folder: Path, dice: random.Random) -> Case:
    """The list of tensors at the head of a file of weights."""
    model = ground.copy_of(ground.sampler, folder)
    (path,) = model.glob("*.safetensors")
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    document = json.loads(data[8:end])
    if dice.random() < 0.4:
        tensor = next(name for name in document if name != "__metadata__")
        part, value = dice.choice(
            [("shape", [-1, -1]), ("shape", [2**62, 2**62]), ("data_offsets", [0, -5]), ("data_offsets", [0, 2**62])]
        )
        document[tensor][part] = value
        name, header = f"{part} of {value}", json.dumps(document).encode()
    else:
        name, header = hostile_text(data[8:end], dice)
    size = 2**63 if dice.random() < 0.1 else len(header)
    path.write_bytes(size.to_bytes(8, "little") + header + data[end:])
    command = _ask(ground, folder, "a red circle", "--sampler", str(model))
    return Case("documents", f"header of weights: {name}", command, "ask")


def _encoder(ground: Ground, folder: Path, dice: random.Random) -> Case:
    model = ground.copy_of(ground.encoder, folder)
    name = _in_file(ground, folder, dice, model / "open_clip_config.json")
    archive = str(folder / "made")
    command = ("index", str(ground.clip), "--archive", archive, "--encoder", f"local-dir:{model}", "--workers", "0")
    return Case("documents", f"encoder's configuration: {name}", (*command, "--device", "cpu"), "index")


_VERBS = ("list", "stats", "search", "verify", "compact")


def _verb(verb: str, archive: Path) -> tuple[str, ...]:
    more = ("a red circle",) if verb == "search" else ()
    return (verb, *more, "--archive", str(archive), *(TINY if verb == "search" else ()))


def _manifest(ground: Ground, folder: Path, dice: random.Random) -> Case:
    archive = ground.copy_of(ground.archive, folder)
    path = dice.choice(sorted(archive.glob("videos/*/manifest.json")))
    if dice.random() < 0.5:
        document = _with_any_value(json.loads(path.read_bytes()), dice)
        path.write_bytes(resealed(document))
        name = "a value of another kind, with its digest"
    else:
        name = _in_file(ground, folder, dice, path)
    verb = dice.choice(_VERBS)
    after = tuple(_verb(verb, archive) for verb in ("stats", "search", "compact"))
    return Case("documents", f"manifest, {verb}: {name}", _verb(verb, archive), verb, after=after)


def _archive_file(ground: Ground, folder: Path, dice: random.Random) -> Case:
    archive = ground.copy_of(ground.archive, folder)
    remember_failure(
        archive,
        Failure(
            path="/x.mp4",
            video_id=None,
            reason="cut",
            kind="VideoOpenError",
            lasting=True,
            attempt=Attempt(),
            attempts=1,
            failed_at="2026-01-01T00:00:00+00:00",
        ),
    )
    pattern = dice.choice(["archive.json", "failed/*.json", "cache/paths/*.json", "videos/*/timeline-*"])
    path = dice.choice(sorted(archive.glob(pattern)))
    if pattern.startswith("videos"):
        name, data = hostile_text(b'{"__metadata__": {"hybrid_timeline": "{}"}}', dice)
        path.write_bytes(len(data).to_bytes(8, "little") + data)
    else:
        name = _in_file(ground, folder, dice, path)
    verb = dice.choice(_VERBS)
    return Case("documents", f"{pattern}, {verb}: {name}", _verb(verb, archive), verb)


def _answers(ground: Ground, folder: Path, dice: random.Random) -> Case:
    stage = {"name": "gens", "ran": False, "fallback_reason": None}
    answer = {"stages": [stage], "reply": None}
    line = {"id": None, "question": "a red circle", "configuration": {}, "answer": answer}
    name, data = hostile_text(json.dumps(line).encode(), dice)
    path, questions = folder / "answers.jsonl", folder / "questions.txt"
    path.write_bytes(data.replace(b"\n", b" ") + b"\n")
    questions.write_text("a red circle\n", encoding="utf-8")
    command = _ask(ground, folder, "--questions", str(questions), "--out", str(path), "--no-fine")
    return Case("documents", f"answers that are gone on with: {name}", command, "questions")


def _saved(ground: Ground, folder: Path, dice: random.Random) -> Case:
    """An answer beside frames that were saved, whose files the next saving deletes."""
    frame = {"seconds": 1.0, "ordinal": 1, "frame_number": 1, "clip_similarity": 0.1, "gens_score": 5}
    span = {"start_seconds": 0.0, "end_seconds": 1.0, "score": 5}
    stage = {"name": "gens", "ran": True, "seconds": 0.1, "notes": ["x"]}
    answer = {"question": "q", "video": "v", "video_id": "i", "duration_seconds": 4.0, "reply": None}
    document = {**answer, "spans": [span], "frames": [frame], "stages": [stage]}
    name, data = hostile_text(json.dumps(document).encode(), dice)
    frames = folder / "frames"
    frames.mkdir()
    (frames / "answer.json").write_bytes(data)
    command = _ask(ground, folder, "a red circle", "--no-fine", "--frames-dir", str(frames))
    return Case("documents", f"saved answer: {name}", command, "ask")


_ROW = {
    "video_id": "001",
    "duration": "short",
    "domain": "Knowledge",
    "sub_category": "Humanity",
    "url": "https://example.org",
    "videoID": "abc",
    "question_id": "001-1",
    "task_type": "Counting",
    "question": "How many?",
    "options": ["A. 1.", "B. 2.", "C. 3.", "D. 4."],
    "answer": "C",
}


def _dataset(ground: Ground, folder: Path, dice: random.Random) -> Case:
    path = folder / "data.json"
    sound = json.dumps([_ROW, _ROW] if dice.random() < 0.5 else _ROW).encode()
    name, data = hostile_text(sound, dice)
    path.write_bytes(data if dice.random() < 0.5 else json.dumps(_ROW).encode() + b"\n" + data)
    return Case(
        "documents", f"data set: {name}", ("dataset", *dataset_arguments(path, folder)), "dataset", refused=True
    )


def _record(ground: Ground, folder: Path, dice: random.Random) -> Case:
    """The record of a run of the benchmark."""
    data, run = folder / "data.json", folder / "run"
    data.write_text(json.dumps([_ROW]), encoding="utf-8")
    run.mkdir()
    sound = json.dumps({"format": 1, "settings": {"dataset": {}}, "sessions": []}).encode()
    name, text = hostile_text(sound, dice)
    (run / "run.json").write_bytes(text)
    (run / "samples.jsonl").write_bytes(hostile_text(b'{"method": "uniform", "id": "1"}', dice)[1] + b"\n")
    return Case(
        "documents", f"record of a run: {name}", ("dataset", *dataset_arguments(data, folder)), "dataset", refused=True
    )


DOCUMENTS: tuple[Maker, ...] = (
    _questions,
    _plain_question,
    _prompt,
    _sampler,
    _header,
    _encoder,
    _manifest,
    _archive_file,
    _answers,
    _saved,
    _dataset,
    _record,
)
