# pyright: reportPrivateUsage=false
"""Broken logs: another life of a log, after a failover or a loss."""

from typing_extensions import override

from holdfast.backends.memory import MemoryData
from holdfast.backends.memory.session_log import SessionLog, _Stream
from holdfast.sessions.types import STANDALONE, Position
from holdfast.testing.conformance import LivesSuite
from tests.mutants.catalogue import must_fail


@must_fail(LivesSuite)
class LossWithoutANewEpoch(SessionLog):
    """After a loss the old positions stay good."""

    @override
    def fail_over(self, keep: int | None) -> int:
        epoch = self._epoch
        surviving = super().fail_over(keep)
        self._epoch = epoch
        return surviving


@must_fail(LivesSuite)
class NewEpochWithoutFences(SessionLog):
    """After a failover without loss every client is told of one."""

    @override
    def fail_over(self, keep: int | None) -> int:
        surviving = super().fail_over(keep)
        self._fences.clear()
        return surviving


@must_fail(LivesSuite)
class FencesIgnoreWhatWasLost(SessionLog):
    """Every position of an earlier life is honoured."""

    @override
    def _present_offset(self, after: Position, stream: _Stream) -> int:
        if after.epoch in dict(self._fences):
            return after.offset
        return super()._present_offset(after, stream)


@must_fail(LivesSuite)
class OldFencesStandStill(SessionLog):
    """What a second failover loses of the first life is not noticed."""

    @override
    def fail_over(self, keep: int | None) -> int:
        before = dict(self._fences)
        surviving = super().fail_over(keep)
        for number, (epoch, top) in enumerate(self._fences):
            self._fences[number] = (epoch, before.get(epoch, top))
        return surviving


@must_fail(LivesSuite)
class KeysOutliveTheirEvents(SessionLog):
    """A writer is told that its lost event is stored."""

    @override
    def fail_over(self, keep: int | None) -> int:
        accepted = self._streams[STANDALONE].accepted.copy()
        surviving = super().fail_over(keep)
        self._streams[STANDALONE].accepted = accepted
        return surviving


@must_fail(LivesSuite)
class FailoverInSilence(MemoryData):
    """Nobody is told to look again."""

    @override
    def fail_over(self, keep: int | None = None) -> None:
        for session in self._sessions.values():
            session.log.fail_over(keep)
