"""What the service weighs beside `import onnxruntime` alone, and how long it takes to its first answer."""

import sys
from pathlib import Path
from time import perf_counter, sleep

import numpy as np
from bench.serve_vs_peers.context import Context
from bench.serve_vs_peers.report import Check, Part, mean, mean_ratio, table, told
from bench.serve_vs_peers.roster import BARE, OURS, Contestant
from bench.serve_vs_peers.servers import Memory, command_of, free_port, memory_of, running, started, wait_for_answer

_MB = 1_000_000
_REQUESTS = 500
_SETTLE_S = 3.0


def part(context: Context) -> Part:
    """Every process is new; in each round each has one turn."""
    count = 3 if context.quick else 10
    alone, ours, bare = list[Memory](), list[Memory](), list[Memory]()
    for _ in range(count):
        alone.append(_import_alone(context))
        ours.append(_serving(context, OURS))
        bare.append(_serving(context, BARE))
    over = mean([(mine.rss - base.rss) / _MB for mine, base in zip(ours, alone, strict=True)])
    over_pss = mean([(mine.pss - base.pss) / _MB for mine, base in zip(ours, alone, strict=True)])
    rows = [
        _row("`import onnxruntime`, nothing else", alone),
        _row(f"`edgeward serve` after {_SETTLE_S:g} s and then {_REQUESTS} requests", ours),
        _row(f"{BARE.title} after {_SETTLE_S:g} s and then {_REQUESTS} requests", bare),
    ]
    words = f"New processes in turn, n {count} each; median (least–most)."
    check = Check(
        "at most 20 MB RSS over `import onnxruntime` alone",
        over[0] <= 20,
        f"{told(over, '.1f')} MB (PSS {over_pss[0]:.1f})",
    )
    return Part("Memory", f"{words}\n\n{table(['', 'RSS MB', 'PSS MB'], rows)}", [check])


def _row(name: str, found: list[Memory]) -> list[str]:
    cells = []
    for values in (np.array([one.rss for one in found]) / _MB, np.array([one.pss for one in found]) / _MB):
        cells.append(f"{np.median(values):.1f} ({values.min():.1f}–{values.max():.1f})")
    return [name, *cells]


def _import_alone(context: Context) -> Memory:
    """Of this Python, which is the service's own."""
    log = context.log("import")
    program = "import onnxruntime, time; print('imported', flush=True); time.sleep(60)"
    with started([sys.executable, "-c", program], log, {}) as process:
        while "imported" not in log.read_text():
            if process.poll() is not None:
                raise RuntimeError(log.read_text())
        return memory_of(process.pid)


def _serving(context: Context, one: Contestant) -> Memory:
    request = one.form.request(context.small.facts, context.small.sample)
    with running(one, context.small, context.environments, context.log(one.name)) as server:
        sleep(_SETTLE_S)  # what only the start needed is given back by then; what requests need comes again
        context.load.run(server.port, request, clients=1, seconds=60, requests=_REQUESTS)
        return server.memory()


def cold_start(context: Context) -> Part:
    count = 3 if context.quick else 15
    ours, bare = list[float](), list[float]()
    for index in range(-1, count):
        for one, taken in ((OURS, ours), (BARE, bare)):
            seconds = _to_first_answer(context, one)
            if index >= 0:
                taken.append(seconds)
    ratio = mean_ratio(ours, bare)
    rows = [
        [name, f"{np.median(taken) * 1000:.0f}", f"{np.subtract(*np.quantile(taken, (0.75, 0.25))) * 1000:.0f}"]
        for name, taken in (("`edgeward serve`", ours), (BARE.title, bare))
    ]
    words = f"From the start of the process to its first reply over HTTP, n {count} each, in turn, files in the cache."
    check = Check("cold start at most 1.5 times the bare script's", ratio[0] <= 1.5, told(ratio))
    return Part("Cold start", f"{words}\n\n{table(['', 'p50 ms', 'IQR ms'], rows)}", [check])


def _to_first_answer(context: Context, one: Contestant) -> float:
    port, log = free_port(), Path(context.log(one.name))
    request = one.form.request(context.small.facts, context.small.sample)
    command = command_of(one, context.small, port, context.environments)
    began = perf_counter()
    with started(command, log, context.small.environment) as process:
        wait_for_answer(process, port, request, log)
        return perf_counter() - began
