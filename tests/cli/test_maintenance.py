"""The verbs that look after an archive, as they are typed. No model is needed for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hybrid.cli.app import app
from hybrid.errors import ArchiveFormatError, HybridError, InputError, VideoNotIndexedError
from hybrid.frames.rules import FRAME_RULES
from indexes.archive.new_index import NewIndex
from indexes.format.manifest import Source
from indexes.open_archive import open_archive
from tests.demo_clip import DEMO_SCENES, write_demo_clip
from tests.indexes.archive_samples import some_index, video_id

VIDEOS = 3


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    places = [tmp_path / f"{number}.mp4" for number in range(VIDEOS)]
    for place in places:
        place.write_text(place.name)
    return places


@pytest.fixture
def archive(tmp_path: Path, videos: list[Path]) -> Path:
    folder = tmp_path / "archive"
    with open_archive(folder, backend="faiss") as opened:
        for number, place in enumerate(videos):
            source = Source(path=str(place), size_bytes=place.stat().st_size)
            opened.commit(opened.identify(place), NewIndex(**{**some_index(number), "source": source}))
    return folder


def test_stats(archive: Path) -> None:
    shown = run("stats", "--archive", archive)
    assert shown.exit_code == 0
    assert "3 videos" in shown.stdout
    assert "120 frames" in shown.stdout
    assert "bytes a frame" in shown.stdout
    (found,) = lines(run("stats", "--archive", archive, "--json"))
    assert found["videos"] == VIDEOS
    assert found["gone"] == 0


def test_verify_says_what_is_damaged_and_fails(archive: Path, videos: list[Path]) -> None:
    sound = run("verify", "--archive", archive)
    assert sound.exit_code == 0
    assert "3 videos with 120 frames sound, 0 damaged" in sound.stdout
    path = sorted(archive.glob("videos/*/vectors-*"))[1]
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(bytes(data))
    damaged = run("verify", "--archive", archive)
    assert damaged.exit_code == 1
    assert path.name in damaged.stdout
    findings = lines(run("verify", "--archive", archive, "--json"))
    assert [finding["state"] for finding in findings].count("damaged") == 1
    sound_one = next(finding["video"] for finding in findings if finding["state"] == "sound")
    assert run("verify", str(sound_one), "--archive", archive).exit_code == 0


def test_compact(archive: Path) -> None:
    assert run("compact", "--archive", archive).exit_code == 0
    (found,) = lines(run("compact", "--archive", archive, "--json"))
    assert found["swept"] == 0
    assert run("verify", "--archive", archive).exit_code == 0


def test_remove_by_path_by_id_and_all_that_are_gone(archive: Path, videos: list[Path]) -> None:
    with open_archive(archive) as opened:
        second = opened.identify(videos[1])
    assert run("remove", videos[0], second, "--archive", archive).exit_code == 0
    with open_archive(archive) as opened:
        assert [manifest.source.path for manifest in opened.manifests()] == [str(videos[2])]
    missing = run("remove", videos[0], "--archive", archive)
    assert missing.exit_code == 1
    assert "does not know" in missing.output or "holds no" in missing.output
    videos[2].unlink()
    (removed,) = lines(run("remove", "--gone", "--archive", archive, "--json"))
    assert removed["video"] == str(videos[2])
    assert lines(run("list", "--archive", archive, "--json")) == []
    with pytest.raises(InputError, match="which videos"):
        run("remove", "--archive", archive)


def test_remove_can_be_tried_first(archive: Path, videos: list[Path]) -> None:
    videos[1].unlink()
    for wanted in (["--gone"], [videos[0], "--gone"]):
        shown = lines(run("remove", *wanted, "--dry-run", "--archive", archive, "--json"))
        assert {line["event"] for line in shown} == {"would_remove"}
        assert str(videos[1]) in [line["video"] for line in shown]
    told = run("remove", "--gone", "--dry-run", "--archive", archive)
    assert f"would remove {videos[1]}: {videos[1]} does not exist any more" in " ".join(told.stdout.split())
    assert len(lines(run("list", "--archive", archive, "--json"))) == VIDEOS


@pytest.mark.parametrize("mount_point_stays", [False, True])
def test_videos_of_a_disk_that_is_not_mounted_are_kept(
    archive: Path, videos: list[Path], tmp_path: Path, mount_point_stays: bool
) -> None:
    disk = tmp_path / "disk"
    (disk / "films").mkdir(parents=True)
    places = [disk / "films" / "x.mp4", disk / "y.mp4"]
    with open_archive(archive) as opened:
        for number, place in enumerate(places):
            place.write_text(place.name)
            source = Source(path=str(place), size_bytes=place.stat().st_size)
            opened.commit(opened.identify(place), NewIndex(**{**some_index(7 + number), "source": source}))
    away = disk.rename(tmp_path / "away")
    if mount_point_stays:
        disk.mkdir()
    videos[0].unlink()
    with pytest.raises(InputError, match=r"2 videos lay in folders.*/disk.*--even-if-folders-are-missing"):
        run("remove", "--gone", "--archive", archive)
    assert len(lines(run("list", "--archive", archive, "--json"))) == VIDEOS + 2
    if mount_point_stays:
        disk.rmdir()
    away.rename(disk)
    (removed,) = lines(run("remove", "--gone", "--archive", archive, "--json"))
    assert removed["video"] == str(videos[0])
    disk.rename(away)
    given = run("remove", "--gone", "--even-if-folders-are-missing", "--archive", archive, "--json")
    assert {line["video"] for line in lines(given)} == set(map(str, places))


def test_a_video_that_is_being_written_does_not_keep_the_others(archive: Path, videos: list[Path]) -> None:
    with open_archive(archive) as opened:
        busy = opened.identify(videos[0])
        with opened.lock(busy):
            given = run("remove", *videos, "--archive", archive)
        assert given.exit_code == 1
        assert "being written" in given.output
        assert [manifest.video_id for manifest in opened.manifests()] == [busy]


def test_a_damaged_video_can_be_removed_by_its_id(archive: Path, videos: list[Path]) -> None:
    (manifest, *_) = sorted(archive.glob("videos/*/manifest.json"))
    manifest.write_text("{")
    video = manifest.parent.name
    assert run("verify", video, "--archive", archive).exit_code == 1
    assert run("remove", video, "--archive", archive).exit_code == 0
    assert not manifest.parent.exists()
    assert run("verify", "--archive", archive).exit_code == 0


def test_records_of_failures_go_with_their_files(archive: Path, videos: list[Path]) -> None:
    gone, there = videos[0].with_name("gone.mp4"), videos[0].with_name("there.mp4")
    for place in (gone, there):
        place.write_bytes(b"no video")
    assert run("index", gone, there, "--archive", archive, "--preset", "tiny", "--workers", "0").exit_code == 1
    (stats,) = lines(run("stats", "--archive", archive, "--json"))
    assert [line.split(":")[0] for line in stats["failed"]] == [str(gone)]  # two files of one content: one record
    there.write_bytes(b"no video either")
    run("index", there, "--archive", archive, "--preset", "tiny", "--workers", "0")
    gone.unlink()
    (tried,) = lines(run("remove", "--gone", "--dry-run", "--archive", archive, "--json"))
    (removed,) = lines(run("remove", "--gone", "--archive", archive, "--json"))
    assert [(line["event"], line["video"]) for line in (tried, removed)] == [
        ("would_remove", str(gone)),
        ("removed", str(gone)),
    ]
    (stats,) = lines(run("stats", "--archive", archive, "--json"))
    assert [line.split(":")[0] for line in stats["failed"]] == [str(there)]
    with open_archive(archive) as opened:  # the file is mended
        there.write_bytes(videos[0].read_bytes())
        assert opened.holds(opened.identify(there))
    run("index", there, "--archive", archive, "--preset", "tiny", "--workers", "0")
    assert "no video is gone" in run("remove", "--gone", "--archive", archive).stdout


def test_records_of_failures_of_a_disk_that_is_not_mounted_are_kept(archive: Path, tmp_path: Path) -> None:
    place = tmp_path / "disk" / "bad.mp4"
    place.parent.mkdir()
    place.write_bytes(b"no video")
    run("index", place, "--archive", archive, "--preset", "tiny", "--workers", "0")
    place.parent.rename(tmp_path / "away")
    with pytest.raises(InputError, match=r"1 video lay in folders.*/disk"):
        run("remove", "--gone", "--archive", archive)
    assert run("remove", "--gone", "--even-if-folders-are-missing", "--archive", archive).exit_code == 0
    (stats,) = lines(run("stats", "--archive", archive, "--json"))
    assert stats["failed"] == []


@pytest.mark.parametrize("name", ["out.srt", "out.mp4", "out.json", "out.txt", "out.tar", "OUT.SRT", "out.zip.mp4"])
def test_an_export_is_not_written_under_the_name_of_something_else(
    archive: Path, videos: list[Path], tmp_path: Path, name: str
) -> None:
    with pytest.raises(InputError, match=r"must end in \.zip or \.hybrid: name another file, for instance .*\.zip"):
        run("export", videos[0], tmp_path / name, "--archive", archive)
    assert not (tmp_path / name).exists()


def test_no_output_replaces_a_foreign_file(archive: Path, videos: list[Path], tmp_path: Path) -> None:
    film, frames = tmp_path / "film", tmp_path / "frames"
    film.write_bytes(b"\0\0\0 ftypisom")
    frames.mkdir()
    (frames / "1.png").write_bytes(b"\x89PNG and so on")
    manifest = next(archive.glob("videos/*/manifest.json"))
    options: list[str | Path] = ["--archive", archive, "--preset", "tiny"]
    for command, said in (
        (["export", videos[0], film], "would be lost"),
        (["export", videos[0], archive / "one.zip"], "belongs to the archive"),
        (["ask", videos[0], "a?", "--sheet", film, *options[2:]], "would be lost"),
        (["ask", videos[0], "a?", "--sheet", tmp_path / "a.jpg", *options[2:]], r"must end in \.png"),
        (["ask", frames, "a?", "--sheet", frames / "1.png", *options[2:]], "belongs to the video"),
        (["ask", videos[0], "a?", "--out", manifest, *options[2:]], "belongs to the archive"),
        (["ask", videos[0], "a?", "--out", tmp_path / "a.mp4", *options[2:]], r"must end in \.jsonl"),
        (["ask", videos[0], "a?", "--out", film, *options[2:]], "would be lost"),
    ):
        with pytest.raises(InputError, match=said):
            run(*command, "--archive", archive)
    assert film.read_bytes().endswith(b"ftypisom")
    assert (frames / "1.png").read_bytes() == b"\x89PNG and so on"
    for again in range(2):  # an exported index may be replaced
        assert run("export", videos[0], tmp_path / "one.zip", "--archive", archive).exit_code == 0, again


def test_export_import_and_convert(archive: Path, videos: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "one.hybrid"
    assert run("export", videos[0], file, "--archive", archive).exit_code == 0
    taken = run("import", file, "--archive", tmp_path / "other")
    assert "imported" in taken.stdout
    assert "unchanged" in run("import", file, "--archive", tmp_path / "other").stdout
    assert run("import", tmp_path / "no", file, "--archive", tmp_path / "other").exit_code == 1
    missing = run("import", tmp_path / "no", tmp_path / "nor this", "--archive", tmp_path / "slip")
    assert missing.exit_code == 1
    assert "no such file" in missing.output
    assert not (tmp_path / "slip").exists()
    assert "3 indexes copied" in run("convert", tmp_path / "lance", "--archive", archive).stdout
    assert "0 indexes copied" in run("convert", tmp_path / "lance", "--archive", archive).stdout
    with open_archive(tmp_path / "lance", create=False) as converted, open_archive(archive) as old:
        assert converted.backend == "lancedb"
        assert list(converted.manifests()) == list(old.manifests())
        for manifest in old.manifests():
            converted.verify(manifest.video_id)
    with pytest.raises(InputError, match="another folder"):
        run("convert", archive, "--archive", archive)


def test_convert_leaves_newer_indexes_alone_unless_asked(archive: Path, videos: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "lance"
    assert run("convert", target, "--archive", archive).exit_code == 0
    with open_archive(target) as opened:
        video = opened.identify(videos[0])
        source = Source(path=str(videos[0]), size_bytes=videos[0].stat().st_size)
        newer = opened.commit(video, NewIndex(**{**some_index(9), "source": source}))
    again = run("convert", target, "--archive", archive)
    assert again.exit_code == 1
    assert "--replace" in again.output
    assert "0 indexes copied" in again.output
    with open_archive(target) as opened, open_archive(archive) as old:
        assert opened.verify(video) == newer
        assert run("convert", target, "--archive", archive, "--replace").exit_code == 0
        assert opened.verify(video) == old.verify(video)


@pytest.mark.parametrize("verb", [["stats"], ["verify"], ["compact"], ["remove", "--gone"], ["search", "a?"]])
def test_a_slip_in_the_name_makes_no_archive(verb: list[str], tmp_path: Path) -> None:
    with pytest.raises(ArchiveFormatError, match="no archive here"):
        run(*verb, "--archive", tmp_path / "slip")
    assert not (tmp_path / "slip").exists()


def test_a_video_that_is_not_there(archive: Path) -> None:
    with pytest.raises(VideoNotIndexedError, match="hybrid list"):
        run("export", "/no/such.mp4", "x", "--archive", archive)
    with pytest.raises(HybridError, match="holds no"):
        run("verify", video_id(77), "--archive", archive)


def test_dry_run_estimates_and_changes_nothing(archive: Path, videos: list[Path], tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(7):
        (pictures / f"sec{number:03d}.png").write_bytes(b"not looked at")
    before = sorted(path for path in archive.rglob("*"))
    shown = run("index", *videos, pictures, "--archive", archive, "--dry-run", "--json")
    (estimate,) = lines(shown)
    assert (estimate["videos"], estimate["indexed"], estimate["replaced"]) == (4, 3, 0)
    assert estimate["frames"] == 7
    assert estimate["hours"] == pytest.approx(7 / 3600)
    assert sorted(path for path in archive.rglob("*")) == before
    absent = run("index", pictures, videos[0], "--archive", tmp_path / "new", "--dry-run")
    assert absent.exit_code == 0
    assert "1 of 2 videos to be indexed, 0 indexed already" in absent.stdout
    assert "time not known" in absent.stdout
    assert not (tmp_path / "new").exists()


def test_dry_run_knows_indexes_of_another_configuration(archive: Path, videos: list[Path], tmp_path: Path) -> None:
    clip = write_demo_clip(tmp_path / "clip.mp4", [replace(DEMO_SCENES[0], seconds=4)])
    with open_archive(archive) as opened:
        index = some_index(8)
        encoder = {
            "encoder": "open_clip",
            "model": "ViT-B-32",
            "pretrained": "laion2b_s34b_b79k",
            "precision": "float32",
        }
        config = index["config"].model_copy(update={"encoder": encoder})
        source = Source(path=str(clip), size_bytes=clip.stat().st_size)
        made = {**index, "config": config, "source": source, "frame_rules": FRAME_RULES}
        opened.commit(opened.identify(clip), NewIndex(**made))

    def estimate(*options: str) -> tuple[object, object, object, object]:
        (line,) = lines(run("index", clip, "--archive", archive, "--dry-run", "--json", *options))
        return line["indexed"], line["replaced"], line["frames"], line["changes"]

    same = ("--encoder", "ViT-B-32/laion2b_s34b_b79k")
    assert estimate(*same) == (1, 0, 0, [])
    assert estimate(*same, "--rate", "1", "--sampling", "exact", "--dtype", "float32") == (1, 0, 0, [])
    assert estimate(*same, "--rate", "2") == (0, 1, 9, ["rate: 1.0 -> 2.0"])  # 120 frames of 29.97 a second: 4.004 s
    assert estimate(*same, "--sampling", "keyframes")[3] == ["policy: exact -> keyframes"]
    assert estimate(*same, "--dtype", "bfloat16")[3] == ["encoder.precision: float32 -> bfloat16"]
    assert estimate("--encoder", "ViT-L-14/openai")[1] == 1
    told = run("index", clip, "--archive", archive, "--dry-run", *same, "--rate", "2")
    assert "1 of them have an index of another configuration, to be replaced: rate: 1.0 -> 2.0" in told.stdout
    with pytest.raises(ArchiveFormatError, match="backend is 'faiss'"):
        run("index", clip, "--archive", archive, "--dry-run", "--backend", "lancedb")


@pytest.mark.parametrize("dry_run", [["--dry-run"], []])
@pytest.mark.parametrize(
    "wrong",
    [
        ["--rate", "-3"],
        ["--rate", "0"],
        ["--rate", "nan"],
        ["--rate", "inf"],
        ["--batch-size", "0"],
        ["--dtype", "float8"],
        ["--approximate-from", "-1"],
        ["--workers", "-1"],
    ],
)
def test_options_that_are_not_legal_are_refused_before_anything_is_made(
    videos: list[Path], tmp_path: Path, wrong: list[str], dry_run: list[str]
) -> None:
    with pytest.raises(InputError, match=wrong[1].lstrip("-")):
        run("index", videos[0], "--archive", tmp_path / "new", *dry_run, *wrong)
    assert not (tmp_path / "new").exists()


def test_index_without_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="say which videos"):
        run("index", "--archive", tmp_path / "archive")
