"""Rosters: sets whose members expire one by one, listed in order. Advisory: in slots of their own."""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from holdfast.backends.redis import scripts
from holdfast.backends.redis.client import Client
from holdfast.backends.redis.keys import Roster

__all__ = ["Rosters"]

_PAGE: Final = 500


class Rosters:
    """The scripts on rosters as functions."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def add(
        self, rosters: Sequence[Roster], member: str, *, ttl_seconds: float, limit: int | None = None
    ) -> bool:
        """Put `member` into all of `rosters` (of one slot) for the TTL.

        False: the first one has `limit` other members; nothing was changed.
        """
        milliseconds = max(1, round(ttl_seconds * 1000))
        args = (member, milliseconds, "" if limit is None else limit)
        return bool(await self._client.run(scripts.ROSTER_ADD, _names(rosters), args, safe=True))

    async def remove(self, rosters: Sequence[Roster], member: str) -> None:
        """Take `member` out of all of `rosters` (of one slot)."""
        await self._client.run(scripts.ROSTER_REMOVE, _names(rosters), (member,), safe=True)

    async def count(self, roster: Roster) -> int:
        """How many members have not run out."""
        count: int = await self._client.run(scripts.ROSTER_COUNT, roster, safe=True)
        return count

    async def pages(self, roster: Roster, *, after: str = "", size: int = _PAGE) -> AsyncIterator[list[str]]:
        """The members in the order of their names, in batches of at most `size`."""
        going: bytes | str | None = after
        while going is not None:
            args = (going, min(size, _PAGE))
            going, members = await self._client.run(scripts.ROSTER_PAGE, roster, args, safe=True)
            if members:
                yield [member.decode() for member in members]


def _names(rosters: Sequence[Roster]) -> list[str]:
    return [name for roster in rosters for name in roster]
