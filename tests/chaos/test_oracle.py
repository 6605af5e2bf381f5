"""The rig's own judgement on made-up streams: what it holds against a server, and what a fault excuses."""

from __future__ import annotations

import random
import time

import pytest

from chaos.call import check_number
from chaos.client import Client
from chaos.ledger import Diary, StreamLog, Tally
from chaos.permits import GAP_SECONDS, PERMITS
from chaos.wire import ServerEvent

GAP = '{"method":"notifications/message","params":{"data":{"event":"events-lost","reason":"epoch"}}}'
RESYNC = '{"method":"notifications/tools/list_changed"}'


class Stream:
    """One stream of one client, and what is held against its server."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.diary = Diary(0, self.tally, time.monotonic())
        self.log = StreamLog(self.diary, "standalone")
        self.log.connected()

    def read(self, data: str, offset: int | None = None, epoch: str = "a", stream: str = "s") -> bool:
        event_id = None if offset is None else f"1.{stream}.{epoch}.{offset}"
        return self.log.take(ServerEvent(event_id, data, None))

    def fault(self, kind: str) -> None:
        """One that has just ended."""
        self.tally.store.begin(kind).until = time.monotonic()

    @property
    def blamed(self) -> list[str]:
        return [violation.kind for violation in self.tally.violations]

    def number(self, before: int, number: int) -> int:
        return check_number(Client(0, self.diary, random.Random(0)), "mark", before, number, self.log)


@pytest.fixture
def stream() -> Stream:
    return Stream()


def test_what_is_in_order_is_read(stream: Stream) -> None:
    assert stream.read("", 3) is False
    assert stream.read("one", 4)
    assert stream.read("two", 9)
    assert not stream.blamed


def test_an_id_that_comes_twice_is_doubled_and_an_older_one_out_of_order(stream: Stream) -> None:
    stream.read("one", 4)
    stream.read("one", 4)
    stream.read("zero", 2)
    assert stream.blamed == ["doubled", "order"]


def test_numbers_that_are_missing_are_lost_and_numbers_that_come_again_doubled(stream: Stream) -> None:
    assert stream.number(1, 3) == 3
    assert stream.number(3, 3) == 3
    assert stream.blamed == ["lost", "doubled"]


def test_a_gap_is_no_excuse_without_a_fault(stream: Stream) -> None:
    stream.read(GAP)
    assert stream.blamed == ["gap"]


@pytest.mark.parametrize("kind", sorted(kind for kind, permit in PERMITS.items() if not permit.gaps))
def test_a_gap_is_no_excuse_when_the_fault_may_lose_nothing(stream: Stream, kind: str) -> None:
    stream.fault(kind)
    stream.read(GAP)
    assert stream.blamed == ["gap"]


def test_a_failover_may_cost_each_stream_one_gap(stream: Stream) -> None:
    stream.read("one", 4)
    stream.fault("failover")
    stream.read(GAP)
    stream.read(RESYNC)
    stream.read("five", 4, epoch="b")
    assert not stream.blamed
    assert stream.tally.store.gaps() == {"failover": 1}
    stream.read(GAP)
    assert stream.blamed == ["gap"]


def test_a_gap_may_be_told_again_to_who_was_cut_off_before_the_next_id(stream: Stream) -> None:
    stream.read("one", 4)
    stream.fault("failover")
    for _ in range(2):
        stream.log.connected()
        stream.read("", 4)
        stream.read(GAP)
    assert not stream.blamed
    assert stream.tally.store.gaps() == {"failover": 1}


def test_a_failover_of_long_ago_is_no_excuse(stream: Stream) -> None:
    stream.tally.store.begin("failover").until = time.monotonic() - GAP_SECONDS - 1
    stream.read(GAP)
    assert stream.blamed == ["gap"]


def test_a_told_gap_may_swallow_only_what_its_fault_permits(stream: Stream) -> None:
    stream.fault("failover")
    stream.read(GAP)
    stream.number(1, 52)
    stream.number(60, 60)
    assert not stream.blamed
    stream.number(1, 53)
    assert stream.blamed == ["lost"]


def test_behind_a_told_gap_order_counts_again(stream: Stream) -> None:
    stream.read("one", 4)
    stream.fault("failover")
    stream.read(GAP)
    stream.read("two", 3, epoch="b")
    stream.read("three", 2, epoch="b")
    assert stream.blamed == ["order"]


def test_another_life_of_the_log_needs_a_fault_that_begins_one(stream: Stream) -> None:
    stream.read("one", 4)
    stream.fault("freeze")
    stream.read("two", 5, epoch="b")
    stream.fault("crash")
    stream.read("three", 6, epoch="c")
    assert stream.blamed == ["wrong"]


def test_a_resync_without_a_gap_is_wrong(stream: Stream) -> None:
    stream.fault("failover")
    stream.read(RESYNC)
    assert stream.blamed == ["wrong"]


def test_messages_without_ids_are_for_outages(stream: Stream) -> None:
    assert not stream.read("one")
    stream.fault("delay")
    assert not stream.read("two")
    assert stream.blamed == ["wrong", "wrong"]
    stream.fault("freeze")
    assert stream.read("three")
    assert stream.blamed == ["wrong", "wrong"]


def test_after_an_outage_an_id_without_data_moves_on(stream: Stream) -> None:
    stream.read("one", 4)
    stream.fault("freeze")
    assert stream.read("two")
    assert not stream.read("", 5)
    assert stream.read("three", 6)
    assert not stream.blamed


def test_an_id_without_data_moves_nobody_without_an_outage(stream: Stream) -> None:
    stream.read("one", 4)
    stream.read("", 5)
    assert stream.blamed == ["wrong"]


def test_what_came_without_an_id_comes_again_only_to_who_was_cut_off(stream: Stream) -> None:
    stream.read("one", 4)
    stream.fault("freeze")
    stream.read("two")
    stream.read("three")
    assert not stream.read("two", 5)
    assert stream.blamed == ["doubled"]
    stream.log.connected()
    assert not stream.read("three", 6)
    assert stream.blamed == ["doubled"]
    assert stream.tally.counts["doubled, as an outage may"] == 1
