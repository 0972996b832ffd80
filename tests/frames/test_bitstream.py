"""Which key packets are entries, on real encoders' streams and on made-up bytes."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.frames.packets.bitstream import KeyPackets, Verdict
from hybrid.frames.packets.scan import scan

SPS, PPS, IDR = b"\x67\x64\x00\x1e", b"\x68\xee\x38\x80", b"\x65\x88\x84"
I_SLICE = b"\x41\xb0\x00"  # first_mb 0: "1"; slice_type 2: "011"
P_SLICE = b"\x41\xe0\x00"  # first_mb 0: "1"; slice_type 0: "1"
EXACT = b"\x06\x06\x01\xc4\x80"  # recovery point, one byte: count 0, exact, not broken
LATER = b"\x06\x06\x01\x64\x80"  # the same with count 2
LOOSE = b"\x06\x06\x01\x84\x80"  # count 0, not exact


def packet(*nals: bytes) -> bytes:
    return b"".join(b"\0\0\0\1" + nal for nal in nals)


@pytest.mark.parametrize(
    ("nals", "verdict"),
    [
        ([SPS, PPS, IDR], Verdict(alone=True, entry=True)),
        ([SPS, PPS, EXACT, I_SLICE], Verdict(alone=True, entry=True)),
        ([SPS, PPS, LATER, I_SLICE], Verdict(alone=True, entry=False)),
        ([SPS, PPS, LOOSE, I_SLICE], Verdict(alone=True, entry=False)),
        ([SPS, PPS, I_SLICE], Verdict(alone=True, entry=False)),
        ([SPS, PPS, EXACT, P_SLICE], Verdict(alone=False, entry=False)),
        ([SPS, PPS, I_SLICE, P_SLICE], Verdict(alone=False, entry=False)),
        ([SPS, PPS], Verdict(alone=False, entry=False)),
    ],
)
def test_h264_key_packets(nals: list[bytes], verdict: Verdict) -> None:
    assert KeyPackets("h264", packet(SPS, PPS)).judge(packet(*nals)) == verdict


def test_the_recovery_point_may_follow_other_messages() -> None:
    long_message = b"\x06\x05\xff\x02" + b"a" * 257 + b"\x06\x01\xc4\x80"
    assert KeyPackets("h264", b"").judge(packet(SPS, PPS, long_message, I_SLICE)).entry


def test_lengths_instead_of_start_codes() -> None:
    header = b"\x01\x64\x00\x1e\xff\xe1" + len(SPS).to_bytes(2, "big") + SPS + b"\x01\x00\x04" + PPS
    data = len(IDR).to_bytes(4, "big") + IDR
    assert KeyPackets("h264", header).judge(data) == Verdict(alone=True, entry=True)
    assert KeyPackets("h264", header).judge(b"\0\0\0\x05\x41\xe0\0\0\0") == Verdict(alone=False, entry=False)


def test_no_entry_without_the_parameter_sets_that_are_in_force() -> None:
    other = b"\x67\x64\x00\x28"
    keys = KeyPackets("h264", packet(SPS, PPS))
    assert keys.judge(packet(IDR)).entry
    assert keys.judge(packet(other, PPS, IDR)).entry
    assert not keys.judge(packet(IDR)).entry
    assert keys.judge(packet(SPS, PPS, IDR)).entry


@pytest.mark.parametrize(("kind", "entry"), [(19, True), (20, True), (21, True), (16, True), (1, False), (0, False)])
def test_hevc_entries_are_irap_pictures(kind: int, entry: bool) -> None:
    assert KeyPackets("hevc", b"").judge(packet(bytes([kind << 1, 1, 0x80]))).entry is entry


def test_hevc_layers_are_noticed() -> None:
    one, three = b"\x42\x01\x01\x01", b"\x42\x01\x05\x01"
    assert KeyPackets("hevc", packet(one)).single_layer
    assert not KeyPackets("hevc", packet(three)).single_layer
    keys = KeyPackets("hevc", packet(one))
    keys.judge(packet(three, b"\x26\x01\x80"))
    assert not keys.single_layer


@pytest.mark.parametrize(
    ("codec", "data", "key"),
    [
        ("vp8", b"\x50\x01", True),
        ("vp8", b"\x51\x01", False),
        ("vp9", b"\x82\x49", True),  # profile 0, key, shown
        ("vp9", b"\x86\x00", False),  # not a key frame
        ("vp9", b"\x8a\x00", False),  # shows an earlier frame again
        ("vp9", b"\xb1\x49", True),  # profile 3, with its reserved bit
        ("vp9", b"\xb2\x49", False),
        ("av1", b"\x12\x00\x0a\x01\x00\x32\x02\x10\x00", True),  # delimiter, sequence, key frame
        ("av1", b"\x12\x00\x32\x02\x30\x00", False),  # an inter frame
        ("av1", b"\x12\x00\x32\x02\x00\x00", False),  # a key frame that is not shown
        ("av1", b"\x12\x00\x1a\x01\x80", False),  # shows an earlier frame
        ("mpeg4", b"\0\0\1\xb6\x10" + bytes(20), True),
        ("mpeg4", b"\0\0\1\xb6\x50" + bytes(20), False),
        ("mpeg4", b"\0\0\1\xb6\x13\xcf", False),  # repeats the picture before
        ("vc1", b"\0\0\1\x0d" + bytes(20), False),  # no rule that was proven
        ("theora", b"\0" * 20, False),
        ("mjpeg", b"", True),
    ],
)
def test_key_frames_of_other_codecs(codec: str, data: bytes, key: bool) -> None:
    assert KeyPackets(codec, b"").judge(data) == Verdict(alone=key, entry=key)


@given(
    st.sampled_from(["h264", "hevc", "mpeg2video", "vp9", "av1", "vp8", "mpeg4"]),
    st.binary(max_size=60),
    st.binary(max_size=200),
)
def test_any_bytes_get_a_verdict(codec: str, header: bytes, data: bytes) -> None:
    assert isinstance(KeyPackets(codec, header).judge(data), Verdict)
    assert isinstance(KeyPackets(codec, b"\x01" + header).judge(b"\0\0\0\x01\0\0\1" + data), Verdict)


@pytest.mark.parametrize(
    ("name", "gop", "count"),
    [
        ("long_gop", 250, 2),
        ("short_gop", 30, 10),
        ("pyramid", 100, 3),
        ("open_gop", 60, 5),
        ("hevc", 60, 4),
        ("vp9", 60, 4),
        ("av1", 64, 4),
        ("ts", 60, 5),
        ("mpeg2", 15, 20),
    ],
)
def test_entries_of_real_encoders(clips: dict[str, Path], name: str, gop: int, count: int) -> None:
    packets = scan(clips[name]).packets
    ranks = np.argsort(np.argsort(packets.pts))
    places = sorted(ranks[packets.entry].tolist())
    assert abs(len(places) - count) <= 1
    assert places[0] == 0
    assert all(abs(after - before - gop) <= 1 for before, after in itertools.pairwise(places))


def test_fields_are_noticed(clips: dict[str, Path]) -> None:
    assert not scan(clips["interlaced"]).keys.whole_pictures
    for name in ("long_gop", "ten_bit", "mpeg2", "resized", "hevc"):
        assert scan(clips[name]).keys.whole_pictures, name


def test_mpeg2_without_a_progressive_sequence_may_have_fields() -> None:
    header, extension = b"\0\0\1\xb3" + b"\x0a" * 8, b"\0\0\1\xb5\x14"
    keys = KeyPackets("mpeg2video", b"")
    assert keys.judge(header + extension + b"\x8a") == Verdict(alone=True, entry=True)
    assert keys.whole_pictures
    keys.judge(header + extension + b"\x82")
    assert not keys.whole_pictures
    assert keys.judge(b"\0\0\1\0" + b"\x0a" * 8) == Verdict(alone=True, entry=False)


def test_a_gradual_refresh_has_no_entry_but_the_first(clips: dict[str, Path]) -> None:
    assert np.flatnonzero(scan(clips["refresh"]).packets.entry).tolist() == [0]
