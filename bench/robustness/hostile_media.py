"""Images, playlists and folders that nobody should index as they stand, or not without a word."""

from __future__ import annotations

import io
import os
import random
import shutil
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from bench.robustness.hostile_case import Case, Ground, Maker, index_case

__all__ = ["FOLDERS", "IMAGES", "PLAYLISTS"]


def _png(width: int, height: int, *, depth: int = 8, colour: int = 0, more: bytes = b"") -> bytes:
    """A black picture of any size in a few kilobytes; nothing of that size is ever in memory."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(9)
    channels = {0: 1, 2: 3, 6: 4}[colour]
    row = bytes(1 + (width * depth * channels + 7) // 8)
    packed = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    head = struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def _saved(picture: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def _noise(dice: random.Random, *shape: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(dice.randrange(2**32)).integers(0, 256, shape, dtype=np.uint8)


def _picture(dice: random.Random, mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.fromarray(_noise(dice, size[1], size[0], 3)).convert(mode)


def _animation(dice: random.Random, form: str) -> bytes:
    first, *rest = [_picture(dice) for _ in range(5)]
    return _saved(first, form, save_all=True, append_images=rest, duration=500, loop=0)


def _text_bomb() -> bytes:
    """A comment of 100 MB in some kilobytes."""
    data = b"Comment\0\0" + zlib.compress(bytes(100 * 10**6), 9)
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    return _png(64, 48, more=chunk)


def _huge_gif(dice: random.Random) -> bytes:
    data = bytearray(_saved(_picture(dice), "GIF"))
    data[6:10] = b"\xff\xff\xff\xff"
    return bytes(data)


def _huge_bmp(dice: random.Random) -> bytes:
    data = bytearray(_saved(_picture(dice), "BMP"))
    data[18:26] = struct.pack("<2i", *dice.choice([(40_000, 40_000), (2**31 - 1, 1), (-5, 48), (0, 0)]))
    return bytes(data)


def _huge_tiff(dice: random.Random) -> bytes:
    data = _saved(Image.new("L", (64, 48)), "TIFF", compression="tiff_lzw")
    return data.replace(struct.pack("<2HII", 256, 4, 1, 64), struct.pack("<2HII", 256, 4, 1, 2**31)).replace(
        struct.pack("<2HIHH", 256, 3, 1, 64, 0), struct.pack("<2HIHH", 256, 3, 1, 65_535, 0)
    )


def _floats(dice: random.Random, value: float) -> bytes:
    grey = np.random.default_rng(dice.randrange(2**32)).random((48, 64), dtype=np.float32)
    grey[0, 0] = value
    return _saved(Image.fromarray(grey), "TIFF")


def _grey16(dice: random.Random, form: str) -> bytes:
    return _saved(Image.fromarray(_noise(dice, 48, 64).astype(np.uint16) * 257), form)


def _with_comment(dice: random.Random) -> bytes:
    note = PngImagePlugin.PngInfo()
    note.add_text("\x1b[2J", "x" * 10_000)
    return _saved(_picture(dice), "PNG", pnginfo=note)


_FLOATS = (np.nan, np.inf, -1e30, 1e30)

# (name, file's ending, whether it must be refused, content)
_IMAGES: tuple[tuple[str, str, bool, Callable[[random.Random], bytes]], ...] = (
    ("bomb of 13,000 x 13,000 pixels", "png", True, lambda dice: _png(13_000, 13_000)),
    ("bomb of one bit a pixel", "png", True, lambda dice: _png(dice.choice([20_000, 30_000]), 20_000, depth=1)),
    ("bomb in colour of 16 bits", "png", True, lambda dice: _png(9_500, 9_500, depth=16, colour=2)),
    ("bomb in its comment", "png", False, lambda dice: _text_bomb()),
    ("long strip", "png", False, lambda dice: _png(1, 65_000)),
    ("canvas of 65,535 x 65,535", "gif", True, _huge_gif),
    ("false size", "bmp", True, _huge_bmp),
    ("false size", "tiff", False, _huge_tiff),
    ("16 bits of grey", "png", False, lambda dice: _grey16(dice, "PNG")),
    ("16 bits of grey", "tiff", False, lambda dice: _grey16(dice, "TIFF")),
    ("floats", "tif", False, lambda dice: _floats(dice, 0.5)),
    (
        "floats that are not numbers",
        "tif",
        False,
        lambda dice: _floats(dice, dice.choice([np.nan, np.inf, -1e30, 1e30])),
    ),
    ("animated", "webp", False, lambda dice: _animation(dice, "WEBP")),
    ("animated", "gif", False, lambda dice: _animation(dice, "GIF")),
    ("animated", "png", False, lambda dice: _animation(dice, "PNG")),
    ("four inks", "jpg", False, lambda dice: _saved(_picture(dice, "CMYK"), "JPEG")),
    ("palette", "png", False, lambda dice: _saved(_picture(dice, "P"), "PNG", transparency=3)),
    ("grey with opacity", "png", False, lambda dice: _saved(_picture(dice, "LA"), "PNG")),
    ("one pixel", "png", False, lambda dice: _saved(_picture(dice, size=(1, 1)), "PNG")),
    ("escape codes in its comment", "png", False, _with_comment),
    ("cut", "png", False, lambda dice: (data := _saved(_picture(dice), "PNG"))[: dice.randrange(9, len(data) - 12)]),
    ("cut", "jpg", False, lambda dice: (data := _saved(_picture(dice), "JPEG"))[: dice.randrange(4, len(data))]),
    ("cut", "webp", False, lambda dice: (data := _saved(_picture(dice), "WEBP"))[: dice.randrange(12, len(data))]),
    ("nothing", "png", True, lambda dice: b""),
    ("text", "jpg", True, lambda dice: b"this is no picture\n" * 10),
    ("random bytes", "png", True, lambda dice: b"\x89PNG\r\n\x1a\n" + dice.randbytes(1000)),
    ("another format than its name", "jpg", False, lambda dice: _saved(_picture(dice), "PNG")),
)


def _image(number: int) -> Maker:
    def make(ground: Ground, folder: Path, dice: random.Random) -> Case:
        name, suffix, refused, content = _IMAGES[number]
        frames = folder / "frames"
        frames.mkdir()
        data = content(dice)
        for second in range(1 if len(data) > 10_000 else 2):
            (frames / f"sec{second:03d}.{suffix}").write_bytes(data)
        return index_case("images", f"{suffix}: {name}", frames, folder, refused=refused)

    return make


_NUMBERED = (("1", "01", "001"), ("999999999999",), ("0", "1000000000"), ("9" * 100,), ("-1",), ("\u0663",))


def _numbers(ground: Ground, folder: Path, dice: random.Random) -> Case:
    """Names that number the pictures absurdly."""
    frames = folder / "frames"
    frames.mkdir()
    names = dice.choice(
        [("1", "01", "001"), ("999999999999",), ("0", "1000000000"), ("9" * 100,), ("-1",), ("\u0663",)]
    )
    for name in names:
        (frames / f"sec{name}.png").write_bytes(_saved(_picture(dice), "PNG"))
    return index_case("images", f"numbered {names[-1][:20]}", frames, folder)


def _mixed(ground: Ground, folder: Path, dice: random.Random) -> Case:
    """One sound picture, then a bomb."""
    frames = folder / "frames"
    frames.mkdir()
    (frames / "sec000.png").write_bytes(_saved(_picture(dice), "PNG"))
    (frames / "sec001.png").write_bytes(_png(13_000, 13_000))
    return index_case("images", "a bomb behind a sound picture", frames, folder)


IMAGES: tuple[Maker, ...] = (*map(_image, range(len(_IMAGES))), _numbers, _mixed)


# (name, file's name, content: clip's path -> text)
_PLAYLISTS: tuple[tuple[str, str, Callable[[Path], str]], ...] = (
    ("ffconcat of one file", "film.mp4", lambda clip: f"ffconcat version 1.0\nfile '{clip}'\n"),
    ("ffconcat beside the file", "film.mkv", lambda clip: "ffconcat version 1.0\nfile clip.mp4\n"),
    ("ffconcat a thousand times", "film.mp4", lambda clip: "ffconcat version 1.0\n" + "file clip.mp4\n" * 1000),
    ("ffconcat that lasts long", "film.mov", lambda clip: "ffconcat version 1.0\nfile clip.mp4\nduration 99999999\n"),
    ("ffconcat of itself", "film.mp4", lambda clip: "ffconcat version 1.0\nfile film.mp4\n"),
    ("ffconcat of a device", "film.mp4", lambda clip: "ffconcat version 1.0\nfile /dev/zero\n"),
    ("ffconcat of a secret", "film.mp4", lambda clip: "ffconcat version 1.0\nfile /etc/passwd\n"),
    ("ffconcat by name", "film.ffconcat", lambda clip: f"ffconcat version 1.0\nfile '{clip}'\n"),
    ("concat without a header", "film.txt", lambda clip: f"file '{clip}'\n"),
    ("HLS of an absolute path", "film.m3u8", lambda clip: _hls(str(clip))),
    ("HLS of a file beside it", "film.m3u8", lambda clip: _hls("clip.mp4")),
    ("HLS named as a video", "film.mp4", lambda clip: _hls("clip.mp4")),
    ("HLS of an address", "film.m3u8", lambda clip: _hls("http://127.0.0.1:9/a.ts")),
    ("HLS of an address, named as a video", "film.ts", lambda clip: _hls("http://127.0.0.1:9/a.ts")),
    ("HLS of itself", "film.m3u8", lambda clip: _hls("film.m3u8")),
    ("HLS with a key", "film.m3u8", lambda clip: _hls("clip.mp4", '#EXT-X-KEY:METHOD=AES-128,URI="/etc/passwd"\n')),
    ("HLS without end", "film.m3u8", lambda clip: _hls("clip.mp4").replace("#EXT-X-ENDLIST\n", "")),
    ("HLS of data", "film.m3u8", lambda clip: _hls("data:video/mp4;base64,AAAA")),
    ("HLS of a crypto protocol", "film.m3u8", lambda clip: _hls(f"crypto:{clip}")),
    ("HLS of streams", "film.m3u8", lambda clip: "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nfilm2.m3u8\n"),
    ("M3U", "film.m3u", lambda clip: f"#EXTM3U\n{clip}\n"),
    ("PLS", "film.pls", lambda clip: f"[playlist]\nFile1={clip}\nNumberOfEntries=1\n"),
    ("DASH", "film.mpd", lambda clip: _dash(str(clip))),
    ("DASH named as a video", "film.mp4", lambda clip: _dash("http://127.0.0.1:9/")),
    ("SDP", "film.sdp", lambda clip: "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"),
    ("SDP named as a video", "film.mp4", lambda clip: "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"),
    ("ASX", "film.asx", lambda clip: f'<asx version="3.0"><entry><ref href="{clip}"/></entry></asx>'),
    ("SMIL", "film.smil", lambda clip: f'<smil><body><video src="{clip}"/></body></smil>'),
    (
        "XSPF",
        "film.xspf",
        lambda clip: f"<playlist><trackList><track><location>{clip}</location></track></trackList></playlist>",
    ),
    ("IMF", "film.xml", lambda clip: '<?xml version="1.0"?><CompositionPlaylist></CompositionPlaylist>'),
    ("AviSynth", "film.avs", lambda clip: f'DirectShowSource("{clip}")\n'),
    ("VapourSynth", "film.vpy", lambda clip: "import os\nos.mkdir('hostile')\n"),
    ("QuickTime reference", "film.mov", lambda clip: "\0\0\0\x10moov\0\0\0\x08rmra"),
    ("subtitles named as a video", "film.mp4", lambda clip: "1\n00:00:00,000 --> 99:00:00,000\nhello\n"),
    ("metadata named as a video", "film.mkv", lambda clip: ";FFMETADATA1\ntitle=x\n[CHAPTER]\nSTART=0\nEND=99999999\n"),
)


def _hls(segment: str, more: str = "") -> str:
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9999\n"
    return f"{head}{more}#EXTINF:9999.0,\n{segment}\n#EXTINF:9999.0,\n{segment}\n#EXT-X-ENDLIST\n"


def _dash(base: str) -> str:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT9H"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
        f'bandwidth="1" codecs="avc1"><BaseURL>{base}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    )


def _playlist(number: int) -> Maker:
    def make(ground: Ground, folder: Path, dice: random.Random) -> Case:
        name, file, content = _PLAYLISTS[number]
        shutil.copy(ground.clip, folder / "clip.mp4")
        path = folder / file
        path.write_text(content(ground.clip), encoding="utf-8")
        return index_case("playlists", f"{name} ({file})", path, folder, refused=True)

    return make


_PROTOCOLS = (
    "concat:{0}|{0}",
    "subfile,,start,0,end,9,,:{0}",
    "file:{0}",
    "data:video/mp4;base64,AAAA",
    "pipe:0",
    "crypto:{0}",
)


def _protocol(ground: Ground, folder: Path, dice: random.Random) -> Case:
    """A protocol of FFmpeg in the place of a path."""
    form = dice.choice(_PROTOCOLS)
    case = index_case("playlists", form, Path("x"), folder, refused=True)
    command = (case.command[0], form.format(ground.clip), *case.command[2:])
    return Case("playlists", form, command, "index", refused=True)


PLAYLISTS: tuple[Maker, ...] = (*map(_playlist, range(len(_PLAYLISTS))), _protocol)


def _deep(root: Path, ground: Ground, dice: random.Random) -> None:
    # By steps: the whole path is longer than the system takes at once.
    before = os.getcwd()
    os.chdir(root)
    try:
        for _ in range(dice.choice([50, 400])):
            os.mkdir("folder")
            os.chdir("folder")
        shutil.copy(ground.clip, "deep.mp4")
    finally:
        os.chdir(before)


def _special(root: Path, ground: Ground, dice: random.Random) -> None:
    os.mkfifo(root / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as opened:
        before = os.getcwd()
        os.chdir(root)  # an address has at most 108 letters
        try:
            opened.bind("socket.mkv")
        finally:
            os.chdir(before)


def _pictures(root: Path, dice: random.Random, folder: str, names: tuple[str, ...], form: str) -> None:
    (root / folder).mkdir(parents=True)
    for name in names:
        (root / folder / name).write_bytes(_saved(_picture(dice), form))


def _many(root: Path, ground: Ground, dice: random.Random) -> None:
    for number in range(3000):
        (root / f"{number}.txt").touch()
    for number in range(20):
        (root / f"{number}.mp4").touch()


def _copies(root: Path, ground: Ground, *names: bytes) -> None:
    for name in names:
        shutil.copy(os.fsencode(ground.clip), os.fsencode(root / "") + b"/" + name)


def _links(root: Path, *pairs: tuple[str, str | Path]) -> None:
    for name, target in pairs:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).symlink_to(target)


def _animals(root: Path, dice: random.Random) -> None:
    _pictures(root, dice, "gifs", ("cat.gif", "dog.gif"), "GIF")


def _tiles(root: Path, dice: random.Random) -> None:
    _pictures(root, dice, "film.trickplay/320 - 10x10", ("0.jpg", "1.jpg"), "JPEG")


def _empty(root: Path) -> None:
    (root / "folder.mp4").mkdir()
    for suffix in ("mp4", "mkv", "avi", "ts", "gif"):
        (root / f"empty.{suffix}").touch()


_OTHER_KINDS = (b"x.dv", b"x.m2v", b"x.hevc", b"x.rm", b"x.mp3", b"x.asf")
_UNFINISHED = (b"a.mp4.part", b"b.crdownload", b"._c.mp4", b"d.mp4~")

# Each puts something into a folder that holds a sound clip, too.
_FOLDERS: tuple[tuple[str, Callable[[Path, Ground, random.Random], None]], ...] = (
    ("a loop of links", lambda root, ground, dice: _links(root, ("loop", root))),
    ("a loop over two folders", lambda root, ground, dice: _links(root, ("a/x", "../b"), ("b/x", "../a"))),
    ("a link to itself", lambda root, ground, dice: _links(root, ("self.mp4", "self.mp4"))),
    ("a link to nothing", lambda root, ground, dice: _links(root, ("lost.mp4", "/nowhere/lost.mp4"))),
    ("a link to a device", lambda root, ground, dice: _links(root, ("zero.mp4", "/dev/zero"))),
    ("a link to a folder", lambda root, ground, dice: _links(root, ("clips", ground.clip.parent))),
    ("links to one file", lambda root, ground, dice: _links(root, *((f"{n}.mp4", ground.clip) for n in range(20)))),
    ("hidden", lambda root, ground, dice: _pictures(root, dice, ".hidden", ("sec000.png",), "PNG")),
    ("tile sheets", lambda root, ground, dice: _tiles(root, dice)),
    ("a folder of animations", lambda root, ground, dice: _animals(root, dice)),
    ("pictures without numbers", lambda root, ground, dice: _pictures(root, dice, "photos", ("me.jpg",), "JPEG")),
    ("pictures as a video", lambda root, ground, dice: _pictures(root, dice, "frames", ("sec0.png",), "PNG")),
    ("very deep", _deep),
    ("pipe and socket", _special),
    ("many files", _many),
    ("odd names", lambda root, ground, dice: _copies(root, ground, b"a\nb.mp4", b"\x1b[2J.mp4", b"[bold].mp4")),
    ("names that are no text", lambda root, ground, dice: _copies(root, ground, b"caf\xe9.mp4", b"\xff\xfe.mp4")),
    ("names as options", lambda root, ground, dice: _copies(root, ground, b"--help.mp4", b"-.mp4", b" .mp4")),
    ("long names", lambda root, ground, dice: _copies(root, ground, b"x" * 251 + b".mp4")),
    ("names as patterns", lambda root, ground, dice: _copies(root, ground, b"*.mp4", b"[a-z].mp4", b"?.mp4")),
    ("names as formats", lambda root, ground, dice: _copies(root, ground, b"%d.mp4", b"{0}.mp4", b"%2F..%2F.mp4")),
    ("empty videos", lambda root, ground, dice: _empty(root)),
    ("other kinds", lambda root, ground, dice: _copies(root, ground, *_OTHER_KINDS)),
    ("unfinished downloads", lambda root, ground, dice: _copies(root, ground, *_UNFINISHED)),
)


def _folder(number: int) -> Maker:
    def make(ground: Ground, folder: Path, dice: random.Random) -> Case:
        name, change = _FOLDERS[number]
        root = folder / "videos"
        root.mkdir()
        shutil.copy(ground.clip, root / "clip.mp4")
        change(root, ground, dice)
        return index_case("folders", name, root, folder)

    return make


def _nothing(ground: Ground, folder: Path, dice: random.Random) -> Case:
    """A path where there is no folder, or an empty one."""
    (folder / "empty").mkdir()
    path = dice.choice([folder / "empty", folder / "none", folder / ("x" * 300), folder / ("y/" * 3000)])
    return index_case("folders", "nothing there", path, folder, refused=True)


FOLDERS: tuple[Maker, ...] = (*map(_folder, range(len(_FOLDERS))), _nothing)
