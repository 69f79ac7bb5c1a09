"""A bundle is replaced under load, again and again: no request is lost, and none is answered by a mixture."""

import json
import os
import shutil
import signal
import socket
from pathlib import Path
from threading import Event, Thread
from time import perf_counter, sleep

import numpy as np
import onnx
from bench.serve_vs_peers import bundles
from bench.serve_vs_peers.bundles import Bundle
from bench.serve_vs_peers.context import Context
from bench.serve_vs_peers.report import Check, Part
from bench.serve_vs_peers.roster import OURS
from bench.serve_vs_peers.servers import read_reply, running

_RATE = 1000
_CLIENTS = 16
_SWAP_EVERY_S = 2.0


class _Client(Thread):
    """Sends at moments that were fixed before, late or not; keeps what every request was answered."""

    def __init__(self, port: int, request: bytes, bundle: Bundle, ready: Event, count: int) -> None:
        super().__init__(daemon=True)
        self._port, self._request, self._bundle, self._ready, self._count = port, request, bundle, ready, count
        self.sent, self.lost = 0, 0
        self.gains: list[tuple[str, float]] = []
        self.ms: list[float] = []

    def run(self) -> None:
        pause_s = _CLIENTS / _RATE
        with socket.create_connection(("127.0.0.1", self._port), 30) as connection:
            self._ready.wait()
            began = perf_counter()
            for index in range(self._count):
                sleep(max(0.0, began + index * pause_s - perf_counter()))
                at = perf_counter()
                self.sent += 1
                connection.sendall(self._request)
                status, body = read_reply(connection)
                self.ms.append((perf_counter() - at) * 1000)
                if status == 200:
                    self.gains.append(self._told(body))
                else:
                    self.lost += 1

    def _told(self, body: bytes) -> tuple[str, float]:
        """The version that the reply names, and how many times the first version's answer it carries."""
        answer = OURS.form.answer(self._bundle.facts, body)
        gains = answer / self._bundle.answer.ravel()
        version = str(json.JSONDecoder().raw_decode(body.decode("latin-1"))[0]["model_version"])
        return version, float(gains.mean()) if np.ptp(gains) < 1e-3 * abs(gains.mean()) else float("nan")


def part(context: Context) -> Part:
    seconds = 4 if context.quick else 30
    made = [context.small, _twice(context)]
    place = context.work / "swapped"
    served = context.small._replace(folder=_put(context.small.folder, place))
    request = OURS.form.request(context.small.facts, context.small.sample)
    ready, swaps = Event(), 0
    with running(OURS, served, context.environments, context.log("swap")) as server:
        count = _RATE * seconds // _CLIENTS
        clients = [_Client(server.port, request, context.small, ready, count) for _ in range(_CLIENTS)]
        for client in clients:
            client.start()
        ready.set()
        began = perf_counter()
        while perf_counter() - began < seconds - _SWAP_EVERY_S:
            swaps += 1
            _put(made[swaps % 2].folder, place)
            os.kill(server.pid, signal.SIGHUP)
            sleep(_SWAP_EVERY_S)
        for client in clients:
            client.join()
        took_s = perf_counter() - began
    return _found(clients, swaps, took_s)


def _found(clients: list[_Client], swaps: int, took_s: float) -> Part:
    asked = _CLIENTS * clients[0]._count
    gains = [gain for client in clients for gain in client.gains]
    mixed = sum(round(gain, 3) != float(version) for version, gain in gains)
    both = {version: sum(one == version for one, _ in gains) for version in ("1", "2")}
    late = np.quantile([ms for client in clients for ms in client.ms], (0.5, 0.99, 1.0))
    words = (
        f"{asked:,} requests at {asked / took_s:,.0f} a second from {_CLIENTS} clients while the bundle was replaced "
        f"{swaps} times and told by SIGHUP; {both['1']:,} answers of version 1 and {both['2']:,} of version 2, which "
        f"gives twice the scores. p50 {late[0]:.2f} ms, p99 {late[1]:.2f} ms, longest {late[2]:.1f} ms."
    )
    lost = asked - len(gains)
    kept = not lost and not mixed and min(both.values()) > 0 and asked / took_s >= 0.95 * _RATE
    figures = f"{lost} of {asked:,} lost, {mixed} mixed, {swaps} swaps, {asked / took_s:,.0f} requests a second"
    promise = "hot swap under 1,000 requests a second: none lost, none answered by a mixture"
    return Part("Hot swap", words, [Check(promise, kept, figures)])


def _put(bundle: Path, place: Path) -> Path:
    """The bundle's files under `place`, in one step."""
    copy = place.with_name(f"{place.name}.{bundle.name}")
    if not copy.exists():
        shutil.copytree(bundle, copy)
    link = place.with_name(f"{place.name}.new")
    link.unlink(missing_ok=True)
    link.symlink_to(copy.absolute())
    link.replace(place)
    return place.absolute()


def _twice(context: Context) -> Bundle:
    """The same model, all of whose scores are doubled, as version 2."""
    model = onnx.load(context.small.model)
    name = context.small.facts.output_name
    for node in model.graph.node:
        node.output[:] = [f"{name}.once" if output == name else output for output in node.output]
        node.input[:] = [f"{name}.once" if given == name else given for given in node.input]
    model.graph.node.append(onnx.helper.make_node("Add", [f"{name}.once"] * 2, [name]))
    onnx.save(model, context.work / "twice.onnx")
    return bundles.make(context.work / "twice.onnx", context.work, version="2")
