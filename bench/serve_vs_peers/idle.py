"""Ten thousand connections are opened and left idle; who was there is answered on, and so is who comes."""

import resource
import socket
from contextlib import suppress
from time import perf_counter

import numpy as np
from bench.serve_vs_peers.context import Context
from bench.serve_vs_peers.report import Check, Numbers, Part, quantile, table
from bench.serve_vs_peers.roster import BARE, OURS, Contestant
from bench.serve_vs_peers.servers import Running, ask, read_reply, running

_IDLE = 10_000
_ADDRESSES = 10
_ASKS = 300
_NEWCOMERS = 100


def part(context: Context) -> Part:
    _raise_limit()
    rows, checks = [], []
    for one in (OURS, BARE):
        with running(one, context.small, context.environments, context.log(one.name)) as server:
            found = _leave_idle(context, one, server)
        rows.append([one.title, *found[:-1]])
        if one is OURS:
            checks.append(Check(f"{_IDLE:,} idle connections do not stop it", *found[-1]))
    head = [
        "",
        "still open of them",
        "a client from before: p50 ms without / with them",
        "answered of it",
        "newcomers answered",
    ]
    head += ["RSS MB without / with them"]
    words = (
        f"{_IDLE:,} connections from {_ADDRESSES} addresses, opened and left alone; then {_ASKS} requests of a client "
        f"that was there before, and {_NEWCOMERS} newcomers with one request each."
    )
    return Part("Idle connections", f"{words}\n\n{table(head, rows)}", checks)


def _raise_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _leave_idle(context: Context, one: Contestant, server: Running) -> tuple[str, str, str, str, str, tuple[bool, str]]:
    request = one.form.request(context.small.facts, context.small.sample)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        before, _ = _ask_often(client, request)
        weight = server.memory().rss
        idle = [_opened(server.port, index) for index in range(_IDLE)]
        try:
            during, answered = _ask_often(client, request)
            came = sum(_is_answered(server.port, request) for _ in range(_NEWCOMERS))
            still = sum(_is_open(connection) for connection in idle if connection is not None)
            heavier = server.memory().rss
        finally:
            for connection in idle:
                if connection is not None:
                    connection.close()
    kept = answered == _ASKS and came == _NEWCOMERS
    figures = f"{answered} of {_ASKS} requests of an older client and {came} of {_NEWCOMERS} newcomers answered"
    return (
        f"{still:,}", f"{quantile(before, 0.5):.2f} / {quantile(during, 0.5):.2f}", f"{answered} of {_ASKS}",
        f"{came} of {_NEWCOMERS}", f"{weight / 1e6:.1f} / {heavier / 1e6:.1f}", (kept, figures),
    )  # fmt: skip


def _opened(port: int, index: int) -> socket.socket | None:
    with suppress(OSError):
        return socket.create_connection(
            ("127.0.0.1", port), 10, source_address=(f"127.0.0.{2 + index % _ADDRESSES}", 0)
        )
    return None


def _ask_often(client: socket.socket, request: bytes) -> tuple[Numbers, int]:
    """Milliseconds of each, and how many were answered with status 200."""
    client.settimeout(10)
    taken, answered = [], 0
    with suppress(OSError):
        for _ in range(_ASKS):
            began = perf_counter()
            client.sendall(request)
            answered += read_reply(client)[0] == 200
            taken.append((perf_counter() - began) * 1000)
    return np.array(taken or [np.nan]), answered


def _is_answered(port: int, request: bytes) -> bool:
    with suppress(OSError):
        return ask(port, request, limit_s=5)[0] == 200
    return False


def _is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        connection.recv(1)  # its end, or a refusal
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
