"""A damaged file of one video, even one whose digests are right, breaks no verb over the archive."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import pytest
from archive_samples import some_index, unit_vectors, video_id
from safetensors.numpy import load, save
from typer.testing import CliRunner

from hybrid.cli.app import app
from hybrid.errors import IndexDamagedError
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.format.manifest import Manifest, generation_of
from indexes.format.timeline_file import NOTE, timeline_hash
from indexes.search.timed_hits import find_timed_hits
from indexes.stores.registry import STORES

HURT, SOUND = video_id(1), video_id(2)


def _reseal(place: Path, document: dict[str, Any]) -> None:
    document.pop("digest", None)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    place.write_text(json.dumps({**document, "digest": blake3.blake3(text.encode()).hexdigest(length=16)}))


def _field(name: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        place = folder / "manifest.json"
        document = json.loads(place.read_bytes())
        *outer, last = name.split(".")
        inner = document
        for part in outer:
            inner = inner[part]
        inner[last] = value
        _reseal(place, document)

    return change


def _text(data: bytes) -> Callable[[Path], None]:
    return lambda folder: [place.write_bytes(data) for place in folder.glob("manifest.json")] and None


def _timeline(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Callable[[Path], None]:
    """A timeline that was changed, and a manifest whose hashes are those of the changed one."""

    def change_both(folder: Path) -> None:
        (place,) = folder.glob("timeline-*")
        data = place.read_bytes()
        note = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"][NOTE])
        tensors = {name: tensor.copy() for name, tensor in load(data).items()}
        change(tensors, note)
        place.write_bytes(save(tensors, metadata={NOTE: json.dumps(note)}))
        document = json.loads((folder / "manifest.json").read_bytes())
        document["timeline_hash"] = timeline_hash(place.read_bytes())
        before = document["generation"]
        document["generation"] = generation_of(document["vectors_hash"], document["timeline_hash"])
        for file in folder.glob(f"*{before}*"):
            file.rename(file.with_name(file.name.replace(before, document["generation"])))
        _reseal(folder / "manifest.json", document)

    return change_both


DAMAGES: dict[str, Callable[[Path], None]] = {
    "brackets": _text(b"[" * 200_000),
    "a deep value": _text(b'{"a": ' + b"[" * 990 + b"]" * 990 + b"}"),
    "a huge number": _text(b'{"frames": ' + b"9" * 10_000 + b"}"),
    "half a surrogate pair": _text(b'{"video_id": "\\ud800"}'),
    "a key twice": _text(b'{"frames": 1, "frames": 2}'),
    "no object": _text(b"[]"),
    "UTF-16": _text("{}".encode("utf-16")),
    "nothing": _text(b""),
    "a zero byte in the path": _field("source.path", "/a\0b.mp4"),
    "a zero byte in another path": _field("source.also", ["/a\0b.mp4"]),
    "half a pair in the path": _field("source.path", "/\ud83d.mp4"),
    "1e308 s": _field("video.duration_seconds", 1e308),
    "a negative size": _field("source.size_bytes", -1),
    "a size beyond the integers": _field("source.size_bytes", 2**90),
    "rate 0": _field("config.rate", 0),
    "an id of two digits": _field("video_id", "ab"),
    "frames beyond the integers": _field("frames", 2**90),
    "a dimension beyond the integers": _field("dimension", 2**90),
    "an encoder of lists": _field("config.encoder", {"model": [1]}),
    "a date beyond the calendar": _field("created_at", "9999-12-31T23:59:59-23:59"),
    "times that are no numbers": _timeline(lambda tensors, note: tensors["pts_seconds"].fill(np.nan)),
    "a time of 1e308 s": _timeline(lambda tensors, note: tensors["pts_seconds"].__setitem__(-1, 1e308)),
    "ordinals below 0": _timeline(lambda tensors, note: tensors["ordinals"].__isub__(1000)),
    "ordinals in a square": _timeline(lambda tensors, note: tensors.update(ordinals=tensors["ordinals"][:, None])),
    "a length of nothing": _timeline(lambda tensors, note: note.update(duration_seconds=None)),
    "rate 0 in the timeline": _timeline(lambda tensors, note: note.update(rate=0)),
    "reasons that are no texts": _timeline(lambda tensors, note: note.update(reasons=[[]] * len(note["reasons"]))),
    "deep reasons": _timeline(lambda tensors, note: note.update(reasons=json.loads("[" * 100 + "]" * 100))),
}


@pytest.fixture(scope="module", params=STORES.names)
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    backend: str = request.param
    folder = tmp_path_factory.mktemp("damaged") / "archive"
    with Archive.open(folder, backend=backend) as opened:
        for number in (1, 2):
            opened.commit(video_id(number), NewIndex(**some_index(number)))
    return folder


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return result.exit_code, result.output


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_verb_goes_on(damage: str, archive: Path, tmp_path: Path) -> None:
    if json.loads((archive / "archive.json").read_bytes())["backend"] == "lancedb" and list(DAMAGES).index(damage) % 4:
        return  # manifests and timelines are the same files with both backends
    folder = archive / "videos" / HURT
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    try:
        DAMAGES[damage](folder)
        _check_verbs(archive, tmp_path)
    finally:
        for path in folder.iterdir():
            path.unlink()
        for name, data in kept.items():
            (folder / name).write_bytes(data)


def _check_verbs(archive: Path, tmp_path: Path) -> None:
    listed, lines = run("list", "--archive", archive, "--json")
    assert listed in (0, 1)
    assert SOUND in lines
    code, stats = run("stats", "--archive", archive, "--json")
    assert code == 0
    assert json.loads(stats)["hours"] < 1
    # What is only wrong within the timeline is found where that is read.
    code, findings = run("verify", "--archive", archive, "--json")
    assert code in (0, 1)
    assert (code == 1) or listed == 0
    assert f'"{SOUND}"' in findings
    with Archive.open(archive, create=False) as opened:
        damaged: list[str] = []
        manifests: list[Manifest] = list(opened.manifests(on_damage=lambda name, _: damaged.append(name)))
        assert SOUND in {manifest.video_id for manifest in manifests}
        assert {manifest.video_id for manifest in manifests} | set(damaged) == {HURT, SOUND}
        fitting = [manifest for manifest in manifests if manifest.dimension == 16]
        found = find_timed_hits(opened, fitting, unit_vectors(1, 16, 3)[0], 80)
        assert SOUND in found.timelines
        for manifest in manifests:
            try:
                opened.timeline(manifest)
            except IndexDamagedError:
                assert manifest.video_id == HURT
    code, _ = run("export", SOUND, tmp_path / "sound.hybrid", "--archive", archive)
    assert code == 0
    code, _ = run("convert", tmp_path / "copy", "--archive", archive)
    assert code in (0, 1)
    with Archive.open(tmp_path / "copy", create=False) as copied:
        copied.verify(SOUND)
    code, said = run("compact", "--archive", archive)
    assert code == 0, said
