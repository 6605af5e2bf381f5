"""Each method of a backend once: for tests about where it runs and what it may."""

from __future__ import annotations

from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import AppendKey
from holdfast.testing.conformance.harness import Heard, new_facts, new_stream, read_all, start_of


async def everything(a: Backend, b: Backend) -> None:
    """Use each method once."""
    facts = new_facts(owner="alice")
    session = facts.id
    await a.sessions.open(facts, limit=10)
    assert await b.sessions.find(session, owner="alice", with_facts=True)
    await b.sessions.configure(session, log_level="info")
    await a.sessions.refresh([facts])
    assert await b.sessions.count() == 1
    assert list(await b.sessions.list(owner="alice")) == [session]
    woken, arrived, heard = Heard(), Heard(), Heard()
    async with b.log.watch(session, woken), a.inbox.listen(arrived), b.bus.subscribe("topic", heard):
        stream = await new_stream(a, session)
        await a.log.append(session, stream, b"?", key=AppendKey("w", 1), expects="q")
        await woken.once()
        assert await b.inbox.put(session, "q", b"!")
        await arrived.told(session, "q")
        assert await a.inbox.take(session, "q") == b"!"
        await a.inbox.expect(session, "r")
        await a.inbox.withdraw(session, "r")
        await a.log.append(session, stream, b".", final=True)
        assert len(await read_all(b, session, stream, after=await start_of(a, session))) == 2
        await a.bus.publish("topic", b"hello")
        await heard.told(b"hello")
        assert (await a.log.claim(session, "reader", after=None)).wait_seconds == 0
        await a.log.renew([session])
    await a.subscriptions.add(session, "r:1", ttl_seconds=60)
    await a.subscriptions.refresh(session, ttl_seconds=60)
    assert [list(page) async for page in b.subscriptions.sessions("r:1")] == [[session]]
    assert list(await b.subscriptions.uris(session)) == ["r:1"]
    await a.subscriptions.remove(session, "r:1")
    await a.subscriptions.drop(session)
    await a.replicas.beat(6)
    assert await b.replicas.alive(a.replica)
    await a.replicas.retire()
    assert await b.sessions.close(session)
