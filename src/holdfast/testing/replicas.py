"""Several replicas of a server in one process, on one store, behind a balancer that scatters requests.

    async with replicas(make_app, count=3) as fleet:
        async with fleet.client() as client:                 # every request goes to the next replica
            await client.post("/mcp", json=...)
        async with fleet.client(replica=1) as client: ...    # all requests go to one
        await fleet.kill(0)                                  # without a goodbye

Requests go straight into the applications, on asyncio or on trio; with `sockets=True` they go through real
uvicorn servers behind a `RoundRobinProxy`, on asyncio. Needs the extra `mcp`, and uvicorn for sockets.
"""

import itertools
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import anyio
import httpx2
import uvicorn
from anyio.abc import TaskGroup, TaskStatus
from starlette.applications import Starlette

from holdfast.backends import open_store
from holdfast.backends.memory import MemoryBackend, MemoryData
from holdfast.integrations.mcp_sdk.app import Attached, attach
from holdfast.sessions.protocols import Backend
from holdfast.testing.asgi_bridge import AsgiApp, Bridge, Message, Receive, Send, Start, lifespan
from holdfast.testing.faults import FaultyBackend
from holdfast.testing.round_robin import RoundRobinProxy

__all__ = ["Fleet", "FleetReplica", "Served", "replicas"]

_PATIENCE_SECONDS: Final = 10.0
_GRACE_SECONDS: Final = 1.0
_BRIDGE_URL: Final = "http://localhost:8000"


@dataclass(slots=True)
class Served:
    """One HTTP request. `status` is None until it is answered."""

    method: str
    path: str
    replica: int
    status: int | None = None


class FleetReplica:
    """One replica: an application, attached to the store, running.

    Attributes:
        number: its place in the fleet.
        app: the application that the factory made.
        attached: what `attach` returned.
        store: its view of the store, which can be made to fail.
        url: where its own server listens; empty without sockets.
        alive: it takes requests.
        open_requests: how many it has not answered to the end.
    """

    def __init__(self, number: int, app: Starlette, store: FaultyBackend, options: dict[str, Any]) -> None:
        self.number = number
        self.app = app
        self.store = store
        self.attached: Attached = attach(app, store=store, handle_signals=False, **options)
        self.url = ""
        self.alive = False
        self._log: list[Served] = []
        self._state: dict[str, Any] = {}
        self._scope = anyio.CancelScope()
        self._stop = anyio.Event()
        self._ended = anyio.Event()
        self._requests: TaskGroup | None = None
        self.open_requests = 0
        self._idle = anyio.Event()

    async def run(
        self, log: list[Served], *, sockets: bool, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until stopped or killed."""
        self._log = log
        try:
            with self._scope:
                async with AsyncExitStack() as stack:
                    self._requests = await stack.enter_async_context(anyio.create_task_group())
                    stack.callback(self._requests.cancel_scope.cancel)
                    if sockets:
                        self.url = await stack.enter_async_context(_listening(self))
                    stack.push_async_callback(self._finish_requests)
                    self._state = await stack.enter_async_context(lifespan(self.app))
                    self.alive = True
                    task_status.started()
                    await self._stop.wait()
                    self.alive = False
        finally:
            self.alive = False
            self._ended.set()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one HTTP request, and note it."""
        served = Served(scope["method"], scope["path"], self.number)
        self._log.append(served)

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                served.status = message["status"]
            await send(message)

        self.open_requests += 1
        try:
            await self.app({**scope, "state": dict(self._state)}, receive, send_noted)
        finally:
            self.open_requests -= 1
            if not self.open_requests:
                self._idle.set()

    async def _finish_requests(self) -> None:
        """The application has ended: what it answered last still goes out."""
        with anyio.move_on_after(_GRACE_SECONDS):
            while self.open_requests:
                self._idle = anyio.Event()
                await self._idle.wait()

    def start(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a request's task for as long as this replica lives."""
        assert self._requests is not None
        self._requests.start_soon(task)

    async def stop(self) -> None:
        """End as a server does that is asked to."""
        self._stop.set()
        await self._ended.wait()

    async def kill(self) -> None:
        """End as a process does that is killed: nothing of what it would still do reaches the store."""
        self.alive = False
        self.store.fail()
        self._scope.cancel()
        await self._ended.wait()


class Fleet:
    """The replicas, and the ways to talk to them.

    Attributes:
        replicas: all of them, dead ones included.
        log: every HTTP request in the order of arrival.
        url: what a client connects to for the next replica with each request, without a path.
    """

    def __init__(
        self,
        make_app: Callable[[int], Starlette],
        make_store: Callable[[], Backend],
        tasks: TaskGroup,
        options: dict[str, Any],
        proxy: RoundRobinProxy | None,
    ) -> None:
        self.replicas: list[FleetReplica] = []
        self.log: list[Served] = []
        self._make_app = make_app
        self._make_store = make_store
        self._tasks = tasks
        self._options = options
        self._proxy = proxy
        self._turns = itertools.count()

    @property
    def url(self) -> str:
        """Where the balancer is."""
        return _BRIDGE_URL if self._proxy is None else self._proxy.url

    def client(self, *, replica: int | None = None, **options: Any) -> httpx2.AsyncClient:
        """A client of one replica, or of the next one with each request. Enter it.

        A request may choose for itself with `extensions={"replica": 1}`, without sockets.

        Args:
            replica: the number of the replica.
            options: of `httpx2.AsyncClient`, such as `headers`.
        """
        options.setdefault("timeout", httpx2.Timeout(_PATIENCE_SECONDS, read=60))
        if self._proxy is None:
            bridge = Bridge(lambda request: self._choose(request.extensions.get("replica", replica)))
            return httpx2.AsyncClient(base_url=_BRIDGE_URL, transport=bridge, **options)
        url = self._proxy.url if replica is None else self.replicas[replica].url
        return httpx2.AsyncClient(base_url=url, **options)

    async def add(self) -> FleetReplica:
        """Start one more replica."""
        number = len(self.replicas)
        app, store = self._make_app(number), FaultyBackend(self._make_store())
        replica = FleetReplica(number, app, store, self._options)
        await self._tasks.start(partial(replica.run, self.log, sockets=self._proxy is not None))
        self.replicas.append(replica)
        if self._proxy is not None:
            self._proxy.add(*_address(replica.url))
        return replica

    async def stop(self, number: int) -> None:
        """End one replica as a server does that is asked to."""
        self._forget(number)
        with anyio.fail_after(_PATIENCE_SECONDS):
            await self.replicas[number].stop()

    async def kill(self, number: int) -> None:
        """End one replica as a process does that is killed.

        It counts as living until its heartbeat runs out.
        """
        self._forget(number)
        with anyio.fail_after(_PATIENCE_SECONDS):
            await self.replicas[number].kill()

    def _forget(self, number: int) -> None:
        if self._proxy is not None and self.replicas[number].alive:
            self._proxy.remove(*_address(self.replicas[number].url))

    def _choose(self, number: int | None) -> tuple[AsgiApp, Start]:
        living = [replica for replica in self.replicas if replica.alive]
        if number is not None:
            living = [replica for replica in living if replica.number == number]
        if not living:
            raise httpx2.ConnectError("no living replica")
        chosen = living[0] if number is not None else living[next(self._turns) % len(living)]
        return chosen, chosen.start


@asynccontextmanager
async def replicas(
    make_app: Callable[[int], Starlette],
    *,
    count: int = 3,
    store: str | Callable[[], Backend] | None = None,
    sockets: bool = False,
    **options: Any,
) -> AsyncGenerator[Fleet, None]:
    """Run several replicas of a server on one store.

    Args:
        make_app: makes the application of the replica with this number, not attached and not started.
        count: how many replicas.
        store: a URL, or what makes one more backend on the store. None: a new store in memory.
        sockets: serve with uvicorn behind a `RoundRobinProxy` (asyncio only).
        options: of `attach`.
    """
    data = MemoryData()

    def make_store() -> Backend:
        if store is None:
            return MemoryBackend(data)
        return open_store(store, serving=True) if isinstance(store, str) else store()

    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(RoundRobinProxy([])) if sockets else None
        tasks = await stack.enter_async_context(anyio.create_task_group())
        fleet = Fleet(make_app, make_store, tasks, options, proxy)
        for _ in range(count):
            await fleet.add()
        try:
            yield fleet
        finally:
            with anyio.move_on_after(_PATIENCE_SECONDS, shield=True):
                for replica in fleet.replicas:
                    await replica.stop()
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def _listening(app: AsgiApp) -> AsyncGenerator[str, None]:
    """Serve an application on a free port with uvicorn's protocol, without its main loop and its signals."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, access_log=False)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    await server.on_tick(0)  # sets the headers that every answer has
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for each in server.servers:
            each.close()
        for connection in list(server.server_state.connections):
            transport: Any = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        for task in list(server.server_state.tasks):
            task.cancel()


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)
