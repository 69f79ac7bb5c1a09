"""A case's float model as .tflite with a signature: its own file, or made from its PyTorch program by litert-torch."""

from pathlib import Path

import ai_edge_litert.schema_py_generated as schema
import flatbuffers
from case_files import Case, Missing

_KEY = "serving_default"


def float_tflite(case: Case, out: Path) -> Path:
    """Raises Missing where there is neither."""
    file = out.with_suffix(".float.tflite")
    if case.has("model.tflite"):
        file.write_bytes(with_signature(case.file("model.tflite").read_bytes()))
        return file
    if case.has("model.pt2"):
        _convert(case, file)
        return file
    raise Missing("the case has no model.tflite and no model.pt2")


def _convert(case: Case, file: Path) -> None:
    import litert_torch
    import torch

    program = torch.export.load(case.file("model.pt2"))
    first = case.calibration(1)[0]
    sample = tuple(torch.from_numpy(tensor) for tensor in first.values())
    litert_torch.convert(program.module(), sample).export(str(file))


def with_signature(data: bytes) -> bytes:
    """The same model with a signature that names its inputs and outputs, where it has none: the quantiser wants one."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    if model.signatureDefs:
        return data
    graph = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = _KEY.encode(), 0
    signature.inputs = [_tensor_map(graph, index) for index in graph.inputs]
    signature.outputs = [_tensor_map(graph, index) for index in graph.outputs]
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor_map(graph: schema.SubGraphT, index: int) -> schema.TensorMapT:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = graph.tensors[index].name, index
    return entry
