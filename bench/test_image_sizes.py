"""How large an image is that serves an ONNX model: ours, and the smallest that users of other servers make.

`python -m pytest bench/test_image_sizes.py -s` prints the table. All stand on the same base, the minimal Debian with
Python that `edgeward export` makes. The others are `pip install --no-cache-dir --no-compile` into it, as their
documentation says, with ONNX Runtime and NumPy; each is imported in its image, so that nothing is missing.
"""

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeward.bundle import closure
from edgeward.bundle.bases import open_base
from edgeward.kit.tars import Entry, tar_gz

OTHERS = {
    "LitServe": (("litserve", "onnxruntime"), "litserve"),
    "BentoML": (("bentoml", "onnxruntime", "pillow"), "bentoml"),
    "Triton (PyTriton)": (("nvidia-pytriton", "onnxruntime"), "pytriton.triton"),
    "Edgeward by pip": ((), "edgeward.serve"),
}
SITE = "usr/local/lib/python3.11/dist-packages"
TAGS = (
    "manylinux_2_35_x86_64",
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
)


def installed(packages: tuple[str, ...], folder: Path) -> Path:
    words = [sys.executable, "-m", "pip", "install", "-q", "--no-cache-dir", "--no-compile", "--only-binary=:all:"]
    words += [word for tag in TAGS for word in ("--platform", tag)]
    words += ["--python-version", "3.11", "--target", str(folder), *packages]
    subprocess.run(words, check=True, capture_output=True, timeout=900)
    return folder


def entries(folder: Path) -> Iterator[Entry]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield Entry(f"{SITE}/{path.relative_to(folder)}", path.read_bytes(), path.stat().st_mode & 0o755)


def unpacked_size(archive: Path) -> int:
    with tarfile.open(archive) as file:
        return sum(member.size for member in file)


def imports(root: Path, module: str) -> None:
    """Raises where the image cannot import it."""
    line = f'mount --rbind /proc "{root}/proc" && exec chroot "{root}" /usr/bin/python3.11 -c "import {module}"'
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"/{SITE}", "HOME": "/tmp"}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", line], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{module}: {done.stderr[-500:]}"


@pytest.mark.skipif(os.geteuid() != 0, reason="images are entered by root alone")
def test_image_sizes(tmp_path: Path) -> None:
    base = open_base("debian", "amd64")
    below = base.layers[0]
    found = closure.closure_of(base.abi, "onnxruntime")
    parts = (closure.dependencies(found), closure.own(base.abi))
    rows = {
        "Edgeward": (
            sum(part.size for part in parts),
            sum(unpacked_size(part.path) for part in parts),
            len(found.packages),
        )
    }
    for name, (packages, module) in OTHERS.items():
        folder = installed(packages or (*closure.requirements("onnxruntime"),), tmp_path / "packages")
        if not packages:
            subprocess.run(["cp", "-r", Path(closure.__file__).parents[1], folder / "edgeward"], check=True)
            subprocess.run(f"find {folder}/edgeward -name __pycache__ -exec rm -r {{}} +", shell=True, check=True)
        archive = tar_gz(entries(folder), tmp_path / "packages.tar.gz")
        root = tmp_path / "root"
        root.mkdir()
        for part in (below.path, archive.path):
            subprocess.run(["tar", "-C", root, "-xzf", part], check=True)
        imports(root, module)
        rows[name] = (archive.size, unpacked_size(archive.path), len(list(folder.glob("*.dist-info"))))
        for gone in (folder, root):
            subprocess.run(["rm", "-rf", gone], check=True)
    under = unpacked_size(below.path)
    print(f"\nthe base alone: {below.size / 1e6:.1f} MB packed, {under / 1e6:.1f} MB unpacked")
    print("| image | packed, MB | unpacked, MB | over the base, packed | packages |")
    print("|---|---:|---:|---:|---:|")
    for name, (packed, whole, count) in sorted(rows.items(), key=lambda row: row[1]):
        print(
            f"| {name} | {(below.size + packed) / 1e6:.1f} | {(under + whole) / 1e6:.1f} "
            f"| {packed / 1e6:.1f} | {count} |"
        )
    assert rows["Edgeward"] == min(rows.values())
