"""Bytes to tensors and back: what the protocol says, and one clear sentence for what it does not."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.records.model import TensorSpec
from edgeward.serve import protocol
from edgeward.serve.protocol import Signature, decode, encode, signature

NUMBERS = {
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT8": "int8", "INT16": "int16",
    "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32", "FP64": "float64", "BOOL": "bool",
}  # fmt: skip


def takes(dtype: str, *shape: int | str, labels: tuple[str, ...] = ()) -> Signature:
    spec = TensorSpec(name="x", dtype=dtype, shape=shape)  # type: ignore[arg-type]
    out = TensorSpec(name="y", dtype=dtype, shape=shape)  # type: ignore[arg-type]
    return signature([spec], [out], labels)


def tensor(shape: list[int], datatype: str, **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": shape, "datatype": datatype, **more}


def as_json(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **more}).encode()


def as_binary(*inputs: tuple[dict[str, Any], bytes], **more: Any) -> tuple[bytes, int]:
    described = [{**one, "parameters": {"binary_data_size": len(data)}} for one, data in inputs]
    head = as_json(*described, **more)
    return head + b"".join(data for _, data in inputs), len(head)


def refusal(body: bytes, model: Signature, json_bytes: int | None = None) -> str:
    with pytest.raises(WrongInput) as caught:
        decode(body, json_bytes, model)
    assert "\n" not in caught.value.message
    return caught.value.message


def some(dtype: str) -> NDArray[Any]:
    return np.array([[0, 1, 1], [1, 0, 1]], dtype)


@pytest.mark.parametrize("datatype", NUMBERS)
def test_every_number_comes_in_as_raw_bytes(datatype: str) -> None:
    values = some(NUMBERS[datatype])
    body, length = as_binary((tensor([2, 3], datatype), values.tobytes()))
    request = decode(body, length, takes(NUMBERS[datatype], 3))
    assert request.samples == 2
    assert request.tensors["x"].dtype == values.dtype
    assert request.tensors["x"].flags.aligned
    assert np.array_equal(request.tensors["x"], values)


@pytest.mark.parametrize("datatype", sorted(set(NUMBERS) - {"FP16"}))
@pytest.mark.parametrize("nested", [True, False])
def test_every_number_with_a_json_form_comes_in_as_json(datatype: str, nested: bool) -> None:
    values = some(NUMBERS[datatype])
    data = values.tolist() if nested else values.ravel().tolist()
    request = decode(as_json(tensor([2, 3], datatype, data=data), id="a7"), None, takes(NUMBERS[datatype], 3))
    assert request.id == "a7"
    assert request.tensors["x"].dtype == values.dtype
    assert np.array_equal(request.tensors["x"], values)


@pytest.mark.parametrize("datatype", NUMBERS)
def test_what_comes_in_goes_out_the_same_as_raw_bytes(datatype: str) -> None:
    values = some(NUMBERS[datatype])
    model = takes(NUMBERS[datatype], 3)
    body, length = as_binary((tensor([2, 3], datatype), values.tobytes()), parameters={"binary_data_output": True})
    reply = encode(decode(body, length, model), {"y": values}, model, "m", "1")
    assert reply.json_bytes is not None
    (described,) = json.loads(reply.body[: reply.json_bytes])["outputs"]
    assert described == {
        "name": "y", "datatype": datatype, "shape": [2, 3], "parameters": {"binary_data_size": values.nbytes},
    }  # fmt: skip
    assert reply.body[reply.json_bytes :] == values.tobytes()


def test_strings_come_and_go_in_both_forms() -> None:
    model = takes("string", 2)
    words = ["ä,b", ""]
    raw = b"".join(struct.pack("<I", len(word.encode())) + word.encode() for word in words)
    body, length = as_binary(
        (tensor([1, 2], "BYTES"), raw), outputs=[{"name": "y", "parameters": {"binary_data": True}}]
    )
    from_raw = decode(body, length, model)
    from_json = decode(as_json(tensor([1, 2], "BYTES", data=words)), None, model)
    assert from_raw.tensors["x"].tolist() == from_json.tensors["x"].tolist() == [words]
    assert encode(from_raw, {"y": from_raw.tensors["x"]}, model, "m", "1").body.endswith(raw)
    told = json.loads(encode(from_json, {"y": from_json.tensors["x"]}, model, "m", "1").body)
    assert told["outputs"] == [{"name": "y", "datatype": "BYTES", "shape": [1, 2], "data": words}]


def test_a_large_raw_tensor_is_not_copied() -> None:
    body, length = as_binary((tensor([1, 5], "UINT8"), b"abcde"))
    array = decode(body, length, takes("uint8", 5)).tensors["x"]
    assert np.shares_memory(array, np.frombuffer(body, np.uint8))


def test_several_inputs_may_mix_forms_and_come_in_any_order() -> None:
    specs = [TensorSpec(name=name, dtype="int32", shape=(2,)) for name in ("a", "b", "c")]
    model = signature(specs, [])
    first = {"name": "c", "shape": [1, 2], "datatype": "INT32", "parameters": {"binary_data_size": 8}}
    second = {"name": "a", "shape": [1, 2], "datatype": "INT32", "data": [1, 2]}
    third = {"name": "b", "shape": [1, 2], "datatype": "INT32", "parameters": {"binary_data_size": 8}}
    head = as_json(first, second, third)
    got = decode(head + struct.pack("<4i", 5, 6, 3, 4), len(head), model).tensors
    assert {name: value.tolist() for name, value in got.items()} == {"a": [[1, 2]], "b": [[3, 4]], "c": [[5, 6]]}


def test_what_we_do_not_know_is_ignored() -> None:
    body = as_json(
        tensor([1, 1], "FP32", data=[1], parameters={"mood": "good"}),
        outputs=[{"name": "y", "parameters": {"mood": 3}}],
        parameters={"sequence_id": 3, "priority": 1},
        later="what a newer protocol says",
    )
    assert decode(body, None, takes("float32", 1)).tensors["x"].tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "z"}, "there is no input 'z'; the model has x"),
        ({"datatype": "FP64"}, "input 'x' is FP32, got 'FP64'"),
        ({"datatype": "BF16"}, "input 'x' is FP32, got 'BF16'"),
        ({"shape": [1, 3]}, "input 'x' has shape [-1, 2] (-1: any length), got [1, 3]"),
        ({"shape": [2]}, "input 'x' has shape [-1, 2] (-1: any length), got [2]"),
        ({"shape": [0, 2], "data": []}, "input 'x' has shape [-1, 2] (-1: any length), got [0, 2]"),
        ({"shape": [-1, 2]}, "input 'x' has shape [-1, 2] (-1: any length), got [-1, 2]"),
        ({"shape": [10**12, 2]}, "input 'x' has 2 values in data, its shape [1000000000000, 2] has 2000000000000"),
        ({"shape": "2"}, "the request: expected `array`, got `str` - at `$.inputs[0].shape`"),
        ({"data": [1, 2, 3]}, "input 'x' has 3 values in data, its shape [1, 2] has 2"),
        ({"data": []}, "input 'x' has 0 values in data, its shape [1, 2] has 2"),
        ({"data": [[1], [2]]}, "the data of input 'x' is nested in another way than its shape says"),
        ({"data": [1, "2"]}, "the data of input 'x': expected `float`, got `str` - at `$[1]`"),
        ({"data": [[1, None]]}, "the data of input 'x': expected `float`, got `null` - at `$[1]`"),
        ({"data": {"a": 1, "b": 2}}, "the data of input 'x': expected `array`, got `object`"),
        ({"data": [1, 1e39]}, "input 'x' holds a number too large for FP32"),
        ({"parameters": {"binary_data_size": 8}}, "input 'x' has both data and binary_data_size; send one of them"),
        ({"parameters": {"shared_memory_region": "r"}}, "input 'x': shared memory is not offered"),
    ],
)
def test_a_wrong_input_is_told_in_one_sentence(change: dict[str, Any], told: str) -> None:
    body = as_json({**tensor([1, 2], "FP32", data=[1, 2]), **change})
    assert refusal(body, takes("float32", 2), len(body) if "both" in told else None).startswith(told)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "the request: input data was truncated"),
        (b"{", "the request: input data was truncated"),
        (b"\x00" * 10, "the request: JSON is malformed"),
        (b"[]", "the request: expected `object`, got `array`"),
        (b"{}", "the request: object missing required field `inputs`"),
        (b'{"inputs": []}', "input 'x' is missing"),
        (b'{"inputs": [{"name": "\xff"}]}', "the request: "),
        (b'{"later": ' + b"[" * 100_000, "the request: JSON is nested too deeply"),
        (as_json(tensor([1, 2], "FP32")), "input 'x' has neither data nor binary_data_size"),
        (as_json(tensor([1, 2], "FP32", data=[float("nan"), 1])), "the request: JSON is malformed"),
        (as_json(tensor([1, 2], "FP32", parameters={"binary_data_size": 8})), "input 'x' is binary; the header"),
        (as_json(*[tensor([1, 2], "FP32", data=[1, 2])] * 2), "input 'x' is given twice"),
        (as_json(tensor([1, 2], "FP32", data=[1, 2]), id=7), "the request: expected `str`, got `int` - at `$.id`"),
        (as_json(tensor([1, 2], "FP32", data=[1, 2]), outputs=[{"name": "q"}]), "there is no output 'q'; the model"),
        (as_json(tensor([1, 2], "FP32", data=[1, 2]), outputs=[{"name": "y"}] * 2), "output 'y' is asked for twice"),
        (
            as_json(tensor([1, 2], "FP32", data=[1, 2]), outputs=[{"name": "y", "parameters": {"classification": -1}}]),
            "output 'y': classification is the number of classes, got -1",
        ),
    ],
)  # fmt: skip
def test_a_wrong_request_is_told_in_one_sentence(body: bytes, told: str) -> None:
    assert refusal(body, takes("float32", 2)).startswith(told)


@pytest.mark.parametrize(
    ("size", "data", "told"),
    [
        (8, b"1234", "input 'x' says 8 bytes, the body has 4 left for it"),
        (4, b"1234", "input 'x' of shape [1, 2] is 8 bytes of FP32, got 4"),
        (-4, b"", "input 'x' says -4 bytes, the body has 0 left for it"),
        (8, b"123456789", "the body is 1 bytes longer than its JSON and tensors"),
    ],
)
def test_raw_bytes_of_the_wrong_length_are_refused(size: int, data: bytes, told: str) -> None:
    head = as_json(tensor([1, 2], "FP32", parameters={"binary_data_size": size}))
    assert refusal(head + data, takes("float32", 2), len(head)) == told


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "input 'x' wants 2 strings, its 0 bytes cannot hold them"),
        (struct.pack("<I", 9) + b"abcd", "input 'x': string 0 ends after the tensor's last byte"),
        (struct.pack("<I", 1) + b"a" + b"\x00\x00\x00", "input 'x': string 1 ends after the tensor's last byte"),
        (struct.pack("<I", 1) + b"\xff" + struct.pack("<I", 0), "input 'x': string 0 is not UTF-8"),
        (struct.pack("<II", 0, 0) + b"!", "input 'x': 1 bytes follow its last string"),
    ],
)
def test_broken_strings_are_refused(data: bytes, told: str) -> None:
    body, length = as_binary((tensor([1, 2], "BYTES"), data))
    assert refusal(body, takes("string", 2), length) == told


def test_a_header_that_says_more_json_than_there_is_is_refused() -> None:
    assert refusal(b"{}", takes("float32", 2), 3) == "the header says 3 bytes of JSON, the body has 2 bytes"


def test_a_header_that_cuts_the_json_is_refused() -> None:
    body, length = as_binary((tensor([1, 2], "FP32"), b"12345678"))
    assert refusal(body, takes("float32", 2), length - 3) == "the request: input data was truncated"


@pytest.mark.parametrize(("datatype", "value"), [("UINT8", 256), ("UINT8", -1), ("INT32", 2**31), ("UINT64", 2**64)])
def test_a_whole_number_out_of_range_does_not_wrap_around(datatype: str, value: int) -> None:
    body = as_json(tensor([1, 1], datatype, data=[value]))
    assert refusal(body, takes(NUMBERS[datatype], 1)) == f"input 'x' holds {value}, which is no {datatype}"


def test_half_floats_have_no_json_form() -> None:
    model = takes("float16", 1)
    assert "FP16, which has no JSON form" in refusal(as_json(tensor([1, 1], "FP16", data=[1])), model)
    body, length = as_binary((tensor([1, 1], "FP16"), b"\0\0"))
    with pytest.raises(WrongInput, match="FP16, which has no JSON form; ask for it with binary_data"):
        encode(decode(body, length, model), {"y": np.zeros((1, 1), np.float16)}, model, "m", "1")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_json_cannot_say_is_told_and_goes_out_as_raw_bytes(value: float) -> None:
    model = takes("float32", 1)
    values = np.full((1, 1), value, np.float32)
    asked = tensor([1, 1], "FP32", data=[0])
    with pytest.raises(WrongInput, match="output 'y' holds NaN or infinity, which JSON cannot say"):
        encode(decode(as_json(asked), None, model), {"y": values}, model, "m", "1")
    binary = decode(as_json(asked, parameters={"binary_data_output": True}), None, model)
    assert encode(binary, {"y": values}, model, "m", "1").body.endswith(values.tobytes())


def test_samples_must_be_as_many_in_every_input() -> None:
    model = signature([TensorSpec(name=name, dtype="int32", shape=(1,)) for name in ("a", "b")], [])
    one = {"name": "a", "shape": [1, 1], "datatype": "INT32", "data": [1]}
    two = {"name": "b", "shape": [2, 1], "datatype": "INT32", "data": [1, 2]}
    assert refusal(as_json(one, two), model) == "input 'b' has 2 samples, the others have 1"


def test_classes_carry_score_index_and_label_best_first() -> None:
    model = takes("float32", 3, labels=("ant", "bee"))
    body = as_json(tensor([2, 3], "FP32", data=[0] * 6), outputs=[{"name": "y", "parameters": {"classification": 2}}])
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]], np.float32)
    told = json.loads(encode(decode(body, None, model), {"y": scores}, model, "m", "1").body)
    assert told["outputs"][0]["datatype"] == "BYTES"
    assert told["outputs"][0]["shape"] == [2, 2]
    assert told["outputs"][0]["data"] == ["0.700000:1:bee", "0.200000:2", "0.500000:0:ant", "0.400000:2"]


def test_a_dtype_that_clients_do_not_have_is_not_served() -> None:
    with pytest.raises(Unsupported, match="'x' is bfloat16, which cannot be served"):
        takes("bfloat16", 2)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
NEARLY_INPUT = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "y", ""]),
        "shape": st.lists(st.integers(-2, 4) | st.integers(), max_size=3),
        "datatype": st.sampled_from([*NUMBERS, "BYTES", "BF16"]),
    },
    optional={
        "data": st.lists(st.integers() | st.floats() | st.text(max_size=3) | st.booleans(), max_size=8) | ANY_JSON,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-4, 64) | ANY_JSON})
        | ANY_JSON,
    },
)
NEARLY_REQUEST = st.fixed_dictionaries(
    {"inputs": st.lists(NEARLY_INPUT, max_size=3)},
    optional={
        "id": st.text(max_size=3),
        "outputs": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["y", "z"])}, optional={"parameters": ANY_JSON})
        ),
        "parameters": ANY_JSON,
    },
)
MODELS = [takes("float32", 2), takes("uint8", "n"), takes("string", 2), takes("bool"), takes("int64", 2, 2)]


def decoded(
    body: bytes, json_bytes: int | None, model: Signature, plans: protocol.Plans | None = None
) -> protocol.Request | str:
    try:
        return protocol.decode(body, json_bytes, model, plans)._replace(heads=None)
    except WrongInput as error:
        return error.message


def only_wrong_input(body: bytes, json_bytes: int | None) -> None:
    """And a head that came before is read as it was the first time, whatever bytes follow it now."""
    for model in MODELS:
        plans: protocol.Plans = {}
        request = decoded(body, json_bytes, model, plans)
        assert isinstance(request, str) or all(len(value) == request.samples for value in request.tensors.values())
        for again in (
            body,
            body[::-1] if json_bytes is None else body[:json_bytes] + body[json_bytes:][::-1],
            body + b"x",
        ):
            assert str(decoded(again, json_bytes, model, plans)) == str(decoded(again, json_bytes, model))


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=64) | ANY_JSON.map(lambda value: json.dumps(value).encode()), st.none() | st.integers(0, 80))
def test_no_bytes_raise_anything_but_wrong_input(body: bytes, json_bytes: int | None) -> None:
    only_wrong_input(body, json_bytes)


@settings(max_examples=600, deadline=None)
@given(NEARLY_REQUEST, st.binary(max_size=32), st.sampled_from(["none", "right", "short", "long"]))
def test_no_nearly_right_request_raises_anything_but_wrong_input(request_: Any, raw: bytes, header: str) -> None:
    head = json.dumps(request_).encode()
    length = {"none": None, "right": len(head), "short": len(head) - 1, "long": len(head) + 5}[header]
    only_wrong_input(head + raw if header != "none" else head, length)


def test_the_head_of_a_frame_is_read_once_and_each_frame_is_its_own() -> None:
    model, plans = takes("uint8", 2), protocol.Plans()
    for first, ident in ((7, {}), (8, {}), (9, {"id": "a"})):
        body, size = as_binary((tensor([1, 2], "UINT8"), bytes([first, 1])), **ident)
        request = protocol.decode(body, size, model, plans)
        assert request.tensors["x"].tolist() == [[first, 1]]
        assert len(plans) == 1
    assert request.id == "a"
    for number in range(200):
        body, size = as_binary((tensor([1, 2], "UINT8", other=number), bytes(2)))
        protocol.decode(body, size, model, plans)
    assert len(plans) <= 64


@pytest.mark.parametrize("dtype", ["float32", "string", "uint8"])
def test_replies_to_a_head_that_comes_again_are_those_that_it_gets_alone(dtype: str) -> None:
    spec = TensorSpec(name="x", dtype="uint8", shape=(2,))
    found = [TensorSpec(name=name, dtype=dtype, shape=("found", 6)) for name in ("y", "z")]
    model, plans = signature([spec], found), protocol.Plans()
    asked = [{"name": name, "parameters": {"binary_data": True}} for name in ("z", "y")]
    body, size = as_binary((tensor([1, 2], "UINT8"), bytes(2)), outputs=asked)
    for count in (1, 3, 0, 3, 1):
        values = np.arange(6 * count).reshape(1, count, 6)
        kind = object if dtype == "string" else dtype
        outputs = {"y": values.astype(kind), "z": (values + count).astype(kind)}
        again, alone = protocol.decode(body, size, model, plans), protocol.decode(body, size, model)
        assert encode(again, outputs, model, "m", "1") == encode(alone, outputs, model, "m", "1")
    assert again.heads is not None
    assert len(again.heads) == (0 if dtype == "string" else 3)


def test_a_number_of_many_thousand_digits_is_no_trouble() -> None:
    digits = b"9" * 10_000
    for text in (b'{"inputs":[{"name":"x","shape":[%s],"datatype":"UINT8","data":[1]}]}' % digits,
                 b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"INT64","data":[%s]}]}' % digits):  # fmt: skip
        only_wrong_input(text, None)
