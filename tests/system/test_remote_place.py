"""Measuring on a device over a real sshd on the loopback, with a key and a port of its own."""

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from loopback_sshd import Server, needs_sshd, new_key, serving

from edgeward.kit.errors import Unavailable, WrongInput
from edgeward.measure.jobs import Contender
from edgeward.measure.place import HERE
from edgeward.measure.remote import RemotePlace


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_left(home: Path) -> list[str]:
    deadline = time.monotonic() + 30
    while (left := os.listdir(home / "tmp")) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


@pytest.fixture
def contender(tmp_path: Path) -> Contender:
    import onnx
    from onnx import TensorProto, helper

    weight = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "small.onnx")
    feeds = tmp_path / "feeds.npz"
    np.savez(feeds, x=np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32))
    return Contender(str(tmp_path / "small.onnx"), "onnxruntime", 1, str(feeds))


@needs_sshd
@pytest.mark.slow
def test_a_device_with_nothing_but_python_answers_and_is_timed(server: Server, contender: Contender) -> None:
    feeds = dict(np.load(contender.feeds))
    with server.place() as place:
        with place.open(contender.file, contender.runtime, 1) as session:
            once, twice = session.run({"x": feeds["x"][:1]}), session.run({"x": feeds["x"][:1]})
        cost = place.measure_alone(contender, seconds=0.05)
        first, second = place.race([contender, contender], seconds=0.2, seed=0)
        assert place.timing == "measured"
        assert place.facts == HERE.facts
        assert {name: place.version(name) for name in ("onnxruntime", "litert", "openvino")}
    with HERE.open(contender.file, contender.runtime, 1) as session:
        (here,) = session.run({"x": feeds["x"][:1]})
    np.testing.assert_allclose(once[0], here, rtol=1e-5)
    np.testing.assert_array_equal(once[0], twice[0])
    assert cost.steady_ms > 0
    assert cost.peak_memory_bytes > 0
    assert first.shape == second.shape
    assert _is_left(server.home) == []


@needs_sshd
def test_a_lost_connection_is_told_and_leaves_nothing_there(server: Server) -> None:
    place = server.place()
    place._ask({"do": "hello"})
    assert os.listdir(server.home / "tmp")
    for child in _children(server.process.pid):
        os.kill(child, signal.SIGKILL)  # the sshd of this connection; what it started lives on
    with pytest.raises(Unavailable, match="cannot be reached"):
        place._ask({"do": "hello"})
    place.__exit__(None, None, None)
    assert _is_left(server.home) == []


@needs_sshd
def test_a_wrong_key_is_told(server: Server, tmp_path: Path) -> None:
    options = ("-F", "none", "-i", str(new_key(tmp_path / "other")), *server.options[4:])
    with pytest.raises(Unavailable, match="Permission denied"), RemotePlace(server.host, options=options):
        pass


@needs_sshd
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.write_text("a file where a folder is wanted")
    with serving(tmp_path, cache) as server, pytest.raises(Unavailable, match="Not a directory"), server.place():
        pass
    assert _is_left(server.home) == []


@pytest.mark.parametrize("host", ["nobody@nowhere.invalid", "nobody@127.0.0.1:1"])
def test_a_host_that_does_not_answer_is_told(host: str) -> None:
    if shutil.which("ssh") is None:
        pytest.skip("ssh is missing: apt-get install openssh-client")
    with pytest.raises(Unavailable, match="cannot be reached"), RemotePlace(host, options=("-F", "none")):
        pass


@pytest.mark.parametrize("host", ["-oProxyCommand=id", "a b", "x@y:port", ""])
def test_what_names_no_machine_is_wrong_input(host: str) -> None:
    with pytest.raises(WrongInput, match="names no machine"):
        RemotePlace(host)
