"""The messages of the Open Inference Protocol's gRPC service, built from its field numbers: no generated code."""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"
METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")

_TENSOR = {"name": "1 string", "datatype": "2 string", "shape": "3 repeated int64"}
_FILLED = {**_TENSOR, "parameters": "4 map InferParameter", "contents": "5 InferTensorContents"}
_MESSAGES: dict[str, dict[str, str]] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": "1 bool"},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": "1 bool"},
    "ModelReadyRequest": {"name": "1 string", "version": "2 string"},
    "ModelReadyResponse": {"ready": "1 bool"},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {"name": "1 string", "version": "2 string", "extensions": "3 repeated string"},
    "ModelMetadataRequest": {"name": "1 string", "version": "2 string"},
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "ModelMetadataResponse": {
        "name": "1 string", "versions": "2 repeated string", "platform": "3 string",
        "inputs": "4 repeated ModelMetadataResponse.TensorMetadata",
        "outputs": "5 repeated ModelMetadataResponse.TensorMetadata",
    },
    "InferParameter": {
        "bool_param": "1 oneof bool", "int64_param": "2 oneof int64", "string_param": "3 oneof string",
        "double_param": "4 oneof double", "uint64_param": "5 oneof uint64",
    },
    "InferTensorContents": {
        "bool_contents": "1 repeated bool", "int_contents": "2 repeated int32", "int64_contents": "3 repeated int64",
        "uint_contents": "4 repeated uint32", "uint64_contents": "5 repeated uint64",
        "fp32_contents": "6 repeated float", "fp64_contents": "7 repeated double", "bytes_contents": "8 repeated bytes",
    },
    "ModelInferRequest.InferInputTensor": _FILLED,
    "ModelInferRequest.InferRequestedOutputTensor": {"name": "1 string", "parameters": "2 map InferParameter"},
    "ModelInferRequest": {
        "model_name": "1 string", "model_version": "2 string", "id": "3 string", "parameters": "4 map InferParameter",
        "inputs": "5 repeated ModelInferRequest.InferInputTensor",
        "outputs": "6 repeated ModelInferRequest.InferRequestedOutputTensor",
        "raw_input_contents": "7 repeated bytes",
    },
    "ModelInferResponse.InferOutputTensor": _FILLED,
    "ModelInferResponse": {
        "model_name": "1 string", "model_version": "2 string", "id": "3 string", "parameters": "4 map InferParameter",
        "outputs": "5 repeated ModelInferResponse.InferOutputTensor",
        "raw_output_contents": "6 repeated bytes",
    },
}  # fmt: skip
"""Message → field → its number and type."""

_Field = descriptor_pb2.FieldDescriptorProto


def messages() -> dict[str, Any]:
    """The class of each message, by its name. In a pool of its own: a client in the same process has another copy."""
    file = descriptor_pb2.FileDescriptorProto(name="edgeward_inference.proto", package="inference", syntax="proto3")
    made: dict[str, Any] = {}
    for name in sorted(_MESSAGES, key=lambda name: name.count(".")):
        outer, _, inner = name.rpartition(".")
        one = made[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=name)
        made[name] = one
        for field, told in _MESSAGES[name].items():
            _add(one, name, field, *told.split())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}")) for name in made}


def _add(message: Any, path: str, field: str, number: str, *told: str) -> None:
    kind = told[-1]
    one = message.field.add(name=field, number=int(number), label=_Field.LABEL_OPTIONAL)
    if told[0] in ("repeated", "map"):
        one.label = _Field.LABEL_REPEATED
    if told[0] == "map":
        entry = message.nested_type.add(name=field.capitalize() + "Entry")
        entry.options.map_entry = True
        _add(entry, path, "key", "1", "string")
        _add(entry, path, "value", "2", kind)
        kind = f"{path}.{entry.name}"
    if told[0] == "oneof":
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        one.oneof_index = 0
    if kind[0].isupper():
        one.type, one.type_name = _Field.TYPE_MESSAGE, f".inference.{kind}"
    else:
        one.type = getattr(_Field, f"TYPE_{kind.upper()}")
