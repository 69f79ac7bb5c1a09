"""TVM on the CPU: machine code that TVM compiled for this processor, run by its virtual machine.

Without schedules, which only hours of tuning find, that code runs on one thread and is slow.
"""

import platform
import tempfile
import threading
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from edgeward.infer.runtimes.base import Runtime, Session, Tensors
from edgeward.infer.tensors import check
from edgeward.infer.tvm_library import Signature, library_of, signature_of
from edgeward.kit.errors import Failed, WrongInput
from edgeward.records.model import TensorSpec


class TvmSession:
    """A loaded library. One run at a time: the virtual machine owns its memory."""

    def __init__(self, main: Any, signature: Signature) -> None:
        self._main = main
        self._lock = threading.Lock()
        self.inputs = signature.inputs
        self.outputs = signature.outputs

    def run(self, feeds: Tensors) -> list[NDArray[Any]]:
        check(feeds, self.inputs)
        given = [tvm.runtime.tensor(np.ascontiguousarray(feeds[spec.name])) for spec in self.inputs]
        with self._lock:
            try:
                found = self._main(*given)
            except Exception as error:  # whatever the compiled code raises, it is of TVM's making
                raise Failed(f"inference failed in TVM: {' '.join(str(error).split())[:300]}") from error
            return [value.numpy() for value in ([found] if hasattr(found, "numpy") else found)]


class Tvm:
    formats = ("tvm",)

    def version(self) -> str:
        return str(tvm.__version__)

    def providers(self) -> tuple[str, ...]:
        return ("llvm",)

    def load(self, model: bytes, *, threads: int) -> Session:  # noqa: ARG002 - its code is for one thread
        signature = signature_of(model, platform.machine())
        with tempfile.NamedTemporaryFile(suffix=".so") as file:  # the loader wants a file, and maps it
            file.write(model)
            file.flush()
            try:
                machine = relax.VirtualMachine(tvm.runtime.load_module(file.name), tvm.cpu())
                return TvmSession(machine["main"], signature)
            except Exception as error:  # what the loader and the virtual machine raise is no one type
                raise WrongInput(f"this is no valid TVM model: {' '.join(str(error).split())[:300]}") from error

    def smoke_model(self) -> bytes:
        builder, values = (
            relax.BlockBuilder(),
            relax.Var("x", relax.TensorType([tvm.tirx.Var("n", "int64")], "float32")),
        )
        with builder.function("main", [values]):
            builder.emit_func_output(builder.emit(relax.op.add(values, values)))
        spec = TensorSpec(name="x", dtype="float32", shape=("n",))
        made = tvm.compile(builder.get(), tvm.target.Target("llvm"))
        return library_of(
            made, Signature((spec,), (TensorSpec(name="y", dtype="float32", shape=("n",)),)), platform.machine()
        )


plugin: Runtime = Tvm()
