# pyright: reportPrivateUsage=false
"""Broken ways out of a store, and into it."""

from dataclasses import replace

from typing_extensions import override

from holdfast.backends.memory.transfer import MemoryTransfer
from holdfast.sessions.image import SessionImage
from holdfast.sessions.types import STANDALONE, SessionId
from holdfast.testing.conformance import TransferSuite
from tests.mutants.catalogue import must_fail


class _Changed(MemoryTransfer):
    """Restores something else than it was given."""

    @override
    async def restore(self, image: SessionImage, *, over: SessionImage | None = None) -> None:
        await super().restore(self.changed(image), over=over)

    def changed(self, image: SessionImage) -> SessionImage:
        raise NotImplementedError


@must_fail(TransferSuite)
class ForgetsFences(_Changed):
    """Positions of earlier lives are lost."""

    @override
    def changed(self, image: SessionImage) -> SessionImage:
        return replace(image, fences=())


@must_fail(TransferSuite)
class BeginsANewLife(_Changed):
    """The epoch is another one, so every position is refused."""

    @override
    def changed(self, image: SessionImage) -> SessionImage:
        return replace(image, epoch="anew")


@must_fail(TransferSuite)
class ForgetsWhatWasTrimmed(_Changed):
    """A hole is passed over in silence."""

    @override
    def changed(self, image: SessionImage) -> SessionImage:
        return replace(image, streams=[replace(stream, trimmed=0) for stream in image.streams])


@must_fail(TransferSuite)
class ForgetsQuestions(_Changed):
    """Answers to what was asked are refused."""

    @override
    def changed(self, image: SessionImage) -> SessionImage:
        return replace(image, asked=[asked for asked in image.asked if asked.answer is not None])


@must_fail(TransferSuite)
class ForgetsAnswers(_Changed):
    """Answers that nobody took are lost."""

    @override
    def changed(self, image: SessionImage) -> SessionImage:
        return replace(image, asked=[asked for asked in image.asked if asked.answer is None])


@must_fail(TransferSuite)
class ForgetsTheHolder(_Changed):
    """The next reader of the standalone stream counts as the first, and gets everything again."""

    @override
    def changed(self, image: SessionImage) -> SessionImage:
        return replace(image, holder=None)


@must_fail(TransferSuite)
class OpensStreamsAgain(_Changed):
    """A stream that had its last event takes more."""

    @override
    def changed(self, image: SessionImage) -> SessionImage:
        streams = [replace(stream, state=replace(stream.state, running=True)) for stream in image.streams]
        return replace(image, streams=streams)


@must_fail(TransferSuite)
class TurnsRequestIdsIntoText(_Changed):
    """A client that asked as `1` is answered as `"1"`."""

    @override
    def changed(self, image: SessionImage) -> SessionImage:
        return replace(
            image,
            streams=[
                stream
                if stream.name == STANDALONE
                else replace(stream, state=replace(stream.state, request_id=str(stream.state.request_id)))
                for stream in image.streams
            ],
        )


@must_fail(TransferSuite)
class ForgetsSettings(_Changed):
    """The log level is the default again."""

    @override
    def changed(self, image: SessionImage) -> SessionImage:
        return replace(image, settings=replace(image.settings, log_level=None))


@must_fail(TransferSuite)
class ForgetsTheOwner(_Changed):
    """Anybody may use the session."""

    @override
    def changed(self, image: SessionImage) -> SessionImage:
        return replace(image, facts=replace(image.facts, owner=None))


@must_fail(TransferSuite)
class CountsOffsetsAnew(_Changed):
    """The log goes on at the number of its events."""

    @override
    def changed(self, image: SessionImage) -> SessionImage:
        return replace(image, top=len(image.events))


@must_fail(TransferSuite)
class OverwritesWhatIsThere(MemoryTransfer):
    """A session in use is replaced by an older copy."""

    @override
    async def restore(self, image: SessionImage, *, over: SessionImage | None = None) -> None:
        await super().restore(image, over=await self.dump(image.facts.id))


@must_fail(TransferSuite)
class ReplacesNothing(MemoryTransfer):
    """A newer copy does not arrive."""

    @override
    async def restore(self, image: SessionImage, *, over: SessionImage | None = None) -> None:
        if over is None:
            await super().restore(image)


@must_fail(TransferSuite)
class RaisesTheDead(MemoryTransfer):
    """A deleted session comes back."""

    @override
    async def restore(self, image: SessionImage, *, over: SessionImage | None = None) -> None:
        self._data._tombstones.pop(image.facts.id, None)
        await super().restore(image, over=over)


@must_fail(TransferSuite)
class KeepsAlive(MemoryTransfer):
    """Who looks at a session keeps it from ending."""

    @override
    async def dump(self, session: SessionId) -> SessionImage | None:
        if found := self._data.get(session):
            self._data.touch(found)
        return await super().dump(session)
