"""What a device needs besides Python: nothing is missing of it, and it is smaller than what it was made of."""

import os
import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgeward.bundle import closure
from edgeward.bundle.own_wheel import own_wheel
from edgeward.bundle.pruning import kept
from edgeward.kit.errors import Unavailable, Unsupported
from edgeward.kit.tars import tar
from edgeward.kit.wheels import Abi

HERE = Abi(platform.machine(), sys.version_info[:2], int(platform.libc_ver()[1].split(".")[1]))


def test_one_inference_runtime_is_sent_and_not_all_of_them() -> None:
    assert any(one.startswith("ai-edge-litert") for one in closure.requirements("litert-amx"))
    assert not any(one.startswith("onnxruntime") for one in closure.requirements("litert"))
    assert any(one.startswith("onnxruntime-gpu") for one in closure.requirements("onnxruntime-cuda"))
    assert any(one.startswith("grpcio") for one in closure.requirements("echo", extras=["grpc"]))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: closure.requirements("polynomial"), "which packages run 'polynomial' is not known"),
        (lambda: closure.closure_of(HERE._replace(python=(3, 9)), "echo"), "edgeward needs Python 3.11 or newer"),
    ],
)
def test_what_has_no_wheels_is_told(call: object, sentence: str) -> None:
    with pytest.raises(Unsupported, match=sentence):
        call()  # type: ignore[operator]


def test_tests_headers_and_tools_go_and_licences_stay() -> None:
    paths = [
        "numpy/", "numpy/core.py", "numpy/tests/test_a.py", "numpy/__init__.pyi", "numpy/f2py/a.py",
        "numpy-2.dist-info/RECORD", "numpy-2.dist-info/METADATA", "numpy-2.dist-info/licenses/LICENSE.txt",
    ]  # fmt: skip
    left = ["numpy/core.py", "numpy-2.dist-info/METADATA", "numpy-2.dist-info/licenses/LICENSE.txt"]
    assert kept("numpy", paths) == left


def test_our_own_wheel_is_the_same_bytes_again_and_pip_installs_it(tmp_path: Path) -> None:
    name, data = own_wheel()
    assert own_wheel() == (name, data)
    (tmp_path / name).write_bytes(data)
    where = ["--no-index", "--no-deps", "--target", str(tmp_path / "there"), str(tmp_path / name)]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *where], check=True, timeout=120)
    with zipfile.ZipFile(tmp_path / name) as archive:
        assert (tmp_path / "there" / "edgeward" / "py.typed").exists() == ("edgeward/py.typed" in archive.namelist())
    assert (tmp_path / "there" / "bin" / "edgeward").exists()


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert", "openvino"])
def test_a_pruned_runtime_still_infers_and_is_smaller(runtime: str, tmp_path: Path) -> None:
    try:
        whole = closure.closure_of(HERE, runtime)
    except Unavailable as error:
        pytest.skip(f"the wheels cannot be had: {error.message}")
    parts = closure.dependencies(whole), closure.own(HERE)
    assert parts == (closure.dependencies(whole), closure.own(HERE))
    for part in parts:
        subprocess.run(["tar", "-C", tmp_path, "-xzf", part.path], check=True, timeout=120)
    base = Path(sys.base_prefix, "bin", "python3")
    made = tar(closure.environment(HERE, str(base)))
    subprocess.run(["tar", "-C", tmp_path, "-xf", "-"], input=made, check=True, timeout=60)
    code = (
        "import edgeward.serve, edgeward.bundle, edgeward.cli.serve, PIL.Image, rich.table, cryptography, sys\n"
        f"from edgeward.measure.smoke import smoke; found = smoke('{runtime}'); print(found.works, found.reason)"
    )
    python = tmp_path / "opt/edgeward/bin/python"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, "-c", code], env=environment, capture_output=True, text=True, timeout=200)
    assert done.stdout.startswith("True "), done.stdout + done.stderr
    before = sum(path.stat().st_size for path in whole.wheels)
    print(f"{runtime}: wheels {before / 1e6:.1f} MB, packed {parts[0].size / 1e6:.1f} MB")
    assert parts[0].size < 0.85 * before
