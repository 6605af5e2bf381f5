"""`python -m chaos`: see the help. The exit status is 0 only if every promise was kept."""

import argparse
import asyncio
import secrets
import signal
import sys
from collections.abc import Sequence

from chaos.fleet import SERVERS, ServerName
from chaos.monkey import Plan
from chaos.rig import Options, Run, run


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, printed")
    parser.add_argument("--kills", type=int, default=10, help="kill -9 at least so often")
    parser.add_argument("--minutes", type=float, default=0, help="go on killing for at least so long")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--events", type=int, default=100, help="each client reads at least so many")
    parser.add_argument("--stop", action="store_true", help="pause replicas too, for 3 to 10 s")
    parser.add_argument("--rolling", type=int, default=1, help="rolling restarts under load, at the end")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--official", type=int, default=2, help="clients of the SDK, for plain calls")
    parser.add_argument("--think", type=float, default=None, help="mean pause between two calls, in seconds")
    parser.add_argument("--store", choices=("one", "sentinels", "cluster"), default="one")
    parser.add_argument("--faults", type=int, default=0, help="each kind of fault of the store so often")
    parser.add_argument(
        "--servers",
        type=_servers,
        default=("serve",),
        help="what the replicas run under, by turns: serve,uvicorn,hypercorn,granian",
    )
    given = parser.parse_args(arguments)
    plan = Plan(given.kills, given.minutes, given.stop, given.rolling, given.faults)
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    return Options(
        seed=seed,
        plan=plan,
        clients=given.clients,
        events=given.events,
        replicas=given.replicas,
        official=given.official,
        think_seconds=given.think,
        servers=given.servers,
        store=given.store,
    )


def _servers(text: str) -> tuple[ServerName, ...]:
    found: tuple[ServerName, ...] = tuple(name for name in SERVERS if name in text.split(","))
    if {*found} != {*text.split(",")}:
        raise argparse.ArgumentTypeError(f"{text!r}: expected some of {','.join(SERVERS)}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    print(f"chaos: seed {options.seed}, {options}", flush=True)
    state = asyncio.run(_run(options))
    print(f"chaos: seed {options.seed}, logs in {state.folder}")
    print(state.report(), flush=True)
    return 1 if state.tally.violations else 0


async def _run(options: Options) -> Run:
    """Told to end, leave no process behind either."""
    running = asyncio.ensure_future(run(options))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    return await running


if __name__ == "__main__":
    sys.exit(main())
