"""Pictures and sound out of PyAV: a video file, a real RTSP server, recorded bytes where there is no device."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from parts_around import InThread, free_port, until
from pipelines import memory, running

from edgeward.infer import Predictor
from edgeward.infer.runtimes import load
from edgeward.infer.runtimes.echo import EchoModel
from edgeward.kit import codec
from edgeward.kit.errors import Unavailable, WrongInput
from edgeward.records.model import TensorSpec
from edgeward.serve.sources import Wanted

av = pytest.importorskip("av", reason="needs the extra video: pip install 'edgeward[video]'")

SHAPE = ("height", "width", 3)
PICTURES = Wanted("pictures", "image", (TensorSpec(name="x", dtype="uint8", shape=SHAPE),))
SOUND = Wanted("sound", "audio", (TensorSpec(name="x", dtype="float32", shape=(4000,)),), 16000)
SERVER = Path(__file__).with_name("rtsp_server.py")


def echo(*shape, dtype="uint8"):
    spec = TensorSpec(name="x", dtype=dtype, shape=("batch", *shape))
    return lambda: Predictor(load("echo").load(codec.to_json(EchoModel(inputs=(spec,))), threads=1))


def pictures(source, *outlets, **more):
    return running(source, *outlets, model=echo(*SHAPE), wanted=PICTURES, **more)


@pytest.fixture
def film(tmp_path):
    """Twenty pictures, each a little brighter."""
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuvj420p"
        for number in range(20):
            picture = np.full((32, 48, 3), 10 * number, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return path


def test_each_picture_of_a_film_is_answered_in_order(film):
    kept = memory()
    counts = pictures(str(film), kept).run()
    assert counts.answered == 20
    assert [result.source for result in kept.results][:2] == [f"{film}[0]", f"{film}[1]"]
    means = [result.sample["x"].mean() for result in kept.results]
    np.testing.assert_allclose(means, np.arange(20) * 10, atol=3)
    assert kept.results[0].sample["x"].shape == (32, 48, 3)
    assert all(result.age_ms is None for result in kept.results)


def test_a_grey_model_gets_grey_pictures(film):
    kept = memory()
    wanted = Wanted("grey", "image", (TensorSpec(name="x", dtype="uint8", shape=("h", "w", 1)),))
    running(str(film), kept, model=echo("h", "w", 1), wanted=wanted).run()
    assert kept.results[0].sample["x"].shape == (32, 48, 1)


def test_what_is_no_film_is_one_sentence(tmp_path, film):
    (tmp_path / "text.mp4").write_text("no film at all")
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("text.mp4", "empty.mp4"):
        with pytest.raises(WrongInput, match=f"{name}: this is no video that can be read"):
            pictures(str(tmp_path / name)).run()
    with pytest.raises(WrongInput, match="gives pictures, sound takes recordings"):
        running(str(film), wanted=SOUND).run()


def test_a_damaged_film_loses_the_damaged_pictures_and_no_more(film):
    data = bytearray(film.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(300)
    film.write_bytes(data)
    told, kept = [], memory()
    with suppress(WrongInput):
        pictures(str(film), kept, told=told).run()
    assert 8 <= len(kept.results) < 20


class RtspServer:
    def __init__(self, port):
        self.url = f"rtsp://127.0.0.1:{port}/ball"
        self._port = port
        self.start()

    def start(self):
        self._process = subprocess.Popen(
            ["/usr/bin/python3", SERVER, str(self._port)], stdout=subprocess.PIPE, text=True
        )
        if self._process.stdout.readline() != "ready\n":
            pytest.skip("needs an RTSP server: apt-get install gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good")

    def stop(self):
        self._process.kill()
        self._process.wait()


@pytest.fixture
def camera():
    if not Path("/usr/bin/python3").exists():
        pytest.skip("needs the system's Python with gi: apt-get install python3-gi")
    server = RtspServer(free_port())
    yield server
    server.stop()


def test_a_stream_is_followed_and_found_again_when_its_camera_was_away(camera):
    kept = memory()
    secret = camera.url.replace("//", "//user:secret@")
    with InThread(secret, kept, model=echo(*SHAPE), wanted=PICTURES) as pipeline:
        until(lambda: len(kept.results) >= 10)
        camera.stop()
        until(lambda: pipeline.told)
        camera.start()
        before = len(kept.results)
        until(lambda: len(kept.results) >= before + 5)
    assert pipeline.counts.reopened >= 1
    assert kept.results[0].source == camera.url
    assert kept.results[0].sample["x"].shape == (120, 160, 3)
    moved = [result.sample["x"].astype(int) for result in list(kept.results)[:10]]
    assert np.abs(moved[0] - moved[-1]).mean() > 0.1
    assert all(result.age_ms >= 0 for result in kept.results)
    assert pipeline.told[-1] == "the source is there again"
    assert not any("secret" in sentence for sentence in pipeline.told)


def test_a_camera_that_is_not_there_is_not_reachable():
    with pytest.raises(Unavailable, match=r"rtsp://127\.0\.0\.1:1/x: cannot be opened"):
        pictures("rtsp://user:secret@127.0.0.1:1/x?channel=1").run()
    with pytest.raises(Unavailable, match="/dev/video99: there is no such camera"):
        pictures("/dev/video99").run()


def test_what_a_usb_camera_sends_is_decoded_from_its_recorded_bytes(tmp_path, film):
    """V4L2 cameras send MJPEG without a container: the same decoding, from a file of such bytes."""
    from edgeward.serve.film import Film, opened

    raw = tmp_path / "recorded.mjpeg"
    with av.open(str(film)) as file:
        raw.write_bytes(b"".join(bytes(packet) for packet in file.demux(video=0)))
    stream = Film(opened(str(raw), "/dev/video0", format="mjpeg"), "/dev/video0", PICTURES, live=True)
    read = []

    def all_of_it():
        for arrival in stream:
            read.append(arrival.read()["x"])

    with pytest.raises(Unavailable, match="the stream ended"):
        all_of_it()
    assert len(read) == 20
    assert read[0].shape == (32, 48, 3)


ALSA = """pcm.recorded { type file slave.pcm "null" file "/dev/null" infile "RAW" format "raw" }
pcm.null { type null }
"""
LISTEN = """
import json, sys
from edgeward.records.model import TensorSpec
from edgeward.serve.parts import source_of
from edgeward.serve.sources import Wanted
wanted = Wanted("sound", "audio", (TensorSpec(name="x", dtype="float32", shape=(4000,)),), 16000)
part = source_of("alsa://recorded?hop_s=0.125")
stream = part.member.open(part.options, wanted)
windows = [arrival.read()["x"] for arrival, _ in zip(stream, range(3))]
stream.close()
print(json.dumps([[len(one), one.tolist()] for one in windows]))
"""


def test_windows_of_sound_come_from_alsa(tmp_path):
    """ALSA itself, with a file in place of the microphone."""
    wave = np.sin(2 * np.pi * 440 * np.arange(16000 * 2) / 16000)
    (tmp_path / "recorded.raw").write_bytes((wave * 16384).astype("<i2").tobytes())
    (tmp_path / "asound.conf").write_text(ALSA.replace("RAW", str(tmp_path / "recorded.raw")))
    environment = {"ALSA_CONFIG_PATH": str(tmp_path / "asound.conf"), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", LISTEN], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    windows = codec.from_json(done.stdout.encode(), list, "windows")
    for number, (length, window) in enumerate(windows):
        assert length == 4000
        np.testing.assert_allclose(window, wave[2000 * number :][:4000] / 2, atol=1e-3)


def test_a_microphone_that_is_not_there_is_told():
    with pytest.raises(Unavailable, match="microphone nowhere: cannot be opened"):
        running("alsa://nowhere", model=echo(4000, dtype="float32"), wanted=SOUND).run()
