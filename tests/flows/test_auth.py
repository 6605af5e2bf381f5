"""Two principals cannot touch each other's sessions; who may come in is still the application's affair."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import anyio
import pytest
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from mcp.server.auth.provider import AccessToken

from tests.flows.apps import Framework, Stage
from tests.flows.conftest import Start
from tests.flows.wire import Wire, call, said

ACCEPTED = {"action": "accept", "content": {"name": "bob"}}
TOKENS: dict[str, dict[str, Any]] = {
    "alice-1": {"client_id": "app", "sub": "alice", "scopes": []},
    "alice-2": {"client_id": "app", "sub": "alice", "scopes": []},
    "bob": {"client_id": "app", "sub": "bob", "scopes": []},
    "robot": {"client_id": "robot", "scopes": []},
}


class Verifier:
    """The same tokens for the SDK."""

    async def verify_token(self, token: str) -> AccessToken | None:
        known = TOKENS.get(token)
        if known is None:
            return None
        return AccessToken(token=token, client_id=known["client_id"], scopes=[], subject=known.get("sub"))


class Signed(Protocol):
    """Start a fleet that wants tokens: `async with signed() as (alice, bob)`."""

    def __call__(self, **options: Any) -> AbstractAsyncContextManager[tuple[Wire, Wire]]: ...


@pytest.fixture
def signed(start: Start, framework: Framework) -> Signed:
    """A session of Alice's, and Bob who has seen its id."""

    @asynccontextmanager
    async def connected(**options: Any) -> AsyncGenerator[tuple[Wire, Wire], None]:
        verifier = Verifier() if framework == "sdk" else StaticTokenVerifier(TOKENS)
        async with start(framework, verifier=verifier, **options) as fleet, fleet.client() as client:
            alice = Wire(fleet, client, token="alice-1")
            bob = Wire(fleet, client, token="bob")
            await alice.initialize(on=0)
            bob.session = alice.session
            yield alice, bob

    return connected


async def test_the_owner_is_served_on_every_replica(signed: Signed) -> None:
    async with signed() as (alice, _):
        assert [await alice.do("echo", "x", on=n) for n in (0, 1, 2)] == ["0:x", "1:x", "2:x"]


async def test_a_renewed_token_of_the_same_principal_is_the_same_owner(signed: Signed) -> None:
    async with signed() as (alice, _):
        alice.token = "alice-2"
        assert await alice.do("echo", "x", on=1) == "1:x"


@pytest.mark.parametrize("thief", ["bob", "robot"])
async def test_another_principal_gets_what_an_unknown_session_gets(signed: Signed, thief: str) -> None:
    async with signed() as (alice, other):
        other.token = thief
        unknown = Wire(alice.fleet, alice.client, token=thief)
        unknown.session = "0" * 48
        for n in (0, 1, 2):
            for method, message in (("POST", call("echo", id=1)), ("GET", None), ("DELETE", None)):
                answers: list[tuple[int, bytes]] = []
                for each in (other, unknown):
                    response = await each.post(message, on=n) if message else await each.send(method, on=n)
                    answers.append((response.status_code, response.content))
                assert answers[0] == answers[1]
                assert answers[0][0] == 404
        assert await alice.do("echo", "x", on=2) == "2:x"


async def test_another_principal_cannot_answer_a_question(signed: Signed) -> None:
    async with signed() as (alice, bob), alice.calling("elicit", "name?", on=0) as stream:
        question = await stream.method("elicitation/create")
        evil = {"action": "accept", "content": {"name": "mallory"}}
        assert await bob.answer(question, evil, on=1) == 404
        bob.session = None
        await bob.initialize(on=1)
        assert await bob.answer(question, evil, on=1) == 202  # in a session of his own: nobody waits for it
        assert await alice.answer(question, ACCEPTED, on=2) == 202
        assert said(await stream.result()) == "0:accept:bob"


async def test_another_principal_cannot_cancel(signed: Signed, stage: Stage) -> None:
    async with signed() as (alice, bob), alice.calling("wait", on=0, id="mine") as stream:
        await stage.until("running")
        for n in (0, 1, 2):
            told = await bob.notify("notifications/cancelled", {"requestId": "mine"}, on=n)
            assert told.status_code == 404
        stage.mark("go")
        assert said(await stream.result()) == "0:waited"


async def test_another_principal_can_neither_read_nor_take_over_a_stream(signed: Signed) -> None:
    async with signed() as (alice, bob), alice.open(on=1) as standalone:
        async with alice.calling("count", "2", on=0) as stream:
            await stream.rest()
        await standalone.next()
        for event_id in (stream.last_id, standalone.last_id):
            assert (await bob.send("GET", on=2, last_event_id=event_id)).status_code == 404
        own = Wire(bob.fleet, bob.client, token="bob")
        await own.initialize()
        for event_id in (stream.last_id, standalone.last_id):
            assert (await own.send("GET", on=2, last_event_id=event_id)).status_code == 400
        await alice.do("announce", on=0)
        await standalone.method("notifications/tools/list_changed")


async def test_another_principal_does_not_keep_a_session_alive(signed: Signed) -> None:
    async with signed(ttl_seconds=0.6) as (alice, bob):
        replica = alice.fleet.replicas[1].attached.replica
        assert replica is not None
        with anyio.fail_after(10):
            while alice.session in await replica.backend.sessions.list():
                assert await bob.delete(on=1) == 404
                await anyio.sleep(0.05)
        assert await alice.delete(on=1) == 404


async def test_without_a_token_the_applications_own_middleware_answers(signed: Signed) -> None:
    async with signed() as (alice, _):
        for token in (None, "unknown"):
            stranger = Wire(alice.fleet, alice.client, token=token)
            stranger.session = alice.session
            for method in ("POST", "GET", "DELETE"):
                response = await stranger.send(method, b"{}", on=1)
                assert response.status_code == 401
                assert response.headers["www-authenticate"].startswith("Bearer")


async def test_a_session_opened_without_authentication_belongs_to_nobody_with_a_token(
    start: Start, framework: Framework
) -> None:
    """The same store behind an application with authentication and one without: they share nothing."""
    verifier = Verifier() if framework == "sdk" else StaticTokenVerifier(TOKENS)
    async with start(framework, verifier=verifier, count=1) as fleet, fleet.client() as client:
        alice = Wire(fleet, client, token="alice-1")
        await alice.initialize()
        replica = fleet.replicas[0].attached.replica
        assert replica is not None
        from holdfast.errors import SessionGone  # noqa: PLC0415

        assert alice.session is not None
        with pytest.raises(SessionGone):
            await replica.registry.find(alice.session, None)
