"""HTTP: everybody serves the same model to the same client, in interleaved rounds."""

import importlib.metadata
import sys
from contextlib import ExitStack

import numpy as np
from bench.serve_vs_peers import environments
from bench.serve_vs_peers.context import Context
from bench.serve_vs_peers.load import Taken
from bench.serve_vs_peers.report import Check, Part, mean_ratio, quantile, table, told
from bench.serve_vs_peers.roster import BARE, OURS, PEERS, Contestant
from bench.serve_vs_peers.servers import Running, ask, running

from edgeward.kit import process
from edgeward.kit.errors import Failed

CLIENTS = (1, 4, 16)
_WARM_UP_S = 0.1
Rounds = dict[tuple[Contestant, int], list[Taken]]


def part(context: Context) -> Part:
    rounds, seconds = (2, 0.3) if context.quick else (20, 0.4)
    generator = np.random.default_rng(0)
    taken: Rounds = {}
    with ExitStack() as stack:
        servers, absent = _start(stack, context)
        memory = {}
        for _ in range(rounds):
            for clients in CLIENTS:
                for index in generator.permutation(len(servers)):
                    one, server = list(servers.items())[index]
                    taken.setdefault((one, clients), []).append(_turn(context, one, server, clients, seconds))
        for one, server in servers.items():
            memory[one] = server.memory().pss
    words = (
        f"{rounds} rounds of {seconds:g} s each at 1, 4 and 16 clients, everybody once in each, in random order; one "
        f"client program in C for all (`load.c`), which took at most {_client_share(taken):.0%} of one CPU. Servers "
        "and client share the machine's CPUs, as the kernel places them. Medians over rounds."
    )
    rows = [_row(one, taken, context, memory[one]) for one in servers]
    rows += [[one.title, f"does not run: {reason}", *[""] * (4 * len(CLIENTS))] for one, reason in absent.items()]
    head = ["", "takes", *(f"{n} client{'s' * (n > 1)}: a second | p50 ms | p99 ms | CPU µs each" for n in CLIENTS)]
    head += ["PSS MB"]
    ratios = _ratios(taken, [one for one in servers if one is not OURS])
    return Part("HTTP", f"{words}\n\n{_spread(head, rows)}\n\n{ratios}", _checks(taken, list(servers)))


def _spread(head: list[str], rows: list[list[str]]) -> str:
    return table(" | ".join(head).split(" | "), rows)


def _start(stack: ExitStack, context: Context) -> tuple[dict[Contestant, Running], dict[Contestant, str]]:
    """Those that run and answer what the bare session answers, and why the others do not."""
    servers, absent = dict[Contestant, Running](), dict[Contestant, str]()
    bundle = context.small
    for one in (OURS, *PEERS):
        reason = None if one is OURS else environments.missing(context.environments, one.name)
        if reason is not None:
            absent[one] = reason
            continue
        try:
            server = stack.enter_context(running(one, bundle, context.environments, context.log(one.name)))
            status, body = ask(server.port, one.form.request(bundle.facts, bundle.sample))
        except (Failed, OSError) as error:
            absent[one] = str(error)
            continue
        answer = one.form.answer(bundle.facts, body)
        if status != 200 or not np.allclose(answer, bundle.answer.ravel(), rtol=1e-3, atol=1e-4):
            absent[one] = f"its answer is another one (status {status})"
            continue
        servers[one] = server
        print(f"{one.title}: ready", file=sys.stderr, flush=True)
    return servers, absent


def _turn(context: Context, one: Contestant, server: Running, clients: int, seconds: float) -> Taken:
    request = one.form.request(context.small.facts, context.small.sample)
    context.load.run(server.port, request, clients=clients, seconds=_WARM_UP_S)
    before_s = server.cpu_s()
    found = context.load.run(server.port, request, clients=clients, seconds=seconds)
    found = found._replace(server_cpu_s=server.cpu_s() - before_s)
    if found.wrong:
        raise Failed(f"{one.title}: {found.wrong} of {len(found.ms)} requests had no status 200")
    return found


def _client_share(taken: Rounds) -> float:
    return max(found.client_cpu_s / found.seconds for rounds in taken.values() for found in rounds)


def _row(one: Contestant, taken: Rounds, context: Context, pss: int) -> list[str]:
    cells = [f"{one.title} {_version(one, context)}".strip(), one.form.words]
    for clients in CLIENTS:
        rounds = taken[one, clients]
        cells.append(f"{np.median([found.a_second for found in rounds]):,.0f}")
        cells += [f"{np.median([quantile(found.ms, share) for found in rounds]):.2f}" for share in (0.5, 0.99)]
        cells.append(f"{np.median(_cost(rounds)):,.0f}")
    return [*cells, f"{pss / 1e6:.0f}"]


def _version(one: Contestant, context: Context) -> str:
    if one is OURS:
        return importlib.metadata.version("edgeward")
    python = environments.python(context.environments, one.name)
    command = [str(python), "-c", f"from importlib.metadata import version; print(version({one.package!r}))"]
    return process.run(command, limit_s=60).output.decode().strip()


def _cost(rounds: list[Taken]) -> list[float]:
    """Microseconds of CPU that the server took for each request."""
    return [found.server_cpu_s / len(found.ms) * 1e6 for found in rounds]


def _speed(taken: Rounds, one: Contestant, clients: int) -> list[float]:
    return [found.a_second for found in taken[one, clients]]


def _late(taken: Rounds, one: Contestant, clients: int) -> list[float]:
    return [quantile(found.ms, 0.99) for found in taken[one, clients]]


def _ratios(taken: Rounds, peers: list[Contestant]) -> str:
    rows = []
    for one in peers:
        row = [one.title]
        for clients in CLIENTS:
            row.append(told(mean_ratio(_speed(taken, OURS, clients), _speed(taken, one, clients))))
            row.append(told(mean_ratio(_late(taken, OURS, clients), _late(taken, one, clients))))
            row.append(told(mean_ratio(_cost(taken[OURS, clients]), _cost(taken[one, clients]))))
        rows.append(row)
    head = ["Edgeward over", *(f"{n}: requests a second | p99 | CPU each" for n in CLIENTS)]
    return "Ratios, geometric mean over rounds [95 %]:\n\n" + _spread(head, rows)


def _checks(taken: Rounds, servers: list[Contestant]) -> list[Check]:
    found = []
    for clients in CLIENTS:
        at = f"at {clients} client{'s' * (clients > 1)}"
        for one in (one for one in servers if one not in (OURS, BARE)):
            ratio = mean_ratio(_speed(taken, OURS, clients), _speed(taken, one, clients))
            found.append(Check(f"3 times the requests of {one.title} {at}", ratio[0] >= 3, told(ratio)))
        if BARE in servers:
            speed = mean_ratio(_speed(taken, OURS, clients), _speed(taken, BARE, clients))
            late = mean_ratio(_late(taken, OURS, clients), _late(taken, BARE, clients))
            found.append(
                Check(f"no fewer requests than the bare function {at}", speed[1][1] >= 1, f"{told(speed)} of its")
            )
            found.append(Check(f"no later at p99 than the bare function {at}", late[1][0] <= 1, f"{told(late)} of its"))
    return sorted(found, key=lambda check: check.promise[0] == "3")
