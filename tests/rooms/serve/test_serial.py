"""Readings of a serial line: a real pair of terminals, from socat."""

import struct

import numpy as np
import pytest
from parts_around import InThread, SerialLine, until
from pipelines import WANTED, memory, running

from edgeward.kit.errors import Unavailable, WrongInput
from edgeward.records.model import TensorSpec
from edgeward.serve.sources import Wanted
from edgeward.serve.windows import Windows


@pytest.fixture
def line(tmp_path):
    one = SerialLine(tmp_path)
    yield one
    one.stop()


def answers(kept):
    return [result.answer.outputs["x_out"].tolist() for result in kept.results]


def test_lines_of_numbers_are_samples_whatever_stands_between_them(line):
    kept = memory()
    with InThread(f"serial://{line.far}", kept) as pipeline:
        until(lambda: line.write(b"0,0,0\n") or kept.results)
        before = len(kept.results)
        line.write(b"1,2,3\r\n4;5;6\n\n# a comment\n7 8\t9\n 1e1, -2.5 ,3\n10,")
        line.write(b"20,30\n")
        until(lambda: len(kept.results) >= before + 5)
    assert [2, 4, 6] in answers(kept)
    assert answers(kept)[-4:] == [[8, 10, 12], [14, 16, 18], [20, -5, 6], [20, 40, 60]]
    assert pipeline.told == []


def test_noise_is_told_once_a_line_and_the_next_line_is_answered(line):
    kept = memory()
    with InThread({"use": "serial", "device": str(line.far), "columns": [2, 1, 0]}, kept) as pipeline:
        until(lambda: line.write(b"1,2,3\n") or kept.results)
        line.write(b"\x00\xff\xfe garbage\n1,2\nnan,inf,1\n" + b"x" * 200_000 + b"\n9,8,7\n")
        until(lambda: [14, 16, 18] in answers(kept))
    assert len(pipeline.told) >= 3
    assert all("\n" not in sentence and len(sentence) < 200 for sentence in pipeline.told)


def test_binary_frames_are_found_in_noise(line):
    kept = memory()
    frame = b"\xaa\x55" + struct.pack("<3f", 1, 2, 3)
    source = {"use": "serial", "device": str(line.far), "frame": "float32", "count": 3}
    with InThread(source, kept) as pipeline:
        until(lambda: line.write(frame) or kept.results)
        before = len(kept.results)
        line.write(b"\x01\x02\xaa\x03" + frame + b"\xaa" + frame)
        until(lambda: len(kept.results) >= before + 2)
    assert all(answer == [2, 4, 6] for answer in answers(kept))
    assert any("bytes that are no frame" in sentence for sentence in pipeline.told)


def test_a_line_that_was_pulled_out_and_put_back_is_opened_again(line):
    kept = memory()
    with InThread(f"serial://{line.far}", kept) as pipeline:
        until(lambda: line.write(b"1,2,3\n") or kept.results)
        line.stop()
        until(lambda: pipeline.told)
        line.start()
        before = len(kept.results)
        until(lambda: line.write(b"4,5,6\n") or len(kept.results) > before)
    assert pipeline.counts.reopened == 1
    assert "the serial line is gone" in pipeline.told[0]


def test_a_line_that_is_not_there_is_told():
    with pytest.raises(Unavailable, match="/dev/nothing: this serial line cannot be opened"):
        running("serial:///dev/nothing?baud=9600").run()


def windows(*shape, hop=None):
    return Windows(Wanted("w", "tensor", (TensorSpec(name="x", dtype="float32", shape=shape),)), hop)


def test_readings_become_windows_side_by_side_or_by_a_hop():
    def firsts(one):
        made = [one.add([number, -number], "s") for number in range(8)]
        return [int(sample["x"][0, 0]) for sample in made if sample is not None]

    assert firsts(windows(4, 2)) == [0, 4]
    assert firsts(windows(4, 2, hop=1)) == [0, 1, 2, 3, 4]
    assert [windows(3).add([1, 2, 3], "s")["x"].tolist()] == [[1, 2, 3]]
    series = windows(3)
    assert [series.add([number], "s") is not None for number in range(6)] == [False, False, True] * 2
    with pytest.raises(WrongInput, match="this reading has 3 numbers; wanted 2"):
        windows(4, 2).add([1, 2, 3], "s")
    with pytest.raises(WrongInput, match="does not take readings"):
        windows(4, 2, 1)
    assert Windows(WANTED, None).add(np.ones(3).tolist(), "s")["x"].dtype == np.float32
