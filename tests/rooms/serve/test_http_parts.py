"""The HTTP source and the webhook, with a real server of the test's own that does as it is told."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import msgspec
import pytest
from parts_around import InThread, free_port, until
from PIL import Image
from pipelines import memory, recording, running

from edgeward.kit.errors import Unavailable, WrongInput
from edgeward.serve import sinks
from edgeward.serve.multipart import Parts, boundary_of


class Server:
    """Answers GET with `pages` (path → status, type, body) and POST with `codes`, in turn; `posts` are what came."""

    def __init__(self, port=0):
        self.pages, self.codes, self.posts, self.asked = {}, [], [], []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append(dict(self.headers))
                status, kind, body = server.pages.get(self.path, (404, "text/plain", b""))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                if status == 302:
                    self.send_header("Location", body.decode())
                self.end_headers()
                for part in body if isinstance(body, list) else [body]:
                    self.wfile.write(part)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                code = server.codes.pop(0) if server.codes else 200
                if code == 200:
                    server.posts.append(json.loads(body))
                server.asked.append(dict(self.headers))
                self.send_response(code)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server():
    one = Server()
    yield one
    one.stop()


def test_a_url_is_asked_again_and_again(server):
    server.pages["/state"] = (200, "application/json", b"[1, 2, 3]")
    kept = memory()
    source = {"use": "http", "url": f"http://user:secret@127.0.0.1:{server.port}/state", "interval_s": 0.01}
    with InThread(source, kept) as pipeline:
        until(lambda: len(kept.results) > 3)
        server.pages["/state"] = (200, "application/json", b"no numbers")
        until(lambda: pipeline.told)
        server.pages["/state"] = (503, "text/plain", b"")
        until(lambda: any("answers 503" in sentence for sentence in pipeline.told))
        server.pages["/state"] = (200, "application/json", b"[4, 5, 6]")
        until(lambda: kept.results[-1].answer.outputs["x_out"].tolist() == [8, 10, 12])
    assert kept.results[0].source == f"{server.url}/state"
    assert server.asked[0]["authorization"] == "Basic dXNlcjpzZWNyZXQ="
    assert not any("secret" in sentence for sentence in pipeline.told)


def jpeg(value):
    file = BytesIO()
    Image.new("RGB", (16, 8), (value, value, value)).save(file, "JPEG")
    return file.getvalue()


def test_a_stream_of_pictures_is_followed_to_its_end(server):
    from test_video import PICTURES, SHAPE, echo

    whole = b"".join(
        b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(one), one)
        for one in map(jpeg, (10, 20, 30))
    )
    server.pages["/stream"] = (200, "multipart/x-mixed-replace; boundary=frame", [whole[:700], whole[700:]])
    kept = memory()
    with InThread(f"{server.url}/stream", kept, model=echo(*SHAPE), wanted=PICTURES) as pipeline:
        until(lambda: any("the stream ended" in sentence for sentence in pipeline.told))
        until(lambda: kept.results)
    assert kept.results[0].sample["x"].shape == (8, 16, 3)


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize("says_length", [True, False])
def test_parts_are_found_however_the_stream_is_cut(step, says_length):
    bodies = [b"one", b"--two--", b"three" * 50]
    length = b"Content-Length: %d\r\n"
    stream = b"".join(
        b"--b\r\nX: y\r\n" + (length % len(one) if says_length else b"") + b"\r\n" + one + b"\r\n" for one in bodies
    )
    parts = Parts(b"b", 10_000)
    cut = [stream[at : at + step] for at in range(0, len(stream), step)]
    found = [part for data in [*cut, b"--b--\r\n"] for part in parts.add(data, "where")]
    assert found == bodies
    with pytest.raises(Unavailable, match="a part is larger than 10000 bytes"):
        parts.add(b"--b\r\n\r\n" + bytes(100_000), "where")


def test_a_content_type_says_its_boundary():
    assert boundary_of("multipart/x-mixed-replace; boundary=--frame") == b"frame"
    assert boundary_of('Multipart/x-mixed-replace;boundary="a b"') == b"a b"
    assert boundary_of("image/jpeg") is None


def test_an_address_that_cannot_be_asked_is_one_sentence(server):
    server.pages["/moved"] = (302, "text/plain", b"http://elsewhere.example/")
    server.pages["/large"] = (200, "application/octet-stream", bytes(2000))
    with pytest.raises(Unavailable, match="/nothing: answers 404"):
        running(f"{server.url}/nothing").run()
    with pytest.raises(WrongInput, match="sends us to another address"):
        running(f"{server.url}/moved").run()
    with pytest.raises(WrongInput, match="answers more than 1000 bytes"):
        running({"use": "http", "url": f"{server.url}/large", "most_bytes": 1000}).run()
    with pytest.raises(Unavailable, match="not reachable"):
        running(f"http://user:secret@127.0.0.1:{free_port()}/").run()


def webhook(**options):
    member = sinks.load("webhook")
    return member.open(msgspec.convert(options, member.options), "door")


def test_each_result_is_posted_in_order_also_after_faults(server, tmp_path):
    server.codes = [503, 500, 200, 429]
    (tmp_path / "token").write_text("secret\n")
    outlet = webhook(url=f"{server.url}/hook", token_file=str(tmp_path / "token"))
    told = []
    counts = running(str(recording(tmp_path, 5)), outlet, told=told).run()
    assert [post["outputs"]["x_out"][0] for post in server.posts] == [0, 2, 4, 6, 8]
    assert server.asked[-1]["Authorization"] == "Bearer secret"
    assert (counts.sinks, told) == ({}, [])


def test_a_result_that_is_refused_is_given_up_and_told(server, tmp_path):
    server.codes = [400]
    told = []
    counts = running(str(recording(tmp_path, 3)), webhook(url=f"{server.url}/hook"), told=told).run()
    assert len(server.posts) == 2
    assert counts.sinks == {"sink-0": 1}
    assert told == [f"sink sink-0: {server.url}/hook: answers 400: that result is given up"]


def test_what_could_not_be_sent_waits_in_the_spool_for_the_next_start(tmp_path):
    port, spool = free_port(), str(tmp_path / "spool.db")
    url = f"http://127.0.0.1:{port}/hook"
    told = []
    counts = running(str(recording(tmp_path, 5)), webhook(url=url, spool=spool, keep=3), told=told).run()
    assert counts.sinks == {"sink-0": 2}
    assert "the oldest was dropped" in told[0]
    later = Server(port)
    outlet = webhook(url=url, spool=spool)
    until(lambda: len(later.posts) == 3)
    outlet.close()
    later.stop()
    assert [post["outputs"]["x_out"][0] for post in later.posts] == [4, 6, 8]


def test_without_a_spool_what_is_left_is_told(tmp_path):
    told = []
    outlet = webhook(url=f"http://127.0.0.1:{free_port()}/hook")
    counts = running(str(recording(tmp_path, 2)), outlet, told=told).run()
    assert counts.sinks == {"sink-0": 1}
    assert "2 results could not be sent before the end" in told[0]
