"""A search on a machine of another processor family: an aarch64 root under emulation, behind a real sshd."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import emulated_root
import numpy as np
import onnx
import pytest
from loopback_sshd import needs_sshd, serving
from models_for_tests import classifier, samples, write_samples

from edgeward.kit.clock import SystemClock
from edgeward.kit.errors import Unsupported
from edgeward.measure.limits import parse_budget
from edgeward.measure.place import HERE
from edgeward.measure.remote import RemotePlace
from edgeward.optimize import exporters
from edgeward.optimize.prepare import Order
from edgeward.optimize.run import optimize


class Unseen:
    """Nobody waits for this progress."""

    def stage(self, text: str, done: float) -> None: ...

    def say(self, text: str) -> None: ...


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemotePlace]:
    if reason := emulated_root.missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="edgeward-aarch64-") as root:
        Path(root).chmod(0o755)
        enter = emulated_root.make(Path(root))
        folder = tmp_path_factory.mktemp("emulated")
        with serving(folder, folder / "unused", setting=f"ForceCommand {enter}") as server, server.place() as made:
            yield made


@pytest.fixture
def order(tmp_path: Path) -> Order:
    onnx.save(classifier(), tmp_path / "model.onnx")
    return Order(
        model=tmp_path / "model.onnx", data=write_samples(tmp_path / "data.npz"), calibration=None,
        output=tmp_path / "out", metric=None, max_drop=0.01, budget=parse_budget(""), threads=1, time_limit_s=45,
        seed=0, preprocess=None, labels=(), shapes={}, overwrite=False, command="", memory=None,
    )  # fmt: skip


@needs_sshd
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_another_processor_gives_the_same_answers(place: RemotePlace, tmp_path: Path, runtime: str) -> None:
    pytest.importorskip({"litert": "ai_edge_litert"}.get(runtime, runtime))
    exporter = exporters.load({"litert": "litert"}.get(runtime, "onnx"))
    file = tmp_path / f"model{exporter.suffix}"
    file.write_bytes(exporter.export(classifier()).data)
    images = samples(4)[0].transpose(0, 3, 1, 2).astype(np.float32)
    with place.open(str(file), runtime, 1) as there, HERE.open(str(file), runtime, 1) as here:
        assert there.inputs == here.inputs
        feeds = {there.inputs[0].name: images[:1]}
        np.testing.assert_allclose(there.run(feeds)[0], here.run(feeds)[0], rtol=1e-4, atol=1e-4)


@needs_sshd
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_there_says_that_its_times_mean_nothing(place: RemotePlace, order: Order) -> None:
    report = optimize(order, SystemClock(), Unseen(), place)
    assert (report.target, report.timing, report.setting.cpu) == ("emulated-aarch64", "meaningless", "emulated aarch64")
    assert report.notes[0].startswith("emulated-aarch64 is emulated: its times and memory mean nothing")
    assert "fast" not in report.reason
    assert not any("stopped early" in (trial.failure or "") for trial in report.trials)
    assert report.baseline.quality["top1"] > 0.9
    assert "Latency, median (emulated)" in (order.output / "report.html").read_text()


@needs_sshd
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_limit_on_emulated_times_is_refused(place: RemotePlace, order: Order) -> None:
    with pytest.raises(Unsupported, match="p95 cannot be limited on emulated-aarch64"):
        optimize(order._replace(budget=parse_budget("p95<9s")), SystemClock(), Unseen(), place)
    assert not order.output.exists()
