"""A bundle is replaced while requests come: none is lost, and none is answered by two models."""

import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

import pytest
from gain_bundles import make, replace

from edgeward import bundle
from edgeward.link.local import LocalClient

CLIENTS = 3
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}).encode()


class Serving(NamedTuple):
    process: "subprocess.Popen[str]"
    port: int
    place: Path
    key: bundle.SigningKey
    folder: Path

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        document = json.loads(reply.read())
        connection.close()
        return reply.status, document

    def served_version(self) -> str:
        version: str = self.ask("POST", "/v2/models/gains/infer", BODY)[1]["model_version"]
        return version

    def waits_for(self, version: str) -> None:
        while self.served_version() != version:
            sleep(0.01)

    def new(self, version: str, gain: float, wrong_by: float = 0.0) -> Path:
        return make(self.folder / f"new-{version}", self.key, version=version, gain=gain, wrong_by=wrong_by)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    key = bundle.create_key(tmp_path / "signing.key")
    place = make(tmp_path / "gains", key, version="1", gain=1.0)
    words = ["serve", place, "--key", bundle.public_path_of(key.path), "--port", "0", "--repository-api"]
    words += ["--socket", tmp_path / "serve.sock"]
    command = [sys.executable, "-m", "edgeward", *map(str, words)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    assert process.stderr.readline() == f"serving local clients at {tmp_path / 'serve.sock'}\n"
    yield Serving(process, int(line.partition("127.0.0.1:")[2].partition("/")[0]), place, key, tmp_path)
    if process.poll() is None:
        process.kill()
        process.communicate()


def test_under_load_no_request_is_lost_and_none_is_a_mixture(serving: Serving) -> None:
    answers: list[tuple[int, str, tuple[float, ...]]] = []
    faults: list[Exception] = []
    stop = threading.Event()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=60)
        while not stop.is_set():
            try:
                connection.request("POST", "/v2/models/gains/infer", BODY)
                reply = connection.getresponse()
                told = json.loads(reply.read())
                answers.append((reply.status, told["model_version"], tuple(told["outputs"][0]["data"])))
            except (OSError, http.client.HTTPException, KeyError) as error:
                faults.append(error)
                return

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    began = monotonic()
    for thread in threads:
        thread.start()
    for number in range(2, 8):
        replace(serving.place, serving.new(str(number), float(number)))
        serving.process.send_signal(signal.SIGHUP)
        serving.waits_for(str(number))
    stop.set()
    for thread in threads:
        thread.join()
    print(f"{len(answers) / (monotonic() - began):.0f} requests a second, {len(answers)} in all")
    assert not faults
    wanted = {(200, str(number), (1.0 * number, 2.0 * number, 3.0 * number)) for number in range(1, 8)}
    assert set(answers) == wanted


def test_a_local_client_that_asks_the_same_again_is_answered_by_the_new_one(serving: Serving) -> None:
    with LocalClient(serving.folder / "serve.sock") as client:
        x = client.array((1, 3), "float32")
        x[:] = 1
        assert client.infer("gains", {"x": x}).outputs["y"].tolist() == [[1, 1, 1]]
        replace(serving.place, serving.new("2", 2.0))
        serving.process.send_signal(signal.SIGHUP)
        serving.waits_for("2")
        assert client.infer("gains", {"x": x}).outputs["y"].tolist() == [[2, 2, 2]]


def test_a_bad_new_bundle_is_refused_in_the_log_and_the_old_one_serves_on(serving: Serving) -> None:
    stranger = bundle.create_key(serving.folder / "stranger.key")
    foreign = make(serving.folder / "foreign", stranger, version="2", gain=2.0)
    broken = serving.new("3", 3.0, wrong_by=9.0)
    assert serving.process.stderr is not None
    for bad, reason in ((foreign, "is signed by an unknown key"), (broken, "fails its self-test on this machine")):
        replace(serving.place, bad)
        serving.process.send_signal(signal.SIGHUP)
        line = serving.process.stderr.readline()
        assert line.startswith("warning reload-refused bundle=")
        assert reason in line
        assert serving.served_version() == "1"
    replace(serving.place, serving.new("4", 4.0))
    serving.process.send_signal(signal.SIGHUP)
    serving.waits_for("4")
    serving.process.send_signal(signal.SIGHUP)  # a repeat is harmless
    serving.process.terminate()
    assert serving.process.communicate(timeout=60)[1] == ""
    assert serving.process.returncode == 0


def test_programs_here_load_and_unload(serving: Serving) -> None:
    row = {"name": "gains", "version": "1", "state": "READY", "reason": ""}
    assert serving.ask("POST", "/v2/repository/index", b"{}") == (200, [row])
    assert serving.ask("POST", "/v2/repository/models/gains/unload", b"{}") == (200, {})
    assert serving.ask("POST", "/v2/models/gains/infer", BODY)[0] == 404
    assert serving.ask("POST", "/v2/repository/index")[1][0]["state"] == "UNAVAILABLE"
    replace(serving.place, serving.new("2", 2.0))
    assert serving.ask("POST", "/v2/repository/models/gains/load") == (200, {})
    assert serving.served_version() == "2"
    replace(serving.place, serving.new("3", 3.0, wrong_by=9.0))
    status, told = serving.ask("POST", "/v2/repository/models/gains/load")
    assert (status, "fails its self-test" in told["error"]) == (400, True)
    assert serving.ask("POST", "/v2/repository/models/other/load")[0] == 400
    assert serving.served_version() == "2"
    assert serving.ask("GET", "/v2/repository/index")[0] == 405
    page = {"Origin": "http://somewhere.example"}
    assert serving.ask("POST", "/v2/repository/models/gains/unload", headers=page)[0] == 403
