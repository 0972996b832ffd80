"""Selectors of which no authors' numbers exist, against plain recomputations of their formulas.

Each oracle is written from the formula alone: everything is summed, inverted or searched anew in each step, with none
of the updates and shortcuts of the selectors.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from hybrid.selectors.adard_key import adard_key
from hybrid.selectors.dig import dig, dig_boundaries
from hybrid.selectors.f2c import f2c, f2c_clips
from hybrid.selectors.maxinfo import maxinfo
from hybrid.selectors.q_frame import q_frame, q_frame_keys
from hybrid.selectors.tifre import tifre

SEEDS = range(8)


def unit_rows(rng: np.random.Generator, count: int, size: int, *, scenes: int | None = None) -> np.ndarray:
    """Unit vectors; with ``scenes``, runs of neighbours that are alike, as frames of a scene are."""
    raw = rng.normal(size=(count, size))
    if scenes is not None:
        raw = rng.normal(size=(scenes, size))[np.arange(count) * scenes // count] + 0.15 * raw
    vectors: np.ndarray = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    return vectors


def best_of(gains: list[float], taken: list[int]) -> int:
    """The place of the largest gain that is not taken, the first of several."""
    return max((place for place in range(len(gains)) if place not in taken), key=lambda place: gains[place])


# --- MaxInfo: U of the SVD, maxvol by inverses that are computed anew --------------------------------------------


def maxinfo_oracle(features: np.ndarray, rank: int, tolerance: float, most: int | None) -> list[int]:
    # The left singular vectors are the eigenvectors of F F^T.
    values, vectors = np.linalg.eigh(features @ features.T)
    a = vectors[:, np.argsort(-values)[:rank]]
    chosen: list[int] = []
    for column in range(rank):  # pivoted elimination: what is left of this column once the rows so far are eliminated
        left = a[:, column]
        if chosen:
            left = left - a[:, :column] @ np.linalg.inv(a[np.ix_(chosen, range(column))]) @ a[chosen, column]
        chosen.append(best_of(np.abs(left).tolist(), chosen))
    for _ in range(10):
        coefficients = np.abs(a @ np.linalg.inv(a[chosen]))
        row, place = np.unravel_index(np.argmax(coefficients), coefficients.shape)
        if coefficients[row, place] <= 1.05:
            break
        chosen[int(place)] = int(row)
    while most is None or len(chosen) < most:
        norms = np.linalg.norm(a @ np.linalg.pinv(a[chosen]), axis=1)
        if len(chosen) == len(a):
            break
        row = best_of(norms.tolist(), chosen)
        if norms[row] <= tolerance:
            break
        chosen.append(row)
    return chosen if most is None else chosen[:most]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("rank", "tolerance", "frames"), [(4, 0.3, 12), (8, 0.5, 30), (8, 0.3, 5), (3, 0.9, 40)])
def test_maxinfo(seed: int, rank: int, tolerance: float, frames: int) -> None:
    features = unit_rows(np.random.default_rng(seed), 60, 16, scenes=20)
    chosen = maxinfo(features.astype(np.float32), frames, rank=rank, tolerance=tolerance)
    expected = maxinfo_oracle(features.astype(np.float32).astype(np.float64), rank, tolerance, frames)
    assert chosen.tolist() == sorted(expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_maxinfo_of_the_notebooks(seed: int) -> None:
    features = unit_rows(np.random.default_rng(seed), 200, 16, scenes=50).astype(np.float32)
    pool = np.linspace(0, 199, 64).astype(int)
    rows = np.sort(pool[maxinfo_oracle(features[pool].astype(np.float64), 8, 0.1, None)])
    rows = rows[: len(rows) - len(rows) % 2]
    expected = rows if len(rows) <= 40 else rows[np.linspace(0, len(rows) - 1, 40).astype(int)]
    assert maxinfo(features, 40, pool=64, tolerance=0.7, faithful=True).tolist() == expected.tolist()


# --- AdaRD-Key: the gain with the inverse of the Gram matrix computed anew ---------------------------------------


def adard_oracle(relevance: np.ndarray, vectors: np.ndarray, frames: int, balance: float) -> list[int]:
    epsilon = 1e-6
    if relevance.max() < 0.4:
        relevance = np.zeros(len(relevance))
    chosen: list[int] = []
    for _ in range(frames):
        gram = vectors[chosen] @ vectors[chosen].T + epsilon * np.eye(len(chosen))
        gains = []
        for i, vector in enumerate(vectors):
            g = vectors[chosen] @ vector
            gains.append(relevance[i] + balance * math.log(max(1 + epsilon - g @ np.linalg.inv(gram) @ g, 1e-300)))
        chosen.append(best_of(gains, chosen))
    return sorted(chosen)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("balance", [0.01, 0.1, 1.0])
def test_adard_key(seed: int, balance: float) -> None:
    rng = np.random.default_rng(seed)
    vectors, scores = unit_rows(rng, 50, 24, scenes=12), rng.normal(size=50)
    scaled = (scores - scores.min()) / (scores.max() - scores.min())
    assert adard_key(scores, vectors, 10, balance=balance).tolist() == adard_oracle(scaled, vectors, 10, balance)
    for probabilities in (scaled, 0.39 * scaled):  # below 0.4 only the difference counts
        chosen = adard_key(probabilities, vectors, 10, balance=balance, faithful=True)
        assert chosen.tolist() == adard_oracle(probabilities, vectors, 10, balance)


# --- Q-Frame: the keys number by number, and what they are for: draws without replacement from the softmax ---------


def q_frame_oracle(scores: np.ndarray, drawn: np.ndarray, temperature: float) -> list[int]:
    """All places, the largest key first."""
    total = sum(math.exp(score / temperature) for score in scores)
    keys = [
        math.log(math.exp(score / temperature) / total) - math.log(-math.log(u + 1e-10) + 1e-10)
        for score, u in zip(scores, drawn, strict=True)
    ]
    return sorted(range(len(keys)), key=lambda place: -keys[place])


@pytest.mark.parametrize("seed", SEEDS)
def test_q_frame(seed: int) -> None:
    scores = np.random.default_rng(100 + seed).normal(20, 3, size=128)
    drawn = np.random.default_rng(seed).random(128)
    even = [3 * (score - scores.mean()) / scores.std() for score in scores]
    order = q_frame_oracle(np.array(even), drawn, 0.8)
    assert q_frame(scores, 8, seed=seed).tolist() == sorted(order[:8])
    raw = q_frame_oracle(scores, drawn, 0.8)
    assert q_frame(scores, 8, seed=seed, faithful=True).tolist() == sorted(raw[: 4 + 8 + 32])


def test_q_frame_draws_without_replacement_from_the_softmax() -> None:
    scores = np.array([0.0, 0.4, 0.8, 1.2, 2.0])
    p = np.exp(scores / 0.8) / np.exp(scores / 0.8).sum()
    draws = 6000
    rng = np.random.default_rng(0)
    counts = np.zeros(5)
    for _ in range(draws):
        counts[np.argsort(-q_frame_keys(scores, rng.random(5)))[:2]] += 1
    among_two = np.array([p[i] + sum(p[j] * p[i] / (1 - p[j]) for j in range(5) if j != i) for i in range(5)])
    errors = np.abs(counts / draws - among_two) / np.sqrt(among_two * (1 - among_two) / draws)
    assert errors.max() < 4


# --- TiFRe: every cosine ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_tifre(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames, prompts = unit_rows(rng, 70, 8), unit_rows(rng, 3, 8)
    frames[10] = frames[40]  # a tie goes to the earlier frame
    scores = [max(float(sum(x * y for x, y in zip(f, p, strict=True))) for p in prompts) for f in frames]
    for budget in (1, 9, 69, 70, 90):
        expected = sorted(sorted(range(70), key=lambda place: (-round(scores[place], 12), place))[:budget])
        assert tifre(frames, prompts, budget).tolist() == expected


# --- F2C: peaks, clusters and clips step by step ------------------------------------------------------------------


def f2c_oracle(
    scores: list[float], vectors: np.ndarray, budget: int, anchors: int, side: float, redundancy: float, length: float
) -> list[tuple[int, int, float]]:
    count = len(scores)
    valleys = [0, *(i for i in range(1, count - 1) if scores[i] <= min(scores[i - 1], scores[i + 1])), count - 1]
    peaks = sorted({max(range(low, high + 1), key=lambda i: scores[i]) for low, high in pairwise(valleys)})
    if len(peaks) > anchors:
        centres = [float(np.quantile(peaks, (c + 0.5) / anchors)) for c in range(anchors)]
        while True:
            groups: list[list[int]] = [[] for _ in centres]
            for peak in peaks:
                groups[min(range(anchors), key=lambda c: abs(peak - centres[c]))].append(peak)
            moved = [sum(g) / len(g) if g else centre for g, centre in zip(groups, centres, strict=True)]
            if moved == centres:
                break
            centres = moved
        peaks = [max(group, key=lambda i: scores[i]) for group in groups if group]
    longest = max(1, int(side**2 * budget / anchors))
    clips = []
    for peak in sorted(peaks):
        found: list[tuple[float, int, int]] = []
        for frames in range(1, min(longest, count) + 1):
            first = min(max(peak - (frames - 1) // 2, 0), count - frames)
            rows = range(first, first + frames)
            pairs = [float(vectors[i] @ vectors[j]) for i in rows for j in rows if i != j]
            likeness = sum(pairs) / len(pairs) if pairs else 0.0
            worth = sum(scores[i] for i in rows) / frames - redundancy * likeness + length * frames / longest
            found.append((worth, first, first + frames - 1))
        _, first, last = max(found, key=lambda clip: clip[0])
        scale = min(max(math.sqrt(anchors * (last - first + 1) / budget), 1.0), side)
        clips.append((first, last, scale))
    merged: list[tuple[int, int, float]] = []
    for scale in sorted({clip[2] for clip in clips}):
        own: list[tuple[int, int, float]] = []
        for first, last, _ in sorted(clip for clip in clips if clip[2] == scale):
            if own and first <= own[-1][1]:
                own[-1] = (own[-1][0], max(own[-1][1], last), scale)
            else:
                own.append((first, last, scale))
        merged += own
    return sorted(merged)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("budget", [4, 8, 16])
def test_f2c(seed: int, budget: int) -> None:
    rng = np.random.default_rng(seed)
    scores, vectors = np.round(rng.random(90), 3), unit_rows(rng, 90, 12, scenes=15)
    for anchors, side in ((budget, 2.0), (max(1, budget // 4), 1.0)):
        clips = f2c_clips(scores, vectors, budget, anchors=anchors, side=side, redundancy=0.5, length=0.05)
        expected = f2c_oracle(scores.tolist(), vectors, budget, anchors, side, 0.5, 0.05)
        assert [(clip.first, clip.last) for clip in clips] == [(first, last) for first, last, _ in expected]
        assert [clip.scale for clip in clips] == pytest.approx([scale for _, _, scale in expected])
        rows = sorted({row for first, last, _ in expected for row in range(first, last + 1)})
        if side > 1:
            assert f2c(scores, vectors, budget, faithful=True).tolist() == rows
        else:  # what overlaps leave over goes to the best scores, ties to the earlier
            rest = sorted(set(range(90)) - set(rows), key=lambda i: (-scores[i], i))
            assert f2c(scores, vectors, budget).tolist() == sorted([*rows, *rest[: budget - len(rows)]])


# --- DIG: peaks by the definition of their prominence, and the refinement as it is described ----------------------


def peaks_oracle(values: list[float], prominence: float) -> list[int]:
    """A peak is higher than both neighbours. From it one walks either way until something is higher, or to the end:
    its prominence is its height above the higher of the two lowest points on the way."""
    found = []
    for place in range(1, len(values) - 1):
        if not (values[place - 1] < values[place] > values[place + 1]):
            continue
        lowest = []
        for step in (-1, 1):
            at, low = place, values[place]
            while 0 <= at < len(values) and values[at] <= values[place]:
                low = min(low, values[at])
                at += step
            lowest.append(low)
        if values[place] - max(lowest) >= prominence:
            found.append(place)
    return found


def dig_oracle(rewards: list[float], b: list[int], *, faithful: bool) -> list[tuple[int, int]]:
    n = len(rewards)
    z = [100 * (r - min(rewards)) / (max(rewards) - min(rewards) + 1e-8) for r in rewards]
    standing = {i: value for i, value in enumerate(z) if value > 0}
    if not standing:
        return [(b[0], b[-1])]
    kept = list(standing)
    if len(standing) > 1:
        s1 = dict(standing)
        while True:
            zeros = sum(x == 0 for x in s1.values())
            mean = sum(s1.values()) / len(s1)
            s1 = {i: max(x - mean, 0.0) for i, x in s1.items()}
            if sum(x == 0 for x in s1.values()) == zeros:
                break
        half = max(standing.values()) / 2
        first = [i for i, x in s1.items() if x > 0]
        second = [i for i, x in standing.items() if max(x - half, 0.0) > 0]
        kept = first if len(first) <= len(second) else second
        if not kept and not faithful:
            kept = second
    if not kept:
        return [(b[0], b[-1])]
    cap = n - 1 if faithful else n
    spans: list[tuple[int, int]] = []
    for i in kept:
        start, end = b[max(0, i - 2)], b[min(cap, i + 2)]
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((start, end))
    return spans


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_dig(seed: int, faithful: bool) -> None:
    rng = np.random.default_rng(seed)
    vectors, scores = unit_rows(rng, 240, 10, scenes=30), np.round(rng.random(240) ** 3, 3)
    change = 1 - np.sum(vectors[1:] * vectors[:-1], axis=1)
    boundaries = sorted({0, *peaks_oracle(change.tolist(), 0.1), 239})
    assert 15 < len(boundaries) < 240
    assert dig_boundaries(vectors).tolist() == boundaries
    rewards = [float(scores[(low + high) // 2]) for low, high in pairwise(boundaries)]
    spans = dig_oracle(rewards, boundaries, faithful=faithful)
    rows = [row for first, last in spans for row in range(first, last + 1)]
    chosen = [rows[int(place)] for place in np.linspace(0, len(rows) - 1, 16)]
    assert dig(scores, vectors, 16, faithful=faithful).tolist() == (chosen if faithful else sorted(set(chosen)))
