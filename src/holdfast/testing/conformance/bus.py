# ruff: noqa: D102 - a test is named by a sentence
"""`Bus`: fire and forget."""

import pytest

from holdfast.testing.conformance.harness import PAYLOADS, Heard, StoreUnderTest

__all__ = ["BusSuite"]


class BusSuite:
    """What is published reaches every present subscriber."""

    pytestmark = pytest.mark.anyio

    async def test_every_subscriber_hears_it_the_publisher_included(self, store: StoreUnderTest) -> None:
        async with store.replicas(3) as (a, b, c):
            heard = [Heard() for _ in range(4)]
            async with (
                a.bus.subscribe("topic", heard[0]),
                b.bus.subscribe("topic", heard[1]),
                b.bus.subscribe("topic", heard[2]),
                c.bus.subscribe("topic", heard[3]),
            ):
                await a.bus.publish("topic", b"hello")
                for subscriber in heard:
                    await subscriber.told(b"hello")

    async def test_whoever_has_subscribed_hears_the_next_message(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            for _ in range(10):
                heard = Heard()
                async with b.bus.subscribe("topic", heard):
                    await a.bus.publish("topic", b"hello")
                    await heard.once()

    async def test_messages_of_one_publisher_keep_their_order(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            heard = Heard()
            async with b.bus.subscribe("in order", heard):
                for number in range(20):
                    await a.bus.publish("in order", b"%d" % number)
                await heard.told(b"19")
            numbers = [int(call[0]) for call in heard.calls]
            assert sorted(set(numbers)) == list(range(20))
            assert sorted(numbers) == numbers

    async def test_topics_do_not_mix(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            heard = Heard()
            async with b.bus.subscribe("topic", heard):
                for other in ("topi", "topic2", "topic*", "*", "TOPIC", "", "{topic}", "é\0"):
                    await a.bus.publish(other, b"noise")
                await a.bus.publish("topic", b"hello")
                await heard.told(b"hello")
            assert set(heard.calls) == {(b"hello",)}

    async def test_a_topic_may_be_any_text(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            for topic in ("close|s-1", "*", "t?[a]", "{t}", "é漢🦊", "a b\n", "x" * 300):
                heard, literal = Heard(), Heard()
                async with b.bus.subscribe(topic, heard), b.bus.subscribe("other", literal):
                    await a.bus.publish(topic, topic.encode())
                    await heard.told(topic.encode())
                    assert literal.calls == []

    async def test_whoever_has_left_hears_nothing_and_the_others_do(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            left, stayed = Heard(), Heard()
            async with b.bus.subscribe("topic", stayed):
                async with b.bus.subscribe("topic", left):
                    pass
                await a.bus.publish("topic", b"hello")
                await stayed.once()
            assert left.calls == []

    async def test_publishing_to_nobody_is_no_error(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            await a.bus.publish("topic", b"hello")

    async def test_messages_arrive_to_the_byte(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            heard = Heard()
            async with b.bus.subscribe("topic", heard):
                for message in PAYLOADS:
                    await a.bus.publish("topic", message)
                    await heard.told(message)
