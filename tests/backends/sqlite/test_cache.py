"""What the writer remembers stays below its bound, and that costs no more with more sessions."""

import random

import pytest
from typing_extensions import override

from holdfast.backends.sqlite.cache import SessionCache
from holdfast.backends.sqlite.session_log import SessionLog, Stream


class Scales(SessionLog):
    """A session that notes how often it was weighed."""

    weighings = 0

    @property
    @override
    def weight(self) -> int:
        Scales.weighings += 1
        return 1 + len(self.streams)


@pytest.fixture(autouse=True)
def no_weighings() -> None:
    Scales.weighings = 0


def log(number: int, *, streams: int = 0) -> SessionLog:
    made = Scales(number, f"s{number}", 1000, 1000, "e", "l", [], 0, 0, 0, 0, 0, 0)
    grow(made, streams)
    return made


def grow(one: SessionLog, streams: int) -> None:
    for _ in range(streams):
        name = b"%d" % len(one.streams)
        one.streams[name] = Stream(name)


def remembered(cache: SessionCache, numbers: range) -> list[int]:
    return [number for number in numbers if cache.get(f"s{number}") is not None]


def test_the_least_recently_used_are_forgotten_first() -> None:
    cache = SessionCache(max_entries=6)
    for number in range(3):
        cache.put(log(number, streams=1))
    cache.shrink()
    assert cache.get("s0") is not None
    cache.put(log(3, streams=1))
    cache.shrink()
    assert remembered(cache, range(4)) == [0, 2, 3]


def test_a_session_that_grew_after_it_was_remembered_counts_with_all_it_has() -> None:
    cache = SessionCache(max_entries=10)
    for number in range(3):
        cache.put(log(number))
    cache.shrink()
    grown = cache.get("s2")
    assert grown is not None
    grow(grown, 8)
    cache.shrink()
    assert remembered(cache, range(3)) == [1, 2]


def test_what_is_forgotten_replaced_or_cleared_makes_room() -> None:
    cache = SessionCache(max_entries=10)
    for _ in range(3):
        for number in range(2):
            cache.put(log(number, streams=4))
        cache.shrink()
        assert remembered(cache, range(2)) == [0, 1]
        cache.forget("s0")
        cache.put(log(1, streams=4))
        cache.put(log(2, streams=4))
        cache.shrink()
        assert remembered(cache, range(3)) == [1, 2]
        cache.clear()


def test_only_what_was_used_is_weighed_again_however_many_there_are() -> None:
    cache = SessionCache(max_entries=100_000)
    for number in range(10_000):
        cache.put(log(number))
    cache.shrink()
    Scales.weighings = 0
    for _ in range(300):
        cache.get("s1")
        cache.get("s2")
        cache.shrink()
    assert Scales.weighings == 600


def test_never_more_is_remembered_than_allowed_whatever_comes() -> None:
    chance = random.Random(7)
    cache, logs = SessionCache(max_entries=50), {number: log(number) for number in range(60)}
    for _ in range(3_000):
        number = chance.randrange(60)
        match chance.randrange(8):
            case 0:
                cache.forget(f"s{number}")
                logs[number] = log(number)
            case 1 if chance.random() < 0.02:
                cache.clear()
                logs = {number: log(number) for number in range(60)}
            case _:
                found = cache.get(f"s{number}")
                if found is None:
                    logs[number] = found = log(number, streams=chance.randrange(4))
                    cache.put(found)
                grow(found, chance.randrange(2))
        cache.shrink()
        assert sum(logs[one].weight for one in remembered(cache, range(60))) <= 50
