"""One small file of every kind of video that can be made here: codecs, containers, and how time is stored.

No two differ in size alone; each entry says what is peculiar to it. Pictures carry their number as in
:mod:`tests.make_videos`. All take some ten seconds to make, once a session.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
from filelock import FileLock

from tests.make_videos import MS, encode, gap_times, uneven_times, x264

__all__ = ["KINDS", "Kind", "kind_files"]

FRAMES = 60
FPS = 25


@dataclass(frozen=True)
class Kind:
    """How one file is made.

    Attributes:
        file: its name; the ending chooses the container.
        codec: encoder.
        why: what is peculiar to it.
        pix_fmt, options, gop, fps, frames, size: of the encoder.
        container: options of the muxer.
        times: milliseconds of each frame; by default a constant rate.
        sound_from_zero: with sound that begins at zero and lasts longer than the pictures.
        late: how many frames the container's clock is late by (delay of the encoder).
        subtitles_until: with one subtitle that is shown until so many seconds; 0: none.
    """

    file: str
    codec: str
    why: str
    pix_fmt: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    gop: int = 12
    fps: Fraction | int = FPS
    frames: int = FRAMES
    size: tuple[int, int] = (160, 96)
    container: dict[str, str] = field(default_factory=dict)
    times: tuple[int, ...] | None = None
    sound_from_zero: bool = False
    late: int = 0
    subtitles_until: float = 0.0

    @property
    def name(self) -> str:
        """For the names of tests."""
        return self.file.replace(".", "_")

    def make(self, folder: Path) -> Path:
        """Encode it."""
        path = folder / self.file
        pictures = folder / f"pictures_{self.file}" if self.subtitles_until else path
        encode(
            pictures,
            self.codec,
            frames=self.frames,
            fps=self.fps,
            pix_fmt=self.pix_fmt,
            options=self.options,
            gop=self.gop,
            size=self.size,
            container=self.container,
            times=self.times,
            time_base=None if self.times is None else MS,
            sound_from_zero=self.sound_from_zero,
        )
        if self.subtitles_until:
            with_subtitle(path, pictures, until_seconds=self.subtitles_until)
        return path


def with_subtitle(path: Path, source: Path, *, until_seconds: float) -> Path:
    """A copy of a file with a subtitle that is shown from zero until a time."""
    milliseconds = round(until_seconds * 1000)
    clock = f"{milliseconds // 3_600_000:02d}:{milliseconds // 60_000 % 60:02d}:{milliseconds // 1000 % 60:02d}"
    text = path.with_suffix(".made.srt")
    text.write_text(f"1\n00:00:00,000 --> {clock},{milliseconds % 1000:03d}\nstill here\n", encoding="utf-8")
    with av.open(str(source)) as pictures, av.open(str(text)) as lines, av.open(str(path), "w") as out:
        targets = {container: out.add_stream_from_template(container.streams[0]) for container in (pictures, lines)}
        for container, target in targets.items():
            for packet in container.demux(container.streams[0]):
                if packet.size:
                    packet.stream = target
                    out.mux(packet)
    text.unlink()
    return path


_X265 = "log-level=none:pools=none:keyint=12:min-keyint=12"
_SVT = {"preset": "12", "crf": "45", "svtav1-params": "lp=1"}
_VP9 = {"deadline": "realtime", "cpu-used": "8"}
_LATE = tuple(2500 + 40 * n for n in range(FRAMES))
_SLOW = tuple(range(0, 80_000, 10_000))

KINDS = (
    # H.264: where decoding may start is said by NAL units and recovery points.
    Kind("avc.mp4", "libx264", "closed groups, B-pictures", options=x264()),
    Kind("avc_frag.mp4", "libx264", "fragments", options=x264(), container={"movflags": "frag_keyframe+empty_moov"}),
    Kind("avc_fast.mov", "libx264", "QuickTime, index in front", options=x264(), container={"movflags": "faststart"}),
    Kind("avc_open.mkv", "libx264", "open groups", options={**x264(bf="3"), "x264-params": "open-gop=1"}),
    Kind("avc_pyramid.flv", "libx264", "B-pictures that others refer to", options=x264(bf="5", b_pyramid="normal")),
    Kind("avc_refresh.ts", "libx264", "gradual refresh", options={**x264(bf="0"), "x264-params": "intra-refresh=1"}),
    Kind("avc_fields.mp4", "libx264", "fields", options={**x264(), "x264-params": "tff=1"}),
    Kind("avc_mbaff.ts", "libx264", "fields in a transport stream", options={**x264(), "x264-params": "bff=1"}),
    Kind("avc_444.mkv", "libx264", "4:4:4", pix_fmt="yuv444p", options=x264()),
    Kind("avc_422_10.mov", "libx264", "4:2:2, ten bits", pix_fmt="yuv422p10le", options=x264()),
    Kind("avc_rgb.mkv", "libx264rgb", "RGB", pix_fmt="rgb24", options=x264()),
    Kind("avc_gray.mp4", "libx264", "grey", pix_fmt="gray", options=x264()),
    Kind("avc_intra.mxf", "libx264", "key frames only, MXF", pix_fmt="yuv422p10le", gop=1, options=x264(bf="0")),
    Kind("avc_no_times.avi", "libx264", "B-pictures without time stamps", options=x264(bf="2")),
    Kind("avc.h264", "libx264", "raw stream", options=x264()),
    Kind("avc.nut", "libx264", "NUT", options=x264()),
    Kind("avc_slices.mp4", "libx264", "four slices a picture", options={**x264(), "slices": "4"}),
    Kind("avc_vfr.mkv", "libx264", "uneven times", options=x264(), times=tuple(uneven_times(FRAMES, seed=3))),
    Kind("avc_gap.mp4", "libx264", "a gap of 6 s", options=x264(), times=tuple(gap_times(FRAMES, gap_ms=6000))),
    Kind("avc_ntsc.mp4", "libx264", "29.97 frames a second", options=x264(), fps=Fraction(30000, 1001)),
    Kind("avc_film.ts", "libx264", "23.976 frames a second", options=x264(), fps=Fraction(24000, 1001)),
    Kind("avc_late.mkv", "libx264", "begins at 2.5 s", options=x264(), times=_LATE),
    Kind("avc_sound.mkv", "libx264", "sound before it, and longer", options=x264(), times=_LATE, sound_from_zero=True),
    Kind("avc_sound.mov", "libx264", "an empty edit, longer sound", options=x264(), times=_LATE, sound_from_zero=True),
    Kind("avc_slow.mkv", "libx264", "0.1 frames a second", options=x264(), frames=8, times=_SLOW),
    Kind("avc_subs.mkv", "libx264", "a subtitle for 30 s", options=x264(), subtitles_until=30.0),
    # HEVC: IRAP pictures, and pictures that are decoded after and shown before them.
    Kind("hevc.mp4", "libx265", "closed groups", options={"x265-params": f"{_X265}:open-gop=0"}),
    Kind("hevc_cra.mkv", "libx265", "open groups: CRA, RASL", options={"x265-params": f"{_X265}:open-gop=1:bframes=4"}),
    Kind("hevc_10.ts", "libx265", "ten bits", pix_fmt="yuv420p10le", options={"x265-params": _X265}),
    Kind("hevc.h265", "libx265", "raw stream", options={"x265-params": _X265}),
    # AV1 and VP8/9: shown key frames; hidden and intra-only frames are none.
    Kind("av1.mp4", "libsvtav1", "hidden frames", options=_SVT),
    Kind("av1.obu", "libsvtav1", "raw stream", options=_SVT),
    Kind("av1_10.webm", "libsvtav1", "ten bits", pix_fmt="yuv420p10le", options=_SVT),
    Kind(
        "vp8.webm", "libvpx", "alternate reference frames", options={**_VP9, "auto-alt-ref": "1", "lag-in-frames": "8"}
    ),
    Kind("vp8.ogv", "libvpx", "Ogg", options=_VP9),
    Kind("vp9.webm", "libvpx-vp9", "superframes", options={**_VP9, "auto-alt-ref": "1", "lag-in-frames": "8"}),
    Kind("vp9_alpha.webm", "libvpx-vp9", "a plane of alpha beside it", pix_fmt="yuva420p", options=_VP9),
    Kind("vp9_444.mkv", "libvpx-vp9", "profile 1", pix_fmt="yuv444p", options=_VP9),
    Kind("vp9.ivf", "libvpx-vp9", "IVF", options=_VP9),
    # MPEG-1, 2, 4 and H.263: I-pictures are entries where B-pictures of open groups are set apart.
    Kind("mpeg1.mpg", "mpeg1video", "program stream", options={"bf": "2"}),
    Kind("mpeg2.vob", "mpeg2video", "DVD, open groups", options={"bf": "2"}),
    Kind(
        "mpeg2_closed.ts",
        "mpeg2video",
        "closed groups",
        options={"bf": "2", "flags": "+cgop", "sc_threshold": "1000000000"},
    ),
    Kind("mpeg2_fields.ts", "mpeg2video", "interlaced", options={"bf": "2", "flags": "+ildct+ilme"}),
    Kind("mpeg2.m2v", "mpeg2video", "raw stream", options={"bf": "2"}),
    Kind("mpeg2.mxf", "mpeg2video", "4:2:2, MXF", pix_fmt="yuv422p", options={"bf": "2"}),
    Kind("mpeg4.mp4", "mpeg4", "B-VOPs", options={"bf": "2"}),
    Kind("mpeg4.avi", "mpeg4", "B-VOPs without time stamps", options={"bf": "2"}, late=1),
    Kind("mpeg4_qpel.mkv", "mpeg4", "quarter pixels", options={"flags": "+qpel", "bf": "1"}),
    Kind("mpeg4.m4v", "mpeg4", "raw stream"),
    Kind("mpeg4.3gp", "mpeg4", "3GP"),
    Kind("h263.3gp", "h263", "no rule", size=(176, 144)),
    Kind("h263p.avi", "h263p", "no rule"),
    Kind("h261.avi", "h261", "no rule", size=(176, 144)),
    Kind("flv1.flv", "flv", "no rule"),
    # Microsoft, Real and other codecs without a proven rule.
    Kind("wmv1.wmv", "wmv1", "no rule"),
    Kind("wmv2.asf", "wmv2", "no rule"),
    Kind("msmpeg4v3.asf", "msmpeg4", "no rule"),
    Kind("msmpeg4v2.avi", "msmpeg4v2", "no rule"),
    Kind("rv10.rm", "rv10", "no rule"),
    Kind("rv20.rm", "rv20", "no rule"),
    Kind("snow.nut", "snow", "no rule, wavelets"),
    Kind("svq1.mov", "svq1", "no rule", pix_fmt="yuv410p"),
    Kind("roq.roq", "roqvideo", "no rule", pix_fmt="yuvj444p", frames=24, fps=30),
    Kind("rpza.mov", "rpza", "no rule", pix_fmt="rgb555le"),
    Kind("qtrle.mov", "qtrle", "differences between pictures", pix_fmt="rgb24"),
    Kind("msvideo1.avi", "msvideo1", "no rule", pix_fmt="rgb555le"),
    Kind("zmbv.avi", "zmbv", "differences between pictures", pix_fmt="bgr0", frames=30),
    Kind("flashsv.flv", "flashsv", "differences between pictures", pix_fmt="bgr24"),
    Kind("ffv1.mkv", "ffv1", "contexts run on from picture to picture"),
    Kind("gif.gif", "gif", "differences between pictures", pix_fmt="rgb8"),
    Kind("apng.apng", "apng", "differences between pictures", pix_fmt="rgb24", frames=30),
    # Every picture stands alone.
    Kind("mjpeg.mov", "mjpeg", "stands alone", pix_fmt="yuvj420p"),
    Kind("mjpeg.mjpeg", "mjpeg", "raw stream", pix_fmt="yuvj420p"),
    Kind("png.mov", "png", "stands alone", pix_fmt="rgb24", frames=30),
    Kind("prores.mov", "prores_ks", "4:2:2, ten bits", pix_fmt="yuv422p10le", frames=30),
    Kind("jpeg2000.mkv", "jpeg2000", "stands alone", frames=30),
    Kind("huffyuv.avi", "huffyuv", "lossless", pix_fmt="yuv422p", frames=30),
    Kind("utvideo.avi", "utvideo", "lossless", frames=30),
    Kind("rawvideo.avi", "rawvideo", "not coded", frames=30),
    Kind("y4m.y4m", "wrapped_avframe", "not coded", frames=30),
    Kind("dv.dv", "dvvideo", "DV", size=(720, 576), frames=25),
    Kind("cfhd.mov", "cfhd", "no rule, stands alone", pix_fmt="yuv422p10le", frames=30),
    Kind("magicyuv.avi", "magicyuv", "no rule, stands alone", pix_fmt="yuv422p", frames=30),
)


@lru_cache(maxsize=1)
def kind_files(folder: Path) -> dict[str, Path]:
    """All files by the names of their kinds, made once per test session."""
    with FileLock(folder.with_suffix(".lock")):
        listed = folder.with_suffix(".json")
        if listed.is_file():
            return {name: Path(path) for name, path in json.loads(listed.read_text()).items()}
        folder.mkdir()
        made: dict[str, Callable[[Path], Path]] = {kind.name: kind.make for kind in KINDS}
        files = {name: make(folder) for name, make in made.items()}
        listed.write_text(json.dumps({name: str(path) for name, path in files.items()}))
    return files
