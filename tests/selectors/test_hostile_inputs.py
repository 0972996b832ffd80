"""Every selector on inputs that rounding, signs and copies make hard: ties, constants, extremes; what is refused."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from hybrid.errors import InputError
from hybrid.selectors.adard_key import adard_key
from hybrid.selectors.aks import aks
from hybrid.selectors.best_first import best_first
from hybrid.selectors.bin_max import bin_max
from hybrid.selectors.bolt import bolt
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.dig import dig_boundaries, dig_spans
from hybrid.selectors.f2c import f2c_clips, f2c_peaks
from hybrid.selectors.focus import focus
from hybrid.selectors.maxinfo import maxinfo
from hybrid.selectors.q_frame import q_frame
from hybrid.selectors.ranking import first_equal_rows, mean
from hybrid.selectors.registry import SELECTORS, select
from hybrid.selectors.tass import tass
from hybrid.selectors.uniform import evenly

MAY_GIVE_FEWER = ("best_first", "tass", "dig", "maxinfo", "focus")
TAKES_EARLIER_COPIES_FIRST = ("top_k", "tifre", "mdp3", "adard_key", "maxinfo")

SCORES = {
    "constant, no binary fraction": np.full(50, 0.1),
    "constant third": np.full(49, 1 / 3),
    "constant and negative": np.full(33, -0.7),
    "constant zero": np.zeros(20),
    "zeros of both signs": np.array([0.0, -0.0] * 12),
    "all negative": -np.linspace(0.1, 9, 41),
    "one stands out": np.r_[np.full(30, 0.3), 0.3000000001, np.full(9, 0.3)],
    "denormals": np.arange(40) * 5e-324,
    "one denormal": np.r_[np.zeros(25), 5e-324],
    "near the largest": np.linspace(-1e100, 1e100, 35),
    "one candidate": np.array([0.2]),
    "two candidates": np.array([0.2, 0.2]),
    "fewer than the budget": np.array([0.5, -0.5, 0.5]),
    "last bits": 0.1 + np.arange(30) % 3 * np.spacing(0.1),
}


def candidates_of(scores: np.ndarray, vectors: np.ndarray | None = None) -> Candidates:
    """Candidates with everything; without ``vectors`` the frames are copies of three pictures."""
    rng = np.random.default_rng(7)
    if vectors is None:
        vectors = unit_rows(rng, 3, 40)[np.arange(len(scores)) % 3]
    prompts = unit_rows(rng, 2, vectors.shape[1])
    return Candidates(
        seconds=np.arange(len(scores)) * 1.001,
        scores=scores,
        similarities=scores,
        embeddings=vectors,
        query=prompts[0],
        prompts=prompts,
        score_frames=scores.__getitem__,
    )


def unit_rows(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    raw = rng.normal(size=(count, size)) + 0.3
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("frames", [1, 2, 7, 64])
@pytest.mark.parametrize("scores", SCORES.values(), ids=list(SCORES))
@pytest.mark.parametrize("name", SELECTORS.names)
@pytest.mark.filterwarnings("error")
def test_distinct_rows_in_order_and_the_same_ones_again(name: str, scores: np.ndarray, frames: int) -> None:
    chosen = select(name, candidates_of(scores), frames)
    assert (np.diff(chosen) > 0).all()
    assert ((chosen >= 0) & (chosen < len(scores))).all()
    budget = min(frames, len(scores))
    assert len(chosen) <= budget if name in MAY_GIVE_FEWER else len(chosen) == budget
    assert len(chosen) > 0 or (name == "best_first" and not scores.any())
    assert select(name, candidates_of(scores.copy()), frames).tolist() == chosen.tolist()


@pytest.mark.parametrize("name", SELECTORS.names)
def test_float32_scores_are_the_numbers_that_they_are(name: str) -> None:
    narrow = np.random.default_rng(1).random(60).astype(np.float32)
    wide = narrow.astype(np.float64)
    rows = [select(name, candidates_of(scores), 9).tolist() for scores in (narrow, wide)]  # type: ignore[arg-type]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("size", [7, 48, 512, 640])
@pytest.mark.parametrize("name", TAKES_EARLIER_COPIES_FIRST)
def test_of_equal_frames_the_earliest_is_taken(name: str, size: int) -> None:
    # How many rows there are, and of which width, decides in which order a product of matrices sums each of them.
    for seed in range(6):
        rng = np.random.default_rng(seed)
        picture = rng.permutation(np.arange(301) % 43)
        scores, vectors = (rng.integers(0, 4, 43) / 7)[picture], unit_rows(rng, 43, size)[picture]
        options = {"pool": 301} if name == "maxinfo" else {}
        chosen = select(name, candidates_of(scores, vectors), 24, **options).tolist()
        for row in chosen:
            assert set(np.flatnonzero(picture[:row] == picture[row]).tolist()) <= set(chosen)


def test_first_equal_rows() -> None:
    vectors = np.array([[1, 2], [1, 3], [0, 2], [1, 2], [-0.0, 2], [1, 3]])
    assert first_equal_rows(vectors).tolist() == [0, 1, 2, 0, 2, 1]
    assert first_equal_rows(vectors[:0]).tolist() == []


# What may be compared with a mean: never what rounding left of it.


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7, -0.7, 1e-300, 123.456])
def test_equal_scores_exceed_no_mean(value: float) -> None:
    for count in range(1, 200):
        scores = np.full(count, value)
        assert mean(scores) == value
        assert tass(scores, np.arange(float(count)), 5, faithful=True).tolist() == []
        assert tass(scores, np.arange(float(count)), 5).tolist() == evenly(count, 5).tolist()


def test_the_pool_of_tass_is_what_exceeds_the_mean() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        scores = rng.integers(0, 9, rng.integers(2, 30)) / 8
        exact = sum(map(Fraction, scores.tolist())) / len(scores)
        above = [row for row, score in enumerate(scores.tolist()) if Fraction(score) > exact]
        assert sorted(tass(scores, np.arange(float(len(scores))), 30, faithful=True).tolist()) == above


def test_f2c_makes_a_clip_no_longer_where_that_gains_nothing() -> None:
    vectors = np.repeat(unit_rows(np.random.default_rng(0), 1, 31), 60, axis=0)
    for value in (0.1, 0.7, 1 / 3):
        clips = f2c_clips(np.full(60, value), vectors, 8, anchors=2, redundancy=0.0, length=0.0)
        assert [clip.last - clip.first for clip in clips] == [0] * len(clips)


def test_tass_takes_a_pool_of_the_budget_whole_even_at_one_time() -> None:
    assert tass([9, 8, 0, 0, 0], [5, 5, 6, 7, 8], 2).tolist() == [0, 1]


def test_tass_takes_one_row_of_a_time_and_none_twice() -> None:
    assert tass([9, 8, 7, 6, 0, 0, 0, 0], [0, 0, 5, 5, 6, 7, 8, 9], 3).tolist() == [0, 2]


def test_dig_refines_two_parts_as_it_does_many() -> None:
    rewards = np.zeros(20)
    rewards[[5, 15]] = 0.1, 1.0
    assert dig_spans(rewards, np.arange(21)) == [(13, 17)]


@pytest.mark.parametrize(("rewards", "boundaries"), [([], [0]), ([1.0], [0]), ([1.0], [0, 1, 2])])
def test_dig_refuses_boundaries_that_do_not_fit_its_rewards(rewards: list[float], boundaries: list[int]) -> None:
    with pytest.raises(InputError, match=f"{len(rewards)} rewards need {len(rewards) + 1} boundaries"):
        dig_spans(rewards, boundaries)


def test_dig_cuts_no_plateau() -> None:
    for size in (31, 512, 640):
        alternating = unit_rows(np.random.default_rng(2), 2, size)[np.arange(90) % 2]
        assert dig_boundaries(alternating, prominence=0.0).tolist() == [0, 89]


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**-200])
@pytest.mark.parametrize("name", ["coverage", "tass", "aks", "bolt", "q_frame", "adard_key", "dig"])
def test_scores_may_be_small(name: str, scale: float) -> None:
    scores = np.random.default_rng(2).integers(0, 40, size=120) / 8
    vectors = unit_rows(np.random.default_rng(5), 120, 16)
    one, other = (select(name, candidates_of(s, vectors), 16).tolist() for s in (scores, scale * scores))
    assert one == other


# The authors' rules at their edges.


def test_bin_max_is_the_authors_rule_for_all_pairs() -> None:
    scores = np.random.default_rng(0).random(110)
    for count in range(2, 111):
        for frames in range(2, count):
            step = (count - 1) / (frames - 1)
            prototypes = np.array([round(i * step) for i in range(frames)])
            bins = np.abs(np.arange(count)[:, None] - prototypes).argmin(axis=1)
            expected = np.zeros(frames, dtype=int)
            order = np.argsort(scores[:count], kind="stable")
            expected[bins[order]] = order  # the best of each bin is written last
            assert bin_max(scores[:count], frames).tolist() == expected.tolist(), (count, frames)


@pytest.mark.parametrize("count", range(2, 60))
def test_centred_uniform_is_that_of_peek(count: int) -> None:
    for frames in range(1, count):
        expected = [count // 2] if frames == 1 else [round((i + 0.5) * count / frames - 0.5) for i in range(frames)]
        assert evenly(count, frames, centred=True).tolist() == expected


@pytest.mark.parametrize(("rate", "count"), [(1.0, 1024), (2.0, 2048), (24.0, 12_288), (25.0, 12_800)])
def test_focus_divides_a_video_that_starts_late_like_one_that_does_not(rate: float, count: int) -> None:
    scores = np.round(0.5 + 0.4 * np.sin(np.arange(count) / 50), 6)
    times = np.arange(count) / rate
    late = times + 1.4
    assert (count - 1) / (late[-1] - late[0]) != rate  # rounding of the times
    jitter = times + np.where(np.arange(count) == count - 1, 0.001 / rate, 0)
    rows = [focus(t, scores.__getitem__, 16, faithful=True).tolist() for t in (times, late, jitter)]
    assert rows[0] == rows[1] == rows[2]


def test_focus_takes_any_rate() -> None:
    scores = np.random.default_rng(0).random(300)
    for step in (1e-5, 1 / 240, 3.0, 5000.0, 1e7):
        assert 0 < len(focus(np.arange(300) * step, scores.__getitem__, 16)) <= 16
    assert 0 < len(focus(np.zeros(300), scores.__getitem__, 16)) <= 16


def test_best_first_ranks_scores_of_another_scale() -> None:
    assert best_first(np.array([-3.0, -1.0, -2.0, -1.5]), 2).tolist() == [1, 3]
    assert best_first(np.array([0.0, -1.0, 2.0]), 2).tolist() == [0, 2]
    assert best_first(np.array([0.0, 3.0, 0.0]), 2).tolist() == [1]  # GenS's: 0 is no score
    assert best_first(np.zeros(4), 2).tolist() == []
    assert best_first(np.array([0.0, -0.0]), 2).tolist() == []


# What is refused.


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", SELECTORS.names)
def test_numbers_that_are_not_finite_are_refused(name: str, odd: float) -> None:
    selector = SELECTORS.find(name)
    whole = candidates_of(np.linspace(0, 1, 30))
    for need in {*selector.needs, *selector.takes} - {"score_frames", "gens_scores"}:
        values = {n: np.array(getattr(whole, n)) for n in ("seconds", "scores", "similarities", need)}
        values[need].flat[3] = odd
        with pytest.raises(InputError, match=r"not finite|one list of seconds|not a finite number"):
            Candidates(**values)
    if "score_frames" in selector.needs:
        bad = np.full(30, odd)
        with pytest.raises(InputError, match="finite scores"):
            selector.choose(frames=2, seconds=whole.seconds, score_frames=bad.__getitem__)


@pytest.mark.parametrize("name", ["mdp3", "adard_key", "tifre", "dig", "f2c", "maxinfo"])
def test_so_are_embeddings_given_to_the_rule_itself(name: str) -> None:
    selector = SELECTORS.find(name)
    whole = candidates_of(np.linspace(0, 1, 30))
    needed = {need: getattr(whole, need) for need in selector.needs}
    for bad in (np.full((30, 40), np.nan), np.zeros(30), np.zeros((30, 0))):
        with pytest.raises(InputError, match="embeddings h"):
            selector.choose(frames=2, **{**needed, "embeddings": bad})


@pytest.mark.parametrize("name", [name for name in SELECTORS.names if "scores" in SELECTORS.find(name).needs])
def test_scores_too_large_to_add_are_refused(name: str) -> None:
    needs = SELECTORS.find(name).needs
    candidates = candidates_of(np.r_[np.zeros(30), -1.7e308])
    with pytest.raises(InputError, match=r"a score is -1.7e\+308; scores must lie within"):
        SELECTORS.find(name).choose(frames=2, **{need: getattr(candidates, need) for need in needs})


def test_maxinfo_of_nothing_and_of_black_pictures() -> None:
    assert maxinfo(np.zeros((20, 8)), 4).tolist() == [0]
    assert maxinfo(np.zeros((20, 8)), 4, faithful=True).tolist() == []


# Details that no other test would miss.


def test_aks_gives_each_part_a_frame_where_the_budget_allows_one() -> None:
    scores = np.tile([0.0, 0.5], 80) + np.arange(160) % 2 * np.linspace(0.0, 0.4, 160)  # the best ones lie at the end
    chosen = aks(scores, 16, threshold=2.0)
    assert (np.diff(chosen // 10) == 1).all()  # one of each sixteenth


def test_aks_heeds_the_least_deviation() -> None:
    scores = np.r_[np.full(4, 1.0), np.zeros(60)]
    assert aks(scores, 4, threshold=0.5, depth=2).tolist() == [0, 1, 2, 3]
    assert aks(scores, 4, threshold=0.5, depth=2, least_std=0.5).tolist() == [0, 16, 32, 48]


def test_bolt_takes_the_first_row_that_reaches_a_place() -> None:
    assert bolt(np.ones(8), 4).tolist() == [1, 3, 4, 5]  # c = 1/8, 2/8 ...; u = 1/4, 5/12, 7/12, 3/4


def test_f2c_takes_valleys_of_equal_scores_and_joins_clips_that_share_a_row() -> None:
    scores, vectors = np.array([3.0, 1.0, 1.0, 2.0]), np.eye(4)
    assert f2c_peaks(scores).tolist() == [0, 1, 3]
    clips = f2c_clips(scores, vectors, 3, anchors=3, side=1.0)
    assert [(clip.first, clip.last) for clip in clips] == [(0, 0), (1, 1), (3, 3)]


def test_focus_keeps_no_distance_where_there_is_no_room_for_one() -> None:
    times, scores = np.arange(300) / 30, np.random.default_rng(1).random(300)
    for frames in (50, 80, 120):  # 0.2 s a frame, and less
        rows = [focus(times, scores.__getitem__, frames, gap_seconds=gap).tolist() for gap in (None, 0.0)]
        assert rows[0] == rows[1]


def test_adard_key_leaves_out_relevance_below_0_4_only() -> None:
    vectors = np.repeat(np.eye(1, 4), 5, axis=0)
    for best, row in ((0.4, 3), (0.39, 0)):
        scores = np.array([0.1, 0.2, 0.1, best, 0.1])
        assert adard_key(scores, vectors, 1, faithful=True).tolist() == [row]


def test_a_cold_q_frame_takes_the_best() -> None:
    scores = np.random.default_rng(0).permutation(50) / 50
    assert q_frame(scores, 6, temperature=1e-4).tolist() == np.sort(np.argsort(-scores)[:6]).tolist()
