"""What a bundle is on disk, that equal parts give equal digests, and that it tests itself."""

import json
import zipfile
from datetime import UTC, datetime

import numpy as np
import pytest
from bundle_parts import blob, file_of, index_of, manifest_of, tiny_parts
from msgspec.structs import replace

from edgeward import bundle as room
from edgeward.bundle.assembly import Said
from edgeward.bundle.npz import from_npz, to_npz
from edgeward.bundle.versions import accepts, same_major
from edgeward.infer.runtimes.echo import EchoModel
from edgeward.kit import codec
from edgeward.kit.clock import ManualClock
from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.records.bundle import SelfTest
from edgeward.records.model import Classify

MADE_AT = tiny_parts().created_at


def assembled(folder, **changes):
    folder.mkdir()
    room.assemble(folder, tiny_parts(**changes))
    return folder


def verified(folder, signer, trust):
    room.sign(folder, signer)
    return room.verify(folder, trust)


def test_it_is_a_modelpack_in_an_oci_layout(tmp_path):
    folder = assembled(tmp_path / "b", report=b'{"reason": "fast"}')
    assert json.loads((folder / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    entry = index_of(folder)["manifests"][0]
    assert entry["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "1"
    manifest = manifest_of(folder)
    assert {layer["annotations"]["org.cncf.model.filepath"]: layer["mediaType"] for layer in manifest["layers"]} == {
        "edgeward.json": "application/vnd.cncf.model.weight.config.v1.raw",
        "model.echo": "application/vnd.cncf.model.weight.v1.raw",
        "selftest/inputs.npz": "application/vnd.cncf.model.dataset.v1.raw",
        "selftest/expected.npz": "application/vnd.cncf.model.dataset.v1.raw",
        "report.json": "application/vnd.cncf.model.doc.v1.raw",
    }
    assert manifest["annotations"]["org.opencontainers.image.created"] == "2026-01-01T00:00:00Z"
    assert manifest["annotations"]["io.edgeward.runtime"] == "echo"
    assert file_of(folder, "report.json").read_bytes() == b'{"reason": "fast"}'


@pytest.mark.parametrize(
    ("precision", "count", "kind", "about"),
    [
        ("int8", 78_666, "image", {"precision": "int8", "paramSize": "78.7K", "inputTypes": ["image"]}),
        ("int4", 6_700_000, "tensor", {"paramSize": "6.7M", "inputTypes": ["other"]}),
        ("", 0, "audio", {"paramSize": "0.0K", "inputTypes": ["audio"]}),
    ],
)
def test_the_config_holds_only_what_the_modelpack_schema_admits(tmp_path, precision, count, kind, about):
    model = replace(tiny_parts().model, parameter_count=count)
    folder = assembled(tmp_path / "b", precision=precision, kind=kind, model=model)
    manifest = manifest_of(folder)
    config = json.loads(blob(folder, manifest["config"]["digest"]).read_bytes())
    assert config["descriptor"] == {"name": "tiny", "version": "1", "createdAt": "2026-01-01T00:00:00Z"}
    types = {"inputTypes": about.pop("inputTypes")}
    assert config["config"] == {"format": "echo", "capabilities": types, **about}
    assert config["modelfs"] == {"type": "layers", "diffIds": [layer["digest"] for layer in manifest["layers"]]}


def test_equal_parts_give_equal_bytes(tmp_path):
    first, second = assembled(tmp_path / "a"), assembled(tmp_path / "b")
    assert (first / "index.json").read_bytes() == (second / "index.json").read_bytes()
    assert {path.name for path in first.rglob("*")} == {path.name for path in second.rglob("*")}


def test_arrays_keep_their_values_and_their_order_does_not_matter():
    arrays = {"b": np.arange(6).reshape(2, 3)[:, ::-1], "a": np.array([["é", "ü"]]), "c": np.zeros((2, 0), np.float16)}
    data = to_npz(arrays)
    assert data == to_npz(dict(reversed(list(arrays.items()))))
    back = from_npz(data, "the test")
    assert list(back) == ["a", "b", "c"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype


def test_other_programs_read_the_npz(tmp_path):
    (tmp_path / "x.npz").write_bytes(to_npz({"x": np.arange(3)}))
    np.testing.assert_array_equal(np.load(tmp_path / "x.npz")["x"], [0, 1, 2])
    assert zipfile.ZipFile(tmp_path / "x.npz").testzip() is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"self_test_inputs": {}}, "the self-test's inputs hold no sample"),
        ({"self_test_expected": {"x_out": np.zeros((0, 3), np.float32)}}, "expected outputs hold no sample"),
        ({"self_test_inputs": {"x": np.float32(1)}}, "the self-test's inputs hold no sample"),
        ({"self_test_inputs": {"x": np.zeros((5, 3), np.float32)}}, r"differ in their number of samples: \[2, 5\]"),
        ({"self_test_expected": {"x_out": np.full((2, 3), np.nan, np.float32)}}, "is not finite"),
        ({"self_test_inputs": {"x": np.array([[None], [None]])}}, "holds Python objects"),
    ],
)
def test_a_self_test_that_no_device_could_pass_is_wrong_input(tmp_path, changes, reason):
    with pytest.raises(WrongInput, match=reason):
        assembled(tmp_path / "b", **changes)


def test_the_self_test_passes_where_the_answers_agree(signed, trust):
    bundle = room.verify(signed, trust)
    result = room.run_self_test(bundle, room.open_predictor(bundle))
    assert result.passed
    assert result.worst_error == 0
    assert result.sample_count == 2


@pytest.mark.parametrize("wrong", [np.full((2, 3), 7, np.float32), np.zeros((2, 4), np.float32), np.zeros((2, 3), int)])
def test_a_missed_self_test_says_by_how_much_and_raises_nothing(tmp_path, signer, trust, wrong):
    bundle = verified(assembled(tmp_path / "b", self_test_expected={"x_out": wrong}), signer, trust)
    result = room.run_self_test(bundle, room.open_predictor(bundle))
    assert not result.passed
    assert "an answer is off by" in result.reason
    assert result.worst_error > result.tolerance


def test_a_missing_output_is_a_miss(tmp_path, signer, trust):
    expected = {"x_out": tiny_parts().self_test_expected["x_out"], "other": np.zeros((2, 1))}
    bundle = verified(assembled(tmp_path / "b", self_test_expected=expected), signer, trust)
    assert room.run_self_test(bundle, room.open_predictor(bundle)).worst_error == float("inf")


def test_samples_that_do_not_fit_are_a_miss_with_the_reason(tmp_path, signer, trust):
    inputs = {"x": np.zeros((2, 5), np.float32)}
    bundle = verified(assembled(tmp_path / "b", self_test_inputs=inputs), signer, trust)
    result = room.run_self_test(bundle, room.open_predictor(bundle))
    assert not result.passed
    assert "wants 3 per sample, got 5" in result.reason


class SlowClock(ManualClock):
    """A minute passes between any two looks."""

    def monotonic_s(self) -> float:
        self.advance(60)
        return super().monotonic_s()


def test_a_self_test_past_its_deadline_is_missed(signed, trust):
    bundle = room.verify(signed, trust)
    clock = SlowClock(datetime(2026, 1, 1, tzinfo=UTC))
    result = room.run_self_test(bundle, room.open_predictor(bundle), clock)
    assert not result.passed
    assert result.reason == "it took 60 s, allowed are 30 s"


def test_small_differences_are_measured_against_the_largest_output(tmp_path, signer, trust):
    exact = tiny_parts().self_test_expected["x_out"]  # 0 … 10, so 11 × tolerance are allowed
    for offset, passes in ((0.010, True), (0.012, False)):
        folder = assembled(tmp_path / f"{offset}", self_test_expected={"x_out": exact + np.float32(offset)})
        bundle = verified(folder, signer, trust)
        assert room.run_self_test(bundle, room.open_predictor(bundle)).passed is passes


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"runtime": "onnxruntime", "runtime_versions": ">=99"}, "wants onnxruntime >=99, here is 1"),
        ({"runtime": "onnxruntime", "runtime_versions": "<2"}, "onnxruntime does not run echo models"),
    ],
)
def test_a_runtime_that_does_not_fit_is_unsupported(tmp_path, signer, trust, changes, reason):
    bundle = verified(assembled(tmp_path / "b", **changes), signer, trust)
    with pytest.raises(Unsupported, match=reason):
        room.open_predictor(bundle)


def test_a_runtime_that_nobody_here_knows_is_told_by_name(tmp_path, signer, trust):
    bundle = verified(assembled(tmp_path / "b", runtime="hailo"), signer, trust)
    with pytest.raises(Unsupported, match="wants the runtime 'hailo', which this edgeward does not know"):
        room.open_predictor(bundle)


@pytest.mark.parametrize(
    ("allowed", "version", "fits"),
    [
        (">=1.24,<2", "1.24.0", True), (">=1.24,<2", "1.9.9", False), (">=1.24,<2", "2.0", False),
        ("", "anything", True), ("==1.24", "1.24.0+cpu", True), ("!=1.25, >1.24", "1.24.1rc1", True),
        ("<=3", "3.0.1", False),
    ],
)  # fmt: skip
def test_version_limits(allowed, version, fits):
    assert accepts(allowed, version) is fits


def test_version_limits_that_are_none_are_told():
    with pytest.raises(WrongInput, match="'~=1' is no version limit"):
        accepts("~=1", "1")


def test_any_of_the_same_major_version_is_allowed():
    assert same_major("1.24.2") == ">=1,<2"
    assert accepts(same_major("2.0"), "2.9")


def test_a_bundle_is_made_anew_under_another_name(signed, tmp_path, trust, signer):
    again = tmp_path / "again"
    again.mkdir()
    later = datetime(2026, 2, 2, tzinfo=UTC)
    room.reassemble(signed, again, later, Said(name="other", version="2", labels=("a", "b", "c"), report=b"{}"))
    bundle = room.peek(again)
    assert (bundle.manifest.name, bundle.manifest.version, bundle.manifest.created_at) == ("other", "2", later)
    assert bundle.manifest.labels == ("a", "b", "c")
    assert bundle.manifest.postprocess == (Classify(),)
    assert bundle.signatures == ()
    assert file_of(again, "report.json").read_bytes() == b"{}"
    made = verified(again, signer, trust)
    assert made.model == room.verify(signed, trust).model
    assert room.run_self_test(made, room.open_predictor(made)).passed


def test_made_anew_with_nothing_changed_it_is_the_same_bundle(unsigned, tmp_path):
    (tmp_path / "again").mkdir()
    digest = room.reassemble(unsigned, tmp_path / "again", tiny_parts().created_at, Said())
    assert digest == room.peek(unsigned).digest


def test_labels_of_another_count_are_wrong_input(unsigned, tmp_path):
    (tmp_path / "again").mkdir()
    with pytest.raises(WrongInput, match="there are 2 labels; the model has 3 classes"):
        room.reassemble(unsigned, tmp_path / "again", tiny_parts().created_at, Said(labels=("a", "b")))


def test_figures_and_tolerances_of_more_targets_come_one_after_another(golden, tmp_path):
    """Each `pack` adds a target; one that is there is replaced, and figures of another model are wrong input."""
    complete = room.peek(golden / "bundle-v1-complete").manifest
    other = complete.measured_on("other-target")
    newer = replace(other, latency=replace(other.latency, p50_ms=4.0))
    third = replace(other, target="third-target")
    (tmp_path / "again").mkdir()
    said = Said(measurements=(newer, third), tolerances={"third-target": 0.5})
    room.reassemble(golden / "bundle-v1-complete", tmp_path / "again", MADE_AT, said)
    manifest = room.peek(tmp_path / "again").manifest
    assert [one.target for one in manifest.measured()] == ["golden-target", "other-target", "third-target"]
    assert manifest.measured_on("other-target").latency.p50_ms == 4.0
    assert dict(manifest.self_test.tolerances) == {"other-target": 0.02, "third-target": 0.5}
    assert manifest.license == "Apache-2.0"
    (tmp_path / "wrong").mkdir()
    strange = Said(measurements=(replace(third, model="sha256:" + "0" * 64),))
    with pytest.raises(WrongInput, match="the measurement on third-target is of the model sha256:000"):
        room.reassemble(golden / "bundle-v1-complete", tmp_path / "wrong", MADE_AT, strange)


def test_the_licence_is_where_registries_and_other_programs_look(tmp_path):
    folder = assembled(tmp_path / "b", license="MIT")
    manifest = manifest_of(folder)
    assert manifest["annotations"]["org.opencontainers.image.licenses"] == "MIT"
    config = json.loads(blob(folder, manifest["config"]["digest"]).read_bytes())
    assert config["descriptor"]["licenses"] == ["MIT"]


def test_a_model_with_a_fixed_batch_answers_its_self_test_too(tmp_path, signer, trust):
    spec = replace(tiny_parts().model.inputs[0], shape=(4, 3))
    model = codec.to_json(EchoModel(inputs=(spec,), gain=2.0))
    bundle = verified(assembled(tmp_path / "b", model_bytes=model), signer, trust)
    assert room.run_self_test(bundle, room.open_predictor(bundle)).passed


def test_the_tolerance_travels_in_the_manifest(tmp_path):
    folder = assembled(tmp_path / "b", tolerance=0.5, deadline_s=7.0)
    self_test: SelfTest = room.peek(folder).manifest.self_test
    assert (self_test.tolerance, self_test.deadline_s) == (0.5, 7.0)
