"""What Triton's gRPC client sees."""

import socket
from collections.abc import Iterator

import numpy as np
import pytest
from serve_process import RunningServer

pytest.importorskip("grpc", reason="the extra grpc is not installed")

from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput, service_pb2
from tritonclient.utils import InferenceServerException

from edgeward.serve import grpc_messages

X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


@pytest.fixture(scope="module")
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
    return number


@pytest.fixture(scope="module")
def both(port: int) -> Iterator[RunningServer]:
    running = RunningServer(grpc_port=port)
    yield running
    assert running.stop() == (0, "")


@pytest.fixture
def client(both: RunningServer, port: int) -> Iterator[InferenceServerClient]:
    made = InferenceServerClient(f"127.0.0.1:{port}")
    yield made
    made.close()


def given(values: np.ndarray, datatype: str = "FP32") -> InferInput:
    made = InferInput("x", list(values.shape), datatype)
    made.set_data_from_numpy(values)
    return made


@pytest.mark.parametrize("name", sorted(grpc_messages._MESSAGES))
def test_every_field_is_as_another_implementation_has_it(name: str) -> None:
    ours = grpc_messages.messages()[name].DESCRIPTOR
    theirs = service_pb2.DESCRIPTOR.message_types_by_name[name.partition(".")[0]]
    if "." in name:
        theirs = theirs.nested_types_by_name[name.rpartition(".")[2]]
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated)


def test_live_ready_and_metadata(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("echo")
    assert not client.is_model_ready("echo", "9")
    assert client.get_server_metadata().name == "edgeward"
    about = client.get_model_metadata("echo", as_json=True)
    assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "3"]}]
    with pytest.raises(InferenceServerException, match="there is no model 'nope'") as caught:
        client.get_model_metadata("nope")
    assert caught.value.status() == "StatusCode.NOT_FOUND"


@pytest.mark.parametrize(
    ("model", "values", "datatype"),
    [
        ("bytes", np.arange(384, dtype=np.uint8).reshape(2, 8, 8, 3), "UINT8"),
        ("long", np.array([[-(2**62), 2**62, 0]]), "INT64"),
        ("flags", np.array([[True, False], [False, False]]), "BOOL"),
    ],
)
def test_tensors_come_back_as_they_went(
    client: InferenceServerClient, model: str, values: np.ndarray, datatype: str
) -> None:
    assert np.array_equal(client.infer(model, [given(values, datatype)]).as_numpy("x_out"), values)


def test_an_answer_carries_its_id_text_and_classes(client: InferenceServerClient) -> None:
    reply = client.infer("echo", [given(X)], outputs=[InferRequestedOutput("x_out", class_count=1)], request_id="7")
    assert [one.decode().split(":")[1:] for one in reply.as_numpy("x_out")[:, 0]] == [["2", "two"], ["2", "two"]]
    assert (reply.get_response().id, reply.get_response().model_version) == ("7", "1.0.0")
    half = client.infer("odd", [given(X[:1, :2])], outputs=[InferRequestedOutput("half"), InferRequestedOutput("text")])
    assert half.as_numpy("half").dtype == np.float16
    assert half.as_numpy("text")[0].tolist() == [b"1", b"2"]


def test_a_slow_model_is_answered_by_its_thread_and_counted(client: InferenceServerClient, both: RunningServer) -> None:
    asked = InferInput("rounds", [1, 1], "INT64")
    asked.set_data_from_numpy(np.array([[20_000]]))
    assert client.infer("slow", [asked]).as_numpy("y").shape == (1, 1)
    assert b'edgeward_requests_total{code="200",model="slow",version="1.0.0"} 1.0' in both.ask("/metrics").body


@pytest.mark.parametrize(
    ("model", "values", "datatype", "told", "status"),
    [
        ("nope", X, "FP32", "there is no model 'nope'", "NOT_FOUND"),
        ("echo", X[:, :2], "FP32", r"input 'x' has shape \[-1, 3\]", "INVALID_ARGUMENT"),
        ("echo", X.astype(np.float64), "FP64", "input 'x' is FP32, got 'FP64'", "INVALID_ARGUMENT"),
        ("odd", np.array([[0, 99]], np.float32), "FP32", "indices element out of data bounds", "INVALID_ARGUMENT"),
        ("long", np.zeros((1, 300_000), np.int64), "INT64", "larger than max", "RESOURCE_EXHAUSTED"),
    ],
)
def test_a_fault_is_a_status_and_a_sentence(
    client: InferenceServerClient, model: str, values: np.ndarray, datatype: str, told: str, status: str
) -> None:
    with pytest.raises(InferenceServerException, match=told) as caught:
        client.infer(model, [given(values, datatype)])
    assert caught.value.status() == f"StatusCode.{status}"


def test_typed_contents_are_taken_and_checked(client: InferenceServerClient) -> None:
    stub = client._client_stub

    def asked(values: list[float], shape: list[int]) -> service_pb2.ModelInferRequest:
        request = service_pb2.ModelInferRequest(model_name="echo")
        one = request.inputs.add(name="x", datatype="FP32", shape=shape)
        one.contents.fp32_contents.extend(values)
        return request

    assert np.frombuffer(stub.ModelInfer(asked([1, 2, 3], [1, 3])).raw_output_contents[0], "<f4").tolist() == [2, 4, 6]
    with pytest.raises(Exception, match=r"input 'x' has 2 values in contents, its shape \[1, 3\] has 3"):
        stub.ModelInfer(asked([1, 2], [1, 3]))


def test_a_deadline_of_the_client_is_kept(client: InferenceServerClient) -> None:
    asked = InferInput("rounds", [1, 1], "INT64")
    asked.set_data_from_numpy(np.array([[300_000]]))
    with pytest.raises(InferenceServerException, match="Deadline Exceeded"):
        client.infer("slow", [asked], client_timeout=0.05)
    assert client.infer("echo", [given(X)]).as_numpy("x_out").tolist() == (X * 2).tolist()
