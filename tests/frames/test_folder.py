"""Folders of numbered images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybrid.errors import FrameDecodeError, InputError, VideoOpenError
from hybrid.frames.decoders.folder import FolderSource
from hybrid.frames.registry import open_source
from hybrid.values import Sampling
from tests.frames.full_decode import assert_same, read_all
from tests.make_videos import image_folder, picture, read_number


def test_the_number_is_the_second(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "frames", range(12))
    source = open_source(folder, Sampling(1.0))
    found = read_all(source)
    assert found.ordinals == found.numbers == found.seconds == list(range(12))
    assert [read_number(rgb) for rgb in found.rgb] == list(range(12))
    assert all((rgb == picture(k)).all() for k, rgb in enumerate(found.rgb))
    assert source.info.kind == "folder"
    assert source.info.codec == "png"
    assert (source.info.width, source.info.height, source.info.duration_seconds) == (160, 96, 12.0)
    assert source.report().frames_decoded == 12


def test_gaps_and_bad_images_are_missing_and_shift_nothing(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "frames", [10, 11, 13, 15])
    (folder / "sec014.png").write_bytes(b"not an image")
    (folder / "sec016.png").write_bytes((folder / "sec010.png").read_bytes()[:2000])
    (folder / "notes099.txt").write_text("no image")
    (folder / ".sec098.png").write_bytes(b"hidden")
    (folder / "cover.png").write_bytes(b"no number")
    source = FolderSource(folder, Sampling(1.0))
    found = read_all(source)
    assert found.ordinals == found.numbers == [10, 11, 13, 15]
    assert [read_number(rgb) for rgb in found.rgb] == [10, 11, 13, 15]
    assert [gap.ordinal for gap in source.report().missing] == [12, 14, 16]
    reasons = [gap.reason for gap in source.report().missing]
    assert "no image with the number 12" in reasons[0]
    assert "sec014.png cannot be read" in reasons[1]


def test_other_rates(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "frames", range(6))
    twice = read_all(FolderSource(folder, Sampling(2.0)))
    assert twice.numbers == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert twice.seconds == [float(n) for n in twice.numbers]
    half = read_all(FolderSource(folder, Sampling(0.5)))
    assert (half.ordinals, half.numbers) == ([0, 1, 2], [0, 2, 4])
    third = read_all(FolderSource(folder, Sampling(1 / 3)))
    assert (third.ordinals, third.numbers) == ([0, 1], [0, 3])
    keys = read_all(FolderSource(folder, Sampling(0.5, "keyframes")))
    assert_same(keys, half)
    sparse = read_all(FolderSource(image_folder(tmp_path / "odd", [1, 3, 5]), Sampling(0.5, "keyframes")))
    assert (sparse.ordinals, sparse.numbers) == ([0, 1, 2], [1, 3, 5])


def test_sizes_and_kinds_may_change(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    Image.fromarray(picture(0)).save(folder / "a0.png")
    Image.fromarray(picture(1, width=200)).convert("L").save(folder / "a1.jpg")
    Image.fromarray(picture(2, width=200)).convert("RGBA").save(folder / "a2.webp")
    batches = list(FolderSource(folder, Sampling(1.0)).read())
    assert [batch.rgb.shape for batch in batches] == [(1, 96, 160, 3), (2, 96, 200, 3)]


def test_a_turned_photo_stands_upright(tmp_path: Path) -> None:
    image = Image.fromarray(picture(5))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "p0.png", exif=exif)
    source = FolderSource(tmp_path, Sampling(1.0))
    assert (source.info.width, source.info.height) == (96, 160)
    assert (read_all(source).rgb[0] == np.rot90(picture(5), -1)).all()


def test_what_is_no_such_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(VideoOpenError, match="no numbered images"):
        FolderSource(tmp_path, Sampling(1.0))
    Image.fromarray(picture(1)).save(tmp_path / "a001.png")
    Image.fromarray(picture(1)).save(tmp_path / "b1.png")
    with pytest.raises(VideoOpenError, match=r"a001.png and b1.png .* one number"):
        FolderSource(tmp_path, Sampling(1.0))
    (tmp_path / "b1.png").rename(tmp_path / "20240101120000.png")
    with pytest.raises(VideoOpenError, match="numbers are seconds"):
        FolderSource(tmp_path, Sampling(1.0))
    with pytest.raises(VideoOpenError, match="cannot be read"):
        FolderSource(tmp_path / "absent", Sampling(1.0))


def test_only_unreadable_images(tmp_path: Path) -> None:
    (tmp_path / "sec000.png").write_bytes(b"nothing")
    source = FolderSource(tmp_path, Sampling(1.0))
    with pytest.raises(FrameDecodeError, match=r"sec000.png cannot be read"):
        read_all(source)
    with pytest.raises(InputError, match="no reading was finished"):
        source.report()


def test_the_published_example(shared_data: Path) -> None:
    found = read_all(FolderSource(shared_data / "gens_example", Sampling(1.0)), [0, 11, 50])
    assert found.numbers == [0, 11, 50]
    assert found.rgb[0].shape == (336, 588, 3)
