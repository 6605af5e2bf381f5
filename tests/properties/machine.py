"""Any backend against the model: what can be done to a log, in whatever order."""

from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from holdfast.errors import SessionExists, SessionGone, StreamClosed, StreamUnknown
from holdfast.sessions.types import STANDALONE, AppendKey, Position, StreamId
from holdfast.testing.conformance import StoreUnderTest
from holdfast.testing.conformance.harness import new_facts
from tests.properties.checks import Checks
from tests.properties.model import ModelReader, ModelSession, ModelStream

pick = st.integers(min_value=0, max_value=2**16)
"""Chooses one of what is there, whatever that is by then."""

payloads = st.binary(max_size=20)

limits = st.integers(min_value=1, max_value=7)

REMEMBERED_LIVES = 4
"""More failovers than that: a store may have forgotten what survived the first."""


class EventLogMachine(Checks):
    """Sessions, streams, appends, reads, answers, claims and failovers on two replicas."""

    # --- sessions and streams

    @initialize(which=pick)
    def open_the_first_session(self, which: int) -> None:
        self.open_session(which)
        self.open_stream(0, which)

    @precondition(lambda self: len(self.sessions) < 3 and not any(one.alive for one in self.sessions))
    @rule(which=pick)
    def open_another(self, which: int) -> None:
        self.open_session(which)

    def open_session(self, which: int) -> None:
        facts = new_facts()
        backend = self.replica(which)
        self.bridge.call(backend.sessions.open, facts, limit=None)
        (opened,) = self.bridge.call(backend.log.renew, [facts.id])
        assert opened is not None
        assert opened.top.offset == 0
        self.sessions.append(ModelSession(facts.id, opened.top.epoch))

    @precondition(lambda self: self.sessions)
    @rule(which=pick, on=pick, sure=st.integers(0, 15))
    def close_session(self, which: int, on: int, sure: int) -> None:
        session = self.session(which)
        if sure and session.alive:  # seldom: after it there is not much left to do
            return
        assert self.bridge.call(self.replica(on).sessions.close, session.id) == session.alive
        session.alive = False
        with pytest.raises(SessionExists):
            self.bridge.call(self.replica(on).sessions.open, new_facts(id=session.id), limit=None)

    @precondition(lambda self: self.sessions)
    @rule(which=pick, on=pick)
    def open_a_stream(self, which: int, on: int) -> None:
        self.open_stream(which, on)

    def open_stream(self, which: int, on: int) -> None:
        session = self.session(which)
        stream = StreamId(f"r{session.appended}-{len(session.streams)}")
        open_stream = self.replica(on).log.open_stream
        if not session.alive:
            with pytest.raises(SessionGone):
                self.bridge.call(open_stream, session.id, stream, 1)
            return
        if stream not in session.streams:
            position = self.bridge.call(open_stream, session.id, stream, 1)
            assert position == Position(session.epoch, session.top)
            session.streams[stream] = ModelStream(opened_at=session.top)

    # --- appending

    @precondition(lambda self: self.sessions)
    @rule(
        which=pick,
        where=pick,
        on=pick,
        payload=payloads,
        final=st.booleans(),
        asks=st.booleans(),
        writer=st.sampled_from([None, "w1", "w2"]),
    )
    def append_one(
        self, which: int, where: int, on: int, payload: bytes, final: bool, asks: bool, writer: str | None
    ) -> None:
        self.append(which, where, on, payload, final=final, asks=asks, writer=writer)

    @precondition(lambda self: self.sessions)
    @rule(which=pick, where=st.lists(pick, min_size=2, max_size=9), on=pick)
    def append_many(self, which: int, where: list[int], on: int) -> None:
        """So that a log gets full."""
        for number in where:
            self.append(which, number, on, b"%d" % number, final=False, asks=False, writer=None)

    def append(
        self,
        which: int,
        where: int,
        on: int,
        payload: bytes,
        *,
        final: bool,
        asks: bool,
        writer: str | None,
    ) -> None:
        session = self.session(which)
        stream = self.stream(session, where)
        final = final and stream != STANDALONE
        self.asked += 1
        expects = f"q{self.asked}" if asks and not final else None
        counter = session.keys.get((stream, writer or ""), (0, 0))[0] + 1
        key = AppendKey(writer, counter) if writer else None

        log = self.replica(on).log
        try:
            event = self.bridge.call(
                log.append, session.id, stream, payload, key=key, final=final, expects=expects
            )
        except SessionGone:
            assert not session.alive
        except StreamClosed:
            assert session.streams[stream].closed
        except StreamUnknown:
            self.check_forgotten(session, stream)
        else:
            assert session.alive
            assert not session.streams[stream].closed
            self.check_appended(session, event, stream, payload, final=final)
            if key is not None:
                session.keys[stream, key.writer] = (key.counter, session.top)
            if expects is not None:
                session.waiting[expects] = (session.top, None)

    @precondition(lambda self: any(session.alive and session.keys for session in self.sessions))
    @rule(which=pick, one=pick, on=pick)
    def repeat(self, which: int, one: int, on: int) -> None:
        """A retry returns what was stored the first time, and stores nothing."""
        choices = [session for session in self.sessions if session.alive and session.keys]
        session = choices[which % len(choices)]
        (stream, writer), (counter, offset) = list(session.keys.items())[one % len(session.keys)]
        stored = session.events[offset - 1]
        key = AppendKey(writer, counter)
        log = self.replica(on).log
        try:
            event = self.bridge.call(
                log.append, session.id, stream, stored.payload, key=key, final=stored.final
            )
        except StreamUnknown:
            self.check_forgotten(session, stream)
        except StreamClosed as error:
            raise AssertionError("a repeated final event is no error") from error
        else:
            self.check_event(session, event, offset)

    # --- reading

    @precondition(lambda self: self.sessions)
    @rule(which=pick, where=pick, back=st.integers(0, 12), on=pick, limit=limits)
    def start_to_read(self, which: int, where: int, back: int, on: int, limit: int) -> None:
        session = self.session(which)
        position = Position(session.epoch, max(0, session.top - back))
        reader = ModelReader(self.stream(session, where), position)
        session.readers = [*session.readers[-5:], reader]
        self.read_page(session, reader, on, limit)

    @precondition(lambda self: any(session.readers for session in self.sessions))
    @rule(which=pick, one=pick, on=pick, limit=limits)
    def read_on(self, which: int, one: int, on: int, limit: int) -> None:
        choices = [session for session in self.sessions if session.readers]
        session = choices[which % len(choices)]
        reader = session.readers[one % len(session.readers)]
        self.read_page(session, reader, on, limit)
        self.read_page(session, reader, on + 1, limit)

    # --- answers

    @precondition(lambda self: self.sessions)
    @rule(which=pick, one=pick, on=pick, answer=payloads)
    def answer(self, which: int, one: int, on: int, answer: bytes) -> None:
        session = self.session(which)
        name = self.request(session, one)
        offset, present = session.waiting.get(name, (0, b""))
        accepted = self.bridge.call(self.replica(on).inbox.put, session.id, name, answer)
        assert accepted == (session.alive and name in session.waiting and present is None)
        if accepted:
            session.waiting[name] = (offset, answer)

    @precondition(lambda self: self.sessions)
    @rule(which=pick, one=pick, on=pick)
    def take(self, which: int, one: int, on: int) -> None:
        session = self.session(which)
        name = self.request(session, one)
        if not session.alive:
            with pytest.raises(SessionGone):
                self.bridge.call(self.replica(on).inbox.take, session.id, name)
            return
        _, answer = session.waiting.get(name, (0, None))
        assert self.bridge.call(self.replica(on).inbox.take, session.id, name) == answer
        if answer is not None:
            del session.waiting[name]

    @precondition(lambda self: self.sessions)
    @rule(which=pick, one=pick, on=pick)
    def withdraw(self, which: int, one: int, on: int) -> None:
        session = self.session(which)
        name = self.request(session, one)
        self.bridge.call(self.replica(on).inbox.withdraw, session.id, name)
        session.waiting.pop(name, None)

    # --- the standalone stream

    @precondition(lambda self: any(session.alive for session in self.sessions))
    @rule(which=pick, on=pick, reader=st.sampled_from(["one", "other"]))
    def claim(self, which: int, on: int, reader: str) -> None:
        choices = [session for session in self.sessions if session.alive]
        session, backend = choices[which % len(choices)], self.replica(on)
        token = f"{reader} on {backend.replica}"  # of one reader, so of one replica
        claim = self.bridge.call(backend.log.claim, session.id, token, after=None)
        me = (backend.replica, token)
        if claim.wait_seconds > 0:
            assert session.holder not in (None, me)
            return
        assert claim.displaced == (None if session.holder == me else session.holder)
        assert claim.start == Position(session.epoch, 0 if session.holder is None else session.top)
        if session.holder is not None:
            self.check_unanswered(session, claim.unanswered)
        session.holder = me

    # --- time and failure

    @precondition(lambda self: self.sessions)
    @rule()
    def time_passes(self) -> None:
        if self.bridge.store.can_fail_over:  # it is simulated: a second costs nothing
            self.bridge.call(self.bridge.store.advance, 1.0)

    @precondition(lambda self: self.bridge.store.can_fail_over and self.lives < REMEMBERED_LIVES)
    @rule(keep=st.integers(0, 30), all_of_it=st.booleans())
    def fail_over(self, keep: int, all_of_it: bool) -> None:
        self.lives += 1
        self.bridge.call(self.bridge.store.fail_over, None if all_of_it else keep)
        for session in self.sessions:
            (there,) = self.bridge.call(self.replica(0).log.renew, [session.id])
            assert (there is not None) == session.alive
            if there is not None:
                assert there.top.epoch not in (session.epoch, *session.lives)
                session.fail_over(session.top if all_of_it else keep, there.top.epoch)
                assert there.top.offset == session.top
            for number, reader in enumerate(session.readers):  # clients come back
                self.read_page(session, reader, number, 3)


def machine_on(new_store: Callable[[], StoreUnderTest]) -> type[EventLogMachine]:
    """The machine for `run_state_machine_as_test`, which makes a new store for each example."""

    class Machine(EventLogMachine):
        def __init__(self) -> None:
            super().__init__(new_store)

    return Machine
