"""OpenVINO by its C interface says what its Python package says."""

import gc
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, parser

pytest.importorskip("openvino")

from edgeward.infer import openvino_library as library
from edgeward.infer import openvino_session, runtimes
from edgeward.kit.errors import Failed, Unsupported, WrongInput

DTYPES = [
    "float32",
    "float16",
    "float64",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "bool",
]


def kept(dtype: str, *shape: int | str, op: str = "Identity") -> bytes:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ends = [helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "kept", [ends[0]], [ends[1]])
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, ir_version=8, opset_imports=opset).SerializeToString()


def model(text: str) -> bytes:
    return parser.parse_model('<ir_version: 8, opset_import: ["": 17]> ' + text).SerializeToString()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_comes_in_and_goes_out(dtype):
    session = runtimes.load("openvino").load(kept(dtype, "n", 3), threads=1)
    assert [spec.dtype for spec in (*session.inputs, *session.outputs)] == [dtype, dtype]
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    (found,) = session.run({"x": values})
    assert found.dtype == values.dtype
    assert (found == values).all()


def test_names_types_and_shapes_are_those_of_the_python_package():
    import openvino

    data = model(
        "many (float[n,3,h,8] image, int64[2] words, float scale) => (float[n,3,h,8] y, int64[2] z, float[n,3,h,8] r)"
        "{ y = Mul (image, scale) z = Abs (words) r = Relu (image) }"
    )
    ours = library.Model(data)
    theirs = openvino.Core().read_model(data)
    for mine, ports in ((ours.inputs, theirs.inputs), (ours.outputs, theirs.outputs)):
        assert [port.name for port in mine] == [port.any_name for port in ports]
        dims = [[None if dim.is_dynamic else dim.get_length() for dim in port.partial_shape] for port in ports]
        assert [[*port.dims] for port in mine] == dims
        assert [np.dtype(port.dtype) for port in mine] == [port.element_type.to_dtype() for port in ports]
    assert library.version() == openvino.__version__.split("-")[0]
    assert set(library.devices()) == set(openvino.Core().available_devices)


def test_shapes_that_depend_on_values_are_those_of_each_run():
    session = runtimes.load("openvino").load(
        model("some (float[n] x) => (int64[1,m] y) { y = NonZero (x) }"), threads=1
    )
    for values in ([1, 0, 2], [0, 0, 0], [1, 1, 1, 1, 0]):
        (found,) = session.run({"x": np.float32(values)})
        assert found.tolist() == [np.flatnonzero(values).tolist()]


def test_a_run_that_fails_is_one_sentence_and_the_next_one_is_answered():
    data = model("r (float[n] x, int64[2] shape) => (float[a,b] y) { y = Reshape (x, shape) }")
    session = runtimes.load("openvino").load(data, threads=1)
    feeds = {"x": np.arange(6, dtype=np.float32), "shape": np.array([2, 3])}
    for _ in range(2):
        assert session.run(feeds)[0].tolist() == [[0, 1, 2], [3, 4, 5]]
        with pytest.raises(Failed, match="inference failed in OpenVINO") as caught:
            session.run(feeds | {"shape": np.array([4, 5])})
        assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "feeds", "wanted"),
    [
        ("(float[n,3] x, float z) => (float[n,3] y) { y = Mul (x, z) }", {"x": [[1, 2, 3]], "z": 2}, [[2, 4, 6]]),
        ("(float[2,3] x, float z) => (float[2,3] y) { y = Mul (x, z) }", {"x": [[1] * 3] * 2, "z": 5}, [[5] * 3] * 2),
        ("(float[n,3] x) => (float y) { y = ReduceSum <keepdims = 0> (x) }", {"x": [[1, 2, 3]]}, 6),
        ("(float x) => (float y) { y = Add (x, x) }", {"x": 4}, 8),
        ("(float[n,0] x) => (float[n,0] y) { y = Add (x, x) }", {"x": [[], []]}, [[], []]),
    ],
)
def test_scalars_and_nothing_go_in_and_come_out(text, feeds, wanted):
    session = runtimes.load("openvino").load(model("net " + text), threads=1)
    for _ in range(2):
        (found,) = session.run({name: np.array(value, np.float32) for name, value in feeds.items()})
        np.testing.assert_array_equal(found, np.array(wanted, np.float32))


def test_a_run_that_fails_inside_is_told_where_the_answer_s_shape_is_fixed_too():
    data = model(
        "r (float[n] x, int64[2] shape) => (float[1] y) {"
        "z = Reshape (x, shape) all = Constant <value = int64[2] {0, 1}> ()"
        "s = ReduceSum <keepdims = 0> (z, all) one = Constant <value = int64[1] {1}> () y = Reshape (s, one) }"
    )
    session = runtimes.load("openvino").load(data, threads=1)
    feeds = {"x": np.arange(6, dtype=np.float32), "shape": np.array([2, 3])}
    assert session.run(feeds)[0].tolist() == [15]
    with pytest.raises(Failed):
        session.run(feeds | {"shape": np.array([4, 5])})


def test_a_run_that_fails_in_a_branch_is_told():
    data = model(
        "b (float[n] x, int64[2] shape, bool[1] ask) => (float[1] y) {"
        "y = If (ask) <then_branch = t () => (float[1] a) { z = Reshape (x, shape)"
        " all = Constant <value = int64[2] {0, 1}> () s = ReduceSum <keepdims = 0> (z, all)"
        " one = Constant <value = int64[1] {1}> () a = Reshape (s, one) },"
        "else_branch = e () => (float[1] c) { c = Constant <value = float[1] {7.0}> () }> }"
    )
    session = runtimes.load("openvino").load(data, threads=1)
    feeds = {"x": np.arange(6, dtype=np.float32), "shape": np.array([2, 3]), "ask": np.array([True])}
    assert session.run(feeds)[0].tolist() == [15]
    with pytest.raises(Failed):
        session.run(feeds | {"shape": np.array([4, 5])})


def test_an_answer_stays_as_it_is_when_the_next_one_comes():
    session = runtimes.load("openvino").load(kept("float32", 1, 3), threads=1)
    ways = (lambda values: session.run({"x": values[None]})[0][0], lambda values: session.single.run(values)[0])
    for way in ways:
        first, second = (way(np.full(3, value, np.float32)) for value in (1, 2))
        assert (first.tolist(), second.tolist()) == ([1, 1, 1], [2, 2, 2])


@pytest.mark.parametrize(
    ("data", "kind", "told"),
    [
        (b"", WrongInput, "no valid ONNX model: it is empty"),
        (b"no model", WrongInput, "no valid ONNX model"),
        (kept("float32", 3)[:40], WrongInput, "no valid ONNX model"),
        (kept("float32", 3, op="Nonsense"), Unsupported, "cannot run this model"),
    ],
)
def test_what_is_no_model_is_one_sentence(data, kind, told):
    with pytest.raises(kind, match=told) as caught:
        runtimes.load("openvino").load(data, threads=1)
    assert "\n" not in caught.value.message
    assert ".cpp" not in caught.value.message


def test_text_is_refused():
    ends = [helper.make_tensor_value_info(name, TensorProto.STRING, [2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "text", [ends[0]], [ends[1]])
    data = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    with pytest.raises(Unsupported):
        runtimes.load("openvino").load(data, threads=1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("conv (float[n,3,8,8] x, float[4,3,3,3] w) => (float[n,4,6,6] y) { y = Conv (x, w) }", "float32"),
        ("none (float[n,3] x) => (float[n,3] y) { y = Relu (x) }", "float32"),
        ("free (float[n,m] x) => (float[n,m] y) { y = Relu (x) }", "unknown: its inputs have free dimensions"),
    ],
)
def test_what_a_model_computes_in_is_told(text, told):
    assert openvino_session.arithmetic_of(model(text), precision="f32") == told


def test_models_that_nobody_holds_are_given_back():
    data = kept("float32", 1, 250_000)
    sizes = []
    for _ in range(60):
        runtimes.load("openvino").load(data, threads=1).run({"x": np.zeros((1, 250_000), np.float32)})
        gc.collect()
        with open("/proc/self/statm") as file:
            sizes.append(int(file.read().split()[1]) * 4096)
    assert max(sizes) - sizes[9] < 30e6  # fifty models with 2 MB of tensors each


def test_a_short_way_lives_longer_than_its_session():
    single = runtimes.load("openvino").load(kept("float32", 1, 3), threads=1).single
    views = library.Model(kept("float32", 1, 50_000)).compiled([(1, 50_000)], {}).inputs
    for value in range(200):
        gc.collect()
        runtimes.load("openvino").load(kept("float32", 1, 3), threads=1)  # what was freed would be used by this one
        assert single.run(np.full(3, value, np.float32))[0].tolist() == [value] * 3
        views[0][...] = value
        assert views[0].sum() == 50_000 * value


def test_the_python_package_is_not_imported():
    program = """
import sys
import numpy as np
from edgeward.infer import runtimes
runtime = runtimes.load("openvino")
session = runtime.load(runtime.smoke_model(), threads=1)
assert session.run({"x": np.ones(3, np.float32)})[0].tolist() == [2, 2, 2]
assert runtime.arithmetic_of(runtime.smoke_model()) == "float32"
assert runtime.version() and runtime.providers()
print("openvino" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
