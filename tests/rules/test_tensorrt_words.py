"""What TensorRT says becomes one sentence with the next move.

The messages have the form of TensorRT's own; no device was here to make them.
"""

import pytest

from edgeward.infer.tensorrt_words import engine_fault, parser_fault
from edgeward.kit.errors import Unsupported, WrongInput

HERE = "TensorRT 10.9.0 on NVIDIA Orin"
ELSEWHERE = (
    "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion stdVersionRead == "
    "kSERIALIZATION_VERSION failed.Version tag does not match. Note: Current Version: 239, Serialized Engine "
    "Version: 237)",
    "[runtime.cpp::parsePlan::314] Error Code 1: Serialization (The engine plan file is not compatible with this "
    "version of TensorRT, expecting library version 10.9.0 got 8.6.1, please rebuild.)",
    "The engine plan file is generated on an incompatible device, expecting compute 8.7 got compute 8.9, please "
    "rebuild.",
)


@pytest.mark.parametrize("message", ELSEWHERE)
def test_an_engine_built_elsewhere_is_told_so(message):
    fault = engine_fault([message], HERE)
    assert isinstance(fault, Unsupported)
    assert fault.message.startswith(f"this engine was built elsewhere, and does not run on {HERE}")
    assert "ONNX" in (fault.hint or "")


@pytest.mark.parametrize("messages", [[], ["Error Code 1: Serialization (magic tag mismatch)"]])
def test_what_is_no_engine_is_wrong_input(messages):
    assert isinstance(engine_fault(messages, HERE), WrongInput)


def test_a_missing_operator_is_named():
    fault = parser_fault(["In node 4 (importFallbackPluginImporter): UNSUPPORTED_NODE: No importer registered for op: "
                          "NonMaxSuppressionX"], "10.9")  # fmt: skip
    assert fault.message == "TensorRT 10.9 has no operator NonMaxSuppressionX, which this model uses"


def test_zero_points_get_the_way_to_quantise_instead():
    fault = parser_fault(["Assertion failed: shiftIsAllZeros(zeroPoint): TRT only supports symmetric quantization - "
                          "zeroPt must be all zeros"], "10.9")  # fmt: skip
    assert isinstance(fault, Unsupported)
    assert fault.hint == "quantise with symmetric int8 activations"


@pytest.mark.parametrize("messages", [[], ["Failed to parse ONNX model from buffer"]])
def test_bytes_that_are_no_model_are_wrong_input(messages):
    assert isinstance(parser_fault(messages, "10.9"), WrongInput)


def test_another_fault_is_passed_on_without_source_lines():
    fault = parser_fault(
        ["/home/j/onnx2trt_utils.cpp:748: In function: fold [8] Assertion failed: dims.nbDims <= 8"], "10.9"
    )
    assert isinstance(fault, Unsupported)
    assert ".cpp" not in fault.message
    assert "dims.nbDims <= 8" in fault.message
