"""`edgeward top` on a real terminal of 80 by 24, with a real service that stops and comes back."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("textual", reason="the live view needs textual: pip install 'edgeward[top]'")

SERVICE = """
import sys
from edgeward.infer import Predictor
from edgeward.infer.runtimes import load
from edgeward.infer.runtimes.echo import EchoModel
from edgeward.kit import codec
from edgeward.records.model import TensorSpec
from edgeward.serve import Limits, ServedModel, bind, create_app, serve, url_of
from edgeward.serve.protocol import signature
spec = TensorSpec(name="x", dtype="float32", shape=("batch", 3))
session = load("echo").load(codec.to_json(EchoModel(inputs=(spec,), gain=2.0)), threads=1)
one = TensorSpec(name="x", dtype="float32", shape=(3,))
ports = signature([one], [one], (), softmax=False)
model = ServedModel(Predictor(session), ports, name="echo", version="1", platform="echo", facts={"runtime": "echo"})
listener = bind("127.0.0.1", int(sys.argv[1]))
serve(create_app([model], Limits()), listener, lambda: print(listener.getsockname()[1], flush=True))
"""


class Service:
    """A service process at a port that stays the same."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        environment = {**os.environ, "RUNTIME_DIRECTORY": str(folder)}
        command = [sys.executable, "-c", SERVICE, str(port)]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def end(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait()


class Terminal:
    """`edgeward top` in a pseudo-terminal; `text` is all that it ever wrote, without the control sequences."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(theirs)
        around = {**os.environ, "RUNTIME_DIRECTORY": str(folder), "LC_ALL": "C.UTF-8", **environment}
        command = [sys.executable, "-m", "edgeward", "top", "--interval", "200ms", *options]
        self.process = subprocess.Popen(
            command, env=around, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        self.theirs = theirs
        self.raw = b""

    @property
    def text(self) -> str:
        return re.sub(r"\x1b(\[[0-9;?<>=]*[ -/]*[@-~]|[()][AB0]|[=>78])", "", self.raw.decode(errors="replace"))

    def sees(self, words: str, *, after: int = 0) -> int:
        """Waits for `words`, somewhere after that place; the place where it ends."""
        deadline = time.monotonic() + 60
        while words not in self.text[after:]:
            assert time.monotonic() < deadline, self.text[-3000:]
            if select.select([self._ours], [], [], 0.1)[0]:
                self.raw += os.read(self._ours, 65536)
        return self.text.index(words, after) + len(words)

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def end(self) -> int:
        """The exit code; what is written meanwhile is read, or it could not end."""
        while self.process.poll() is None:
            if select.select([self._ours], [], [], 0.05)[0]:
                self.raw += os.read(self._ours, 65536)
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self.theirs)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path / "edgeward")
    yield made
    if made.process.poll() is None:
        made.end()


@pytest.mark.slow
@pytest.mark.parametrize("term", ["vt100", "linux", "xterm-256color"])
def test_a_service_is_seen_to_stop_to_come_back_and_to_die(tmp_path: Path, service: Service, term: str) -> None:
    url = f"http://127.0.0.1:{service.port}"
    terminal = Terminal(tmp_path / "edgeward", TERM=term, NO_COLOR="1")
    again = None
    try:
        at = terminal.sees(f"{url}  ready")  # there may be services of others
        terminal.sees("q quit")
        service.end()
        at = terminal.sees(f"{url}  stopped, seen", after=at)
        again = Service(tmp_path / "edgeward", service.port)
        at = terminal.sees(f"{url}  ready", after=at)
        again.end(signal.SIGKILL)
        terminal.sees("died: it was killed", after=at)
        terminal.press(b"q")
        assert terminal.end() == 0
        assert termios.tcgetattr(terminal.theirs) == terminal.before
        assert "Traceback" not in terminal.text
        assert url in terminal.text
        assert not re.search(rb"\x1b\[[0-9;]*\b(3[0-7]|38|9[0-7])\b[0-9;]*m", terminal.raw)  # no colour was asked for
        assert terminal.text.isascii() == (term == "vt100")
    finally:
        terminal.close()
        if again is not None and again.process.poll() is None:
            again.end()


@pytest.mark.slow
def test_ctrl_c_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "edgeward", TERM="linux")
    try:
        terminal.sees("q quit")
        terminal.press(b"\x03")
        assert terminal.end() == 0
        assert termios.tcgetattr(terminal.theirs) == terminal.before
    finally:
        terminal.close()


def test_without_textual_the_live_view_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "textual.py").write_text("raise ModuleNotFoundError(\"No module named 'textual'\", name='textual')")
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    terminal = Terminal(tmp_path / "edgeward", TERM="linux", PYTHONPATH=path)
    try:
        terminal.sees("pip install 'edgeward[top]'")
        assert terminal.end() == 4
    finally:
        terminal.close()
