"""Open Inference Protocol v2: request bytes to tensors, tensors to reply bytes. Rules only: no HTTP, model or clock.

Two forms, as the protocol has them: all JSON, or JSON followed by the raw tensors (little-endian, row-major) in
the order in which the JSON names them.
"""

import math
import struct
from array import array as Numbers  # noqa: N812 - `array` is what every tensor here is called
from collections.abc import Iterator, Mapping, Sequence
from mmap import mmap
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from numpy.typing import NDArray

from edgeward.infer import classes_of
from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.records.model import Classify, TensorSpec

DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "float32": "FP32", "float64": "FP64", "string": "BYTES",
}  # fmt: skip
"""The protocol's name of a dtype."""

_ARRAY_DATATYPES = {np.dtype(object if name == "string" else name): told for name, told in DATATYPES.items()}


_PLANS = 64
_PLANNED_BYTES = 2048
Buffer = bytes | bytearray | memoryview | mmap


class Port(NamedTuple):
    """One input or output as clients see it: `shape` has the batch axis first, -1 where a length is free.

    `elements` are the numbers of one sample, None where a length is free. `image`: encoded pictures are taken as well.
    """

    name: str
    datatype: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    elements: int | None
    image: bool = False


class Signature(NamedTuple):
    """What a served model takes and gives. `labels` and `softmax` are for the classes of the first output; `answers`
    are the outputs for clients that name none, all where it is empty."""

    inputs: dict[str, Port]
    outputs: dict[str, Port]
    labels: tuple[str, ...] = ()
    softmax: bool = False
    answers: tuple[str, ...] = ()


class Wanted(NamedTuple):
    """One output a client asked for: raw or as JSON, and as its best `classes` where that is not 0."""

    name: str
    binary: bool
    classes: int


class Request(NamedTuple):
    """A checked request: `tensors` has one array per input, with `samples` samples on the first axis. One that has not
    begun `timeout_us` after it came is not to be run; 0 is never. Where there are `images`, they are still to be
    decoded into the only tensor."""

    id: str | UnsetType
    tensors: dict[str, NDArray[Any]]
    samples: int
    outputs: tuple[Wanted, ...]
    timeout_us: int = 0
    images: tuple[bytes, ...] = ()
    heads: "dict[tuple[tuple[int, ...], ...], bytes] | None" = None
    """Of replies to requests like this one, the JSON by the shapes of the tensors behind it, where it is always so."""


class Reply(NamedTuple):
    """The body; `json_bytes` is the length of its JSON where raw tensors follow, else None."""

    body: bytes
    json_bytes: int | None


class _InputParameters(Struct):
    binary_data_size: int | None = None
    shared_memory_region: str | None = None


class _Input(Struct):
    name: str
    shape: list[int]
    datatype: str
    data: Raw | UnsetType = UNSET
    parameters: _InputParameters | None = None


class _OutputParameters(Struct):
    binary_data: bool | None = None
    classification: int = 0
    shared_memory_region: str | None = None


class _Output(Struct):
    name: str
    parameters: _OutputParameters | None = None


class _RequestParameters(Struct):
    binary_data_output: bool = False
    timeout: Annotated[int, Meta(ge=0)] = 0


class _Request(Struct):
    inputs: list[_Input]
    id: str | UnsetType = UNSET
    outputs: list[_Output] | None = None
    parameters: _RequestParameters | None = None


class _Size(Struct):
    binary_data_size: int


class _OutputReply(Struct):
    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: _Size | UnsetType = UNSET
    data: list[Any] | UnsetType = UNSET


class _Reply(Struct):
    model_name: str
    model_version: str
    id: str | UnsetType
    outputs: list[_OutputReply]


_REQUEST = msgspec.json.Decoder(_Request)
_LISTS: dict[str, tuple[type, msgspec.json.Decoder[Any]]] = {
    "b": (list[bool], msgspec.json.Decoder(list[bool])),
    "i": (list[int], msgspec.json.Decoder(list[int])),
    "u": (list[int], msgspec.json.Decoder(list[int])),
    "f": (list[float], msgspec.json.Decoder(list[float])),
    "O": (list[str], msgspec.json.Decoder(list[str])),
}
_encode = msgspec.json.Encoder().encode


def signature(
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    labels: Sequence[str] = (),
    *,
    softmax: bool = False,
    answers: Sequence[str] = (),
    image: bool = False,
) -> Signature:
    """What clients see of a model whose specs (without a batch axis) are these.

    Raises Unsupported for a dtype that the protocol cannot carry.
    """
    ports = _ports(inputs)
    if image and len(ports) == 1:
        ports = {name: port._replace(image=_is_picture(port)) for name, port in ports.items()}
    return Signature(ports, _ports(outputs), tuple(labels), softmax, tuple(answers))


def _is_picture(port: Port) -> bool:
    return port.datatype == "UINT8" and len(port.shape) == 4 and port.shape[3] in (1, 3, -1)


def _ports(specs: Sequence[TensorSpec]) -> dict[str, Port]:
    return {spec.name: _port(spec) for spec in specs}


def _port(spec: TensorSpec) -> Port:
    if spec.dtype not in DATATYPES:
        raise Unsupported(f"{spec.name!r} is {spec.dtype}, which cannot be served: clients have no such numbers")
    dtype = np.dtype(object if spec.dtype == "string" else spec.dtype)
    dims = tuple(dim if isinstance(dim, int) else -1 for dim in spec.shape)
    elements = None if -1 in dims else math.prod(dims)
    return Port(spec.name, DATATYPES[spec.dtype], dtype, (-1, *dims), elements)


def image_request(picture: bytes, model: Signature) -> Request:
    """A request whose whole body is one encoded picture. Raises WrongInput where the model takes none."""
    if not any(port.image for port in model.inputs.values()):
        raise WrongInput(f"this model takes no pictures; it has the inputs {_names(model.inputs)}")
    return Request(UNSET, {}, 1, _wanted(_Request([]), model), 0, (picture,))


class _Part(NamedTuple):
    """Where in the bytes behind the JSON an input lies."""

    port: Port
    size: int
    shape: list[int]
    elements: int


class _Plan(NamedTuple):
    request: Request
    parts: tuple[_Part, ...]
    size: int


Plans = dict[bytes, _Plan]
"""JSON heads of one model's requests that came before, already checked: a client sends the same with each frame."""


def decode(body: bytes | bytearray, json_bytes: int | None, model: Signature, plans: Plans | None = None) -> Request:
    """The request in `body`, checked against `model`; raw tensors stay where they are, uncopied.

    `json_bytes` is what the header Inference-Header-Content-Length says, None without it. `plans` are kept between
    requests for the same model. Raises WrongInput only.
    """
    if plans is None or json_bytes is None or json_bytes > _PLANNED_BYTES:
        return _decode(body, json_bytes, model)
    head = bytes(body[:json_bytes])
    plan = plans.get(head)
    if plan is None or plan.size != len(body):
        request = _decode(body, json_bytes, model)
        if not request.id and not request.images:
            if len(plans) >= _PLANS:
                plans.clear()
            plans.update(_planned(head, request, model, len(body)))
        return request
    offset, tensors = json_bytes, {}
    for port, size, shape, elements in plan.parts:
        tensors[port.name] = raw_tensor(body, offset, size, shape, port, elements)
        offset += size
    return plan.request._replace(tensors=tensors)


def _planned(head: bytes, request: Request, model: Signature, size: int) -> Plans:
    """How a request that was in order is read again; nothing where its numbers stand in the JSON."""
    parts = []
    for one in _REQUEST.decode(head).inputs:
        if one.parameters is None or one.parameters.binary_data_size is None:
            return {}
        port = model.inputs[one.name]
        elements = math.prod(one.shape) if port.elements is None else port.elements * one.shape[0]
        parts.append(_Part(port, one.parameters.binary_data_size, one.shape, elements))
    is_plain = all(wanted.binary and not wanted.classes for wanted in request.outputs)
    return {head: _Plan(request._replace(tensors={}, heads={} if is_plain else None), tuple(parts), size)}


def _decode(body: bytes | bytearray, json_bytes: int | None, model: Signature) -> Request:
    given = _parse(body, json_bytes)
    if len(given.inputs) == 1 and given.inputs[0].datatype == "BYTES" and json_bytes is not None:
        port = model.inputs.get(given.inputs[0].name)
        if port is not None and port.image:
            return _decode_pictures(body, json_bytes, given, port, model)
    offset = len(body) if json_bytes is None else json_bytes
    tensors: dict[str, NDArray[Any]] = {}
    count = 0
    for one in given.inputs:
        port, elements = check(one.name, one.datatype, one.shape, model, tensors)
        if one.parameters is not None and one.parameters.shared_memory_region is not None:
            raise WrongInput(f"input {one.name!r}: shared memory is not offered; send the tensor in the body")
        size = None if one.parameters is None else one.parameters.binary_data_size
        if size is None:
            tensors[port.name] = _from_json(one, port, elements)
        else:
            if json_bytes is None:
                raise WrongInput(
                    f"input {port.name!r} is binary; the header Inference-Header-Content-Length is missing"
                )
            if one.data is not UNSET:
                raise WrongInput(f"input {port.name!r} has both data and binary_data_size; send one of them")
            tensors[port.name] = raw_tensor(body, offset, size, one.shape, port, elements)
            offset += size
        if count not in (0, one.shape[0]):
            raise WrongInput(f"input {port.name!r} has {one.shape[0]} samples, the others have {count}")
        count = one.shape[0]
    if offset != len(body):
        raise WrongInput(f"the body is {len(body) - offset} bytes longer than its JSON and tensors")
    if len(tensors) != len(model.inputs):
        missing = next(name for name in model.inputs if name not in tensors)
        raise WrongInput(f"input {missing!r} is missing")
    timeout_us = 0 if given.parameters is None else given.parameters.timeout
    return Request(given.id, tensors, count, _wanted(given, model), timeout_us)


def _decode_pictures(
    body: bytes | bytearray, json_bytes: int, given: _Request, port: Port, model: Signature
) -> Request:
    """BYTES for an input that is an image: one encoded picture for each sample."""
    (one,) = given.inputs
    count = one.shape[0] if one.shape else 0
    if one.shape not in ([count], [count, 1]) or count < 1:
        raise WrongInput(f"input {port.name!r} as BYTES has shape [n] or [n, 1], got {_short(one.shape)}")
    size = None if one.parameters is None else one.parameters.binary_data_size
    if size is None or size != len(body) - json_bytes:
        raise WrongInput(f"input {port.name!r} as BYTES is binary, and all that follows the JSON")
    if count * 4 > size:
        raise WrongInput(f"input {port.name!r} wants {count} pictures, its {size} bytes cannot hold them")
    pictures = tuple(_pieces(memoryview(body)[json_bytes:], port, count))
    timeout_us = 0 if given.parameters is None else given.parameters.timeout
    return Request(given.id, {}, count, _wanted(given, model), timeout_us, pictures)


def _parse(body: bytes | bytearray, json_bytes: int | None) -> _Request:
    if json_bytes is not None and json_bytes > len(body):
        raise WrongInput(f"the header says {json_bytes} bytes of JSON, the body has {len(body)} bytes")
    try:
        return _REQUEST.decode(body if json_bytes is None else memoryview(body)[:json_bytes])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WrongInput(f"the request: {_lower_first(str(error))}") from error
    except RecursionError as error:
        raise WrongInput("the request: JSON is nested too deeply") from error


def check(
    name: str, datatype: str, shape: Sequence[int], model: Signature, seen: Mapping[str, Any]
) -> tuple[Port, int]:
    """The input's port and its number of elements; WrongInput unless name, datatype and shape fit."""
    port = model.inputs.get(name)
    if port is None:
        raise WrongInput(f"there is no input {_short(name)}; the model has {_names(model.inputs)}")
    if name in seen:
        raise WrongInput(f"input {name!r} is given twice")
    if datatype != port.datatype:
        raise WrongInput(f"input {name!r} is {port.datatype}, got {_short(datatype)}")
    wanted = port.shape
    if not _fits(shape, wanted):
        raise WrongInput(f"input {name!r} has shape {list(wanted)} (-1: any length), got {_short([*shape])}")
    return port, math.prod(shape) if port.elements is None else port.elements * shape[0]


def _fits(shape: Sequence[int], wanted: tuple[int, ...]) -> bool:
    if len(shape) != len(wanted):
        return False
    for got, want in zip(shape, wanted, strict=True):  # noqa: SIM110 - all() takes twice as long, on every request
        if got < 1 or (got != want and want != -1):
            return False
    return True


def raw_tensor(body: Buffer, offset: int, size: int, shape: Sequence[int], port: Port, elements: int) -> NDArray[Any]:
    """The tensor in these bytes of `body`, not copied where its numbers lie at places that a processor can read."""
    if size < 0 or offset + size > len(body):
        raise WrongInput(f"input {port.name!r} says {size} bytes, the body has {len(body) - offset} left for it")
    if port.datatype == "BYTES":
        return _strings(memoryview(body)[offset : offset + size], port, elements).reshape(shape)
    if size != elements * port.dtype.itemsize:
        raise WrongInput(
            f"input {port.name!r} of shape {[*shape]} is {elements * port.dtype.itemsize} bytes of {port.datatype}, "
            f"got {size}"
        )
    if port.datatype == "BOOL":
        truths: NDArray[Any] = np.frombuffer(body, np.uint8, elements, offset) != 0
        return truths.reshape(shape)
    array: NDArray[Any] = np.frombuffer(body, port.dtype, elements, offset).reshape(shape)
    # The JSON before it can have any length, and some processors fault on numbers at odd addresses.
    return array if array.flags.aligned else array.copy()


def _strings(data: memoryview, port: Port, elements: int) -> NDArray[Any]:
    if elements * 4 > len(data):
        raise WrongInput(f"input {port.name!r} wants {elements} strings, its {len(data)} bytes cannot hold them")
    values = np.empty(elements, object)
    for index, piece in enumerate(_pieces(data, port, elements)):
        values[index] = _text(piece, port, index)
    return values


def _pieces(data: memoryview, port: Port, count: int) -> Iterator[bytes]:
    """`count` strings, each with its length before it, and nothing behind them."""
    at = 0
    for index in range(count):
        end = at + 4
        if end <= len(data):
            end += struct.unpack_from("<I", data, at)[0]
        if end > len(data):
            raise WrongInput(f"input {port.name!r}: string {index} ends after the tensor's last byte")
        yield bytes(data[at + 4 : end])
        at = end
    if at != len(data):
        raise WrongInput(f"input {port.name!r}: {len(data) - at} bytes follow its last string")


def _text(data: bytes, port: Port, index: int) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise WrongInput(f"input {port.name!r}: string {index} is not UTF-8") from error


def _from_json(one: _Input, port: Port, elements: int) -> NDArray[Any]:
    if isinstance(one.data, UnsetType):
        raise WrongInput(f"input {port.name!r} has neither data nor binary_data_size")
    if port.datatype == "FP16":
        raise WrongInput(f"input {port.name!r} is FP16, which has no JSON form; send it as binary data")
    text = bytes(one.data)
    # Wrong sizes are refused before they become Python objects.
    if port.datatype != "BYTES" and (found := _value_count(text)) != elements:
        raise _wrong_size(port, found, one.shape)
    values = _values(text, one, port)
    if len(values) != elements:
        raise _wrong_size(port, len(values), one.shape)
    return _array(values, port).reshape(one.shape)


def _value_count(text: bytes) -> int:
    """Of numbers in JSON lists: n of them have n - 1 commas, however they are nested."""
    return text.count(b",") + 1 if text[1:-1].strip() else 0


def _wrong_size(port: Port, found: int, shape: list[int]) -> WrongInput:
    return WrongInput(f"input {port.name!r} has {found} values in data, its shape {shape} has {math.prod(shape)}")


def _values(text: bytes, one: _Input, port: Port) -> list[Any]:
    """The values of a flat list, or of lists nested exactly as the shape says, row by row."""
    kind, decoder = _LISTS[port.dtype.kind]
    values: list[Any]
    try:
        if text[1:].lstrip()[:1] == b"[":
            values = msgspec.convert(_flat(msgspec.json.decode(text), one.shape, port), kind)
        else:
            values = decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WrongInput(f"the data of input {port.name!r}: {_lower_first(str(error))}") from error
    except RecursionError as error:
        raise WrongInput(f"the data of input {port.name!r} is nested too deeply") from error
    return values


def _flat(nested: Any, shape: list[int], port: Port) -> list[Any]:
    if not isinstance(nested, list) or len(nested) != shape[0]:
        raise WrongInput(f"the data of input {port.name!r} is nested in another way than its shape says")
    if len(shape) == 1:
        return nested
    return [value for part in nested for value in _flat(part, shape[1:], port)]


def _array(values: list[Any], port: Port) -> NDArray[Any]:
    if port.dtype.kind in "bO":
        return np.array(values, port.dtype)
    try:
        # The standard library's array checks the range, and is three times as fast as numpy with a list.
        array = np.frombuffer(Numbers(port.dtype.char, values), port.dtype)
    except OverflowError as error:
        limits = np.iinfo(port.dtype)
        outside = next(value for value in values if not limits.min <= value <= limits.max)
        raise WrongInput(f"input {port.name!r} holds {_short(outside)}, which is no {port.datatype}") from error
    if port.dtype.kind == "f" and not np.isfinite(array).all():
        raise WrongInput(f"input {port.name!r} holds a number too large for {port.datatype}")
    return array


def _wanted(given: _Request, model: Signature) -> tuple[Wanted, ...]:
    binary = given.parameters is not None and given.parameters.binary_data_output
    if not given.outputs:
        return tuple(Wanted(name, binary, 0) for name in model.answers or model.outputs)
    wanted: dict[str, Wanted] = {}
    for one in given.outputs:
        if one.name not in model.outputs:
            raise WrongInput(f"there is no output {_short(one.name)}; the model has {_names(model.outputs)}")
        if one.name in wanted:
            raise WrongInput(f"output {one.name!r} is asked for twice")
        wanted[one.name] = _one_wanted(one, model, binary=binary)
    return tuple(wanted.values())


class Asked(NamedTuple):
    """An output by its name, as its best `classes` where that is not 0."""

    name: str
    classes: int = 0


def wanted_raw(outputs: Sequence[Asked], model: Signature) -> tuple[Wanted, ...]:
    """These outputs, none of them as JSON; the usual ones where none is named. Raises WrongInput."""
    asked = [_Output(one.name, _OutputParameters(classification=one.classes)) for one in outputs]
    return _wanted(_Request([], outputs=asked), model)


def chosen(
    request: Request, outputs: Mapping[str, NDArray[Any]], model: Signature
) -> Iterator[tuple[str, NDArray[Any]]]:
    """The outputs that were asked for, in that order, and as classes where that was asked."""
    for wanted in request.outputs:
        array = outputs[wanted.name]
        yield wanted.name, _classes(array, wanted, model) if wanted.classes else array


def datatype_of(array: NDArray[Any]) -> str:
    return _ARRAY_DATATYPES[array.dtype]


def _one_wanted(one: _Output, model: Signature, *, binary: bool) -> Wanted:
    asked = one.parameters
    if asked is None:
        return Wanted(one.name, binary, 0)
    if asked.shared_memory_region is not None:
        raise WrongInput(f"output {one.name!r}: shared memory is not offered; take the tensor from the body")
    if asked.classification < 0:
        raise WrongInput(f"output {one.name!r}: classification is the number of classes, got {asked.classification}")
    if asked.classification and model.outputs[one.name].datatype == "BYTES":
        raise WrongInput(f"output {one.name!r} is BYTES; only numbers can be classified")
    return Wanted(one.name, binary if asked.binary_data is None else asked.binary_data, asked.classification)


def encode(request: Request, outputs: Mapping[str, NDArray[Any]], model: Signature, name: str, version: str) -> Reply:
    """The reply to `request`. Raises WrongInput where what was asked for has no JSON form: NaN, infinity, FP16."""
    if request.heads is not None:
        return _encode_as_before(request, request.heads, outputs, name, version)
    parts: list[bytes] = []
    described = []
    for wanted, (_, array) in zip(request.outputs, chosen(request, outputs, model), strict=True):
        if wanted.binary:
            parts.append(to_binary(array))
            described.append(_described(wanted.name, array, parameters=_Size(len(parts[-1]))))
        else:
            described.append(_described(wanted.name, array, data=_to_json(wanted.name, array)))
    head = _encode(_Reply(name, version, request.id, described))
    return Reply(b"".join((head, *parts)), len(head)) if parts else Reply(head, None)


def _encode_as_before(
    request: Request,
    heads: dict[tuple[tuple[int, ...], ...], bytes],
    outputs: Mapping[str, NDArray[Any]],
    name: str,
    version: str,
) -> Reply:
    """The reply where all outputs are binary: but for their bytes the same as to the request before."""
    arrays = [outputs[wanted.name] for wanted in request.outputs]
    parts = [to_binary(array) for array in arrays]
    shapes = tuple(array.shape for array in arrays)
    head = heads.get(shapes)
    if head is None:
        described = [
            _described(wanted.name, array, parameters=_Size(len(part)))
            for wanted, array, part in zip(request.outputs, arrays, parts, strict=True)
        ]
        head = _encode(_Reply(name, version, request.id, described))
        if len(heads) < _PLANS and all(array.dtype.kind != "O" for array in arrays):
            heads[shapes] = head
    return Reply(b"".join((head, *parts)), len(head))


def _described(
    name: str, array: NDArray[Any], *, parameters: _Size | UnsetType = UNSET, data: list[Any] | UnsetType = UNSET
) -> _OutputReply:
    return _OutputReply(name, _ARRAY_DATATYPES[array.dtype], array.shape, parameters, data)


def _to_json(name: str, array: NDArray[Any]) -> list[Any]:
    if array.dtype.kind == "f":
        if array.dtype.itemsize == 2:
            raise WrongInput(f"output {name!r} is FP16, which has no JSON form; ask for it with binary_data")
        if not np.isfinite(array).all():
            raise WrongInput(f"output {name!r} holds NaN or infinity, which JSON cannot say; ask with binary_data")
    return array.ravel().tolist()


def to_binary(array: NDArray[Any]) -> bytes:
    if array.dtype.kind != "O":
        return array.tobytes()
    texts = [str(value).encode() for value in array.ravel()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _classes(array: NDArray[Any], wanted: Wanted, model: Signature) -> NDArray[Any]:
    """Of each sample the best classes as strings "score:index:label", the form that Triton's clients read."""
    first = wanted.name == next(iter(model.outputs))
    labels = model.labels if first else ()
    step = Classify(top=wanted.classes, softmax=first and model.softmax)
    rows = []
    for scores in array:
        rows.append(
            [
                f"{one.score:f}:{one.index}" + (f":{one.label}" if one.index < len(labels) else "")
                for one in classes_of((step,), np.asarray(scores), labels)
            ]
        )
    return np.array(rows, object)


def _names(ports: Mapping[str, Port]) -> str:
    return ", ".join(ports)


def _short(value: Any) -> str:
    """What a client sent, told back at a length that a person reads."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _lower_first(text: str) -> str:
    return text if text[:4] == "JSON" else text[:1].lower() + text[1:]
