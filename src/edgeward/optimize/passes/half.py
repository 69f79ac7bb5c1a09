"""Float16: weights alone, half the file; or weights and arithmetic. Inputs and outputs stay float32.

With `compute=float32` a Cast stands behind each stored weight, which runtimes fold away when they load the model: the
answers move by the rounding of weights, one part in two thousand, and the speed stays. With `compute=float16`
everything between the first and the last Cast is float16, for machines that multiply it (Arm with fp16 arithmetic,
GPUs); ONNX Runtime on x86 has no such kernels and computes those nodes in float32. What float16 cannot hold, beyond
±65504, stays float32: constants, and operators that meet such values on calibration samples; so do operators that
runtimes have no float16 form of. Of a quantised model the weights that were left in float are stored so.

(ONNX Runtime's own `float16.convert_float_to_float16` was tried: it passes values between two operators that stay
float32 through float16, where they become infinite, and clips constants to its range.)
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from edgeward.infer import Predictor, runtimes
from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.optimize.passes.base import Context, DoesNotApply, Pass, Passed
from edgeward.optimize.wiring import Wiring, making
from edgeward.records.candidate import Step

_LARGEST = 65504.0
_ROOM = 4.0
"""Samples that were not seen may make values so many times as large."""
_SAMPLES = 16
_WITH_HALF_KERNELS = frozenset((
    "Abs", "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "ConvTranspose", "DepthToSpace",
    "Div", "Dropout", "Erf", "Expand", "Flatten", "Gather", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool",
    "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LayerNormalization", "LeakyRelu", "MatMul", "Max",
    "MaxPool", "Min", "Mul", "Neg", "PRelu", "Pad", "Pow", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape",
    "Sigmoid", "Slice", "Softmax", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
    "Where",
))  # fmt: skip
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")
_LEAST_WEIGHTS = 64
"""Below so many a Cast costs more than it saves."""


class Half:
    """Options: compute float32|float16 (float32)."""

    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:
        compute = step.options.get("compute", "float32")
        if compute not in ("float32", "float16"):
            raise WrongInput(f"half: compute is {compute!r}, wanted float32 or float16")
        is_quantised = any(node.op_type in _ROUNDING for node in model.graph.node)
        if is_quantised and compute == "float16":
            raise DoesNotApply("its weights are in eight bits or fewer already")
        made, *notes = _stored(model) if compute == "float32" else _computed(model, context)
        if made is model and not is_quantised:
            raise DoesNotApply("there are no float32 weights in it that float16 could hold")
        return Passed(made, context.preprocess, tuple(notes))


def _stored(model: onnx.ModelProto) -> tuple[onnx.ModelProto, *tuple[str, ...]]:
    """The model with its weights in float16, and a note; the model itself where it has no such weights."""
    wiring = Wiring(model)
    count, left = 0, 0
    for tensor in list(wiring.graph.initializer):
        values = numpy_helper.to_array(tensor)
        readers = wiring.readers.get(tensor.name, [])
        if values.dtype != np.float32 or values.size < _LEAST_WEIGHTS or not readers:
            continue
        if any(node.op_type in _ROUNDING for node in readers):
            continue  # scales
        if not _holds(values):
            left += 1
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), wiring.free_name(f"{name}_half")))
        wiring.insert(0, helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
        count += 1
    if not count:
        return (model, f"{left} weights stay float32, whose values float16 cannot hold") if left else (model,)
    kept = f"; {left} stay float32, whose values float16 cannot hold" if left else ""
    return wiring.model, f"{count} weights are stored in float16{kept}"


def _holds(values: np.ndarray) -> bool:
    """Whether float16 has these values: none too large, and the larger part not rounded to nothing."""
    finite = np.abs(values[np.isfinite(values)])
    return finite.size == values.size and not (finite > _LARGEST).any() and _survives(finite)


def _survives(sizes: np.ndarray) -> bool:
    largest = float(sizes.max(initial=0.0))
    return largest == 0.0 or largest > 1e-4  # the smallest normal number is 6e-5


def _computed(model: onnx.ModelProto, context: Context) -> tuple[onnx.ModelProto, str]:
    wiring = Wiring(model)
    for place, node in enumerate(wiring.graph.node):
        node.name = f"node{place}"
    blocked = _too_large(wiring, context)
    known = [
        node for node in wiring.graph.node if node.op_type in _WITH_HALF_KERNELS and node.domain in ("", "ai.onnx")
    ]
    chosen = {node.name for node in known} - blocked
    if not any(node.name in chosen and node.op_type in ("Conv", "Gemm", "MatMul") for node in known):
        raise DoesNotApply("there is no Conv, Gemm or MatMul in it that float16 could hold")
    _narrow(wiring, chosen)
    kept = f"; {len(blocked)} operators with values beyond it stay float32" if blocked else ""
    return wiring.model, f"weights and arithmetic in float16{kept}"


def _has_half_kernel(node: onnx.NodeProto) -> bool:
    """LayerNormalization gives its mean and deviation in float32 whatever it takes."""
    alone = node.op_type != "LayerNormalization" or len(node.output) == 1
    return node.op_type in _WITH_HALF_KERNELS and node.domain in ("", "ai.onnx") and alone


def _narrow(wiring: Wiring, chosen: set[str]) -> None:
    """Has the chosen operators read and make float16. A value keeps its name in float32, where anything reads that."""
    graph = wiring.graph
    floats = _float_values(wiring.model)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made = {name for node in graph.node if node.name in chosen for name in node.output if name in floats}
    half = {name: wiring.free_name(f"{name}_half") for name in floats}
    read_as_float = {output.name for output in graph.output}
    read_as_float |= {name for node in graph.node if node.name not in chosen for name in _reads(node)}
    nodes, there = [], set(made)
    for node in graph.node:
        if node.name in chosen:
            wanted = [name for name in dict.fromkeys(node.input) if name in floats and name not in there]
            for name in wanted:
                if name in constants:
                    narrowed = numpy_helper.to_array(constants[name]).astype(np.float16)
                    graph.initializer.append(numpy_helper.from_array(narrowed, half[name]))
                else:
                    nodes.append(helper.make_node("Cast", [name], [half[name]], to=TensorProto.FLOAT16))
            there.update(wanted)
            node.input[:] = [half.get(name, name) for name in node.input]
        outputs = [name for name in node.output if name in made]
        if node.name in chosen:
            node.output[:] = [half.get(name, name) for name in node.output]
        nodes.append(node)
        nodes += [
            helper.make_node("Cast", [half[name]], [name], to=TensorProto.FLOAT)
            for name in outputs
            if name in read_as_float
        ]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    _drop_unread(graph)
    del graph.value_info[:]


def _float_values(model: onnx.ModelProto) -> set[str]:
    """The names of all values that are known to be float32."""
    try:
        graph = shape_inference.infer_shapes(model).graph
    except shape_inference.InferenceError as error:
        raise Unsupported("the types of its values cannot be told") from error
    typed = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    typed |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {name for name, kind in typed.items() if kind == TensorProto.FLOAT}


def _reads(node: onnx.NodeProto) -> set[str]:
    """What an operator reads, with what graphs inside it may read from outside."""
    inner = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return set(node.input).union(*(_reads(one) for graph in inner for one in graph.node))


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {output.name for output in graph.output}.union(*(_reads(node) for node in graph.node))
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _too_large(wiring: Wiring, context: Context) -> set[str]:
    """The operators that read or make values that float16 cannot hold, on calibration samples."""
    wide = _wide_values(wiring, context)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in wiring.graph.initializer}
    wide |= {name for name, value in constants.items() if value.dtype == np.float32 and not _holds(value)}
    return {node.name for node in wiring.graph.node if wide & {*node.input, *node.output}}


def _wide_values(wiring: Wiring, context: Context) -> set[str]:
    names = [name for node in wiring.graph.node for name in node.output if name]
    session = runtimes.load("onnxruntime").load(making(wiring.model, names).SerializeToString(), threads=1)
    predictor = Predictor(session, preprocess=context.preprocess)
    found: set[str] = set()
    for sample in context.samples[:_SAMPLES]:
        values = predictor.tensors(sample) | predictor.answer(sample).outputs
        found |= {name for name, value in values.items() if _is_wide(value)}
    return found


def _is_wide(value: np.ndarray) -> bool:
    return value.dtype == np.float32 and bool(value.size) and not float(np.abs(value).max()) * _ROOM < _LARGEST


plugin: Pass = Half()
