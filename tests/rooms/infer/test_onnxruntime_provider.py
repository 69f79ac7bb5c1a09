"""A provider that takes nothing is refused, and what it leaves to the CPU is told."""

import numpy as np
import pytest

from edgeward.infer import onnxruntime_provider as providers
from edgeward.infer import runtimes
from edgeward.infer.onnxruntime_session import CPU
from edgeward.kit.errors import Unsupported, WrongInput

CUDA = "CUDAExecutionProvider"
ELSEWHERE = ("onnxruntime-openvino", "onnxruntime-qnn")
"""Providers that run without an accelerator: OpenVINO's on any x86 CPU, Qualcomm's by its simulator."""


pytestmark = pytest.mark.filterwarnings("ignore:Duplicate provider")
"""The CPU stands in for an accelerator here, and behind it once more."""


def provider(name: str, **more: object) -> providers.Provider:
    return providers.Provider(name=name, install="pip install it", options=lambda model, threads: {}, **more)


def test_a_provider_that_took_every_node_is_told_so():
    assert providers.told(CUDA, [(CUDA, "Conv"), (CUDA, "Relu")]) == "2 of 2 nodes run on CUDA"


def test_the_nodes_left_to_the_cpu_are_named_and_the_many_are_counted():
    nodes = [(CUDA, "Conv")] + [(CPU, "Gelu")] * 3 + [(CPU, kind) for kind in ("NonZero", "Loop", "If", "Scan")]
    told = providers.told(CUDA, nodes)
    assert told.startswith("1 of 8 nodes run on CUDA; 3 Gelu on CPU, ")
    assert told.endswith("1 more")


def test_what_a_second_provider_took_is_not_called_the_first_ones():
    told = providers.told("TensorrtExecutionProvider", [("TensorrtExecutionProvider", "Conv"), (CUDA, "NonZero")])
    assert told == "1 of 2 nodes run on Tensorrt; 1 NonZero on CUDA"


def test_a_model_that_runs_wholly_on_the_cpu_is_refused():
    with pytest.raises(Unsupported, match="takes none of this model's 2 nodes: it runs wholly on the CPU") as caught:
        providers.told(CUDA, [(CPU, "Conv"), (CPU, "Relu")])
    assert caught.value.hint == "take the runtime onnxruntime"


def test_a_model_without_nodes_is_on_no_provider():
    assert providers.told(CUDA, []) == "0 of 0 nodes run on CUDA"


def test_a_provider_that_the_build_lacks_is_refused_with_what_brings_it():
    with pytest.raises(Unsupported, match="NoSuchExecutionProvider is not installed") as caught:
        providers.OnnxRuntimeOn(provider("NoSuchExecutionProvider"))
    assert caught.value.hint == "pip install it"


def test_a_provider_whose_package_is_missing_says_which():
    with pytest.raises(ModuleNotFoundError, match="no_such_provider"):
        providers.OnnxRuntimeOn(provider("NoSuchExecutionProvider", plugin="no_such_provider"))


def test_the_nodes_of_a_real_session_are_told():
    cpu = providers.OnnxRuntimeOn(provider(CPU))
    session = cpu.load(cpu.smoke_model(), threads=1)
    assert session.placement == "1 of 1 nodes run on CPU"


def test_fixed_shapes_get_a_session_for_each_size_and_the_same_answers():
    fixed = providers.OnnxRuntimeOn(provider(CPU, fixed_shapes=True))
    session = fixed.load(fixed.smoke_model(), threads=1)
    assert session.inputs[0].shape == ("n",)
    for length in (1, 3, 1, 4):
        values = np.arange(length, dtype=np.float32)
        np.testing.assert_array_equal(session.run({"x": values})[0], 2 * values)


@pytest.mark.parametrize("feeds", [{}, {"x": np.float32(1.0)}, {"x": np.ones((2, 2), np.float32)}])
def test_fixed_shapes_tell_what_does_not_fit(feeds):
    fixed = providers.OnnxRuntimeOn(provider(CPU, fixed_shapes=True))
    with pytest.raises(WrongInput):
        fixed.load(fixed.smoke_model(), threads=1).run({name: np.asarray(value) for name, value in feeds.items()})


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_real_provider_takes_the_smoke_model_and_says_so(name):
    try:
        runtime = runtimes.load(name)
    except Unsupported as error:
        pytest.skip(f"{error.message}: {error.hint}")
    session = runtime.load(runtime.smoke_model(), threads=1)
    assert session.placement.startswith("1 of 1 nodes run on ")


@pytest.mark.parametrize("name", [name for name in runtimes.names() if name.startswith("onnxruntime-")])
def test_a_provider_that_is_not_here_says_what_brings_it(name):
    try:
        runtimes.load(name)
    except Unsupported as error:
        hint = error.hint or ""
    else:
        pytest.skip(f"{name} is installed here")
    assert "install" in hint or "build" in hint
