"""The cache that drops what was used longest ago."""

from __future__ import annotations

from hybrid.lru import LruCache


def test_what_was_used_longest_ago_goes_first() -> None:
    dropped: list[str] = []
    cache: LruCache[str, str] = LruCache(3, on_drop=dropped.append)
    for key in "abc":
        cache.put(key, key.upper())
    assert cache.get("a") == "A"
    cache.put("d", "D")
    assert (dropped, cache.get("b"), "a" in cache) == (["B"], None, True)
    cache.put("a", "other")
    cache.remove("c")
    cache.remove("never put")
    assert dropped == ["B", "A", "C"]
    cache.clear()
    assert dropped == ["B", "A", "C", "D", "other"]
    assert cache.get("a") is None


def test_sizes_are_those_of_what_is_there() -> None:
    cache: LruCache[int, str] = LruCache(10)
    for size in (4, 8, 2):
        cache.put(1, "one", size)
    cache.put(2, "two", 8)
    assert (cache.get(1), cache.get(2)) == ("one", "two")  # 2 and 8: each value counts once
    cache.put(3, "large", 100)
    assert (cache.get(1), cache.get(2), cache.get(3)) == (None, None, "large")
    cache.remove(3)
    cache.put(4, "four", 10)
    cache.put(5, "five", 0)
    assert (cache.get(4), cache.get(5)) == ("four", "five")
