"""ONNX to machine code (`.so`), by TVM's compiler, for this processor or for another one. Batches have one sample.

The compiler works in a process of its own, so that a crash of it is one failure with a reason.
"""

import platform
import sys
from importlib.util import find_spec

import onnx

from edgeward.infer.tvm_library import TRIPLES
from edgeward.kit import process
from edgeward.kit.errors import Failed, Unsupported
from edgeward.optimize.exporters.base import Compiler, Exported
from edgeward.optimize.one_sample import one_sample
from edgeward.optimize.wiring import attribute

_LIMIT_S = 300

for package in ("tvm", "ziglang"):
    if find_spec(package) is None:
        raise ModuleNotFoundError(name=package)


class ToTvm:
    suffix = ".so"

    def export(self, model: onnx.ModelProto) -> Exported:
        return self.compile_for(model, platform.machine())

    def compile_for(self, model: onnx.ModelProto, arch: str) -> Exported:
        if arch not in TRIPLES:
            raise Unsupported(f"TVM's models are made for {' and '.join(TRIPLES)}; this is for {arch}")
        if wrong := next(filter(None, map(_wrong, model.graph.node)), None):
            raise Unsupported(f"TVM's importer answers {wrong} wrongly")
        command = [sys.executable, "-m", "edgeward.optimize.exporters.tvm.compiler", arch]
        done = process.run(command, limit_s=_LIMIT_S, stdin=one_sample(model, "TVM").SerializeToString())
        if done.code:
            said = next(iter(done.complaint.splitlines()[-1:]), done.ending)
            raise Failed(f"TVM cannot compile this model: {said[:200]}")
        return Exported(done.output, (f"compiled for {arch} without tuned schedules, which TVM's speed is made of",))


def _wrong(node: onnx.NodeProto) -> str | None:
    """What TVM 0.27 was seen to compute otherwise than ONNX says."""
    if node.op_type == "Celu":
        return "Celu"
    rounded = (b"round_prefer_floor", b"round_prefer_ceil")
    nearest = node.op_type == "Resize" and attribute(node, "mode", b"nearest") == b"nearest"
    return "Resize to the nearest" if nearest and attribute(node, "nearest_mode", rounded[0]) in rounded else None


plugin: Compiler = ToTvm()
