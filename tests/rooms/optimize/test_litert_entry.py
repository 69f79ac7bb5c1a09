"""A LiteRT file that makes int8 of its bytes first takes them as int8 in memory, and answers the same."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from graph_models import conv_net
from hypothesis import given
from hypothesis import strategies as st
from test_graph_passes import applied, samples_of

from edgeward.infer import runtimes
from edgeward.infer.litert_entry import entering_signed
from edgeward.optimize import exporters
from edgeward.records.model import Normalize

STEPS = [("simplify", {}), ("fold-preprocess", {}), ("quantize-static", {})]
MEAN = (Normalize(mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26)),)
SCALE = (Normalize(mean=(0.0,), std=(1.0,)),)


def exported(preprocess, steps=STEPS) -> bytes:
    model, _ = applied(conv_net(nhwc=True, pads=(1, 1, 1, 1)), steps, samples_of((8, 8, 3)), preprocess)
    return exporters.load("litert").export(model).data


def answers(data: bytes, values: np.ndarray) -> list[np.ndarray]:
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


@pytest.mark.parametrize("preprocess", [MEAN, SCALE], ids=["a mean is left", "bytes into the convolution"])
def test_bytes_enter_as_int8_and_the_answers_are_the_same(preprocess):
    data = exported(preprocess)
    signed = entering_signed(data)
    assert signed is not None
    for sample in samples_of((1, 8, 8, 3)):
        expected = answers(data, sample["x"])
        found = answers(signed, (sample["x"] ^ 128).view(np.int8))
        for value, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(value, wanted)


def test_a_session_still_takes_bytes():
    data = exported(MEAN)
    session = runtimes.load("litert").load(data, threads=1)
    assert session.inputs[0].dtype == "uint8"
    for sample in samples_of((1, 8, 8, 3)):
        expected = answers(data, sample["x"])
        np.testing.assert_array_equal(session.run({session.inputs[0].name: sample["x"]})[0], expected[0])
        np.testing.assert_array_equal(session.single.run(sample["x"][0])[0], expected[0][0])


def test_a_float_model_stays_as_it_is():
    assert entering_signed(exported(MEAN, STEPS[:2])) is None
    assert entering_signed(exported((), STEPS[:1])) is None


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_damaged_file_raises_nothing(place, value):
    data = bytearray(_GOOD)
    data[place % len(data)] = value
    entering_signed(bytes(data))


@given(st.binary(max_size=200))
def test_what_is_no_file_raises_nothing(data):
    entering_signed(data)


_GOOD = exported(MEAN)
