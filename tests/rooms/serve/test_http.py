"""What a client that is not ours sees: Triton's, and the standard library's."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from serve_process import RunningServer
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


@pytest.fixture
def client(server: RunningServer) -> Iterator[InferenceServerClient]:
    made = InferenceServerClient(server.url.removeprefix("http://"))
    yield made
    made.close()


def given(values: NDArray[Any], datatype: str = "FP32", *, binary: bool = True, name: str = "x") -> InferInput:
    made = InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def echo(values: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    data = [1, 2, 3] if values is None else values
    return {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": data}], **more}


def test_the_server_is_live_and_ready(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("echo")
    assert client.is_model_ready("echo", "1.0.0")
    assert not client.is_model_ready("echo", "2")


def test_metadata_says_what_goes_in_and_out(client: InferenceServerClient) -> None:
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("echo", "1.0.0") == {
        "name": "echo",
        "versions": ["1.0.0"],
        "platform": "echo_test",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "x_out", "datatype": "FP32", "shape": [-1, 3]}],
    }


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_tensors_go_in_and_out_in_both_forms(client: InferenceServerClient, binary_in: bool, binary_out: bool) -> None:
    wanted = InferRequestedOutput("x_out", binary_data=binary_out)
    reply = client.infer("echo", [given(X, binary=binary_in)], outputs=[wanted], request_id="frame 7")
    assert np.array_equal(reply.as_numpy("x_out"), X * 2)
    assert reply.get_response()["id"] == "frame 7"
    assert reply.get_response()["model_name"] == "echo"
    assert reply.get_response()["model_version"] == "1.0.0"


@pytest.mark.parametrize(
    ("model", "values", "datatype"),
    [
        ("bytes", np.arange(384, dtype=np.uint8).reshape(2, 8, 8, 3), "UINT8"),
        ("long", np.array([[-(2**62), 2**62, 0]]), "INT64"),
        ("flags", np.array([[True, False], [False, False]]), "BOOL"),
    ],
)
@pytest.mark.parametrize("binary", [True, False])
def test_other_datatypes_come_back_as_they_went(
    client: InferenceServerClient, model: str, values: NDArray[Any], datatype: str, binary: bool
) -> None:
    reply = client.infer(model, [given(values, datatype, binary=binary)])
    assert np.array_equal(reply.as_numpy("x_out"), values)


def test_a_model_with_a_fixed_batch_size_takes_any_number_of_samples(client: InferenceServerClient) -> None:
    for count in (1, 4, 6):
        values = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
        assert np.array_equal(client.infer("fixed", [given(values)]).as_numpy("y"), values * 2)


def test_half_floats_and_text_come_out_as_raw_bytes(client: InferenceServerClient) -> None:
    reply = client.infer("odd", [given(np.array([[1, 2]], np.float32))])
    assert reply.as_numpy("half").dtype == np.float16
    assert reply.as_numpy("half").tolist() == [[1, 2]]
    assert reply.as_numpy("text").tolist() == [[b"1", b"2"]]


def test_classes_are_probabilities_where_the_bundle_says_so(client: InferenceServerClient) -> None:
    wanted = InferRequestedOutput("x_out", class_count=2)
    reply = client.infer("echo", [given(X[:1])], outputs=[wanted]).as_numpy("x_out")
    best, second = (text.decode().split(":") for text in reply[0])
    assert best[1:] == ["2", "two"]
    assert second[1:] == ["1", "one"]
    scores = np.exp(X[0] * 2) / np.exp(X[0] * 2).sum()
    assert float(best[0]) == pytest.approx(scores[2], abs=1e-5)


def test_a_wrong_shape_is_told_by_the_client(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"input 'x' has shape \[-1, 3\]") as caught:
        client.infer("echo", [given(np.zeros((1, 4), np.float32))])
    assert caught.value.status() == "400"


def test_a_model_that_is_not_served_is_not_found(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="there is no model 'nope'; this server has echo"):
        client.infer("nope", [given(X)])
    with pytest.raises(InferenceServerException, match=r"model 'echo' has no version '9'"):
        client.get_model_metadata("echo", "9")


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("GET", "/nowhere", 404, "there is nothing at '/nowhere'"),
        ("GET", "/v2/models/echo/versions/1.0.0/what", 404, "there is nothing at"),
        ("GET", "/v2/models/echo/infer", 405, "/v2/models/echo/infer takes POST, got GET"),
        ("PUT", "/v2/models/echo/infer", 405, "/v2/models/echo/infer takes POST, got PUT"),
        ("POST", "/v2/health/live", 405, "/v2/health/live takes GET, got POST"),
        ("DELETE", "/", 405, "/ takes GET, got DELETE"),
    ],
)
def test_paths_and_methods_that_are_not_ours(
    server: RunningServer, method: str, path: str, status: int, told: str
) -> None:
    answer = server.ask(path, method=method)
    assert answer.status == status
    assert answer.error.startswith(told)
    assert ("allow" in answer.headers) == (status == 405)


def test_a_head_request_has_headers_and_no_body(server: RunningServer) -> None:
    answer = server.ask("/v2/health/live", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == str(len(server.ask("/v2/health/live").body))


def test_a_slash_at_the_end_of_a_path_is_no_matter(server: RunningServer) -> None:
    assert server.ask("/v2/").json == server.ask("/v2").json


def test_only_the_outputs_asked_for_come_in_the_order_asked(server: RunningServer) -> None:
    request = {
        "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}],
        "outputs": [{"name": "text"}, {"name": "inverse"}],
    }
    outputs = server.ask("/v2/models/odd/infer", request).json["outputs"]
    assert [one["name"] for one in outputs] == ["text", "inverse"]
    assert outputs[1]["data"] == [1.0, 0.5]


def test_infinity_in_json_is_refused_with_the_way_out(server: RunningServer) -> None:
    request = {
        "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0, 1]}],
        "outputs": [{"name": "inverse"}],
    }
    answer = server.ask("/v2/models/odd/infer", request)
    assert answer.status == 400
    assert answer.error == "output 'inverse' holds NaN or infinity, which JSON cannot say; ask with binary_data"


def test_a_request_that_the_model_itself_refuses_is_the_clients_fault(server: RunningServer) -> None:
    request = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0, 99]}]}
    answer = server.ask("/v2/models/odd/infer", request)
    assert answer.status == 400
    assert "indices element out of data bounds" in answer.error


def test_a_compressed_body_is_refused(server: RunningServer) -> None:
    answer = server.ask("/v2/models/echo/infer", b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert (answer.status, answer.error) == (415, "the body is encoded as 'gzip'; send it as it is")
    assert server.ask("/v2/models/echo/infer", echo(), headers={"Content-Encoding": "identity"}).status == 200


@pytest.mark.parametrize("value", ["-1", "1e3", "", "9" * 30])
def test_a_header_length_that_is_no_number_is_refused(server: RunningServer, value: str) -> None:
    answer = server.ask("/v2/models/echo/infer", echo(), headers={"Inference-Header-Content-Length": value})
    assert answer.status == 400
    assert answer.error.startswith("Inference-Header-Content-Length is a number of bytes, got ")


def test_metrics_count_every_request_by_its_code(fresh_server: RunningServer) -> None:
    for _ in range(3):
        fresh_server.ask("/v2/models/echo/infer", echo())
    fresh_server.ask("/v2/models/echo/infer", b"{}")
    answer = fresh_server.ask("/metrics")
    text = answer.body.decode()
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'edgeward_requests_total{code="200",model="echo",version="1.0.0"} 3.0' in text
    assert 'edgeward_requests_total{code="400",model="echo",version="1.0.0"} 1.0' in text
    assert 'edgeward_inference_seconds_count{model="echo",stage="infer",version="1.0.0"} 3.0' in text
    assert 'edgeward_in_flight{model="echo",version="1.0.0"} 0.0' in text
    assert 'edgeward_model_info{model="echo",runtime="echo",version="1.0.0"} 1.0' in text
    assert re.search(r"^process_resident_memory_bytes \d", text, re.M)
    openmetrics = fresh_server.ask("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert openmetrics.body.endswith(b"# EOF\n")


def test_statistics_have_percentiles_of_every_stage(fresh_server: RunningServer) -> None:
    for _ in range(5):
        fresh_server.ask("/v2/models/echo/infer", echo())
    rows = fresh_server.ask("/v2/models/stats").json
    (row,) = fresh_server.ask("/v2/models/echo/stats").json["model_stats"]
    assert row in rows["model_stats"]
    assert (row["requests"], row["errors"], row["latency_requests"]) == (5, 0, 5)
    assert row["inference_stats"]["success"]["count"] == 5
    for stage in ("pre", "infer", "post", "total"):
        found = row["latency_ms"][stage]
        assert 0 < found["p50"] <= found["p95"] <= found["p99"]
    assert rows["server"]["ready"] is True


def test_the_page_asks_no_other_host(server: RunningServer) -> None:
    answer = server.ask("/")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "connect-src 'self'" in answer.headers["content-security-policy"]
    assert not re.search(rb"https?://", answer.body)
