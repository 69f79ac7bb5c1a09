"""Static int8: weights and activations in eight bits, ranges from calibration samples; QuantizeLinear/DequantizeLinear
pairs that ONNX Runtime fuses into integer kernels."""

import hashlib
import io
import logging
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from edgeward.infer import Predictor, Sample, runtimes
from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.optimize import mse_ranges
from edgeward.optimize.named_layers import HEAVY, around, layers_of, with_names
from edgeward.optimize.passes.base import RAW_FLOAT, STAYS_FLOAT, Context, Pass, Passed
from edgeward.optimize.zero_point import with_zero_point
from edgeward.records.candidate import Step
from edgeward.records.model import Preprocess

_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
    "mse": mse_ranges.STAND_IN,
}
_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
_WITH_THEM = ("Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Mul",
              "Pad", "Relu", "Reshape", "Resize", "Split", "Squeeze", "Transpose", "Unsqueeze")  # fmt: skip
"""Softmax, Sigmoid and the like stay in float: they lose accuracy and hardly any time."""
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")
_SAMPLES = {"minmax": 256, "percentile": 128, "entropy": 128, "mse": 128}
"""Calibration samples by method: histograms of every tensor are kept in memory."""


_NAMED = 12
_NOT_QUITE_ONE = 1.00001
"""OpenVINO takes a rounding by 1 out as idle, and with it the sign that the bytes are quantised values."""


class QuantizeStatic:
    """Options: method minmax|percentile|entropy|mse, activations and weights uint8|int8, per_channel, reduce_range,
    scope all|heavy (only the operators with weights), entry bytes|cast (a raw sample goes into the first integer kernel
    as its bytes, or by way of a float, for OpenVINO alone), float_tail (the last product stays unrounded),
    keep_float (names of layers that stay in float, with commas between them)."""

    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:
        operators = {node.op_type for node in model.graph.node}
        if "QuantizeLinear" in operators or "DequantizeLinear" in operators:
            raise Unsupported("the model is quantised already: it holds QuantizeLinear or DequantizeLinear")
        if not operators & set(HEAVY):
            raise Unsupported("there is no Conv, Gemm or MatMul in it that int8 could speed up")
        options = {"method": "minmax", "scope": "all", "entry": "bytes", "float_tail": False, **step.options}
        if options["method"] not in _METHODS or options["scope"] not in ("all", "heavy"):
            raise WrongInput(f"quantize-static: no method {options['method']!r} or scope {options['scope']!r}")
        model = with_names(model)
        kept = _kept_float(model, str(options.get("keep_float", "")), str(options["scope"]))
        quantised = _quantised(model, kept, options, context)
        if kept:
            in_float = _in_float(quantised, kept, str(options["scope"]))
            if options["float_tail"]:
                _give_floats(quantised, model, in_float)
            _read_floats(quantised, in_float)
        if options["float_tail"]:
            _leave_unrounded(quantised)
        free = options["entry"] == "bytes" and _enter_for_free(quantised)
        notes = (*_told(model, kept), *(("the raw sample enters quantised as it is",) if free else ()))
        if options["entry"] == "cast" and options.get("activations", "uint8") == "uint8":
            entering = with_zero_point(quantised, model, _NOT_QUITE_ONE)
            if entering is not None:
                quantised, notes = entering, (*notes, "the mean is the zero point of the raw bytes")
        return Passed(quantised, context.preprocess, notes)


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # the library ships no types
    """Hands calibration samples to the quantiser, through the product's own preprocessing."""

    def __init__(self, model: bytes, samples: Sequence[Sample], preprocess: Preprocess) -> None:
        session = runtimes.load("onnxruntime").load(model, threads=1)
        self._predictor = Predictor(session, preprocess=preprocess)
        self._samples = samples
        self.rewind()

    def rewind(self) -> None:
        self._rest: Iterator[Sample] = iter(self._samples)

    def get_next(self) -> Mapping[str, NDArray[Any]] | None:
        sample = next(self._rest, None)
        if sample is None:
            return None
        return {name: tensor[None] for name, tensor in self._predictor.tensors(sample).items()}


def _kept_float(model: onnx.ModelProto, names: str, scope: str) -> frozenset[str]:
    """The operators that stay in float: those marked so, the layers named, and what stands between these and the next
    layers. Rounded there, values that bear no rounding would have gained nothing; it takes about the same time."""
    wanted = {name for name in names.split(",") if name}
    layers = [node.name for node in layers_of(model)]
    if unknown := sorted(wanted - set(layers)):
        some = ", ".join(layers[:5]) + ("…" if len(layers) > 5 else "")
        raise WrongInput(f"quantize-static: keep_float: there is no layer {unknown[0]!r}; there are {some}")
    if wanted == set(layers):
        raise Unsupported(f"all {len(layers)} layers are to stay in float: nothing is left to quantise")
    marked = frozenset(node.name for node in model.graph.node if node.name.startswith(STAYS_FLOAT))
    return marked.union(wanted, around(model, wanted, _WITH_THEM if scope == "all" else ()))


def _told(model: onnx.ModelProto, kept: Collection[str]) -> tuple[str, ...]:
    layers = [node.name for node in layers_of(model)]
    floats = [name for name in layers if name in kept]
    if not floats:
        return ()
    some = ", ".join(floats[:_NAMED]) + (" …" if len(floats) > _NAMED else "")
    return (f"{len(floats)} of {len(layers)} layers stay in float: {some}",)


def _quantised(
    model: onnx.ModelProto, kept: Collection[str], options: Mapping[str, Any], context: Context
) -> onnx.ModelProto:
    extra: dict[str, Any] = {"ActivationSymmetric": options.get("activations") == "int8", "WeightSymmetric": True}
    if any(RAW_FLOAT in node.output for node in model.graph.node) and options.get("activations", "uint8") == "uint8":
        exact = {
            "scale": np.array(1.0 if options["entry"] == "bytes" else _NOT_QUITE_ONE, np.float32),
            "zero_point": np.array(0, np.uint8),
        }
        extra["TensorQuantOverrides"] = {RAW_FLOAT: [{"quant_type": QuantType.QUInt8, **exact}]}
    samples = context.samples[: _SAMPLES[options["method"]]]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the quantiser advises a preprocessing that `simplify` has done already
    try:
        with tempfile.TemporaryDirectory(prefix="edgeward-") as folder, redirect_stdout(io.StringIO()):
            source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
            data, ranges = model.SerializeToString(), Path(folder) / "ranges.json"
            source.write_bytes(data)
            reader = _Reader(data, samples, context.preprocess)
            types = _quantised_types(options["scope"])
            key = hashlib.sha256(
                repr([options["method"], types, extra["ActivationSymmetric"]]).encode() + data
            ).digest()
            found = {} if context.ranges is None else context.ranges
            if key in found:
                ranges.write_bytes(found[key])
            elif options["method"] == "mse":
                mse_ranges.save_ranges(source, reader, types, ranges)
            quantize_static(
                str(source),
                str(target),
                reader,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=types,
                nodes_to_exclude=sorted(kept),
                per_channel=bool(options.get("per_channel", True)),
                reduce_range=bool(options.get("reduce_range", False)),
                activation_type=_TYPES[str(options.get("activations", "uint8"))],
                weight_type=_TYPES[str(options.get("weights", "int8"))],
                calibrate_method=_METHODS[options["method"]],
                extra_options=extra,
                **({"calibration_cache_path": ranges} if mse_ranges.takes_ranges() else {}),
            )
            if ranges.exists():
                found[key] = ranges.read_bytes()
            return onnx.load_model(str(target))
    finally:
        root.setLevel(level)


def _quantised_types(scope: str) -> list[str]:
    return [*HEAVY, *(_WITH_THEM if scope == "all" else ())]


def _in_float(model: onnx.ModelProto, kept: Collection[str], scope: str) -> frozenset[str]:
    """The operators of a quantised graph that compute in float."""
    types = _quantised_types(scope)
    return frozenset(
        node.name
        for node in model.graph.node
        if node.op_type not in _ROUNDING and (node.name in kept or node.op_type not in types)
    )


def _give_floats(model: onnx.ModelProto, before: onnx.ModelProto, in_float: Collection[str]) -> None:
    """What an integer layer makes for float operators alone is not rounded, for runtimes whose integer kernels can
    give floats. An activation that was merged into the rounding comes back."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    original = {name: node for node in before.graph.node for name in node.output}
    for there in [node for node in graph.node if node.op_type == "QuantizeLinear"]:
        value = there.input[0]
        source = makers.get(value)
        if source is None or source.op_type not in HEAVY or source.name in in_float or value not in original:
            continue
        backs = {name for back in graph.node if there.output[0] in back.input for name in back.output}
        users = [node for node in graph.node if backs & set(node.input)]
        if backs & {output.name for output in graph.output} or any(user.name not in in_float for user in users):
            continue
        if original[value].name != source.name:
            _bring_back(model, before, original[value], source)
        for user in users:
            user.input[:] = [value if name in backs else name for name in user.input]
    _drop_unread(model)


def _bring_back(
    model: onnx.ModelProto, before: onnx.ModelProto, activation: onnx.NodeProto, source: onnx.NodeProto
) -> None:
    """Puts an operator of the float graph behind the layer that has taken its place."""
    copy = onnx.NodeProto()
    copy.CopyFrom(activation)
    copy.input[0] = source.output[0] = f"{activation.output[0]}_before"
    model.graph.node.insert(list(model.graph.node).index(source) + 1, copy)
    known = {tensor.name for tensor in model.graph.initializer}
    model.graph.initializer.extend(
        tensor for tensor in before.graph.initializer if tensor.name in copy.input and tensor.name not in known
    )


def _read_floats(model: onnx.ModelProto, in_float: Collection[str]) -> None:
    """What a float operator made, the float operators behind it read as it is, even where it is rounded for others."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    for reader in graph.node:
        if reader.name not in in_float:
            continue
        for index, name in enumerate(reader.input):
            there = _rounded_from(name, makers)
            if there is not None and (there not in makers or makers[there].name in in_float):
                reader.input[index] = there
    _drop_unread(model)


def _rounded_from(name: str, makers: Mapping[str, onnx.NodeProto]) -> str | None:
    """What was rounded to give this value by a QuantizeLinear and the DequantizeLinear behind it."""
    back = makers.get(name)
    there = makers.get(back.input[0]) if back is not None and back.op_type == "DequantizeLinear" else None
    return there.input[0] if there is not None and there.op_type == "QuantizeLinear" else None


def _drop_unread(model: onnx.ModelProto) -> None:
    graph = model.graph
    reads = Counter(name for node in graph.node for name in node.input)
    reads.update(output.name for output in graph.output)
    for node in reversed(list(graph.node)):
        if node.op_type in _ROUNDING and not any(reads[name] for name in node.output):
            graph.node.remove(node)
            reads.subtract(node.input)


def _enter_for_free(model: onnx.ModelProto) -> bool:
    """Takes out Cast(uint8 → float) and the QuantizeLinear(scale 1, zero point 0) behind it: they change nothing."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    cast = next((node for node in graph.node if RAW_FLOAT in node.output), None)
    if cast is None:
        return False
    users = [node for node in graph.node if RAW_FLOAT in node.input]
    exact = [node for node in users if node.op_type == "QuantizeLinear" and _is_exact(node, constants)]
    for node in exact:
        for other in graph.node:
            for index, name in enumerate(other.input):
                if name == node.output[0]:
                    other.input[index] = cast.input[0]
        graph.node.remove(node)
    if exact and len(exact) == len(users):
        graph.node.remove(cast)
    return bool(exact)


def _leave_unrounded(model: onnx.ModelProto) -> None:
    """Takes the rounding off matrix products that only float operators read, such as the last one before a Softmax."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    kept = {output.name for output in graph.output}
    for back in [node for node in graph.node if node.op_type == "DequantizeLinear"]:
        there = makers.get(back.input[0])
        if there is None or there.op_type != "QuantizeLinear" or len(users[back.input[0]]) > 1:
            continue
        source = makers.get(there.input[0])
        readers = users.get(back.output[0], [])
        if (
            source is None
            or source.op_type not in ("Gemm", "MatMul")
            or any(reader.op_type in (*HEAVY, *_WITH_THEM) for reader in readers)
        ):
            continue
        if back.output[0] in kept:
            source.output[0] = back.output[0]
        for reader in readers:
            for index, name in enumerate(reader.input):
                if name == back.output[0]:
                    reader.input[index] = source.output[0]
        graph.node.remove(there)
        graph.node.remove(back)


def _is_exact(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    if len(node.input) < 3 or node.input[1] not in constants or node.input[2] not in constants:
        return False
    scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
    return bool(
        scale.size == 1 and float(scale.reshape(())) == 1.0 and int(zero.reshape(())) == 0 and zero.dtype == "uint8"
    )


plugin: Pass = QuantizeStatic()
