"""Only single files are opened: playlists, sequences and network descriptions are refused, whatever their names."""

from __future__ import annotations

import ast
import importlib.util
import io
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from av.format import ContainerFormat, formats_available

from hybrid.errors import NoVideoStreamError, VideoOpenError
from hybrid.frames.container.formats import FORMATS
from hybrid.frames.container.open import open_container, open_stream
from hybrid.frames.registry import open_source, probe_seconds
from hybrid.values import Sampling

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DECORD = importlib.util.find_spec("decord") is not None


def _write(path: Path, codec: str = "mpeg4", *, format: str | None = None, pix_fmt: str = "yuv420p") -> Path:
    width, height = (720, 576) if codec == "dvvideo" else (176, 144)
    with av.open(str(path), "w", format=format) as out:
        stream = out.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        for number in range(6):
            image = np.full((height, width, 3), number * 40, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that the hostile files refer to."""
    return _write(tmp_path_factory.mktemp("inner") / "inner.ts", "mpeg2video")


def _m3u8(*addresses: str, extra: str = "") -> str:
    parts = "".join(f"#EXTINF:5,\n{address}\n" for address in addresses)
    return f"#EXTM3U\n#EXT-X-VERSION:4\n#EXT-X-TARGETDURATION:5\n{extra}{parts}#EXT-X-ENDLIST\n"


_SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 33\r\n"
_MPD = (
    '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT5S">'
    '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>INNER</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>"
)
_CPL = (
    '<?xml version="1.0"?>\n<cpl:CompositionPlaylist xmlns:cpl="http://www.smpte-ra.org/schemas/2067-3/2016">'
    "<Id>urn:uuid:1</Id></cpl:CompositionPlaylist>"
)
HOSTILE = {
    # name: (text, what the error calls it). INNER is the path of a real video, PORT that of a server on this machine.
    "concat.mp4": ("ffconcat version 1.0\nfile 'inner.ts'\n", "ffconcat playlist"),
    "concat.avi": ("ffconcat version 1.0\nfile 'sub/../inner.ts'\nduration 6946\n", "ffconcat playlist"),
    "concat.txt": ("ffconcat version 1.0\nfile INNER\noption safe 0\n", "ffconcat playlist"),
    "concat.mkv": ("ffconcat version 1.0\nfile inner.ts\n" * 3, "ffconcat playlist"),
    "long.ffconcat": ("ffconcat version 1.0\nfile inner.ts\noutpoint 99999\n", "ffconcat playlist"),
    "relative.m3u8": (_m3u8("inner.ts"), "HLS or M3U playlist"),
    "absolute.m3u8": (_m3u8("INNER"), "HLS or M3U playlist"),
    "file.m3u8": (_m3u8("file:INNER"), "HLS or M3U playlist"),
    "http.m3u8": (_m3u8("http://127.0.0.1:PORT/a.ts"), "HLS or M3U playlist"),
    "data.m3u8": (_m3u8("data:video/mp2t;base64,R0AA"), "HLS or M3U playlist"),
    "concat.m3u8": (_m3u8("concat:INNER|INNER"), "HLS or M3U playlist"),
    "crypto.m3u8": (_m3u8("crypto:INNER"), "HLS or M3U playlist"),
    "subfile.m3u8": (_m3u8("subfile,,start,0,end,0,,:INNER"), "HLS or M3U playlist"),
    "key.m3u8": (_m3u8("inner.ts", extra='#EXT-X-KEY:METHOD=AES-128,URI="INNER"\n'), "HLS or M3U playlist"),
    "map.m3u8": (_m3u8("inner.ts", extra='#EXT-X-MAP:URI="INNER"\n'), "HLS or M3U playlist"),
    "hls.mp4": (_m3u8("inner.ts"), "HLS or M3U playlist"),
    "hls.ts": ("\ufeff" + _m3u8("inner.ts"), "HLS or M3U playlist"),
    "master.m3u8": ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nrelative.m3u8\n", "HLS or M3U playlist"),
    "plain.m3u": ("inner.ts\nINNER\n", "not a video"),
    "dash.mpd": (_MPD, "DASH playlist"),
    "dash.mp4": (_MPD, "DASH playlist"),
    "imf.xml": (_CPL, "IMF playlist"),
    "imf.mxf": (_CPL, "IMF playlist"),
    "asx.wmv": ('<asx version="3.0"><entry><ref href="INNER"/></entry></asx>', "playlist"),
    "pls.mp4": ("[playlist]\nFile1=INNER\nNumberOfEntries=1\n", "playlist"),
    "smil.mp4": ('<?xml version="1.0"?>\n<smil><body><video src="INNER"/></body></smil>', "playlist"),
    "net.sdp": (_SDP, "network stream"),
    "net.mp4": (_SDP, "network stream"),
    "subs.idx": ("# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:01:000, filepos: 000000000\n", "VobSub"),
    "subs.mp4": ("# VobSub index file, v7\nid: en, index: 0\n", "VobSub"),
    "script.avs": ('DirectShowSource("INNER")\n', "not a video"),
    "script.vpy": ("import vapoursynth\n", "not a video"),
    "talk.json": ('{"captions":[{"duration":6946000,"content":"a","startOfParagraph":true,"startTime":0}]}', "not a"),
    "art.ans": ("\x1b[2J\x1b[1;1H" + "text " * 200, "not a video"),
    "notes.nfo": ("text\n" * 200, "not a video"),
    "subtitle.srt": ("1\n00:00:01,000 --> 01:55:46,000\nhello\n\n", "not a video"),
    "meta.mp4": (";FFMETADATA1\ntitle=x\n", "not a video"),
    "sbg.mp4": ("SBAGEN\n-SE\nts: 100+1/10\nNOW ts\n", "not a video"),
    "picture.svg": ('<svg xmlns="http://www.w3.org/2000/svg"><image href="INNER"/></svg>', "not a video"),
}

LEFT_OUT = {
    "opens the files or addresses that it lists": (
        "concat hls dash webm_dash_manifest imf image2 image2pipe avisynth vapoursynth sbg"
    ),
    "opens further files by names of its own making": "vobsub mlv",
    "receives from the network": "sdp rtp rtsp sap",
    "is a device, or a filter graph": (
        "alsa fbdev jack kmsgrab lavfi libcdio libdc1394 openal oss pulse sndio video4linux2 x11grab xcbgrab"
    ),
    "shows text as pictures, so that every text would be a video": "tty bin adf idf xbin",
    "may refer to other files (SVG)": "svg_pipe",
    "holds subtitles or metadata, no video": (
        "aqtitle ass dvbsub dvbtxt ffmetadata jacosub lrc mcc microdvd mpl2 mpsub pjs rcwt realtext sami scc srt stl "
        "subviewer subviewer1 sup tedcaptions vplayer webvtt"
    ),
    "takes any bytes": "data",
}
"""Why a demuxer may not be used, with the names it is true of."""


@pytest.fixture(scope="module")
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        yield listening


def _hostile(folder: Path, name: str, inner: Path, port: int) -> Path:
    text = HOSTILE[name][0].replace("INNER", str(inner)).replace("PORT", str(port))
    if not (folder / "inner.ts").exists():
        (folder / "inner.ts").hardlink_to(inner)
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize("name", HOSTILE)
def test_what_refers_to_other_files_is_refused(name: str, inner: Path, server: socket.socket, tmp_path: Path) -> None:
    path = _hostile(tmp_path, name, inner, server.getsockname()[1])
    kind = HOSTILE[name][1]
    decoders: list[str] = ["pyav", "decord"] if DECORD else ["pyav"]
    for decoder in decoders:
        with pytest.raises(VideoOpenError, match=kind) as caught:
            open_source(path, Sampling(1.0), decoder=decoder)
        assert not isinstance(caught.value, NoVideoStreamError)
    with pytest.raises(VideoOpenError, match=kind):
        probe_seconds(path)
    with pytest.raises(VideoOpenError, match=kind), open(path, "rb") as file:
        open_container(file)
    with pytest.raises(VideoOpenError, match=kind):
        open_container(io.BytesIO(path.read_bytes()))
    with pytest.raises(TimeoutError):
        server.accept()


def test_the_error_names_the_command_that_makes_one_file(inner: Path, tmp_path: Path) -> None:
    path = _hostile(tmp_path, "concat.mp4", inner, 0).rename(tmp_path / "my list.mp4")
    with pytest.raises(VideoOpenError) as caught:
        open_container(path)
    assert f"ffmpeg -f concat -safe 0 -i '{path}' -c copy video.mkv" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["concat:a.ts|b.ts", "file:a.ts", "subfile,,start,0,end,10,,:a.ts", "http:a.ts", "pipe:0", "-", "data:,a"]
)
def test_a_name_is_a_name_and_no_protocol(
    name: str, inner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.ts").hardlink_to(inner)
    with pytest.raises(VideoOpenError, match="does not exist"):
        open_container(name)
    (tmp_path / name).hardlink_to(inner)
    with open_container(name) as container:
        assert container.format.name == "mpegts"


@pytest.mark.parametrize("name", ["frame%03d.png", "frame*.png"])
def test_a_pattern_reads_no_sequence(name: str, tmp_path: Path) -> None:
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"frame{number:03d}.png")
    with pytest.raises(VideoOpenError, match="does not exist"):
        open_container(tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / "frame000.png").read_bytes())
    with pytest.raises(VideoOpenError, match="sequence"):
        open_container(tmp_path / name)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", Path("/dev/zero"), tmp_path):
        with pytest.raises(VideoOpenError, match="not a regular file"):
            open_container(path)


def test_a_movie_whose_data_lie_in_another_file_gives_no_frame(tmp_path: Path) -> None:
    real = _write(tmp_path / "real.mov")
    outside = tmp_path / "outside.mov"
    outside.write_bytes(_with_external_data(real.read_bytes(), str(real)))
    # The same bytes show the video where FFmpeg is allowed to follow the reference.
    with av.open(str(outside), options={"enable_drefs": "1", "use_absolute_path": "1"}) as allowed:
        assert len(list(allowed.decode(video=0))) == 6
    with pytest.raises(VideoOpenError):
        open_source(outside, Sampling(1.0))


def _with_external_data(movie: bytes, target: str) -> bytes:
    """A QuickTime movie whose data reference is an alias to another file (its own data are blanked)."""
    name = Path(target).name.encode()
    path = target.encode()
    record = struct.pack(">10xB27s12xB63s16xhh16x", 0, b"", len(name), name, -1, -1)
    record += struct.pack(">hh", 2, len(path)) + path + b"\0" * (len(path) % 2) + struct.pack(">hh", -1, 0)
    alias = struct.pack(">I4sI", 12 + len(record), b"alis", 0) + record
    at = movie.index(b"dref") + 12
    old = struct.unpack(">I", movie[at : at + 4])[0]
    changed = bytearray(movie[:at] + alias + movie[at + old :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        # The media's information holds two "minf"-like names at most; the last one before the reference is its parent.
        place = changed.rindex(box, 0, at) - 4
        size = struct.unpack(">I", changed[place : place + 4])[0]
        changed[place : place + 4] = struct.pack(">I", size + len(alias) - old)
    data = movie.index(b"mdat") + 4
    end = data - 8 + struct.unpack(">I", movie[data - 8 : data - 4])[0]
    changed[data:end] = b"\0" * (end - data)
    return bytes(changed)


KINDS = {
    "a.mp4": ("mpeg4", None),
    "a.mov": ("mpeg4", None),
    "a.3gp": ("mpeg4", None),
    "a.f4v": ("libx264", None),
    "a.mkv": ("mpeg4", None),
    "a.webm": ("libvpx-vp9", None),
    "a.avi": ("mpeg4", None),
    "a.flv": ("flv", None),
    "a.ts": ("mpeg2video", None),
    "a.m2ts": ("mpeg2video", None),
    "a.mpg": ("mpeg1video", None),
    "a.vob": ("mpeg2video", None),
    "a.nut": ("mpeg4", None),
    "a.wmv": ("wmv2", None),
    "a.rm": ("rv10", None),
    "a.swf": ("flv", None),
    "a.ivf": ("libvpx", None),
    "a.mxf": ("mpeg2video", None),
    "a.dv": ("dvvideo", None),
    "a.m2v": ("mpeg2video", None),
    "a.m1v": ("mpeg1video", None),
    "a.m4v": ("mpeg4", "m4v"),
    "a.h263": ("h263", None),
    "a.h264": ("libx264", None),
    "a.hevc": ("libx265", None),
    "a.obu": ("libsvtav1", None),
    "a.mjpeg": ("mjpeg", None),
    "a.y4m": ("wrapped_avframe", None),
    "a.gif": ("gif", None),
    "a.apng": ("apng", None),
    "a.png": ("png", "image2pipe"),
    "a.ogv": ("libvpx", "ogg"),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_single_file_opens_as_before(name: str, tmp_path: Path) -> None:
    codec, format = KINDS[name]
    pix_fmt = {"mjpeg": "yuvj420p", "gif": "rgb8", "png": "rgb24", "apng": "rgb24"}.get(codec, "yuv420p")
    try:
        path = _write(tmp_path / name, codec, format=format, pix_fmt=pix_fmt)
    except av.error.FFmpegError as exc:
        pytest.fail(f"{name} cannot be made: {exc}")
    with av.open(str(path)) as free, open_container(path) as ours:
        assert ours.format.name == free.format.name
        assert len(ours.streams.video) == 1
    with open(path, "rb") as file, open_container(file) as from_bytes:
        assert len(from_bytes.streams.video) == 1


def test_real_videos_open(shared_data: Path) -> None:
    for path in sorted((shared_data / "videos").iterdir()):
        open_stream(path)[0].close()


def test_every_demuxer_of_this_ffmpeg_is_listed_once() -> None:
    left_out = {name for names in LEFT_OUT.values() for name in names.split()}
    assert not left_out & FORMATS
    assert sum(len(names.split()) for names in LEFT_OUT.values()) == len(left_out)
    aliases = {alias for name in formats_available for alias in name.split(",")[1:]}
    for name in formats_available - aliases:
        try:
            demuxer = ContainerFormat(name, "r").name.split(",")[0]
        except ValueError:  # it can only write
            continue
        assert demuxer in FORMATS or demuxer in left_out, f"{demuxer} is neither allowed nor left out with a reason"


def test_nothing_else_opens_a_file_for_reading() -> None:
    """What reads a container goes through :func:`open_container`; what writes one says so with a literal mode."""
    checked = 0
    for package in ("hybrid", "indexes", "bench"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            name = path.relative_to(REPOSITORY).as_posix()
            for node in ast.walk(ast.parse(path.read_bytes())):
                where = f"{name}:{getattr(node, 'lineno', 0)}"
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("av", "decord"):
                    assert not {alias.name for alias in node.names} & {"open", "VideoReader", "VideoLoader"}, where
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("av.open", "av.container.open"):
                    checked += 1
                    mode = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == "mode")]
                    writes = bool(mode) and isinstance(mode[0], ast.Constant) and mode[0].value == "w"
                    assert writes or name == "hybrid/frames/container/open.py", where
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".VideoReader", ".VideoCapture")):
                    # The benchmark measures decord as others use it, on clips that it has made.
                    assert name in ("hybrid/frames/decoders/decord.py", "bench/latency/decoding.py"), where
    assert checked > 3
