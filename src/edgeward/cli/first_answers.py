"""The first answers of a service that was just deployed: its self-test's samples, sent as any client would."""

import json
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeward.infer.postprocess import classifier
from edgeward.kit.errors import Failed
from edgeward.records.base import Record

if TYPE_CHECKING:
    from edgeward.bundle import VerifiedBundle
    from edgeward.records.bundle import Manifest

_REQUESTS, _LONGEST_S = 50, 5.0
_LIMIT_S = 60


class FirstAnswers(Record):
    """What the service said, and how long a client on its machine waited for each answer. `answers` are of the first
    samples, as a person reads them; `p50_ms` and `p99_ms` are of `count` requests."""

    answers: tuple[str, ...]
    count: int
    p50_ms: float
    p99_ms: float

    def words(self) -> str:
        shown = " · ".join(self.answers[:4])
        return f"{shown} (p50 {self.p50_ms:.2f} ms, p99 {self.p99_ms:.2f} ms, n {self.count}, a client there)"


def ask(verified: "VerifiedBundle", host: str, port: int) -> FirstAnswers:
    """Asks for some seconds at most. Raises Failed where the service does not answer as it should."""
    inputs, _ = verified.self_test()
    connection = HTTPConnection(_reachable(host), port, timeout=_LIMIT_S)
    path = f"/v2/models/{verified.manifest.name}/infer"
    answers, times = [], []
    start_s = time.monotonic()
    try:
        for number, (head, body) in enumerate(_requests(inputs)):
            begin_ns = time.perf_counter_ns()
            connection.request("POST", path, head + body, {"Inference-Header-Content-Length": str(len(head))})
            reply = connection.getresponse()
            data = reply.read()
            times.append((time.perf_counter_ns() - begin_ns) / 1e6)
            if reply.status != 200:
                raise Failed(f"the service answered {reply.status}: {data.decode(errors='replace')[:300]}")
            if number < len(next(iter(inputs.values()))):
                answers.append(_words(json.loads(data), verified.manifest))
            if number + 1 >= _REQUESTS or time.monotonic() - start_s > _LONGEST_S:
                break
    except (OSError, HTTPException) as error:
        raise Failed(f"the service at {host}:{port} does not answer: {error}") from None
    finally:
        connection.close()
    p50_ms, p99_ms = np.percentile(times, (50, 99))
    return FirstAnswers(answers=tuple(answers), count=len(times), p50_ms=float(p50_ms), p99_ms=float(p99_ms))


def _requests(inputs: Mapping[str, NDArray[Any]]) -> Iterator[tuple[bytes, bytes]]:
    """One sample after the other, again and again, in the protocol's binary form."""
    from edgeward.serve.protocol import datatype_of, to_binary

    count = len(next(iter(inputs.values())))
    while True:
        for index in range(count):
            parts, described = [], []
            for name, array in inputs.items():
                parts.append(to_binary(array[index : index + 1]))
                described.append({
                    "name": name, "shape": [1, *array.shape[1:]], "datatype": datatype_of(array),
                    "parameters": {"binary_data_size": len(parts[-1])},
                })  # fmt: skip
            yield json.dumps({"inputs": described}).encode(), b"".join(parts)


def _words(reply: dict[str, Any], manifest: "Manifest") -> str:
    """The answer's outputs, briefly."""
    classify, said = classifier(manifest.postprocess, manifest.labels), []
    for output in reply["outputs"]:
        values = output["data"]
        if classify is not None:
            best = classify(np.asarray(values, np.float32))[0]
            said.append(f"{best.label} {best.score:.2f}")
        else:
            shown = ", ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values[:4])
            said.append(f"{output['name']} {shown}{' …' if len(values) > 4 else ''}")
    return "; ".join(said)


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - every address holds this machine's own


def main(folder: str, port: str, *keys: str) -> None:
    """For a container, which has no other way to be asked from inside: python -m … FOLDER PORT KEY…"""
    from pathlib import Path

    from edgeward.bundle import trusted_keys, verify
    from edgeward.cli import console

    console.print_json(ask(verify(Path(folder), trusted_keys([Path(key) for key in keys])), "127.0.0.1", int(port)))


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
