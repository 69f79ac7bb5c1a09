"""Model file → what it is. Every way a file can be bad ends here, in one sentence."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper, shape_inference

from edgeward.kit.errors import Refused, Unsupported, WrongInput
from edgeward.measure.work import multiply_accumulates
from edgeward.optimize.zip_map import without_zip_maps
from edgeward.records.model import Dtype, ModelFacts, TensorSpec

_NEWEST_IR = 10
"""The newest file version that every runtime we support reads; newer ones add nothing that inference needs."""

_OTHER_FORMATS = {
    ".pt": "pickled PyTorch", ".pth": "pickled PyTorch",
    ".pb": "TensorFlow", ".engine": "TensorRT", ".xml": "OpenVINO",
}  # fmt: skip
_PICKLES = (".pkl", ".pickle", ".joblib")
_MAGIC = {
    b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image", b"PK\x03\x04": "a zip archive",
    b"\x7fELF": "a program", b"%PDF": "a PDF", b"\x89HDF": "an HDF5 file (Keras?)", b"<htm": "a web page",
}  # fmt: skip
_DTYPES: dict[int, Dtype] = {
    TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.DOUBLE: "float64",
    TensorProto.BFLOAT16: "bfloat16", TensorProto.INT8: "int8", TensorProto.UINT8: "uint8",
    TensorProto.INT16: "int16", TensorProto.UINT16: "uint16", TensorProto.INT32: "int32",
    TensorProto.UINT32: "uint32", TensorProto.INT64: "int64", TensorProto.UINT64: "uint64",
    TensorProto.BOOL: "bool", TensorProto.STRING: "string",
}  # fmt: skip
_STORED: dict[int, str] = {**_DTYPES, TensorProto.INT4: "int4", TensorProto.UINT4: "uint4"}
"""What weights may be kept in."""


def read_model(path: Path) -> onnx.ModelProto:
    """The ONNX model in `path`, its external data included. Raises WrongInput or Unsupported for what is none."""
    if not path.exists():
        raise WrongInput(f"{path}: no such model file")
    if path.is_dir():
        raise WrongInput(f"{path}: is a folder, wanted a model file", hint="edgeward show FOLDER, for a bundle")
    if path.suffix.lower() in _PICKLES:
        raise Refused(
            f"{path}: this is a pickle: reading one runs whatever code is in it, so it is not read",
            hint="where it was trained: skl2onnx.to_onnx(pipeline, X[:1]), and give the .onnx (pip install skl2onnx)",
        )
    if path.suffix.lower() in _OTHER_FORMATS:
        raise Unsupported(
            f"{path}: {_OTHER_FORMATS[path.suffix.lower()]} models are not read; "
            "wanted .onnx, .tflite, .pt2, .h5 or .keras",
            hint="export it to .onnx with the framework that made it (PyTorch: torch.export.save gives a .pt2)",
        )
    data = path.read_bytes()
    if not data:
        raise WrongInput(f"{path}: this file is empty, wanted an ONNX model")
    for magic, what in _MAGIC.items():
        if data.startswith(magic):
            raise WrongInput(f"{path}: this is {what}, wanted an ONNX model")
    model = _checked(path, without_zip_maps(_decoded(path, data)))
    model.ir_version = min(model.ir_version, _NEWEST_IR)
    return model


def _decoded(path: Path, data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise WrongInput(f"{path}: this is no ONNX model, or a truncated one ({len(data)} bytes)") from error
    if not model.graph.output or (not model.graph.node and not model.graph.initializer):
        raise WrongInput(f"{path}: this is no ONNX model: there is no graph with an output in it")
    try:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (onnx.checker.ValidationError, FileNotFoundError) as error:
        raise WrongInput(f"{path}: its weights stand in another file, which is missing ({_short(error)})") from error
    except (ValueError, OverflowError) as error:
        raise WrongInput(f"{path}: the file that its weights stand in is damaged ({_short(error)})") from error
    return model


def _checked(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        text = _short(error)
        if "No Op registered for" in text:
            name = text.split("No Op registered for ")[1].split()[0]
            raise Unsupported(f"{path}: it uses the operator {name}, which ONNX does not define") from error
        raise WrongInput(f"{path}: this ONNX model is not valid: {text}") from error
    for node in [*graph_inputs(model), *model.graph.output]:
        if not node.type.HasField("tensor_type"):
            raise Unsupported(f"{path}: {node.name!r} is no tensor; sequences and maps are not supported")
    return model


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller feeds: not the initialisers that old exporters list among them."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [node for node in model.graph.input if node.name not in constants]


def describe(model: onnx.ModelProto) -> ModelFacts:
    """What the model says of itself."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    return ModelFacts(
        inputs=tuple(spec_of(node) for node in graph_inputs(model)),
        outputs=tuple(spec_of(node) for node in model.graph.output),
        operators=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        parameter_count=sum(math.prod(tensor.dims) for tensor in _weights(model)),
        macs=_macs(model),
        precision=precision_of(model),
        opset=opset,
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))),
        size_bytes=model.ByteSize(),
    )


def spec_of(node: onnx.ValueInfoProto) -> TensorSpec:
    """An input or output of the graph; a dimension without a name is called after its place."""
    dims = tuple(
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or f"dim{index}")
        for index, dim in enumerate(node.type.tensor_type.shape.dim)
    )
    dtype = _DTYPES.get(node.type.tensor_type.elem_type)
    if dtype is None:
        raise Unsupported(f"{node.name!r} has an element type that is not supported")
    return TensorSpec(name=node.name, dtype=dtype, shape=dims)


def precision_of(model: onnx.ModelProto) -> str:
    """The type that most weights are kept in, such as "float32" or "int8"."""
    sizes: Counter[str] = Counter()
    for tensor in _weights(model):
        sizes[_STORED.get(tensor.data_type, "other")] += math.prod(tensor.dims)
    return sizes.most_common(1)[0][0] if sizes else "float32"


def _weights(model: onnx.ModelProto) -> list[TensorProto]:
    constants = [
        a.t for node in model.graph.node if node.op_type == "Constant" for a in node.attribute if a.name == "value"
    ]
    return [*model.graph.initializer, *constants]


def _macs(model: onnx.ModelProto) -> int | None:
    """Multiply-accumulates of Conv, Gemm and MatMul for one sample; None where a shape is not known."""
    try:
        inferred = shape_inference.infer_shapes(_with_batch_one(model), data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError):
        return None
    graph = inferred.graph
    shapes: dict[str, tuple[int | str, ...]] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in [*graph.value_info, *graph.input, *graph.output]:
        shapes[node.name] = tuple(
            dim.dim_value if dim.HasField("dim_value") else "?" for dim in node.type.tensor_type.shape.dim
        )
    total = 0
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul", "FusedConv"):
            continue
        work = _macs_of(node, shapes)
        if work is None:
            return None
        total += work
    return total


def _macs_of(node: onnx.NodeProto, shapes: dict[str, tuple[int | str, ...]]) -> int | None:
    out, first, second = (shapes.get(name) for name in (node.output[0], node.input[0], node.input[1]))
    if out is None or first is None or second is None:
        return None
    if any(not isinstance(dim, int) for dim in (*out, *first, *second)):
        return None
    turned = any(item.name == "transA" and item.i for item in node.attribute)
    return multiply_accumulates(node.op_type, *_whole(first, second, out), turned=turned)


def _whole(*shapes: tuple[int | str, ...]) -> list[tuple[int, ...]]:
    return [tuple(int(dim) for dim in shape) for shape in shapes]


def _with_batch_one(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in graph_inputs(copy):
        dims = node.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_value = 1
    return copy


def fix_shapes(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
    """A copy with these input shapes, the inner shapes inferred anew. Raises WrongInput where they do not fit."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    inputs = {node.name: node for node in graph_inputs(copy)}
    for name, shape in shapes.items():
        if name not in inputs:
            raise WrongInput(f"--shape: the model has no input {name!r}; it has {', '.join(inputs)}")
        dims = inputs[name].type.tensor_type.shape.dim
        if len(dims) != len(shape):
            raise WrongInput(f"--shape: input {name!r} has {len(dims)} dimensions, got {len(shape)}")
        for dim, value in zip(dims, shape, strict=True):
            if dim.HasField("dim_value") and dim.dim_value not in (0, value):
                raise WrongInput(f"--shape: input {name!r} is fixed at {dim.dim_value}, got {value}")
            dim.dim_value = value
    del copy.graph.value_info[:]
    return copy


def constant_values(model: onnx.ModelProto) -> dict[str, Any]:
    """Initialisers as arrays, by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
