"""Notifying clients from anywhere: a cron job, a worker process, another handler."""

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Self, Unpack

from holdfast.asgi.jsonrpc import encode_notification
from holdfast.backends import backend_of
from holdfast.errors import SessionGone
from holdfast.observe import Observer, contained
from holdfast.sessions.broadcasts import Broadcasts
from holdfast.sessions.hub import Hub
from holdfast.sessions.protocols import Backend
from holdfast.sessions.registry import check_session_id
from holdfast.sessions.relay import Relay
from holdfast.settings import StoreOptions

__all__ = ["Publisher"]


class Publisher:
    """Sends notifications to clients of the handshake era, whichever replica they are connected to, if any.

        async with holdfast.Publisher("redis://…") as publisher:
            await publisher.tools_changed()                                  # everybody
            await publisher.resource_updated("file:///a")                    # who subscribed to it
            await publisher.notify([session_id], "notifications/x", {"a": 1})  # some sessions

    It serves nobody itself, and takes no part in the fleet. Every message is stored before its method
    returns; a client that is away gets it when it comes back.
    """

    def __init__(
        self,
        store: str | Backend | None = None,
        *,
        observer: Observer | None = None,
        **options: Unpack[StoreOptions],
    ) -> None:
        """Publish through `store`: a URL (with options of `holdfast.open_store`), or a backend.

        Default: as for `holdfast.attach`.
        """
        self._backend = backend_of(store, **options)
        hub = Hub(contained(observer))
        self._relay = Relay(self._backend, hub, contained(observer))
        self._broadcasts = Broadcasts(self._backend.broadcasts, hub, self._backend.replica)
        self._entered = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            StoreError: the store cannot be reached, or refuses.
        """
        await self._entered.enter_async_context(self._backend)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close what was opened."""
        await self._entered.aclose()

    async def notify(
        self, session_ids: Iterable[str] | None, method: str, params: Mapping[str, Any] | None = None
    ) -> None:
        """Send a notification to some sessions, or (None) to all. An empty list is nobody.

        To all is one append and one announcement, however many sessions there are. Sessions that are gone
        are passed over.

        Raises:
            StoreError: the store failed; those before it have been notified.
        """
        payload = encode_notification(method, params)
        if session_ids is None:
            await self._broadcasts.send(payload)
            return
        for session_id in dict.fromkeys(session_ids):
            try:
                await self._relay.send_standalone(check_session_id(session_id), payload)
            except (SessionGone, ValueError):
                continue

    async def resource_updated(self, uri: str) -> int:
        """Tell all who subscribed to a resource that it changed; how many those were.

        Raises:
            StoreError: the store failed; some may have been told.
        """
        payload = encode_notification("notifications/resources/updated", {"uri": uri})
        return await self._relay.send_to_subscribers(uri, payload)

    async def tools_changed(self) -> None:
        """Tell everybody that the list of tools changed."""
        await self.notify(None, "notifications/tools/list_changed")

    async def prompts_changed(self) -> None:
        """Tell everybody that the list of prompts changed."""
        await self.notify(None, "notifications/prompts/list_changed")

    async def resources_changed(self) -> None:
        """Tell everybody that the list of resources changed."""
        await self.notify(None, "notifications/resources/list_changed")
