"""Which of FFmpeg's demuxers may open a file: those that read that one file and nothing else.

FFmpeg decides by a file's first bytes, whatever its name, and some of its demuxers then open whatever
the file names: other local files, addresses, devices. Such a "video" is not in the file whose content
is identified and watched for changes, and a stranger's file must not choose what is read.

The list is a list of what is allowed, so that a demuxer of a later FFmpeg is left out until it is known.
"""

from __future__ import annotations

import re
import shlex

__all__ = ["FORMATS", "kind_of_head"]

FORMATS = frozenset(
    """
    3dostr 4xm aa aac aax ac3 ac4 ace acm act adp ads adx aea afc aiff aix alaw alias_pix alp amr amrnb amrwb
    anm apac apc ape apm apng aptx aptx_hd apv argo_asf argo_brp argo_cvg asf asf_o ast au av1 avi avr avs avs2
    avs3 bethsoftvid bfi bfstm bink binka bit bitpacked bmv boa bonk brender_pix brstm c93 caf cavsvideo cdg
    cdxl cine codec2 codec2raw daud dcstr derf dfa dfpwm dhav dirac dnxhd dsf dsicin dss dts dtshd dv dxa ea
    ea_cdata eac3 epaf evc f32be f32le f64be f64le film_cpk filmstrip fits flac flic flv frm fsb fwse g722
    g723_1 g726 g726le g728 g729 gdv genh gif gsm gxf h261 h263 h264 hca hcom hevc hnm hxvs iamf ico idcin iff
    ifv ilbc ingenient ipmovie ipu ircam iss iv8 ivf ivr jpegxl_anim jv kux kvag laf lc3 live_flv lmlm4 loas
    luodat lvf lxf m4v matroska mca mgsts mjpeg mjpeg_2000 mlp mm mmf mods moflex mov mp3 mpc mpc8 mpeg mpegts
    mpegtsraw mpegvideo mpjpeg msf msnwctcp msp mtaf mtv mulaw musx mv mvi mxf mxg nc nistsphere nsp nsv nut nuv
    obu ogg oma osq paf pdv pmp pp_bnk psxstr pva pvf qcp qoa r3d rawvideo redspark rka rl2 rm roq rpl rsd rso
    s16be s16le s24be s24le s32be s32le s337m s8 sbc scd sdns sdr2 sds sdx ser sga shn siff simbiosis_imx sln
    smjpeg smk smush sol sox spdif svag svs swf tak thp tiertexseq tmv truehd tta txd ty u16be u16le u24be u24le
    u32be u32le u8 usm v210 v210x vag vc1 vc1test vidc vividas vivo vmd voc vpk vqf vvc w64 wady wav wavarc
    wc3movie wsaud wsd wsvqa wtv wv wve xa xmd xmv xvag xwma yop yuv4mpegpipe
    bmp_pipe cri_pipe dds_pipe dpx_pipe exr_pipe gem_pipe gif_pipe hdr_pipe j2k_pipe jpeg_pipe jpegls_pipe
    jpegxl_pipe jpegxs_pipe pam_pipe pbm_pipe pcx_pipe pfm_pipe pgm_pipe pgmyuv_pipe pgx_pipe phm_pipe
    photocd_pipe pictor_pipe png_pipe ppm_pipe psd_pipe qdraw_pipe qoi_pipe sgi_pipe sunrast_pipe tiff_pipe
    vbn_pipe webp_pipe xbm_pipe xpm_pipe xwd_pipe
    """.split()  # noqa: SIM905
)
"""Names of the demuxers that may be used, as :func:`av.open` reports them; of a name with commas, the first part.
A demuxer that this build of FFmpeg does not have costs nothing."""

_HEADS: tuple[tuple[str, str, str | None], ...] = (
    (r"ffconcat", "an ffconcat playlist", "ffmpeg -f concat -safe 0 -i {path}"),
    (r"#EXTM3U", "an HLS or M3U playlist", "ffmpeg -f hls -allowed_extensions ALL -i {path}"),
    (r"(<\?xml.*?)?<MPD\b", "a DASH playlist", "ffmpeg -f dash -i {path}"),
    (r"(<\?xml.*?)?<(\w+:)?CompositionPlaylist\b", "an IMF playlist", "ffmpeg -f imf -i {path}"),
    (r"(<\?xml.*?)?<(playlist|asx|smil)\b|\[playlist\]|\[Reference\]", "a playlist", None),
    (r"v=0\r?\n", "a description of a network stream (SDP)", "ffmpeg -protocol_whitelist file,udp,rtp -i {path}"),
    (r"# VobSub index file", "an index of VobSub subtitles, without pictures of a video", None),
    (r"MLVI", "a Magic Lantern recording, whose parts may lie in further files", "ffmpeg -i {path}"),
)


def kind_of_head(head: bytes, path: str) -> str | None:
    """What a file that FFmpeg may not open seems to be, and the command that makes one video file of it.

    Args:
        head: its first bytes.
        path: its name, for the command.

    Returns:
        The text of the error; None if it is not known what the file is.
    """
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().decode("latin-1")
    for pattern, kind, command in _HEADS:
        if re.match(pattern, text, re.IGNORECASE | re.DOTALL):
            given = f": {command.format(path=shlex.quote(path))} -c copy video.mkv" if command else ""
            return (
                f"{path} is {kind}, not a video; it is not read, because what it refers to can change unnoticed. "
                f"Make one video file of it, and give that{given}"
            )
    return None
