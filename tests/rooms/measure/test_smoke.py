import os
import subprocess
import sys
from pathlib import Path

from edgeward.kit import codec
from edgeward.measure import smoke
from edgeward.records.target import RuntimeFound

BROKEN = """
import os
from edgeward.infer.runtimes.echo import Echo

class Broken(Echo):
    def smoke_model(self):
        {deed}

plugin = Broken()
"""


def found_with_foreign_runtime(folder: Path, deed: str) -> RuntimeFound:
    """What the smoke inference says of a runtime that another distribution brings, and that does `deed`."""
    (folder / "broken_runtime.py").write_text(BROKEN.format(deed=deed))
    info = folder / "broken_runtime-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-runtime\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgeward.infer.runtimes]\nbroken = broken_runtime\n")
    code = "from edgeward.measure.smoke import *; sys.stdout.buffer.write(codec.to_json(smoke('broken')))"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    return codec.from_json(done.stdout, RuntimeFound, "the answer")


def test_onnx_runtime_passes_and_says_its_version_and_providers():
    found = smoke.smoke("onnxruntime")
    assert found.works, found.reason
    assert found.version is not None
    assert "CPUExecutionProvider" in found.providers


def test_the_test_member_is_not_shown_to_people():
    assert {found.name for found in smoke.runtimes_found(())}.isdisjoint({"echo"})


def test_a_runtime_that_crashes_the_process_is_a_finding_and_not_our_end(tmp_path):
    found = found_with_foreign_runtime(tmp_path, "os.abort()")
    assert not found.works
    assert "killed by SIGABRT" in found.reason


def test_a_runtime_that_raises_is_a_finding(tmp_path):
    found = found_with_foreign_runtime(tmp_path, "raise RuntimeError('no such device')")
    assert not found.works
    assert found.reason.endswith("RuntimeError: no such device")


def test_a_runtime_that_answers_wrongly_does_not_work(tmp_path):
    wrong = """return b'{"inputs":[{"name":"x","dtype":"float32","shape":["n"]}],"gain":3}'"""
    found = found_with_foreign_runtime(tmp_path, wrong)
    assert not found.works
    assert found.reason == "doubling 1, -2.5, 3 gave [3.0, -7.5, 9.0]"


def test_a_runtime_whose_package_is_missing_is_named_with_the_command(tmp_path):
    (tmp_path / "pkg").mkdir()
    found = found_with_foreign_runtime(tmp_path / "pkg", "import no_such_engine")
    assert not found.works
    assert "no_such_engine" in found.reason


def test_a_name_that_is_no_runtime_does_not_work():
    found = smoke.smoke("frobnicate")
    assert not found.works
    assert "frobnicate" in found.reason
