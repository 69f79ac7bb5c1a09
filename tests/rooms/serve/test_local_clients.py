"""The Unix socket: what local clients get, and what those get who lie, die or send rubbish."""

import array
import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serve_process import RunningServer

from edgeward.kit.errors import Unavailable, WrongInput
from edgeward.link import wire
from edgeward.link.local import LocalClient
from edgeward.link.wire import Kind, Place, Tensor

X = np.array([[1, 2, 3]], np.float32)
C_CLIENT = Path(__file__).parents[3] / "examples" / "local_client" / "client.c"


@pytest.fixture
def client(server: RunningServer) -> Iterator[LocalClient]:
    with LocalClient(server.socket) as made:
        yield made


@pytest.fixture(autouse=True)
def the_service_still_answers(server: RunningServer) -> Iterator[None]:
    yield
    with LocalClient(server.socket) as honest:
        assert honest.infer("echo", {"x": X}).outputs["x_out"].tolist() == [[2, 4, 6]]


def packets(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.connect(str(path))
    made.settimeout(60)
    return made


def hello(size: int, version: int = wire.VERSION) -> bytes:
    return wire.head(Kind.hello, 0) + wire.HELLO.pack(version, version, 0, size)


def memory_file(size: int, seals: int = fcntl.F_SEAL_SHRINK) -> int:
    made = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(made, size)
    fcntl.fcntl(made, fcntl.F_ADD_SEALS, seals)
    return made


def told(message: bytes) -> tuple[int, str]:
    """Status and sentence of an error."""
    head = wire.read_head(message)
    assert head.kind == Kind.error
    return head.status, message[wire.HEAD.size + wire.ERROR.size :].decode()


def greeted(server: RunningServer, size: int = 0, file: int | None = None) -> socket.socket:
    connection = packets(server.socket)
    socket.send_fds(connection, [hello(size)], [] if file is None else [file])
    assert wire.read_head(connection.recv(1 << 16)).kind == Kind.welcome
    return connection


def infer(model: str = "echo", **changed: int) -> bytes:
    """A request whose tensor comes in its own message, 12 bytes of zeros."""
    tensor = Tensor("x", "FP32", (1, 3), Place.message, 0, 12)._replace(**changed)
    request = wire.Infer(model, "", (tensor,), (), 0, 0, 0)
    at = len(wire.pack_infer(7, request))
    if "offset" not in changed and tensor.place == Place.message:
        request = request._replace(inputs=(tensor._replace(offset=at),))
    return wire.pack_infer(7, request) + bytes(12)


def test_a_tensor_in_shared_memory_is_answered(client: LocalClient) -> None:
    frame = client.array((1, 3), "float32")
    for value in (1.0, 5.0):
        frame[:] = value
        answer = client.infer("echo", {"x": frame})
        assert answer.outputs["x_out"].tolist() == [[2 * value] * 3]
        assert answer.infer_ms >= 0


@pytest.mark.parametrize(
    ("model", "values"),
    [
        ("bytes", np.arange(384, dtype=np.uint8).reshape(2, 8, 8, 3)),
        ("long", np.array([[-(2**62), 2**62, 0]])),
        ("flags", np.array([[True, False], [False, False]])),
        ("echo", np.asfortranarray(np.arange(9, dtype=np.float32).reshape(3, 3) / 2)),
    ],
)
def test_arrays_from_elsewhere_are_copied_and_come_back(client: LocalClient, model: str, values: np.ndarray) -> None:
    gain = 2 if model == "echo" else 1
    assert np.array_equal(client.infer(model, {"x": values}).outputs["x_out"], values * gain)


def test_half_floats_and_text_come_out(client: LocalClient) -> None:
    answer = client.infer("odd", {"x": np.array([[1, 2]], np.float32)}, outputs=["text", "half"])
    assert list(answer.outputs) == ["text", "half"]
    assert answer.outputs["text"].tolist() == [["1", "2"]]
    assert answer.outputs["half"].dtype == np.float16


def test_a_model_says_what_it_takes(client: LocalClient) -> None:
    assert client.describe("echo")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]


def test_a_slow_model_is_answered_too_and_counted(client: LocalClient, server: RunningServer) -> None:
    assert client.infer("slow", {"rounds": np.array([[20_000]])}).outputs["y"].shape == (1, 1)
    assert b'edgeward_in_flight{model="slow",version="1.0.0"} 0.0' in server.ask("/metrics").body


def test_a_request_past_its_deadline_is_not_run(client: LocalClient, server: RunningServer) -> None:
    with LocalClient(server.socket) as other:
        busy = wire.Infer("slow", "", (), (), 0, 0, 0)
        rounds = other.array((1, 1), "int64")
        rounds[:] = 300_000
        tensor = Tensor("rounds", "INT64", (1, 1), Place.region, 0, 8)
        for number in (1, 2):  # as many as may run at a time
            other._socket.send(wire.pack_infer(number, busy._replace(inputs=(tensor,))))
        with pytest.raises(Unavailable, match="waited for its turn until its deadline had passed"):
            client.infer("slow", {"rounds": np.array([[1]])}, deadline_ms=1)
        assert {wire.read_head(other._socket.recv(1 << 16)).number for _ in range(2)} == {1, 2}


@pytest.mark.parametrize(
    ("model", "inputs", "sentence"),
    [
        ("nope", {}, "there is no model 'nope'; this server has echo"),
        ("echo", {}, "input 'x' is missing"),
        ("echo", {"y": X}, "there is no input 'y'; the model has x"),
        ("echo", {"x": X.astype(np.float64)}, "input 'x' is FP32, got 'FP64'"),
        ("echo", {"x": X[0]}, r"input 'x' has shape \[-1, 3\] .*, got \[3\]"),
        ("odd", {"x": np.array([[0, 99]], np.float32)}, "indices element out of data bounds"),
    ],
)
def test_what_does_not_fit_is_told(client: LocalClient, model: str, inputs: dict, sentence: str) -> None:
    with pytest.raises(WrongInput, match=sentence):
        client.infer(model, inputs)
    assert client.infer("echo", {"x": X}).outputs["x_out"].tolist() == [[2, 4, 6]]


def test_an_answer_that_does_not_fit_its_space(server: RunningServer) -> None:
    with LocalClient(server.socket, region_bytes=4096, answer_bytes=64) as client:
        with pytest.raises(WrongInput, match="the answer space has 64 bytes, the outputs take up to 184"):
            client.infer("long", {"x": np.arange(15)[None]})
        with pytest.raises(WrongInput, match="the shared region has 4032 bytes left for tensors, this one is 8000"):
            client.infer("long", {"x": np.arange(1000)[None]})


def test_outputs_come_in_the_message_where_there_is_no_space_for_them(server: RunningServer) -> None:
    with greeted(server) as connection:
        connection.send(infer())
        message = connection.recv(1 << 16)
        reader = wire.Reader(message, wire.HEAD.size)
        assert reader.take(wire.ANSWER)[0] == 1
        tensor = reader.tensor()
        assert (tensor.name, tensor.shape, tensor.place) == ("x_out", (1, 3), Place.message)
        assert message[tensor.offset :] == bytes(12)


@pytest.mark.parametrize(
    ("first", "status", "sentence"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "a message begins with b'EGW1' and has 16 bytes at least, got b'GET / HT'"),
        (b"E", 400, "a message begins with b'EGW1'"),
        (wire.head(Kind.infer, 1), 400, "the first message is a hello (1), got 5"),
        (wire.head(Kind.hello, 0) + b"\1", 400, "the message ends after 17 bytes, in the middle"),
        (hello(0, version=9), 400, "this service speaks version 1, the client 9 to 9"),
        (hello(100), 400, "a hello brings one file for its region, got 0"),
    ],
)
def test_a_hello_that_is_none(server: RunningServer, first: bytes, status: int, sentence: str) -> None:
    with packets(server.socket) as connection:
        connection.send(first)
        got = told(connection.recv(1 << 16))
        assert (got[0], got[1][: len(sentence)]) == (status, sentence)
        assert connection.recv(1 << 16) == b""


def test_a_region_that_could_become_shorter_is_refused(server: RunningServer, tmp_path: Path) -> None:
    plain = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(plain, 4096)
    cases = [
        (memory_file(4096, 0), 4096, "the file of a region is sealed with F_SEAL_SHRINK"),
        (memory_file(4096), 8192, "the region is said to have 8192 bytes, its file has 4096"),
        (memory_file(4096, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE), 4096, "the region cannot be mapped"),
        (memory_file(4096), 1 << 40, "a region has 1 to"),
        (plain, 4096, "the file of a region comes from memfd_create"),
        (os.pipe()[0], 4096, "the file of a region comes from memfd_create"),
    ]
    for file, size, sentence in cases:
        with packets(server.socket) as connection:
            socket.send_fds(connection, [hello(size)], [file])
            assert told(connection.recv(1 << 16))[1].startswith(sentence)
        os.close(file)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"place": Place.region, "offset": 4090}, "input 'x' ends at byte 4102, the region has 4096"),
        ({"place": Place.region, "offset": 2**64 - 12}, f"input 'x' ends at byte {2**64}, the region has 4096"),
        ({"place": Place.region, "offset": 0, "size": 2**63}, f"input 'x' ends at byte {2**63}, the region has 4096"),
        ({"place": Place.region, "offset": 0, "size": 8}, "input 'x' of shape [1, 3] is 12 bytes of FP32, got 8"),
        ({"offset": 1 << 20}, "input 'x' ends at byte 1048588, the message has"),
        ({"shape": (-1, 3)}, "input 'x' has shape [-1, 3] (-1: any length), got [-1, 3]"),
        ({"shape": (2**62, 3)}, f"input 'x' of shape [{2**62}, 3] is {12 * 2**62} bytes of FP32, got 12"),
    ],
)
def test_sizes_and_offsets_that_lie(server: RunningServer, changed: dict, sentence: str) -> None:
    file = memory_file(4096)
    with greeted(server, 4096, file) as connection:
        connection.send(infer(**changed))
        status, got = told(connection.recv(1 << 16))
        assert (status, got[: len(sentence)]) == (400, sentence)
        connection.send(infer())
        assert wire.read_head(connection.recv(1 << 16)).kind == Kind.answer
    os.close(file)


def test_a_client_that_dies_with_requests_under_way(server: RunningServer) -> None:
    for _ in range(20):
        file = memory_file(4096)
        with greeted(server, 4096, file) as connection:
            slow = wire.Infer("slow", "", (Tensor("rounds", "INT64", (1, 1), Place.region, 0, 8),), (), 64, 64, 0)
            connection.send(wire.pack_infer(1, slow))
        os.close(file)


def test_a_client_that_sends_on_and_reads_nothing(server: RunningServer) -> None:
    with greeted(server) as connection:
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(100_000):
                connection.send(infer())
        with LocalClient(server.socket) as other:
            assert other.infer("echo", {"x": X}).outputs["x_out"].tolist() == [[2, 4, 6]]
        connection.settimeout(10)
        assert wire.read_head(connection.recv(1 << 16)).kind == Kind.answer


def test_a_thousand_connections_one_after_the_other_leave_nothing(server: RunningServer) -> None:
    def files() -> int:
        return len(os.listdir(f"/proc/{server.process.pid}/fd"))

    with LocalClient(server.socket) as client:
        client.infer("echo", {"x": X})
        before = files()
        for index in range(1000):
            with packets(server.socket) as connection:
                if index % 2:
                    connection.send(hello(0))
        assert client.infer("echo", {"x": X}).outputs["x_out"].tolist() == [[2, 4, 6]]
        while files() > before:
            pass


def test_too_many_clients_are_told_to_come_later(fresh_server: RunningServer) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(128):
            stack.enter_context(greeted(fresh_server))
        with pytest.raises(Unavailable, match="128 clients are connected already"):
            LocalClient(fresh_server.socket)


def test_a_message_with_several_files_is_refused_and_none_is_kept(server: RunningServer) -> None:
    with packets(server.socket) as connection:
        files = array.array("i", [memory_file(4096) for _ in range(3)])
        connection.sendmsg([hello(4096)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        assert told(connection.recv(1 << 16))[1] == "a hello brings one file for its region, got 3"
        for file in files:
            os.close(file)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_rubbish_in_any_place_gets_an_error_or_an_answer(server: RunningServer, data: st.DataObject) -> None:
    good = bytearray(infer())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, len(good) - 1))
        good[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(good)))
    message = bytes(good[:cut]) if data.draw(st.booleans()) else bytes(good) + data.draw(st.binary(max_size=40))
    with greeted(server) as connection:
        connection.send(message)
        assert wire.read_head(connection.recv(1 << 16)).kind in (Kind.error, Kind.answer, Kind.description)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc, which compiles the client in C")
def test_the_client_in_c_gets_the_same_answer(server: RunningServer, tmp_path: Path) -> None:
    program = tmp_path / "client"
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, C_CLIENT], check=True)
    asked = [program, server.socket, "echo", "x", "1", "3"]
    done = subprocess.run(asked, input=X.tobytes(), capture_output=True, check=True)
    assert done.stdout.split() == [b"2", b"4", b"6"]
    done = subprocess.run([*asked[:-1], "4"], input=X.tobytes(), capture_output=True, check=False)
    assert (done.returncode, done.stderr.startswith(b"400: input 'x' has shape [-1, 3]")) == (1, True)


def test_the_socket_is_for_its_user_alone_and_goes_with_the_service(fresh_server: RunningServer) -> None:
    assert fresh_server.socket.stat().st_mode & 0o777 == 0o600
    fresh_server.stop()
    assert not fresh_server.socket.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_turned_away_even_where_the_mode_would_let_it_in(server: RunningServer) -> None:
    ask = "import socket,sys; s=socket.socket(1,5); s.connect(sys.argv[1]); print(s.recv(999)[20:].decode())"
    server.socket.chmod(0o666)
    server.socket.parent.chmod(0o711)
    try:
        done = subprocess.run(["python3", "-c", ask, server.socket], user=65534, capture_output=True, text=True)
    finally:
        server.socket.chmod(0o600)
    assert done.stdout.strip() == "this service takes its own user, root and the members of its group only", done.stderr


def test_importing_the_client_brings_no_server_and_no_runtime() -> None:
    heavy = ("onnxruntime", "asyncio", "uvicorn", "http", "click", "msgspec")
    ask = f"import sys, edgeward.link.local; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_stop_answers_what_local_clients_have_asked(fresh_server: RunningServer) -> None:
    with LocalClient(fresh_server.socket) as client:
        rounds = client.array((1, 1), "int64")
        rounds[:] = 100_000
        slow = wire.Infer("slow", "", (Tensor("rounds", "INT64", (1, 1), Place.region, 0, 8),), (), 0, 0, 0)
        client._socket.send(wire.pack_infer(9, slow))
        while b'edgeward_in_flight{model="slow",version="1.0.0"} 1.0' not in fresh_server.ask("/metrics").body:
            pass
        fresh_server.process.terminate()
        head = wire.read_head(client._socket.recv(1 << 16))
        assert (head.kind, head.number) == (Kind.answer, 9)
        assert client._socket.recv(1 << 16) == b""
    assert fresh_server.process.wait(60) == 0
