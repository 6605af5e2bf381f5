# pyright: reportPrivateUsage=false
"""The SQLite backend with one rule broken, for rules that the memory backend does not have.

A mutant is a function that breaks the backend for the length of a test; its docstring says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from holdfast.backends.sqlite import appending, inbox, loading, tail, trim_order, writer
from holdfast.backends.sqlite.cache import SessionCache
from holdfast.backends.sqlite.hints import Hints
from holdfast.backends.sqlite.session_log import SessionLog
from holdfast.backends.sqlite.sockets import Outbox
from holdfast.backends.sqlite.tail import Tail
from holdfast.backends.sqlite.transaction import Transaction
from holdfast.backends.sqlite.trim_order import Entry
from holdfast.testing import conformance

Break = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Mutant:
    """A broken rule, the suite that must notice, and those of its tests that are run to see that."""

    breaks: Break
    suite: type
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.breaks.__name__


MUTANTS: list[Mutant] = []


def must_fail(suite: type, *tests: str) -> Callable[[Break], Break]:
    def register(breaks: Break) -> Break:
        MUTANTS.append(Mutant(breaks, suite, tests))
        return breaks

    return register


@must_fail(conformance.LivesSuite, "test_positions_beyond_what_survived_are_lost")
def the_epoch_outlives_the_file(patch: pytest.MonkeyPatch) -> None:
    """After the end of the log was lost, positions beyond it are of the same epoch as new ones."""

    def begin_epoch(self: Transaction, log: SessionLog) -> None:
        log.life = self.cache.life
        self.execute("UPDATE sessions SET life = ? WHERE no = ?", (log.life, log.no))

    patch.setattr(Transaction, "_begin_epoch", begin_epoch)


@must_fail(conformance.EventLogSuite, "test_a_page_is_not_complete_while_more_is_there")
def acknowledged_before_it_is_committed(patch: pytest.MonkeyPatch) -> None:
    """Callers are told while the transaction is still open: who dies now takes their events with him."""

    class Lazy:
        def __init__(self, connection: Any) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        def execute(self, sql: str, *arguments: Any) -> Any:
            return self._connection.execute("SELECT 1" if sql == "COMMIT" else sql, *arguments)

    init = writer.Writer.__init__

    def wrapped(self: writer.Writer, *arguments: Any, **named: Any) -> None:
        init(self, *arguments, **named)
        self._connection = Lazy(self._connection)  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]

    def begin(connection: Any, wait_seconds: float) -> None:
        if not connection.in_transaction:
            connection.execute("BEGIN IMMEDIATE")

    patch.setattr(writer.Writer, "__init__", wrapped)
    patch.setattr(writer, "begin", begin)


@must_fail(conformance.TrimmingSuite, "test_a_response_outlives_a_flood_of_others")
def pending_requests_go_first(patch: pytest.MonkeyPatch) -> None:
    """What waits for an answer is dropped before anything else."""
    in_order = trim_order._in_order

    def reversed_order(entries: list[Entry], share: int) -> Iterator[Entry]:
        yield from sorted(in_order(entries, share), key=lambda entry: not entry.precious)

    patch.setattr(trim_order, "_in_order", reversed_order)


@must_fail(conformance.EventLogSuite, "test_offsets_count_one_two_three_over_all_streams")
def others_are_not_noticed(patch: pytest.MonkeyPatch) -> None:
    """The writer trusts what it remembers, whatever other processes have appended since."""
    look = SessionCache.look

    def blind(self: SessionCache, connection: Any) -> bool:
        return self._version == -1 and look(self, connection)

    patch.setattr(SessionCache, "look", blind)


@must_fail(conformance.WatchSuite, "test_every_watcher_of_every_other_replica_is_woken")
def a_lost_hint_is_never_made_up_for(patch: pytest.MonkeyPatch) -> None:
    """No datagram arrives, and nobody compares with the file."""

    def lose(self: Outbox, address: str, hints: object) -> None:
        del self, address, hints

    def compare(self: Hints, *state: object) -> None:
        del self, state

    patch.setattr(Outbox, "send", lose)
    patch.setattr(Hints, "compare", compare)


@must_fail(conformance.EventLogSuite, "test_a_page_is_not_complete_while_more_is_there")
def the_end_of_the_log_is_not_read(patch: pytest.MonkeyPatch) -> None:
    """Only what is in the heads is known, and these lag behind."""

    def behind(self: Tail, no: int, top: int, last: int) -> tuple[int, int]:
        del self, no
        return top, last

    patch.setattr(Tail, "ahead", behind)


@must_fail(conformance.TrimmingSuite, "test_the_bound_holds_for_replicas_that_take_turns")
def folding_does_not_count(patch: pytest.MonkeyPatch) -> None:
    """Who has to read a session's head takes its log for empty, and never trims it."""
    patch.setattr(tail, "FOLDED_AT", 1)
    patch.setattr(
        tail, "_FOLD", tail._FOLD.replace("events + new.number", "0").replace("bytes + new.size", "0")
    )


@must_fail(conformance.TrimmingSuite, "test_a_position_is_lost_exactly_when_something_after_it_was_dropped")
def what_was_trimmed_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """No stream knows what it lost: a hole is read over in silence."""

    def note(*arguments: object) -> None:
        del arguments

    patch.setattr(appending, "_note_trimmed", note)


@must_fail(conformance.InboxSuite, "test_an_answer_is_accepted_once")
def the_last_answer_wins(patch: pytest.MonkeyPatch) -> None:
    """A request that has its answer accepts another one."""

    def put(tx: Transaction, session: Any, request: bytes, answer: bytes) -> bool:
        log = tx.find(session)
        return log is not None and bool(
            tx.execute(
                "UPDATE asked SET answer = ? WHERE session = ? AND request = ?", (answer, log.no, request)
            ).rowcount
        )

    patch.setattr(inbox, "_put", put)


@must_fail(conformance.EventLogSuite, "test_a_retry_that_overtakes_the_first_try_stores_once")
def keys_of_others_are_not_read(patch: pytest.MonkeyPatch) -> None:
    """What another process has stored under a key is stored again."""

    def note(*arguments: object, **named: object) -> None:
        del arguments, named

    patch.setattr(loading, "_note", note)
