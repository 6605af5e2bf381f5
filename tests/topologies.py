"""Real Sentinel and Cluster set-ups for tests, on free ports of this machine.

    with start_sentinels("valkey") as setup:       # 3 sentinels, a master, a replica
        setup.url
        setup.master().kill()                      # the sentinels promote the replica
        setup.heal()                               # everybody is up again, and in step

    with start_cluster("redis") as setup:          # 3 masters, 3 replicas
        setup.url
        setup.owner("some-key").kill()
        setup.move_slot(slot, to=server)

Most tests want the fixtures in conftest.py instead (`sentinels`, `cluster`).
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, cast

import hiredis
from typing_extensions import override

from tests.certificates import Certificates, make_certificates
from tests.servers import Flavour, RunningServer, assert_every_key_expires, free_port

SERVICE = "main"
PATIENCE_SECONDS = 30.0
SLOTS = 16384
_FAST_REPLICATION = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")


class RunningSentinel(RunningServer):
    """A server in Sentinel mode: it needs a file that it can write to."""

    ready: ClassVar[bytes] = b"\nsentinel_masters:"

    @override
    def start(self) -> None:
        super().start()
        # Not PING-PERIOD: a replica that was not heard of for five of them is not promoted.
        self.cli("SENTINEL", "DEBUG", "PUBLISH-PERIOD", 200, "INFO-PERIOD", 500)

    @override
    def _options(self) -> list[str]:
        file = self.directory / "sentinel.conf"
        if not file.exists():
            lines = ["bind 127.0.0.1", f"dir {self.directory}", f"logfile {self.directory / 'server.log'}"]
            if self.password:
                lines.append(f"requirepass {self.password}")
            lines += _tls_lines(self.certificates)
            file.write_text("\n".join([*lines, *self.extra, ""]), encoding="utf-8")
        port = ["--port", "0", "--tls-port"] if self.certificates else ["--port"]
        return [str(file), "--sentinel", *port, str(self.port)]


@dataclass
class _Setup:
    directory: Path
    flavour: Flavour
    certificates: Certificates | None
    servers: list[RunningServer]

    @property
    def _scheme(self) -> str:
        return "rediss" if self.certificates else "redis"

    @property
    def _query(self) -> str:
        return f"?ssl_ca_certs={self.certificates.ca}" if self.certificates else ""

    def _userinfo(self) -> str:
        password = self.servers[0].password
        return f":{password}@" if password else ""

    def stop(self) -> None:
        for server in self.servers:
            server.stop()

    def cut_replicas(self, master: RunningServer) -> None:
        """From now on nothing that is written to `master` reaches a replica, until it is killed."""
        master.cli("ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
        master.cli("CLIENT", "KILL", "TYPE", "replica")

    def until_in_step(self) -> None:
        """Return when each master has a replica that has all that it has."""
        until(self._in_step, "the replicas are behind")

    def _in_step(self) -> bool:
        alive = [server for server in self.servers if server.alive and not server.paused]
        masters = [(server, fact) for server in alive if (fact := _info(server))["role"] == "master"]
        replicas = [fact for server in alive if (fact := _info(server))["role"] == "slave"]
        behind = {fact["master_port"]: fact for fact in replicas}
        return all(
            str(server.port) in behind
            and int(behind[str(server.port)]["slave_repl_offset"]) >= int(fact["master_repl_offset"])
            for server, fact in masters
        )

    def _revive(self, servers: Sequence[RunningServer]) -> None:
        for server in servers:
            if server.paused:
                server.resume()
            if not server.alive:
                server.restart()


@dataclass
class SentinelSetup(_Setup):
    """A master, its replicas and three sentinels that watch them."""

    sentinels: list[RunningSentinel]

    @property
    def url(self) -> str:
        """The URL that a user would write."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        query = self._query
        if self.sentinels[0].password:
            query += f"{'&' if query else '?'}sentinel_password={self.sentinels[0].password}"
        if self.certificates and not self.sentinels[0].certificates:
            query += "&sentinel_tls=false"
        return f"{self._scheme}-sentinel://{self._userinfo()}{hosts}/{SERVICE}/0{query}"

    def master(self) -> RunningServer:
        """Whom the living sentinels call the master."""
        ports: list[int] = []
        for sentinel in self.sentinels:
            if sentinel.alive and not sentinel.paused:
                _, port = cast("list[bytes]", sentinel.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE))
                ports.append(int(port))
        chosen = max(set(ports), key=ports.count)
        return next(server for server in self.servers if server.port == chosen)

    def heal(self) -> None:
        """Everybody is up, the sentinels agree, and the replicas are in step with the master."""
        self._revive([*self.servers, *self.sentinels])
        until(self._whole, "the sentinels do not agree")

    def _whole(self) -> bool:
        seen = [self._facts(sentinel) for sentinel in self.sentinels]
        replicas = len(self.servers) - 1
        ports = {facts[b"port"] for facts in seen}
        agreed = len(ports) == 1 and all(
            facts[b"flags"] == b"master"
            and int(facts[b"num-slaves"]) == replicas
            and int(facts[b"num-other-sentinels"]) == len(self.sentinels) - 1
            for facts in seen
        )
        return agreed and all(self._healthy_replicas(sentinel) == replicas for sentinel in self.sentinels)

    def _facts(self, sentinel: RunningSentinel) -> dict[bytes, bytes]:
        return _pairs(cast("list[bytes]", sentinel.cli("SENTINEL", "MASTER", SERVICE)))

    def _healthy_replicas(self, sentinel: RunningSentinel) -> int:
        replies = cast("list[list[bytes]]", sentinel.cli("SENTINEL", "REPLICAS", SERVICE))
        found = [_pairs(reply) for reply in replies]
        return sum(
            facts[b"flags"] == b"slave" and facts.get(b"master-link-status") == b"ok" for facts in found
        )

    def check_and_empty(self) -> None:
        """No key of the master is without a TTL; then they go."""
        _check_and_empty([self.master()])


@dataclass
class ClusterSetup(_Setup):
    """Masters with a replica each."""

    bus: dict[int, int] = field(default_factory=dict[int, int])

    @property
    def url(self) -> str:
        """The URL that a user would write; two nodes of it are enough."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:2])
        return f"{self._scheme}-cluster://{self._userinfo()}{hosts}{self._query}"

    @property
    def masters(self) -> list[RunningServer]:
        """Those that serve slots, or could."""
        alive = [server for server in self.servers if server.alive and not server.paused]
        return [
            server for server in alive if b"role:master" in cast("bytes", server.cli("INFO", "replication"))
        ]

    def owner(self, key: str) -> RunningServer:
        """The master that serves the slot of a key."""
        return self.owner_of(cast("int", self.masters[0].cli("CLUSTER", "KEYSLOT", key)))

    def owner_of(self, slot: int) -> RunningServer:
        """The master that serves a slot."""
        for first, last, master, *_ in cast("list[list[object]]", self.masters[0].cli("CLUSTER", "SLOTS")):
            if cast("int", first) <= slot <= cast("int", last):
                port = cast("list[int]", master)[1]
                return next(server for server in self.servers if server.port == port)
        raise LookupError(f"nobody serves the slot {slot}")

    def begin_move(self, slot: int, to: RunningServer) -> RunningServer:
        """Open a slot for its move; returns who has it now."""
        source = self.owner_of(slot)
        to.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
        source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(to))
        return source

    def move_keys(self, slot: int, source: RunningServer, to: RunningServer) -> None:
        """Move the keys that are in the slot now."""
        while keys := cast("list[bytes]", source.cli("CLUSTER", "GETKEYSINSLOT", slot, 10)):
            source.cli("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)

    def end_move(self, slot: int, to: RunningServer) -> None:
        """Give the slot to its new owner."""
        for server in (to, *(master for master in self.masters if master is not to)):
            with contextlib.suppress(hiredis.ReplyError):  # who has heard of it already may refuse
                server.cli("CLUSTER", "SETSLOT", slot, "NODE", node_id(to))

    def move_slot(self, slot: int, to: RunningServer) -> None:
        """Move a slot with its keys, as `redis-cli --cluster reshard` does."""
        source = self.begin_move(slot, to)
        self.move_keys(slot, source, to)
        self.end_move(slot, to)

    def join(self, nodes: Sequence[RunningServer]) -> None:
        """Return when all nodes know each other."""
        for one, other in itertools.combinations(nodes, 2):
            one.cli("CLUSTER", "MEET", "127.0.0.1", other.port, self.bus[other.port])

        def all_know_all() -> bool:
            lists = [cast("bytes", server.cli("CLUSTER", "NODES")) for server in nodes]
            return all(text.count(b"\n") == len(lists) and b"handshake" not in text for text in lists)

        until(all_know_all, "the nodes do not find each other")

    def rejoin(self, node: RunningServer, master: RunningServer) -> None:
        """Take a node in again that was reset, as a replica."""
        node.cli("CLUSTER", "RESET", "HARD")  # the others do not take the old name in again for a minute
        self.join([node, *(server for server in self.servers if server is not node)])
        node.cli("CLUSTER", "REPLICATE", node_id(master))

    def heal(self) -> None:
        """Everybody is up, every slot is served, and the replicas are in step."""
        self._revive(self.servers)
        until(self._whole, "the cluster does not come together")

    def _whole(self) -> bool:
        for server in self.servers:
            info = cast("bytes", server.cli("CLUSTER", "INFO"))
            if b"cluster_state:ok" not in info or b"cluster_slots_ok:16384" not in info:
                return False
            replication = cast("bytes", server.cli("INFO", "replication"))
            if b"role:master" not in replication and b"master_link_status:up" not in replication:
                return False
            nodes = cast("bytes", server.cli("CLUSTER", "NODES"))
            if b"fail" in nodes or nodes.count(b"slave") != len(self.servers) // 2:
                return False
        return len({server.cli("CLUSTER", "SLOTS").__repr__() for server in self.masters[:1]}) == 1

    def check_and_empty(self) -> None:
        """No key is without a TTL; then they go."""
        _check_and_empty(self.masters)


def until(true: Callable[[], bool], otherwise: str) -> None:
    """Return when something has come true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, hiredis.ReplyError, KeyError):
            if true():
                return
        time.sleep(0.05)
    raise TimeoutError(otherwise)


def node_id(server: RunningServer) -> bytes:
    """What the cluster calls a node."""
    return cast("bytes", server.cli("CLUSTER", "MYID"))


@contextlib.contextmanager
def start_sentinels(
    flavour: Flavour,
    *,
    tls: bool = False,
    password: str | None = None,
    sentinel_password: str | None = None,
    plain_sentinels: bool = False,
    replicas: int = 1,
    directory: Path | None = None,
) -> Generator[SentinelSetup]:
    """Run a master, replicas and three sentinels for the length of the `with` block.

    Args:
        flavour: As for `start_server`, with all of its limits.
        tls: For the servers and the sentinels.
        password: Of the servers.
        sentinel_password: Of the sentinels.
        plain_sentinels: With TLS, the sentinels are asked without.
        replicas: How many.
        directory: Where logs and data go; None means a temporary one that is removed.
    """
    with contextlib.ExitStack() as stack:
        where = directory or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-sentinels-"))
        )
        certificates = make_certificates(where) if tls else None
        extra = [*_FAST_REPLICATION, *(["--tls-replication", "yes"] if tls else [])]
        extra += ["--masterauth", password] if password else []
        servers: list[RunningServer] = []
        setup = SentinelSetup(where, flavour, certificates, servers, [])
        stack.callback(setup.stop)
        for number in range(1 + replicas):
            following = ["--replicaof", f"127.0.0.1 {servers[0].port}"] if servers else []
            folder = _folder(where, f"server-{number}")
            server = RunningServer(flavour, folder, password, certificates, [*extra, *following])
            servers.append(server)
            server.start()
            server.extra = extra  # after a restart the sentinels say whom it follows
        for number in range(3):
            lines = _sentinel_lines(servers[0].port, password)
            folder = _folder(where, f"sentinel-{number}")
            known = None if plain_sentinels else certificates
            if plain_sentinels:
                lines += _tls_lines(certificates)
            sentinel = RunningSentinel(flavour, folder, sentinel_password, known, lines)
            stack.callback(sentinel.stop)
            setup.sentinels.append(sentinel)
            sentinel.start()
        setup.heal()
        yield setup


def _tls_lines(certificates: Certificates | None) -> list[str]:
    """For the sentinels' own connections to the servers."""
    if certificates is None:
        return []
    files = [f"tls-cert-file {certificates.certificate}", f"tls-key-file {certificates.key}"]
    return [f"tls-ca-cert-file {certificates.ca}", "tls-auth-clients no", "tls-replication yes", *files]


def _sentinel_lines(port: int, password: str | None) -> list[str]:
    lines = [
        f"sentinel monitor {SERVICE} 127.0.0.1 {port} 2",
        f"sentinel down-after-milliseconds {SERVICE} 1000",
        f"sentinel failover-timeout {SERVICE} 2000",
    ]
    return [*lines, f"sentinel auth-pass {SERVICE} {password}"] if password else lines


@contextlib.contextmanager
def start_cluster(
    flavour: Flavour, *, tls: bool = False, password: str | None = None, directory: Path | None = None
) -> Generator[ClusterSetup]:
    """Run a cluster of three masters with a replica each for the length of the `with` block."""
    with contextlib.ExitStack() as stack:
        where = directory or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-cluster-"))
        )
        certificates = make_certificates(where) if tls else None
        setup = ClusterSetup(where, flavour, certificates, [])
        stack.callback(setup.stop)
        for number in range(6):
            cluster_port = free_port()
            extra = ["--cluster-enabled", "yes", "--cluster-port", str(cluster_port), *_FAST_REPLICATION]
            extra += ["--cluster-node-timeout", "2000", "--cluster-replica-validity-factor", "0"]
            extra += ["--cluster-allow-replica-migration", "no"]
            extra += ["--tls-cluster", "yes", "--tls-replication", "yes"] if tls else []
            extra += ["--masterauth", password] if password else []
            server = RunningServer(flavour, _folder(where, f"node-{number}"), password, certificates, extra)
            setup.servers.append(server)
            server.start()
            setup.bus[server.port] = cluster_port
        _assemble(setup)
        setup.heal()
        yield setup


def _assemble(setup: ClusterSetup) -> None:
    masters, replicas = setup.servers[:3], setup.servers[3:]
    share = -(-SLOTS // len(masters))
    for number, server in enumerate(setup.servers):
        server.cli("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for number, server in enumerate(masters):
        server.cli("CLUSTER", "ADDSLOTSRANGE", number * share, min((number + 1) * share, SLOTS) - 1)
    setup.join(setup.servers)
    for replica, master in zip(replicas, masters, strict=True):
        replica.cli("CLUSTER", "REPLICATE", node_id(master))


def _check_and_empty(servers: Sequence[RunningServer]) -> None:
    try:
        for server in servers:
            assert_every_key_expires(server)
    finally:
        for server in servers:
            server.cli("FLUSHALL")


def _info(server: RunningServer) -> dict[str, str]:
    text = cast("bytes", server.cli("INFO", "replication")).decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _folder(where: Path, name: str) -> Path:
    folder = where / name
    folder.mkdir()
    return folder


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
