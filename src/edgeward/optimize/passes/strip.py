"""Takes out what no runtime reads: long inner names, shapes, documentation, metadata, equal and unused constants.

Answers stay bit for bit the same; names of inputs, outputs and free dimensions stay too.
"""

from collections.abc import Iterator

import onnx

from edgeward.optimize.passes.base import Context, Pass, Passed
from edgeward.records.candidate import Step


class Strip:
    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:  # noqa: ARG002 - no options
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        before = copy.ByteSize()
        if any(attribute.HasField("g") for node in copy.graph.node for attribute in node.attribute):
            return Passed(copy, context.preprocess, ("not stripped: names are shared with inner graphs",))
        _merge_equal_constants(copy.graph)
        _drop_unused_constants(copy.graph)
        _drop_texts(copy)
        _shorten_names(copy.graph)
        return Passed(copy, context.preprocess, (f"stripped {before - copy.ByteSize()} of {before} bytes",))


def _merge_equal_constants(graph: onnx.GraphProto) -> None:
    outputs = {output.name for output in graph.output}
    first_of: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    same: dict[str, str] = {}
    for tensor in graph.initializer:
        if tensor.name in outputs:
            continue
        key = (tensor.data_type, tuple(tensor.dims), onnx.numpy_helper.to_array(tensor).tobytes())
        kept = first_of.setdefault(key, tensor.name)
        if kept != tensor.name:
            same[tensor.name] = kept
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = same.get(name, name)


def _drop_unused_constants(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _drop_texts(model: onnx.ModelProto) -> None:
    del model.graph.value_info[:]
    del model.graph.quantization_annotation[:]
    del model.metadata_props[:]
    model.ClearField("doc_string")
    model.graph.ClearField("doc_string")
    model.graph.name = "g"
    for node in model.graph.node:
        node.ClearField("name")
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for tensor in model.graph.initializer:
        tensor.ClearField("doc_string")
    used = {node.domain for node in model.graph.node} | {""}
    entries = [entry for entry in model.opset_import if entry.domain in used or entry.domain == "ai.onnx"]
    del model.opset_import[:]
    model.opset_import.extend(entries)


def _shorten_names(graph: onnx.GraphProto) -> None:
    outside = {node.name for node in [*graph.input, *graph.output]}
    names = _short_names(outside)
    short: dict[str, str] = {name: name for name in outside} | {"": ""}
    for tensor in graph.initializer:
        tensor.name = short.setdefault(tensor.name, tensor.name if tensor.name in outside else next(names))
    for node in graph.node:
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                if name not in short:
                    short[name] = next(names)
                field[index] = short[name]


def _short_names(taken: set[str]) -> Iterator[str]:
    number = 0
    while True:
        name = _base36(number)
        if name not in taken:
            yield name
        number += 1


def _base36(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = digits[number % 36]
    while number := number // 36:
        text = digits[number % 36] + text
    return text


plugin: Pass = Strip()
