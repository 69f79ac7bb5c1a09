"""`edgeward serve` as a process: what it says, what it refuses, how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import parser
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from edgeward import bundle
from edgeward.infer import Predictor, runtimes
from edgeward.kit.files import new_folder
from edgeward.measure import bpftrace_run
from edgeward.measure.frame_ring import FrameRing
from edgeward.records.model import Classify, Model, Normalize, TensorSpec

# `x` rounds of work (1 and more), so that a test can make a request last as long as it needs.
MODEL = """<ir_version: 8, opset_import: ["": 17]>
work (float[batch,2] x) => (float[batch,2] y) {
  rounds = Cast <to = 7> (x)
  most = ReduceMax <keepdims = 0> (rounds)
  side = Constant <value = int64[2] {64, 64}> ()
  start = ConstantOfShape <value = float[1] {1.0}> (side)
  go = Constant <value = bool {1}> ()
  end = Loop (most, go, start) <body = body (int64 i, bool more, float[64,64] a) => (bool on, float[64,64] b) {
    on = Identity (more)
    product = MatMul (a, a)
    b = Softmax (product)
  }>
  total = ReduceMean <keepdims = 0> (end)
  nothing = Sub (total, total)
  y = Add (x, nothing)
}"""


class Made(NamedTuple):
    """A signed bundle and the public key that signed it."""

    folder: Path
    key: Path


def make(folder: Path, key: bundle.SigningKey, *, name: str = "work", off_by: float = 0.0) -> Path:
    """A bundle signed by `key` whose expected answers are wrong by `off_by`."""
    raw = parser.parse_model(MODEL).SerializeToString()
    runtime = runtimes.load("onnxruntime")
    session = runtime.load(raw, threads=1)
    steps, labels = (Normalize(scale=2.0),), ("left", "right")
    predictor = Predictor(session, preprocess=steps, postprocess=(Classify(),), labels=labels)
    inputs: dict[str, NDArray[np.float32]] = {
        "x": np.array([[3000, 2], [3, 4]], np.float32)
    }  # slow enough for a thread
    expected = bundle.expected_outputs(predictor, inputs)
    parts = bundle.Parts(
        name=name,
        version="1.2.0",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        model=Model(
            name=name, format="onnx", files=(), inputs=session.inputs, outputs=session.outputs, parameter_count=0
        ),
        model_bytes=raw,
        runtime="onnxruntime",
        runtime_versions=">=1.20",
        kind="tensor",
        inputs=(TensorSpec(name="x", dtype="float32", shape=(2,)),),
        self_test_inputs=inputs,
        self_test_expected={output: value + np.float32(off_by) for output, value in expected.items()},
        preprocess=steps,
        postprocess=(Classify(),),
        labels=labels,
    )
    with new_folder(folder) as work:
        bundle.assemble(work, parts)
    bundle.sign(folder, key)
    return folder


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> bundle.SigningKey:
    return bundle.create_key(tmp_path_factory.mktemp("keys") / "signing.key")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, key: bundle.SigningKey) -> Made:
    folder = make(tmp_path_factory.mktemp("bundles") / "work", key)
    return Made(folder, bundle.public_path_of(key.path))


def command(*words: str | Path) -> list[str]:
    return [str(Path(sys.executable).with_name("edgeward")), *map(str, words)]


class Serving(NamedTuple):
    process: "subprocess.Popen[str]"
    line: str

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", int(self.line.partition("127.0.0.1:")[2].partition("/")[0])


@pytest.fixture
def serving(made: Made) -> Iterator[Serving]:
    process = subprocess.Popen(
        command("serve", made.folder, "--key", made.key, "--port", "0"), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    yield Serving(process, process.stderr.readline().strip())
    if process.poll() is None:
        process.kill()
        process.communicate()


def fails(*words: str | Path, home: Path | None = None) -> tuple[int, str]:
    """Exit code and what was said; one sentence and at most one hint."""
    environment = {**os.environ, **({"XDG_CONFIG_HOME": str(home)} if home else {})}
    done = subprocess.run(command("serve", *words), capture_output=True, text=True, timeout=120, env=environment)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_it_says_where_it_serves_and_answers_there(serving: Serving) -> None:
    assert serving.line.startswith("serving work 1.2.0 at http://127.0.0.1:")
    assert serving.line.endswith("/v2/models/work")
    with urlopen(serving.line.rpartition(" ")[2]) as reply:
        about = json.load(reply)
    assert about["platform"] == "onnxruntime_onnx"
    assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]


def test_raw_samples_go_in_and_the_bundle_prepares_them(serving: Serving) -> None:
    client = InferenceServerClient("{}:{}".format(*serving.address))
    sample = InferInput("x", [2, 2], "FP32")
    sample.set_data_from_numpy(np.array([[1, 2], [4, 3]], np.float32))
    assert client.infer("work", [sample], "1.2.0").as_numpy("y").tolist() == [[2, 4], [8, 6]]
    best = client.infer("work", [sample], outputs=[InferRequestedOutput("y", class_count=1)]).as_numpy("y")
    assert best.tolist() == [[b"4.000000:1:right"], [b"8.000000:0:left"]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_the_request_under_way(serving: Serving, number: signal.Signals) -> None:
    body = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[150000,1]}]}'
    with socket.create_connection(serving.address) as connection:
        connection.sendall(
            b"POST /v2/models/work/infer HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        url = "http://{}:{}/metrics".format(*serving.address)
        while b'edgeward_in_flight{model="work",version="1.2.0"} 1.0' not in urlopen(url).read():
            pass
        serving.process.send_signal(number)
        reply = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"HTTP/1.1 200 OK" in reply
    assert b'"data":[300000.0,2.0]' in reply
    _, said = serving.process.communicate(timeout=60)
    assert (serving.process.returncode, said) == (0, "")


@pytest.mark.slow
def test_a_running_service_is_traced_and_goes_on(serving: Serving) -> None:
    """With bpftrace where it can be had, else with the service's own counters."""
    client = InferenceServerClient("{}:{}".format(*serving.address))
    sample = InferInput("x", [1, 2], "FP32")
    sample.set_data_from_numpy(np.array([[100, 2]], np.float32))
    pid = str(serving.process.pid)
    tracer = subprocess.Popen(command("trace", pid, "--seconds", "2", "--json"), stdout=subprocess.PIPE, text=True)
    asked = 0
    while tracer.poll() is None:
        assert client.infer("work", [sample]).as_numpy("y").tolist() == [[200, 4]]
        asked += 1
    found = json.loads(tracer.communicate()[0])
    assert tracer.returncode == 0
    assert found["pid"] == serving.process.pid
    assert found["way"] == ("own counters" if bpftrace_run.missing() else "bpftrace"), found["unseen"]
    assert 10 < found["frames"] <= asked
    assert found["late"]
    assert all(frame["took_ns"] >= 1e6 * found["late_from_ms"] for frame in found["late"])
    with FrameRing(serving.process.pid) as ring:
        assert ring.asked() == 0
    assert client.infer("work", [sample]).as_numpy("y").tolist() == [[200, 4]]


def test_a_used_port_is_told_before_any_model_is_loaded(made: Made, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = fails(tmp_path / "no bundle here", "--key", made.key, "--port", str(port))
    assert (code, said) == (
        1, f"edgeward: 127.0.0.1:{port}: the address is already in use\n  try: choose another with --port\n",
    )  # fmt: skip


def test_an_address_that_this_machine_does_not_have(made: Made) -> None:
    code, said = fails(made.folder, "--key", made.key, "--host", "192.0.2.1")
    assert (code, said.splitlines()[0]) == (2, "edgeward: this machine has no address 192.0.2.1")
    code, said = fails(made.folder, "--key", made.key, "--host", "no such host")
    assert (code, said.splitlines()[0]) == (2, "edgeward: there is no host 'no such host'")


def test_a_bundle_that_fails_its_self_test_is_refused(made: Made, key: bundle.SigningKey, tmp_path: Path) -> None:
    wrong = make(tmp_path / "wrong", key, off_by=50.0)
    code, said = fails(wrong, "--key", made.key, "--port", "0")
    assert code == 6
    assert said.startswith(f"edgeward: {wrong}: fails its self-test on this machine: an answer is off by ")


def test_a_bundle_of_a_stranger_is_refused(made: Made, tmp_path: Path) -> None:
    stranger = bundle.create_key(tmp_path / "stranger.key")
    code, said = fails(made.folder, "--key", bundle.public_path_of(stranger.path), "--port", "0")
    assert code == 6
    assert "is signed by an unknown key" in said
    code, said = fails(made.folder, "--port", "0", home=tmp_path / "nobody")
    assert code == 6
    assert "no key is trusted on this machine" in said


def test_two_bundles_of_one_name_and_version_are_refused(made: Made) -> None:
    code, said = fails(made.folder, made.folder, "--key", made.key, "--port", "0")
    assert (code, said.splitlines()[0]) == (
        2, "edgeward: work 1.2.0 is given twice; clients could not tell the two apart",
    )  # fmt: skip


def test_a_bundle_that_is_not_there(made: Made, tmp_path: Path) -> None:
    code, said = fails(tmp_path / "nothing", "--key", made.key, "--port", "0")
    assert (code, said.splitlines()[0]) == (2, f"edgeward: {tmp_path / 'nothing'}: no such bundle")


@pytest.mark.parametrize("option", ["--port=70000", "--threads=0", "--max-waiting=0", "--max-request-bytes=x"])
def test_options_out_of_range_are_usage_errors(made: Made, option: str) -> None:
    assert fails(made.folder, option)[0] == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--socket-group", "root"], "--socket-group is of the Unix socket"),
        (["--batch-wait", "2"], "--batch-wait is of batches"),
        (["--socket", "/etc/passwd"], "/etc/passwd: exists already and is no socket of a service that ended"),
        (["--socket", "x.sock", "--socket-group", "no-such-group"], "this machine has no group 'no-such-group'"),
        (["--otlp", "collector:4318"], "--otlp takes a URL, got 'collector:4318'"),
    ],
)
def test_options_that_cannot_be_are_told_in_a_sentence(made: Made, options: list[str], told: str) -> None:
    code, said = fails(made.folder, "--key", made.key, "--port", "0", *options)
    assert (code, said.splitlines()[0]) == (2, f"edgeward: {told}")


def test_several_bundles_are_served_together(made: Made, key: bundle.SigningKey, tmp_path: Path) -> None:
    other = make(tmp_path / "other", key, name="other")
    process = subprocess.Popen(
        command("serve", made.folder, other, "--key", made.key, "--port", "0"), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    lines = [process.stderr.readline() for _ in range(2)]
    process.terminate()
    assert process.communicate(timeout=60)[1] == ""
    assert [line.split()[1] for line in lines] == ["work", "other"]
    assert process.returncode == 0
