"""The one door to the store: every command of the backend goes through `Client.run` or `Client.command`.

They take the keys apart from the arguments: the first one says which server it is for. The incarnation is
filled in when a command is sent, so that a repetition on another master carries that master's.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis

from holdfast.backends.redis.connection import Argument, ConnectionLost
from holdfast.backends.redis.link import Link, error_code, is_passing
from holdfast.backends.redis.options import RedisOptions
from holdfast.backends.redis.scripts import Script
from holdfast.backends.redis.topology import Topology
from holdfast.errors import StoreRefused, StoreUnavailable

__all__ = ["Client"]

_PASSING_PAUSE_SECONDS = 0.05
_REDIRECTIONS = frozenset({"ASK", "MOVED"})


class Client:
    """Commands of all tasks of a process, on one connection to each server.

    A command that was under way when the connection broke is repeated only if its caller said that this is
    safe. Cancelling a caller does not recall its command; it may or may not be carried out.
    """

    def __init__(self, topology: Topology, options: RedisOptions) -> None:
        self._topology = topology
        self._options = options

    async def open(self) -> None:
        """Connect; raises `StoreUnavailable` or `StoreRefused`."""
        await self._topology.open()

    async def close(self) -> None:
        """Hang up. Commands under way fail with `StoreUnavailable`."""
        await self._topology.close()

    async def run(
        self, script: Script, keys: Sequence[str | bytes], args: Sequence[Argument] = (), *, safe: bool
    ) -> Any:
        """Run a script and return its reply.

        Args:
            script: what to run.
            keys: all keys that it touches, in one slot.
            args: `ARGV[2]` and on; `ARGV[1]` is the master's incarnation.
            safe: it may be carried out twice.

        Raises:
            StoreUnavailable: not carried out in time, or the outcome is unknown.
            StoreRefused: the server will not do it.
        """
        began = asyncio.get_running_loop().time()
        link = self._topology.link(keys[0])
        if link is None or not link.connection.has_room:
            return await self._persist(None, None, script, keys, args, safe=safe, began=began)
        reply = await link.run(script, keys, args)
        if isinstance(reply, Exception):
            return await self._persist(link, reply, script, keys, args, safe=safe, began=began)
        return reply

    async def command(self, name: str, key: str | bytes, *args: Argument, safe: bool) -> Any:
        """Send a plain command whose first argument is a key. Otherwise as `run`."""
        began = asyncio.get_running_loop().time()
        return await self._persist(None, None, name, (key,), args, safe=safe, began=began)

    def post(self, script: Script | str, keys: Sequence[str | bytes], args: Sequence[Argument] = ()) -> None:
        """Send something whose loss harms nobody, and do not wait for it."""
        link = self._topology.link(keys[0])
        if link is not None and link.connection.has_room:
            _ = _send(link, script, keys, args)

    async def _persist(
        self,
        link: Link | None,
        reply: Any,
        what: Script | str,
        keys: Sequence[str | bytes],
        args: Sequence[Argument],
        *,
        safe: bool,
        began: float,
    ) -> Any:
        """Go on after `reply` came from `link`, or begin if there is none yet."""
        loop = asyncio.get_running_loop()
        deadline = began + self._options.retry_seconds
        pause = 0.0
        while True:
            aside = None
            if link is not None:
                aside = await self._consider(
                    link, reply, what, safe=safe, left=deadline - loop.time(), pause=pause
                )
                pause = _PASSING_PAUSE_SECONDS
            if aside is not None:
                link = aside
                link.connection.post(
                    "ASKING"
                )  # the next command may be about a slot that is still on its way
            else:
                wait = self._options.connect_wait if link is None else max(deadline - loop.time(), 0.0)
                link = await self._topology.ready(keys[0], wait)
            reply = await _send(link, what, keys, args)
            if not isinstance(reply, Exception):
                return reply

    async def _consider(
        self, link: Link, error: Exception, what: Script | str, *, safe: bool, left: float, pause: float
    ) -> Link | None:
        """Return if the command may be sent again: to that link, else to the server of its key.

        Raises:
            StoreError: what has become of it, if not.
        """
        name = what.name if isinstance(what, Script) else what
        code = error_code(error)
        if isinstance(error, ConnectionLost):
            if not safe:
                raise StoreUnavailable(
                    f"outcome unknown: lost the connection during {name} ({error})"
                ) from error
        elif not isinstance(error, hiredis.ReplyError):
            raise error
        elif code == "NOSCRIPT" and isinstance(what, Script):
            loaded = await link.load(what)  # it was not carried out: always safe
            if isinstance(loaded, hiredis.ReplyError) and not is_passing(loaded):
                raise StoreRefused(f"the store refused SCRIPT LOAD {name}: {loaded}") from error
        elif code not in _REDIRECTIONS and not is_passing(error):
            if code == "NOAUTH":
                link.connection.abort("the server has forgotten who we are")
            raise StoreRefused(f"the store refused {name}: {error}") from error
        if left <= 0:
            raise StoreUnavailable(f"gave up on {name}: {error}") from error
        return await self._after(link, error, code, left=left, pause=pause)

    async def _after(
        self, link: Link, error: Exception, code: str, *, left: float, pause: float
    ) -> Link | None:
        """Do what has to be done before the command is sent again."""
        if code in _REDIRECTIONS:
            await asyncio.sleep(pause)  # the first one is followed at once; then two nodes may disagree
            return await self._topology.redirected(error, left)
        if code != "NOSCRIPT":
            self._topology.doubt()
        if is_passing(error):
            if code == "READONLY":
                link.connection.abort("the server is no longer the master")
            await asyncio.sleep(_PASSING_PAUSE_SECONDS)
        return None


def _send(
    link: Link, what: Script | str, keys: Sequence[str | bytes], args: Sequence[Argument]
) -> "asyncio.Future[Any]":
    if isinstance(what, Script):
        return link.run(what, keys, args)
    return link.connection.send(what, *keys, *args)
