"""A TVM model file: a shared library of machine code, and behind it, where no loader looks, its signature as JSON.

The last twelve bytes are the signature's length in little-endian order and a mark.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgeward.kit.errors import Failed, Unsupported, WrongInput
from edgeward.records.model import TensorSpec

TRIPLES = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}
"""The processors that code is made for, as LLVM and the linker call them."""
_GLIBC = "2.28"
"""The oldest that TVM's own wheels run on."""
_MACHINES = {62: "x86_64", 183: "aarch64"}
_MARK = b"EDGEWARD"
_LENGTH_BYTES = 4


class Signature(msgspec.Struct):
    """The names and shapes that machine code does not tell."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def library_of(executable: Any, signature: Signature, arch: str) -> bytes:
    """The file for what TVM compiled for `arch`. Raises Failed where it cannot be linked."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.so"

        def link(output: str, objects: Sequence[str], options: Sequence[str] | None = None, **_: object) -> None:
            command = [sys.executable, "-m", "ziglang", "cc", "-target", f"{TRIPLES[arch]}.{_GLIBC}", "-shared", "-s"]
            linked = subprocess.run([*command, "-o", output, *objects, *(options or ())], capture_output=True)
            if linked.returncode:
                raise Failed(f"the model cannot be linked: {linked.stderr.decode(errors='replace').strip()[-200:]}")

        executable.export_library(str(file), fcompile=link, workspace_dir=folder)
        told = msgspec.json.encode(signature)
        return b"".join([file.read_bytes(), told, len(told).to_bytes(_LENGTH_BYTES, "little"), _MARK])


def signature_of(model: bytes, arch: str) -> Signature:
    """Raises WrongInput for bytes that are no such file, Unsupported for machine code that is not `arch`'s."""
    if not (model.startswith(b"\x7fELF") and model.endswith(_MARK)):
        raise WrongInput("these bytes are no TVM model that edgeward optimize wrote")
    found = _MACHINES.get(int.from_bytes(model[18:20], "little"), "another processor")
    if found != arch:
        raise Unsupported(f"this model is machine code for {found}; this is {arch}")
    end = len(model) - len(_MARK) - _LENGTH_BYTES
    length = int.from_bytes(model[end : end + _LENGTH_BYTES], "little")
    try:
        return msgspec.json.decode(model[end - length : end], type=Signature)
    except msgspec.DecodeError as error:
        raise WrongInput(f"the names in this TVM model cannot be read: {error}") from error
