"""A model in processes of its own answers as it does here, in one copy or in several."""

import os
import threading
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgeward.infer import Predictor
from edgeward.kit.errors import Failed, WrongInput
from edgeward.measure import bench
from edgeward.measure.isolated import IsolatedSession
from edgeward.measure.jobs import Contender
from edgeward.measure.one_cpu import fast_cpu, on_one_cpu

SAMPLES = [{"x": np.full(4, value, np.float32)} for value in range(300)]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.onnx"
    double = helper.make_node("Add", ["x", "x"], ["y"])
    shape = ["N", 4]
    graph = helper.make_graph(
        [double], "doubles",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )  # fmt: skip
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    path.write_bytes(model.SerializeToString())
    return path


def _answers(session, batch):
    return np.concatenate([values[0] for values in Predictor(session).outputs_of(SAMPLES, batch=batch)])


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_samples_are_answered_in_order_however_many_copies_there_are(file, copies):
    with bench.WORKERS, IsolatedSession(str(file), "onnxruntime", 1) as session:
        session.widen(copies)
        for _ in range(3):  # a copy takes its share from when it is ready
            found = _answers(session, batch=1)
        assert (found == 2 * np.stack([sample["x"] for sample in SAMPLES])).all()


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 256])
def test_as_many_samples_as_are_asked_at_once_leave_none_behind(file, count):
    samples = [{"x": np.full(4, value, np.float32)} for value in range(count)]
    with IsolatedSession(str(file), "onnxruntime", 1) as session:
        found = [values[0] for values in Predictor(session).outputs_of(samples, batch=1)]
    assert [row[0, 0] for row in found] == [2 * value for value in range(count)]


def _asked_wrongly(file):
    with IsolatedSession(str(file), "onnxruntime", 1) as session:
        session.widen(2)
        session.run_each([{"y": np.ones((1, 4), np.float32)}] * 4)


def test_what_does_not_fit_is_told_and_the_next_model_is_answered_by_fresh_copies(file):
    with bench.WORKERS:
        with pytest.raises(WrongInput, match="y"):
            _asked_wrongly(file)
        with IsolatedSession(str(file), "onnxruntime", 1) as session:
            session.widen(2)
            assert (_answers(session, batch=8)[:, 0] == 2 * np.arange(300)).all()


def test_a_copy_whose_model_does_not_load_is_one_error(file):
    with bench.WORKERS, IsolatedSession(str(file), "onnxruntime", 1) as session:
        file.write_bytes(b"no model any more")
        session.widen(2)
        deadline = monotonic() + 60
        with pytest.raises((WrongInput, Failed)):
            _until_told(session, deadline)


def _until_told(session, deadline):
    while monotonic() < deadline:
        _answers(session, batch=1)


def test_two_models_timed_in_turn_are_told_apart(tmp_path, file):
    """The same model against itself is about even; one that sleeps is not."""
    feeds = bench.save_feeds(tmp_path / "feeds.npz", SAMPLES[:2])
    one = Contender(str(file), "onnxruntime", 1, str(feeds))
    with IsolatedSession(str(file), "onnxruntime", 1) as first, IsolatedSession(str(file), "onnxruntime", 1) as second:
        cost = second.alone(one, seconds=0.01)
        assert cost.load_ms > 0
        assert cost.peak_memory_bytes > 1 << 20
        before = os.sched_getaffinity(first._partners[0].pid)
        assert 0.2 < second.share_of(first, one, one) < 5
        assert os.sched_getaffinity(first._partners[0].pid) == before


def test_threads_stay_on_one_cpu_for_a_while_and_are_let_go():
    ready, done = threading.Event(), threading.Event()
    seen: list[set[int]] = []

    def wait() -> None:
        ready.set()
        done.wait()
        seen.append(os.sched_getaffinity(0))

    other = threading.Thread(target=wait)
    other.start()
    ready.wait()
    before = os.sched_getaffinity(0)
    with on_one_cpu([os.getpid()]):
        assert len(os.sched_getaffinity(0)) == 1
        assert os.sched_getaffinity(0) <= before
        done.set()
        other.join()
    assert [len(cpus) for cpus in seen] == [1]
    assert os.sched_getaffinity(0) == before
    assert fast_cpu() in before


def test_a_process_that_is_gone_is_no_fault():
    gone = int(Path("/proc/sys/kernel/pid_max").read_text()) - 1
    with on_one_cpu([gone]):
        pass
