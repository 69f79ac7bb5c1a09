"""Pictures as people have them: a JPEG goes in, as the whole body or as a tensor of bytes."""

import asyncio
import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from serve_small_models import echo

from edgeward.infer import Predictor
from edgeward.infer.runtimes import load
from edgeward.records.model import TensorSpec
from edgeward.serve import Limits, ServedModel, create_app
from edgeward.serve.connection import Answer, Asked
from edgeward.serve.protocol import signature

RED = np.full((8, 8, 3), (250, 10, 10), np.uint8)


def encoded(pixels: NDArray[Any], kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, quality=95)
    return file.getvalue()


def model(*, image: bool = True) -> ServedModel:
    """Its answer is the picture itself."""
    session = load("echo").load(echo((8, 8, 3), "uint8", 1.0), threads=1)
    spec = TensorSpec(name="x", dtype="uint8", shape=(8, 8, 3))
    ports = signature([spec], [TensorSpec(name="x_out", dtype="uint8", shape=(8, 8, 3))], image=image)
    return ServedModel(Predictor(session), ports, name="m", version="1", platform="", facts={})


def ask(served: ServedModel, body: bytes, headers: dict[bytes, bytes], limits: Limits | None = None) -> tuple[int, Any]:
    async def asked() -> tuple[int, Any]:
        app = create_app([served], limits or Limits())
        one = Asked("127.0.0.1")
        one.method, one.url, one.headers, one.body = b"POST", b"/v2/models/m/infer", headers, body
        answer = app.opened(one) or app.answer(one)
        if not isinstance(answer, Answer):
            answer = await answer
        app.closed(one)
        return answer.status, json.loads(answer.body)

    return asyncio.run(asked())


def tensor(pictures: list[bytes]) -> tuple[bytes, dict[bytes, bytes]]:
    data = b"".join(struct.pack("<I", len(one)) + one for one in pictures)
    head = json.dumps(
        {"inputs": [{"name": "x", "shape": [len(pictures), 1], "datatype": "BYTES",
                     "parameters": {"binary_data_size": len(data)}}]}
    ).encode()  # fmt: skip
    return head + data, {b"inference-header-content-length": str(len(head)).encode()}


def pixels(reply: Any) -> NDArray[np.uint8]:
    (output,) = reply["outputs"]
    return np.array(output["data"], np.uint8).reshape(output["shape"])


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_is_the_whole_body(kind: str) -> None:
    status, reply = ask(model(), encoded(RED, kind), {b"content-type": f"image/{kind.lower()}".encode()})
    assert status == 200
    assert pixels(reply).shape == (1, 8, 8, 3)
    assert np.abs(pixels(reply)[0].astype(int) - RED).max() < 12


def test_pictures_are_a_tensor_of_bytes() -> None:
    status, reply = ask(model(), *tensor([encoded(RED), encoded(255 - RED)]))
    assert status == 200
    assert np.abs(pixels(reply).astype(int) - np.stack([RED, 255 - RED])).max() < 12


@pytest.mark.parametrize(
    ("served", "body", "headers", "told"),
    [
        (model(), b"no picture", {b"content-type": b"image/jpeg"}, "input 'x': this image cannot be decoded"),
        (model(), encoded(RED)[:100], {b"content-type": b"image/jpeg"}, "input 'x': this image cannot be decoded"),
        (model(), encoded(RED[:4]), {b"content-type": b"image/jpeg"}, "input 'x' has shape [-1, 8, 8, 3]"),
        (model(image=False), encoded(RED), {b"content-type": b"image/jpeg"}, "this model takes no pictures"),
        (model(), *tensor([encoded(RED), encoded(RED[:4])]), "input 'x': the pictures of one request have one size"),
        (model(), *tensor([b""]), "input 'x': this image cannot be decoded"),
    ],
)
def test_what_is_no_picture_for_it_is_told(
    served: ServedModel, body: bytes, headers: dict[bytes, bytes], told: str
) -> None:
    status, reply = ask(served, body, headers)
    assert (status, reply["error"][: len(told)]) == (400, told)
    assert served.queued == 0


def test_a_small_file_of_a_huge_picture_is_refused_before_it_is_decoded() -> None:
    bomb = encoded(np.zeros((5000, 5000, 3), np.uint8), "PNG")
    assert len(bomb) < 1 << 20
    status, reply = ask(model(), bomb, {b"content-type": b"image/png"}, Limits(request_bytes=1 << 20))
    assert (status, reply["error"]) == (
        400, "input 'x': this image has 75000000 bytes of pixels, 1048576 are taken",
    )  # fmt: skip
