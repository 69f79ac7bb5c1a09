"""What Edgeward adds in the caller's own process, and over the Unix socket with the frame in shared memory."""

import gc
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns

import numpy as np
from bench.serve_vs_peers import bundles, frames
from bench.serve_vs_peers.bundles import Bundle
from bench.serve_vs_peers.context import Context
from bench.serve_vs_peers.report import Check, Found, Numbers, Part, quantile, resampled, table, told
from bench.serve_vs_peers.roster import OURS
from bench.serve_vs_peers.servers import running

from edgeward.bundle import find_bundle, open_predictor, trusted_keys, verify
from edgeward.infer import Predictor
from edgeward.link.local import LocalClient

_WARM_UP = 100
Way = Callable[[], object]


def in_turn(ways: dict[str, Way], rounds: int) -> dict[str, Numbers]:
    """Microseconds of each way; in every round each has one turn, the first another from round to round."""
    names = list(ways)
    taken = {name: np.empty(rounds) for name in names}
    gc.collect()
    gc.disable()
    for index in range(-_WARM_UP, rounds):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            began = perf_counter_ns()
            ways[name]()
            taken[name][max(index, 0)] = (perf_counter_ns() - began) / 1000
    gc.enable()
    return taken


def own_process(context: Context) -> Part:
    rounds = 300 if context.quick else 10_000
    network = bundles.make(frames.write_network(context.work / "frames.onnx"), context.work, name="frames")
    small = f"{context.small.model.stem}"
    found = {small: _beside_bare(context.small, rounds), "640 × 640 network": _beside_bare(network, rounds // 10)}
    rows, checks = [], []
    for name, (ours, bare) in found.items():
        more = resampled(ours, bare, lambda a, b: quantile(a, 0.5) - quantile(b, 0.5))
        late = resampled(ours, bare, lambda a, b: quantile(a, 0.99) / quantile(b, 0.99))
        allowed = max(50.0, 0.02 * quantile(bare, 0.5))
        rows.append([name, f"{len(ours):,}", *(_both(times) for times in (ours, bare)), told(more, ".1f"), told(late)])
        checks.append(
            Check(
                f"in process, {name}: at most 2 % or 50 µs over `session.run` at p50, at most 1.2 times its p99",
                more[0] <= allowed and late[0] <= 1.2, f"{told(more, '.1f')} µs, {told(late)} times",
            )
        )  # fmt: skip
    head = [
        "",
        "n",
        "`answer` p50 / p99 µs",
        "`session.run` p50 / p99 µs",
        "more at p50, µs [95 %]",
        "p99 ratio [95 %]",
    ]
    words = "A verified bundle's predictor beside bare `session.run` of the same model, one thread, in turn."
    return Part("In the own process", f"{words}\n\n{table(head, rows)}", checks)


def _both(times: Numbers) -> str:
    return f"{quantile(times, 0.5):,.1f} / {quantile(times, 0.99):,.1f}"


def _predictor(bundle: Bundle) -> Predictor:
    keys = list(Path(bundle.environment["XDG_CONFIG_HOME"]).rglob("*.pub"))
    return open_predictor(verify(find_bundle(bundle.folder), trusted_keys(keys)), threads=1)


def _beside_bare(bundle: Bundle, rounds: int) -> tuple[Numbers, Numbers]:
    predictor, session = _predictor(bundle), bundles.bare_session(bundle.model)
    name, sample, batch = bundle.facts.input_name, bundle.sample, bundle.sample[None]
    answer = predictor.answer({name: sample}).outputs[bundle.facts.output_name]
    assert np.allclose(answer, bundle.answer, rtol=1e-3, atol=1e-4)
    ways: dict[str, Way] = {
        "ours": lambda: predictor.answer({name: sample}),
        "bare": lambda: session.run(None, {name: batch}),
    }
    taken = in_turn(ways, rounds)
    return taken["ours"], taken["bare"]


def unix_socket(context: Context) -> Part:
    rounds = 200 if context.quick else 2000
    light = bundles.make(frames.write_light(context.work / "light.onnx"), context.work, name="light")
    network = bundles.make(frames.write_network(context.work / "frames.onnx"), context.work, name="frames")
    rows, checks = [], []
    for name, bundle, runs in (("next to nothing", light, rounds), ("the 640 × 640 network", network, rounds // 2)):
        taken = _over_socket(context, bundle, runs)
        own, shared, copied, bare = taken.values()
        more, more_copied, floor = _more(shared, own), _more(copied, own), _more(shared, bare)
        cells = [told(more, ".0f"), told(more_copied, ".0f"), told(floor, ".0f")]
        rows.append([name, f"{runs:,}", *map(_both, taken.values()), *cells])
        promise = f"Unix socket, {name}: at most 150 µs over the own process at p50, frame in shared memory"
        checks.append(Check(promise, more[0] <= 150, f"{told(more, '.0f')} µs"))
    head = ["model", "n", "own process p50 / p99 µs", "socket, frame in shared memory", "socket, frame copied first"]
    head += ["bare process", "more at p50, µs [95 %]", "more, copied", "more than the bare process"]
    words = (
        "A 640 × 640 × 3 uint8 frame to `edgeward serve --socket` and back, beside the same predictor in the client, "
        "in turn. The model runs on one thread in both. The bare process does nothing but wait for 64 bytes on a "
        "socket of the same kind, call ONNX Runtime on a frame of its own, and send 64 bytes back: what two wake-ups "
        "and a CPU that did something else meanwhile cost on this machine."
    )
    return Part("Unix socket and shared memory", f"{words}\n\n{table(head, rows)}", checks)


def _more(first: Numbers, second: Numbers) -> Found:
    return resampled(first, second, lambda a, b: quantile(a, 0.5) - quantile(b, 0.5))


def _over_socket(context: Context, bundle: Bundle, rounds: int) -> dict[str, Numbers]:
    predictor, path = _predictor(bundle), context.work / "socket"
    model, name, frame = bundle.folder.name.partition("-")[0], bundle.facts.input_name, bundle.sample
    form = OURS._replace(form=OURS.form._replace(request=_metadata_of(model)))
    with (
        running(form, bundle, context.environments, context.log("socket"), "--socket", str(path)),
        LocalClient(path) as client,
        _bare_process(bundle) as bare,
    ):
        shared = client.array((1, *frame.shape), "uint8")
        shared[0] = frame
        answer = client.infer(model, {name: shared}).outputs[bundle.facts.output_name][0]
        assert np.allclose(answer, bundle.answer, rtol=1e-3, atol=1e-4)
        ways: dict[str, Way] = {
            "own": lambda: predictor.answer({name: frame}),
            "shared": lambda: client.infer(model, {name: shared}),
            "copied": lambda: client.infer(model, {name: frame[None]}),
            "bare": bare,
        }
        return in_turn(ways, rounds)


_BARE = """
import socket, sys
import numpy as np
from bench.serve_vs_peers.bundles import bare_session
number, file, name, dtype, *shape = sys.argv[1:]
session = bare_session(file)
batch = {name: np.ones([1, *map(int, shape)], dtype)}
connection = socket.socket(fileno=int(number))
while message := connection.recv(64):
    session.run(None, batch)
    connection.send(message)
"""


@contextmanager
def _bare_process(bundle: Bundle) -> Iterator[Way]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    shape = map(str, bundle.sample.shape)
    command = [sys.executable, "-c", _BARE, str(there.fileno()), str(bundle.model), bundle.facts.input_name]
    command += [str(bundle.sample.dtype), *shape]
    with here, subprocess.Popen(command, pass_fds=[there.fileno()]):
        there.close()
        message = bytes(64)
        here.send(message)
        here.recv(64)
        yield lambda: (here.send(message), here.recv(64))
        here.close()


def _metadata_of(model: str) -> Callable[..., bytes]:
    return lambda *_: f"GET /v2/models/{model} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
