"""How each server wants a sample and tells its answer: whole HTTP requests, and replies read."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Form(NamedTuple):
    """`request` makes the bytes of one request of a sample (no batch axis); `answer` reads the body of its reply."""

    words: str
    request: Callable[["Facts", Array], bytes]
    answer: Callable[["Facts", bytes], Array]


class Facts(NamedTuple):
    """The model's input and output as a client has to know them."""

    input_name: str
    output_name: str
    datatype: str
    shape: tuple[int, ...]


def _post(path: str, body: bytes, *lines: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


def _raw(_: Facts, sample: Array) -> bytes:
    return _post("/", sample.tobytes())


def _binary(facts: Facts, sample: Array) -> bytes:
    tensor = {
        "name": facts.input_name, "shape": [1, *sample.shape], "datatype": facts.datatype,
        "parameters": {"binary_data_size": sample.nbytes},
    }  # fmt: skip
    wanted = {"name": facts.output_name, "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
    length = f"Inference-Header-Content-Length: {len(head)}"
    return _post("/v2/models/bench/infer", head + sample.tobytes(), "Content-Type: application/octet-stream", length)


def _json(path: str, key: str) -> Callable[[Facts, Array], bytes]:
    return lambda _, sample: _post(path, json.dumps({key: sample.tolist()}).encode(), "Content-Type: application/json")


def _floats(_: Facts, body: bytes) -> Array:
    return np.frombuffer(body, np.float32)


def _tensor(_: Facts, body: bytes) -> Array:
    (output,) = json.JSONDecoder().raw_decode(body.decode("latin-1"))[0]["outputs"]
    return np.frombuffer(body[-output["parameters"]["binary_data_size"] :], np.float32)


RAW = Form("raw bytes", _raw, _floats)
BINARY = Form("v2, binary tensors", _binary, _tensor)
LIT = Form("JSON", _json("/predict", "input"), lambda _, body: np.array(json.loads(body)["output"], np.float32))
BENTO = Form("JSON", _json("/infer", "x"), lambda _, body: np.array(json.loads(body)[0], np.float32))
