"""What a profile concludes from its measurements, with work and limits counted by hand."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeward.infer.account import Account, Assigned, Kernel
from edgeward.infer.node_times import NodeTime
from edgeward.kit.errors import WrongInput
from edgeward.measure.profiling import requirements
from edgeward.measure.profiling.fates import fates
from edgeward.measure.profiling.layers import layers_of
from edgeward.measure.profiling.limits_of_layers import limit_of
from edgeward.measure.profiling.losses import Facts, losses, reason_of
from edgeward.measure.profiling.onnx_graph import source_graph
from edgeward.measure.profiling.stacks import Frame, folded
from edgeward.measure.work import multiply_accumulates
from edgeward.records.profile import Bandwidth, Roofs

ROOFS = Roofs(
    runtime="onnxruntime",
    threads=1,
    gops_per_s={"float32": 100.0, "int8": 400.0},
    bandwidths=(
        Bandwidth(level="cache", up_to_bytes=1 << 18, gb_per_s=50.0),
        Bandwidth(level="last-level cache", up_to_bytes=24 << 20, gb_per_s=20.0),
        Bandwidth(level="memory", up_to_bytes=192 << 20, gb_per_s=10.0),
    ),
    call_ms=0.001,
    last_level_bytes=32 << 20,
    setting="made up",
)


def test_multiply_accumulates_are_those_that_one_counts_by_hand() -> None:
    # 3×3 over 8 channels for each of 16 × 32 × 32 outputs
    assert multiply_accumulates("Conv", (1, 8, 32, 32), (16, 8, 3, 3), (1, 16, 32, 32)) == 16 * 32 * 32 * 8 * 9
    # one 3×3 filter for each of 24 channels of 10 × 10
    assert multiply_accumulates("Conv", (1, 24, 10, 10), (24, 1, 3, 3), (1, 24, 10, 10)) == 24 * 100 * 9
    assert multiply_accumulates("DEPTHWISE_CONV_2D", (1, 10, 10, 24), (1, 3, 3, 24), (1, 10, 10, 24)) == 24 * 100 * 9
    # 4 rows of 64 numbers, each with 10 columns
    assert multiply_accumulates("Gemm", (4, 64), (64, 10), (4, 10)) == 4 * 64 * 10
    assert multiply_accumulates("Gemm", (64, 4), (64, 10), (4, 10), turned=True) == 4 * 64 * 10
    assert multiply_accumulates("FULLY_CONNECTED", (64,), (10, 64), (4, 10)) == 4 * 64 * 10
    assert multiply_accumulates("Relu", (4, 64), (), (4, 64)) == 0


def model() -> onnx.ModelProto:
    """A convolution with its Relu, a depthwise convolution, and a product."""
    value = helper.make_tensor_value_info
    weights = {"w": (16, 8, 3, 3), "d": (16, 1, 3, 3), "g": (16 * 64, 10), "b": (10,)}
    shape = numpy_helper.from_array(np.array([1, -1], np.int64), "shape")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1] * 4),
            helper.make_node("Relu", ["c"], ["r"], name="relu"),
            helper.make_node("Conv", ["r", "d"], ["s"], name="depthwise", group=16, pads=[1] * 4),
            helper.make_node("Reshape", ["s", "shape"], ["f"], name="flat"),
            helper.make_node("Gemm", ["f", "g", "b"], ["y"], name="product"),
        ],
        "g",
        [value("x", TensorProto.FLOAT, ["batch", 8, 8, 8])],
        [value("y", TensorProto.FLOAT, ["batch", 10])],
        [*(numpy_helper.from_array(np.ones(dims, np.float32), name) for name, dims in weights.items()), shape],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def kernel(sources: str, time_ms: float, precision: str = "float32", device: str = "CPU") -> Kernel:
    return Kernel(NodeTime(sources, "Conv", f"{device} {precision}", time_ms), device, precision, "", (sources,))


def test_work_and_limit_of_a_layer_are_those_that_one_counts_by_hand() -> None:
    graph = source_graph(model(), {"x": (1, 8, 8, 8)})
    told = Account((kernel("@1@", 0.02), kernel("@2@", 0.03), kernel("@4@", 0.01)))
    (conv, depthwise, product), found = layers_of(told, graph)

    assert conv.places == (0, 1), "the Relu's kernel has the convolution before it in it"
    assert conv.macs == 16 * 8 * 8 * 8 * 9
    assert conv.moved_bytes == 4 * (8 * 64 + 16 * 8 * 9 + 16 * 64)  # input, weights, output; the sum between stays
    assert depthwise.macs == 16 * 64 * 9
    assert depthwise.moved_bytes == 4 * (16 * 64 + 16 * 9 + 16 * 64)
    assert depthwise.is_depthwise
    assert product.macs == 16 * 64 * 10
    assert product.moved_bytes == 4 * (16 * 64 + 16 * 64 * 10 + 10 + 10)

    limit = limit_of(conv, ROOFS, model_bytes=1000)
    assert limit is not None
    assert limit.compute_ms == pytest.approx(2 * 73728 / 100e9 * 1e3)
    assert limit.memory_ms == pytest.approx(conv.moved_bytes / 50e9 * 1e3)
    assert limit.bound == "compute"
    weights_elsewhere = limit_of(product, ROOFS, model_bytes=10 << 20)
    assert weights_elsewhere is not None
    kept = 4 * (16 * 64 * 10 + 10)
    assert weights_elsewhere.memory_ms == pytest.approx((product.moved_bytes - kept) / 50e6 + kept / 20e6)
    assert weights_elsewhere.bound == "memory"
    assert [fate for fate, _ in found.of_nodes] == ["ran", "fused", "ran", "removed", "ran"]


def test_in_int8_weights_and_activations_are_a_quarter() -> None:
    graph = source_graph(model(), {"x": (1, 8, 8, 8)})
    told = Account((kernel("@0@", 0.02, "int8"), kernel("@2@", 0.02), kernel("@4@", 0.02)))
    (conv, *_), _ = layers_of(told, graph)
    assert conv.moved_bytes == 8 * 64 + 16 * 8 * 9 + 16 * 64


def test_what_a_provider_compiled_stands_for_the_part_that_it_was_assigned() -> None:
    graph = source_graph(model(), {"x": (1, 8, 8, 8)})
    assigned = (
        *(Assigned(f"@{place}@", "Conv", "QNN", part=0) for place in (0, 1, 2)),
        Assigned("@4@", "Gemm", "CPU", part=1),
    )
    compiled = kernel("QNNExecutionProvider_QNN_123_0", 0.02, device="QNN")
    works, found = layers_of(Account((compiled, kernel("@4@", 0.01)), assigned), graph)
    assert [work.places for work in works] == [(0, 1, 2), (4,)]
    assert works[0].macs == 16 * 64 * 8 * 9 + 16 * 64 * 9
    assert [work.device for work in works] == ["QNN", "CPU"]
    assert reason_of(works[1], limit_of(works[1], ROOFS, model_bytes=0), ROOFS, "QNN") == "fallback"
    assert len(found.of_nodes) == 5


def test_every_operator_has_one_end_even_where_the_runtime_names_few() -> None:
    graph = source_graph(model(), {"x": (1, 8, 8, 8)})
    found = fates(graph, [(0,), (4,)])
    assert len(found.of_nodes) == 5
    assert found.of_kernels == ((0, 1, 2), (4,))


def test_shapes_that_are_not_known_leave_a_layer_without_a_limit() -> None:
    graph = source_graph(model(), {})
    (conv,), _ = layers_of(Account((kernel("@0@", 0.02),)), graph)
    assert conv.macs is None
    assert limit_of(conv, ROOFS, model_bytes=0) is None


def test_losses_and_limit_make_up_the_whole_run() -> None:
    graph = source_graph(model(), {"x": (1, 8, 8, 8)})
    told = Account((kernel("@1@", 0.02), kernel("@2@", 0.03), kernel("@4@", 0.002)))
    works, _ = layers_of(told, graph)
    limits = [limit_of(work, ROOFS, model_bytes=0) for work in works]
    reasons = [reason_of(work, limit, ROOFS, "CPU") for work, limit in zip(works, limits, strict=True)]
    assert reasons == ["shape", "depthwise", "call"]
    facts = Facts(whole_ms=0.06, between_ms=0.008, threads=1, cpus=2, all_threads_ms=0.05)
    found = losses(works, limits, reasons, facts)
    assert sum(loss.time_ms for loss in found if not loss.beside) + sum(
        limit.time_ms for limit in limits if limit
    ) == pytest.approx(0.06)
    assert [loss.time_ms for loss in found] == sorted((loss.time_ms for loss in found), reverse=True)
    threads = next(loss for loss in found if loss.kind == "threads")
    assert threads.time_ms == pytest.approx(0.01)


def test_what_another_back_end_ran_fell_back() -> None:
    graph = source_graph(model(), {"x": (1, 8, 8, 8)})
    (conv,), _ = layers_of(Account((kernel("@0@", 0.02),)), graph)
    assert reason_of(conv, limit_of(conv, ROOFS, model_bytes=0), ROOFS, "XNNPACK") == "fallback"


@pytest.mark.parametrize(
    "text", ["", "cpu", "cpu:", "cpu:0%", "cpu:101%", "cpu:-5%", "tpu:90%", "cpu-int3:90%", "cpu=90", "cpu:90%:layers"]
)
def test_what_is_no_requirement_is_refused(text: str) -> None:
    with pytest.raises(WrongInput):
        requirements.parse(text)


def test_a_requirement_says_where_in_what_and_of_what() -> None:
    assert requirements.parse("cpu-int8:90%") == ("cpu-int8:90%", "cpu", "int8", 0.9, "time")
    assert requirements.parse("NPU:95")[1:] == ("npu", "", 0.95, "time")
    assert requirements.parse("xnnpack-bf16:99.5%:macs")[1:] == ("xnnpack", "bfloat16", 0.995, "macs")


SCRIPT = """python3 1234
\t    7f00 MlasConv+0x10 (/x/onnxruntime_pybind11_state.so)
\t    7f01 [unknown] (/x/onnxruntime_pybind11_state.so)
\t    7f02 [unknown] (/x/onnxruntime_pybind11_state.so)
\t    5500 _PyEval_EvalFrameDefault+0x1 (/usr/bin/python3.11)
\t    5501 PyObject_Call+0x1 (/usr/bin/python3.11)

python3 1234
\t    7f02 [unknown] (/x/onnxruntime_pybind11_state.so)
\t    5501 PyObject_Call+0x1 (/usr/bin/python3.11)
"""


def test_samples_are_folded_from_the_outermost_function() -> None:
    found = folded(SCRIPT)
    python, inside = (
        Frame("Python", "python"),
        Frame("in onnxruntime_pybind11_state.so", "onnxruntime_pybind11_state.so"),
    )
    assert found[(python, inside)] == 1
    assert found[(python, inside, Frame("MlasConv", "onnxruntime_pybind11_state.so"))] == 1


def test_xnnpacks_operators_find_those_of_the_file_in_order() -> None:
    from edgeward.infer.litert_account import _aligned

    tags = [
        "Transpose (ND, X32)",
        "Convolution (NHWC, F32) IGEMM",
        "Clamp (NC)",
        "Fully Connected (NC, F32) GEMM",
        "Add (ND)",
    ]
    kinds = ["TRANSPOSE", "CUSTOM", "CONV_2D", "CONV_2D", "ADD", "RESHAPE"]
    assert _aligned(tags, kinds) == [0, 2, None, 3, 4]
    assert _aligned(["Mystery"], kinds) == [None]
    assert _aligned([], kinds) == []
