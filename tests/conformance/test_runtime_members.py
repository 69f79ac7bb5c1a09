"""One suite over every runtime: dropping in a file brings its tests."""

import numpy as np
import pytest

from edgeward.infer import runtimes
from edgeward.kit.errors import EdgewardError, Unsupported, WrongInput


@pytest.fixture(params=runtimes.names())
def runtime(request: pytest.FixtureRequest) -> runtimes.Runtime:
    try:
        return runtimes.load(request.param)
    except Unsupported as error:
        pytest.skip(f"{error.message}: {error.hint}")


@pytest.fixture
def session(runtime: runtimes.Runtime) -> runtimes.Session:
    try:
        return runtime.load(runtime.smoke_model(), threads=1)
    except Unsupported as error:
        pytest.skip(error.message)


def test_it_says_its_version_formats_and_providers(runtime):
    assert runtime.version()
    assert runtime.formats
    assert runtime.providers()


def test_the_smoke_model_doubles_its_input_whatever_its_length(session):
    for length in (1, 5):
        values = np.arange(length, dtype=np.float32)
        np.testing.assert_array_equal(session.run({"x": values})[0], 2 * values)


def test_a_session_states_its_inputs(session):
    assert [(spec.name, spec.dtype, len(spec.shape)) for spec in session.inputs] == [("x", "float32", 1)]
    assert isinstance(session.inputs[0].shape[0], str), "the smoke model's dimension is free"


@pytest.mark.parametrize(
    "feeds",
    [{}, {"z": np.ones(3, np.float32)}, {"x": np.ones(3, np.int64)}, {"x": np.ones((3, 3), np.float32)}],
    ids=["missing", "wrong-name", "wrong-dtype", "wrong-rank"],
)
def test_what_does_not_fit_is_wrong_input(session, feeds):
    with pytest.raises(WrongInput):
        session.run(feeds)


@pytest.mark.parametrize("model", [b"", b"\x00", b"not a model at all", b"\x89PNG\r\n\x1a\n" + bytes(64)])
def test_bytes_that_are_no_model_are_told_so(runtime, model):
    with pytest.raises(EdgewardError):
        runtime.load(model, threads=1)
