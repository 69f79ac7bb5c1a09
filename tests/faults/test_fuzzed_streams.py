"""What comes over a wire damaged, by the ten thousand: a sample or one sentence each, and nothing stays behind."""

import base64
import ctypes
import gc
import json
import random
import struct
import sys
from io import BytesIO
from pathlib import Path

import cbor2
import numpy as np
import pytest
from PIL import Image

from edgeward.kit.errors import Unavailable, WrongInput
from edgeward.records.model import TensorSpec
from edgeward.serve.edgex import event_of
from edgeward.serve.multipart import Parts
from edgeward.serve.payload import sample_of
from edgeward.serve.sources import Wanted

sys.path.insert(0, str(Path(__file__).parents[1] / "rooms" / "serve"))

NUMBERS = Wanted("numbers", "tensor", (TensorSpec(name="x", dtype="float32", shape=(3,)),))
PICTURES = Wanted("pictures", "image", (TensorSpec(name="x", dtype="uint8", shape=("h", "w", 3)),))
SOUND = Wanted("sound", "audio", (TensorSpec(name="x", dtype="float32", shape=("samples",)),), 16000)


def npz():
    file = BytesIO()
    np.savez_compressed(file, x=np.ones(3, np.float32))
    return file.getvalue()


def picture(kind):
    file = BytesIO()
    Image.effect_noise((24, 16), 60).convert("RGB").save(file, kind)
    return file.getvalue()


def wav():
    data = struct.pack("<8h", *range(8))
    head = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 52, b"WAVEfmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data", len(data))
    return head + data


READING = {"resourceName": "x", "valueType": "Float32Array", "value": "[1.0e+00, 2, 3]"}
REQUEST = {"event": {"deviceName": "d", "sourceName": "x", "readings": [READING]}}
KINDS = {
    "json": ([b"[1, 2.5, -3e0]", b'{"x": [1, 2, 3]}'], lambda data: sample_of(data, "s", NUMBERS)),
    "npz": ([npz()], lambda data: sample_of(data, "s", NUMBERS)),
    "raw": ([struct.pack("<3f", 1, 2, 3)], lambda data: sample_of(data, "s", NUMBERS, payload="raw")),
    "image": ([picture("JPEG"), picture("PNG"), picture("BMP")], lambda data: sample_of(data, "s", PICTURES)),
    "wav": ([wav()], lambda data: sample_of(data, "s", SOUND)),
    "edgex": (
        [json.dumps(REQUEST).encode(), cbor2.dumps(REQUEST),
         json.dumps({"payload": base64.b64encode(cbor2.dumps(REQUEST)).decode()}).encode()],
        lambda data: event_of(data, "s"),
    ),
    "multipart": (
        [b"--b\r\nContent-Length: 3\r\n\r\nabc\r\n--b\r\n\r\nxyz\r\n--b"],
        lambda data: Parts(b"b", 99).add(data, "s"),
    ),
}  # fmt: skip


def damaged(data, generator):
    """A few bytes changed, cut out, doubled, or the end cut off."""
    made = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(len(made) + 1)
        match generator.randrange(4):
            case 0:
                made[at : at + 1] = generator.randbytes(1)
            case 1:
                del made[at : at + generator.randint(1, 8)]
            case 2:
                made[at:at] = made[at : at + 16] * generator.randint(1, 4)
            case 3:
                made[at:at] = generator.choice([b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x00" * 8, b"-", b"[[[["])
    return bytes(made if generator.random() < 0.8 else made[: generator.randrange(len(made) + 1)])


def rss_bytes():
    """What is resident once nothing waits to be collected or given back: free memory that malloc keeps is no leak."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_end_in_a_sample_or_one_sentence_and_leave_nothing_behind(kind):
    whole, read = KINDS[kind]
    generator = random.Random(7)
    for data in whole:
        assert read(data)
    before, said = 0, set()
    for number in range(6000):
        try:
            read(damaged(generator.choice(whole), generator))
        except (WrongInput, Unavailable) as error:
            said.add(error.message)
        if number == 2000:
            before = rss_bytes()
    assert said or kind == "multipart", "a stream of parts is read on from the next one"
    assert not [sentence for sentence in said if "\n" in sentence or len(sentence) > 600]
    assert rss_bytes() - before < 12_000_000


def test_noise_on_a_serial_line_is_told_and_readings_after_it_are_answered(tmp_path):
    from parts_around import InThread, SerialLine, until
    from pipelines import memory

    line, generator, kept = SerialLine(tmp_path), random.Random(7), memory()
    frame = b"\xaa\x55" + struct.pack("<3f", 1, 2, 3)
    source = {"use": "serial", "device": str(line.far), "frame": "float32", "count": 3}
    try:
        with InThread(source, kept) as pipeline:
            until(lambda: line.write(frame) or kept.results)
            for _ in range(20):
                line.write(generator.randbytes(3000))
            line.write(bytes(64))
            before = len(kept.results)
            until(lambda: line.write(frame) or len(kept.results) > before + 3)
    finally:
        line.stop()
    assert kept.results[-1].answer.outputs["x_out"].tolist() == [2, 4, 6]
    assert pipeline.fault is None
    assert all("\n" not in sentence for sentence in pipeline.told)
