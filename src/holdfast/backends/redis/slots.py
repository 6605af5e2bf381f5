"""Which node of a cluster serves which key: hash slots, and what nodes say about them."""

from binascii import crc_hqx
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

__all__ = ["SLOTS", "Address", "Redirection", "SlotMap", "parse_redirection", "parse_slots", "slot_of"]

SLOTS: Final = 16384
Address: TypeAlias = tuple[str, int]


class SlotMap(NamedTuple):
    """What one node believes about the cluster.

    Attributes:
        healthy: the node takes part in a working cluster.
        epoch: the highest that it has heard of: each failover and each move of a slot raises it.
        masters: of each slot, None where nobody serves it.
        nodes: all of them, replicas too.
    """

    healthy: bool
    epoch: int
    masters: list[Address | None]
    nodes: frozenset[Address]


class Redirection(NamedTuple):
    """MOVED or ASK."""

    once: bool
    slot: int
    address: Address


def slot_of(key: str | bytes) -> int:
    """The slot of a key: that of its hash tag, if it has one."""
    data = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    start = data.find(b"{")
    if start >= 0:
        end = data.find(b"}", start + 1)
        if end > start + 1:
            data = data[start + 1 : end]
    return crc_hqx(data, 0) % SLOTS


def parse_redirection(text: str, asked: Address) -> Redirection:
    """`MOVED 3999 127.0.0.1:6381`; without a host it is the one that was asked."""
    kind, slot, address = text.split(" ", 2)
    host, _, port = address.rpartition(":")
    return Redirection(kind == "ASK", int(slot), (host or asked[0], int(port)))


def parse_slots(slots: Sequence[Any], info: bytes, asked: Address) -> SlotMap:
    """From the replies to CLUSTER SLOTS and CLUSTER INFO of the node at `asked`."""
    masters: list[Address | None] = [None] * SLOTS
    nodes: set[Address] = set()
    for first, last, *serving in slots:
        addresses = [_address(node, asked) for node in serving]
        nodes.update(address for address in addresses if address is not None)
        masters[first : last + 1] = addresses[:1] * (last + 1 - first)
    facts = dict(line.split(b":", 1) for line in info.splitlines() if b":" in line)
    return SlotMap(
        facts.get(b"cluster_state") == b"ok",
        int(facts.get(b"cluster_current_epoch", 0)),
        masters,
        frozenset(nodes),
    )


def _address(node: Sequence[Any], asked: Address) -> Address | None:
    host = node[0].decode() if node[0] else asked[0]
    return None if host == "?" else (host, node[1])
