# pyright: reportPrivateUsage=false
"""Broken inboxes."""

from typing_extensions import override

from holdfast.backends.memory.data import Waiting
from holdfast.backends.memory.event_log import MemoryEventLog
from holdfast.backends.memory.inbox import MemoryInbox
from holdfast.errors import StreamError
from holdfast.sessions.types import AppendKey, Event, SessionId, StreamId
from holdfast.testing.conformance import InboxSuite
from tests.mutants.catalogue import must_fail


@must_fail(InboxSuite)
class AcceptedTwice(MemoryInbox):
    """A second answer replaces the first."""

    @override
    async def put(self, session: SessionId, request_id: str, answer: bytes) -> bool:
        found = self._data.get(session)
        if found is not None and request_id in found.waiting:
            found.waiting[request_id].answer = None
        return await super().put(session, request_id, answer)


@must_fail(InboxSuite)
class AcceptedAfterTaken(MemoryInbox):
    """Taking an answer makes room for another one."""

    @override
    async def take(self, session: SessionId, request_id: str) -> bytes | None:
        answer = await super().take(session, request_id)
        if answer is not None:
            await self.expect(session, request_id)
        return answer


@must_fail(InboxSuite)
class AcceptedUnasked(MemoryInbox):
    """An answer that nobody waits for is stored."""

    @override
    async def put(self, session: SessionId, request_id: str, answer: bytes) -> bool:
        found = self._data.get(session)
        if found is not None:
            found.waiting.setdefault(request_id, Waiting(self._replica))
        return await super().put(session, request_id, answer)


@must_fail(InboxSuite)
class AcceptedFromAnySession(MemoryInbox):
    """Only the id of the request is looked at."""

    @override
    async def put(self, session: SessionId, request_id: str, answer: bytes) -> bool:
        for other in [session, *self._data._sessions]:
            if await super().put(other, request_id, answer):
                return True
        return False


@must_fail(InboxSuite)
class TakingLeavesIt(MemoryInbox):
    """The same answer can be taken again."""

    @override
    async def take(self, session: SessionId, request_id: str) -> bytes | None:
        waiting = self._data.live(session).waiting.get(request_id)
        return None if waiting is None else waiting.answer


@must_fail(InboxSuite)
class LostUnlessListening(MemoryInbox):
    """An answer is kept only if somebody listens at that moment."""

    @override
    async def put(self, session: SessionId, request_id: str, answer: bytes) -> bool:
        accepted = await super().put(session, request_id, answer)
        if not self._data.answer_listeners.all() and accepted:
            self._data.live(session).waiting.pop(request_id)
        return accepted


@must_fail(InboxSuite)
class ThePosterIsTold(MemoryInbox):
    """The replica that got the answer is told, not the one that waits."""

    @override
    async def put(self, session: SessionId, request_id: str, answer: bytes) -> bool:
        found = self._data.get(session)
        if found is not None and request_id in found.waiting:
            found.waiting[request_id].replica = self._replica
        return await super().put(session, request_id, answer)


@must_fail(InboxSuite)
class NobodyIsTold(MemoryInbox):
    """The waiter has to look by itself."""

    @override
    async def put(self, session: SessionId, request_id: str, answer: bytes) -> bool:
        found = self._data.get(session)
        waiting = found.waiting.get(request_id) if found is not None else None
        if waiting is None or waiting.answer is not None:
            return False
        waiting.answer = answer
        return True


@must_fail(InboxSuite)
class WithdrawingDoesNothing(MemoryInbox):
    """Nobody waits, and still an answer is accepted."""

    @override
    async def withdraw(self, session: SessionId, request_id: str) -> None:
        return


@must_fail(InboxSuite)
class WithdrawingWantsASession(MemoryInbox):
    """Withdrawing after the session ended is an error."""

    @override
    async def withdraw(self, session: SessionId, request_id: str) -> None:
        self._data.live(session)
        await super().withdraw(session, request_id)


@must_fail(InboxSuite)
class GoneLooksEmpty(MemoryInbox):
    """A waiter is never told that its session is gone."""

    @override
    async def take(self, session: SessionId, request_id: str) -> bytes | None:
        return None if self._data.get(session) is None else await super().take(session, request_id)


@must_fail(InboxSuite)
class AnswersTrimmed(MemoryInbox):
    """White space at the ends of an answer is lost."""

    @override
    async def put(self, session: SessionId, request_id: str, answer: bytes) -> bool:
        return await super().put(session, request_id, answer.strip())


class _ExpectsBadly(MemoryEventLog):
    async def _expect(self, session: SessionId, request_id: str) -> None:
        self._data.live(session).waiting[request_id] = Waiting(self._replica)


@must_fail(InboxSuite)
class ExpectedInSpiteOfRefusal(_ExpectsBadly):
    """A request that the log refused can be answered."""

    @override
    async def append(
        self,
        session: SessionId,
        stream: StreamId,
        payload: bytes,
        *,
        key: AppendKey | None = None,
        final: bool = False,
        expects: str | None = None,
    ) -> Event:
        try:
            return await super().append(session, stream, payload, key=key, final=final, expects=expects)
        except StreamError:
            if expects is not None:
                await self._expect(session, expects)
            raise


@must_fail(InboxSuite)
class ExpectedAgain(_ExpectsBadly):
    """Repeating the append makes an answered request wait again."""

    @override
    async def append(
        self,
        session: SessionId,
        stream: StreamId,
        payload: bytes,
        *,
        key: AppendKey | None = None,
        final: bool = False,
        expects: str | None = None,
    ) -> Event:
        event = await super().append(session, stream, payload, key=key, final=final, expects=expects)
        if expects is not None:
            await self._expect(session, expects)
        return event


@must_fail(InboxSuite)
class ExpectedLater(MemoryEventLog):
    """The event is in the log before its answer is expected."""

    @override
    async def append(
        self,
        session: SessionId,
        stream: StreamId,
        payload: bytes,
        *,
        key: AppendKey | None = None,
        final: bool = False,
        expects: str | None = None,
    ) -> Event:
        return await super().append(session, stream, payload, key=key, final=final)


@must_fail(InboxSuite)
class AnsweredAfterTheEnd(MemoryEventLog):
    """What was asked on a stream may be answered when it has ended."""

    @override
    async def append(
        self,
        session: SessionId,
        stream: StreamId,
        payload: bytes,
        *,
        key: AppendKey | None = None,
        final: bool = False,
        expects: str | None = None,
    ) -> Event:
        waiting = dict(self._data.live(session).waiting)
        event = await super().append(session, stream, payload, key=key, final=final, expects=expects)
        if final:
            self._data.live(session).waiting = waiting
        return event
