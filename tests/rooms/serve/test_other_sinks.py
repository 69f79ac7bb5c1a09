"""The command hook, pictures with their boxes, and shared memory."""

import json
import os
import sys
from datetime import UTC, datetime
from urllib.request import urlopen

import msgspec
import numpy as np
import pytest
from parts_around import InThread, until
from pipelines import memory, recording, running

from edgeward.infer import Answer
from edgeward.infer.postprocess import Box
from edgeward.kit.errors import EdgewardError, Failed, Unavailable, WrongInput
from edgeward.serve import sinks
from edgeward.serve.picture import picture_of
from edgeward.serve.results import Result
from edgeward.serve.shared import FOLDER, HEAD, HEAD_BYTES, Reader, Writer


def sink(use, **options):
    member = sinks.load(use)
    return member.open(msgspec.convert(options, member.options), "door")


def seen(number=0, age_ms=1.0, **answer):
    """A result of a picture, with a person in it."""
    boxes = (Box("person", 0, 0.91, 20, 30, 60, 90), Box("dog", 1, 0.5, 100, 60, 158, 118))
    made = Answer({}, answer.get("classes", ()), 0.1, 0.2, 0.3, boxes)
    sample = {"x": np.full((120, 160, 3), 40 + number, np.uint8)}
    at = datetime(2026, 1, 1, 0, 0, number, tzinfo=UTC)
    return Result(source="camera", at=at, answer=made, sample=sample, number=number, age_ms=age_ms)


def test_a_program_gets_the_result_on_its_standard_input(tmp_path):
    told = []
    script = tmp_path / "hook.py"
    script.write_text("import sys, pathlib\npathlib.Path(sys.argv[1]).open('ab').write(sys.stdin.buffer.read())\n")
    command = f"{sys.executable} {script} '{tmp_path / 'got it.jsonl'}'"
    source = str(recording(tmp_path, 20))
    running(source, sink("command", command=command, rate_hz=0.001), told=told).run()
    got = (tmp_path / "got it.jsonl").read_text().splitlines()
    assert [json.loads(line)["source"] for line in got] == [f"{source}[0]"], "the rate lets one program start"
    assert told == []


@pytest.mark.parametrize(
    ("command", "words"),
    [("false", "false ended with exit code 1"), ("sleep 60", "did not end within 0.1 s"), ("ls /nowhere", "nowhere")],
)
def test_a_program_that_fails_or_hangs_is_told(command, words):
    with pytest.raises(Failed, match=words):
        sink("command", command=command, limit_s=0.1).write(seen())


@pytest.mark.parametrize("command", ["there-is-no-such-program", "'", " "])
def test_what_is_no_program_is_told_at_the_start(command):
    with pytest.raises(WrongInput):
        sink("command", command=command)


def test_boxes_are_drawn_where_they_are():
    picture = np.asarray(picture_of(seen()))
    scale = picture.shape[1] // 160
    assert picture.shape == (120 * scale, 160 * scale, 3)
    assert picture[60 * scale, 20 * scale].tolist() == [255, 212, 59], "the edge of the person's box"
    assert picture[60 * scale, 40 * scale].tolist() == [40, 40, 40], "and its inside as it was"


def test_what_is_no_picture_is_told():
    result = seen()
    result.sample = {"x": np.zeros(3, np.float32)}
    with pytest.raises(WrongInput, match="only images can be shown"):
        picture_of(result)


def test_an_annotated_film_can_be_watched_also_when_it_was_cut_off(tmp_path):
    av = pytest.importorskip("av", reason="needs the extra video: pip install 'edgeward[video]'")
    path = tmp_path / "seen.mp4"
    outlet = sink("video", path=str(path))
    for number in range(30):
        outlet.write(seen(number, age_ms=None))
    cut = path.read_bytes()
    outlet.close()
    for data, least in ((path.read_bytes(), 30), (cut, 1)):
        (tmp_path / "copy.mp4").write_bytes(data)
        with av.open(str(tmp_path / "copy.mp4")) as film:
            frames = list(film.decode(video=0))
        assert len(frames) >= least
    assert float(frames[-1].pts * frames[-1].time_base) <= 3
    frame = frames[0].to_ndarray(format="rgb24")
    assert frame.shape == (240, 320, 3)
    assert frame[120, 40, 2] < 130 < frame[120, 40, 0], "the yellow edge of a box"


def test_a_film_is_rotated(tmp_path):
    pytest.importorskip("av", reason="needs the extra video: pip install 'edgeward[video]'")
    outlet = sink("video", path=str(tmp_path / "seen.mkv"), max_bytes=3000, keep=1)
    for number in range(59):
        outlet.write(seen(number))
    outlet.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["seen.1.mkv", "seen.mkv"]
    with pytest.raises(WrongInput, match="no such encoder"):
        sink("video", path=str(tmp_path / "x.mp4"), codec="none")


def test_the_newest_picture_is_shown_to_browsers(tmp_path):
    outlet = sink("mjpeg", address="127.0.0.1:0")
    url = f"http://127.0.0.1:{outlet.port}"
    outlet.write(seen(7))
    assert urlopen(f"{url}/latest.jpg").read().startswith(b"\xff\xd8\xff")
    assert json.loads(urlopen(f"{url}/latest.json").read())["boxes"][0]["label"] == "person"
    assert b"<h1>door</h1>" in urlopen(url).read()
    with urlopen(f"{url}/stream") as stream:
        assert stream.readline() == b"--picture\r\n"
        outlet.write(seen(8))
        read = b""
        while b"--picture" not in read:
            read += stream.read(1000)
        outlet.close()
    with pytest.raises(EdgewardError, match="wanted HOST:PORT"):
        sink("mjpeg", address="8090")
    with pytest.raises(WrongInput, match="there is no port 99999"):
        sink("mjpeg", address="127.0.0.1:99999")


def test_samples_in_shared_memory_are_answered_with_their_age():
    name = f"edgeward-test-{os.getpid()}"
    writer = Writer(name, 12)
    kept = memory()
    with InThread(f"shm://{name}", kept) as pipeline:
        for value in (1, 2, 3):
            writer.write(np.full(3, value, "<f4").tobytes())
            until(lambda value=value: kept.results and kept.results[-1].answer.outputs["x_out"][0] == 2 * value)
        writer.write(b"five.")
        until(lambda: pipeline.told)
        writer.close()
        until(lambda: len(pipeline.told) > 1)
    assert all(result.age_ms >= 0 for result in kept.results)
    assert "got 5 bytes; wanted 12, float32 3" in pipeline.told[0]
    assert pipeline.told[1] == f"shm://{name}: who wrote it has gone; trying again"


def test_what_is_no_such_memory_is_told(tmp_path):
    path = FOLDER / f"edgeward-test-{os.getpid()}-odd"
    try:
        for content, words in ((b"", "is empty"), (b"x" * 80, "has not the layout")):
            path.write_bytes(content)
            with pytest.raises(Unavailable, match=words):
                running(f"shm://{path.name}").run()
        path.write_bytes(HEAD.pack(b"EDGEWARD", 2, 0, 1 << 40) + bytes(HEAD_BYTES))
        with pytest.raises(Unavailable, match="says 1099511627776 bytes"):
            Reader(path.name).read(0)
    finally:
        path.unlink()
    with pytest.raises(Unavailable, match="cannot be opened"):
        running("shm://nothing-there").run()
    with pytest.raises(WrongInput, match="wanted the name of one file"):
        running("shm://../etc/passwd").run()
