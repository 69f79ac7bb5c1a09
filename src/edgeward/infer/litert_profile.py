"""Where LiteRT's time goes, operator by operator.

Its Python package has no profiler: each operator is cut out of the file and timed alone, at its own shapes, with its
own weights and the kernel that it has in the whole model. No copy into or out of the interpreter is counted.
"""

from collections.abc import Mapping
from time import perf_counter_ns
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeward.infer import litert_session
from edgeward.infer.litert_session import LiteRtSession
from edgeward.infer.node_times import NodeTime, undisturbed
from edgeward.infer.tensors import Tensors
from edgeward.kit.errors import EdgewardError

_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
_FREE = ("RESHAPE", "SHAPE", "SQUEEZE", "EXPAND_DIMS")
_WARM_RUNS = 3


class LiteRtProfile:
    """The operators of a model, each in an interpreter of its own."""

    def __init__(self, model: bytes, threads: int, *, tiles: bool) -> None:
        self.inputs = litert_session.load(model, threads=threads, tiles=tiles).inputs
        self._parts: list[tuple[str, str, LiteRtSession]] = []
        for name, kernel, part in _operators(model):
            try:
                session = litert_session.load(part, threads=threads, tiles=tiles)
                session.run({spec.name: _values(spec.dtype, spec.shape) for spec in session.inputs})
            except EdgewardError:
                continue  # one that works in its model only, such as an operator on a list of tensors
            self._parts.append((name, kernel, session))
        self._taken: list[list[float]] = [[] for _ in self._parts]

    def run(self, feeds: Tensors) -> None:  # noqa: ARG002 - what an operator costs does not depend on its values
        for (_, _, session), taken in zip(self._parts, self._taken, strict=True):
            for _ in range(_WARM_RUNS):
                session.invoke()
            begin = perf_counter_ns()
            session.invoke()
            taken.append((perf_counter_ns() - begin) / 1e6)

    def node_times(self) -> tuple[NodeTime, ...]:
        return tuple(
            NodeTime(name, kernel, f"XNNPACK {_computed_in(session)}, timed alone", undisturbed(taken))
            for (name, kernel, session), taken in zip(self._parts, self._taken, strict=True)
        )


def profile(model: bytes, *, threads: int, tiles: bool) -> LiteRtProfile:
    """Raises what litert_session.load raises."""
    return LiteRtProfile(model, threads, tiles=tiles)


def operator_names(model: bytes) -> list[tuple[str, str]]:
    """Of each operator of the file, in its order: the name of its result, and its kind."""
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(model), 0))
    graph = whole.subgraphs[0]
    return [(name_of(graph, operator), kind_of(whole, operator)) for operator in graph.operators]


def kind_of(whole: Any, operator: Any) -> str:
    """An operator's kind, such as "CONV_2D"."""
    code = whole.operatorCodes[operator.opcodeIndex]
    return str(_NAMES.get(max(code.builtinCode, code.deprecatedBuiltinCode), "CUSTOM"))


def name_of(graph: Any, operator: Any) -> str:
    """Of its first result; files need not name their tensors."""
    index = operator.outputs[0]
    name = graph.tensors[index].name
    return name.decode() if isinstance(name, bytes) else str(name or f"tensor {index}")


def _computed_in(session: LiteRtSession) -> str:
    dtypes = [spec.dtype for spec in session.inputs]
    return "int8" if dtypes and dtypes[0] in ("int8", "uint8") else dtypes[0] if dtypes else ""


def _operators(model: bytes) -> list[tuple[str, str, bytes]]:
    """The name of its result, its kind, and a model of that operator alone; without those that cost nothing."""
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(model), 0))
    graph = whole.subgraphs[0]
    found = []
    for operator in graph.operators:
        kind = kind_of(whole, operator)
        if kind not in _FREE and any(_is_computed(whole, graph, index) for index in operator.inputs):
            found.append((name_of(graph, operator), kind, _alone(whole, graph, operator)))
    return found


def _is_computed(whole: Any, graph: Any, index: int) -> bool:
    """Whether a tensor's values come from another operator or from outside: it has none in the file."""
    if index < 0:
        return False
    data = whole.buffers[graph.tensors[index].buffer].data
    return data is None or len(data) == 0


def _alone(whole: Any, graph: Any, operator: Any) -> bytes:
    used = [*dict.fromkeys(index for index in (*operator.inputs, *operator.outputs) if index >= 0)]
    places = {index: place for place, index in enumerate(used)}
    model, part, kept = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
    kept.__dict__.update(vars(operator))
    kept.inputs, kept.outputs = _moved(operator.inputs, places), _moved(operator.outputs, places)
    kept.opcodeIndex = 0
    model.version, model.operatorCodes, model.subgraphs = 3, [whole.operatorCodes[operator.opcodeIndex]], [part]
    model.buffers = [schema.BufferT()]
    part.tensors, part.operators = [], [kept]
    for index in used:
        tensor = schema.TensorT()
        tensor.__dict__.update(vars(graph.tensors[index]))
        tensor.name = f"t{places[index]}"
        model.buffers.append(whole.buffers[graph.tensors[index].buffer])
        tensor.buffer = len(model.buffers) - 1
        part.tensors.append(tensor)
    part.inputs = [places[i] for i in dict.fromkeys(operator.inputs) if _is_computed(whole, graph, i)]
    part.outputs = [places[index] for index in operator.outputs]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _moved(indices: Any, places: Mapping[int, int]) -> list[int]:
    return [places[index] if index >= 0 else -1 for index in indices]


def _values(dtype: str, shape: tuple[int | str, ...]) -> np.ndarray[Any, Any]:
    whole = tuple(dim if isinstance(dim, int) and dim > 0 else 1 for dim in shape)
    return np.ones(whole, dtype) if dtype != "string" else np.full(whole, "", object)
