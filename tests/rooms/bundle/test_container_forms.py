"""What starts a container is what its programs accept, and gives the accelerator's devices and no more."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import compose_spec
import helm_python
import kubernetes_validate
import pytest
import yaml
from msgspec.structs import replace

from edgeward import bundle
from edgeward.bundle.packers import Service, load

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
VERSIONS = ("1.33", "1.34", "1.35", "1.36")
ACCELERATORS = ("onnxruntime", "onnxruntime-cuda", "onnxruntime-openvino-npu", "onnxruntime-qnn")
SERVICE = Service("", "", threads=2, image="registry.example/golden:1.0")

Verified = bundle.VerifiedBundle


@pytest.fixture(scope="module")
def verified() -> Verified:
    return bundle.verify(GOLDEN / "bundle-v1-good", bundle.trusted_keys([GOLDEN / "signer.pub"]))


@pytest.fixture(params=ACCELERATORS)
def other(request: pytest.FixtureRequest, verified: Verified) -> Verified:
    """The golden bundle as if for this runtime: packers see its manifest and keys alone."""
    return with_manifest(verified, runtime=request.param)


def with_manifest(verified: Verified, **changes: Any) -> Verified:
    manifest = replace(verified.manifest, **changes)
    return cast(Verified, SimpleNamespace(manifest=manifest, signers=verified.signers, bundle=verified.bundle))


def texts(form: str, verified: Verified, service: Service = SERVICE) -> dict[str, str]:
    return {one.path: one.data.decode() for one in load(form).pack(verified, service)}


def check_kubernetes(text: str) -> list[dict[str, Any]]:
    found = list(yaml.safe_load_all(text))
    for document in found:
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)
    return found


def test_kubernetes_admits_the_manifests(other: Verified) -> None:
    files = texts("kubernetes", other)
    daemons, service = check_kubernetes(files["daemonset.yaml"])
    check_kubernetes(files["pod.yaml"])
    pod = daemons["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    (container,) = pod["spec"]["containers"]
    walls = container["securityContext"]
    assert (walls["readOnlyRootFilesystem"], walls["allowPrivilegeEscalation"]) == (True, False)
    assert walls["capabilities"] == {"drop": ["ALL"]}
    devices = {name for name in container["resources"]["limits"] if "/" in name}
    wanted = {"onnxruntime-cuda": {"nvidia.com/gpu"}, "onnxruntime-openvino-npu": {"npu.intel.com/accel"}}
    assert devices == wanted.get(other.manifest.runtime, set())


def test_a_model_that_is_an_image_of_its_own_is_mounted_over_the_images(verified: Verified, tmp_path: Path) -> None:
    service = SERVICE._replace(model_image="registry.example/golden-model:2")
    daemons, _ = check_kubernetes(texts("kubernetes", verified, service)["daemonset.yaml"])
    spec = daemons["spec"]["template"]["spec"]
    assert spec["volumes"][-1]["image"] == {"reference": service.model_image, "pullPolicy": "IfNotPresent"}
    assert {"name": "model", "mountPath": "/bundle", "readOnly": True} in spec["containers"][0]["volumeMounts"]
    for path, text in texts("helm", verified, service).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    ((_, text),) = helm_python.Chart.load(str(tmp_path / "edgeward-golden")).render(name="golden").items()
    assert check_kubernetes(text)[0]["spec"]["template"]["spec"]["volumes"] == spec["volumes"]
    assert "model" not in texts("kubernetes", verified, service)["pod.yaml"].partition("volumes:")[2]


def test_helm_renders_the_chart_to_what_kubernetes_admits(other: Verified, tmp_path: Path) -> None:
    for path, text in texts("helm", other).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    chart = str(tmp_path / "edgeward-golden")
    found = helm_python.lint(chart, strict=True)
    assert not [one for one in found["messages"] if one["severity"] not in ("INFO", 1)], found
    values = {"image": "elsewhere.example/golden:2", "tolerations": [{"key": "edge", "operator": "Exists"}]}
    ((_, text),) = helm_python.Chart.load(chart).render(values, name="golden", namespace="edge").items()
    daemons, _ = check_kubernetes(text)
    spec = daemons["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"] == "elsewhere.example/golden:2"
    assert spec["tolerations"][0]["key"] == "edge"
    plain = check_kubernetes(texts("kubernetes", other)["daemonset.yaml"])[0]["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"] == plain["containers"][0]["resources"]
    assert spec["nodeSelector"] == plain["nodeSelector"]


def test_compose_admits_the_file(other: Verified) -> None:
    text = texts("compose", other)["compose.yaml"]
    compose_spec.PyCompose.from_yaml(text).validate()
    said = yaml.safe_load(text)["services"]["golden"]
    assert (said["read_only"], said["cap_drop"], said["user"]) == (True, ["ALL"], "65532:65532")
    wanted = {"onnxruntime-openvino-npu": ["/dev/accel:/dev/accel"], "onnxruntime": None, "onnxruntime-cuda": None}
    assert said.get("devices") == wanted.get(other.manifest.runtime, said.get("devices"))
    assert ("deploy" in said) == (other.manifest.runtime == "onnxruntime-cuda")


def test_what_compose_does_not_know_fails_that_check(verified: Verified) -> None:
    (text,) = texts("compose", verified).values()
    with pytest.raises(ValueError, match="red_only"):
        compose_spec.PyCompose.from_yaml(text.replace("read_only", "red_only"))


@pytest.mark.parametrize(
    ("form", "read"),
    [
        ("compose", lambda text: yaml.safe_load(text)["services"]["golden"]["ports"]),
        (
            "quadlet",
            lambda text: [line.partition("=")[2] for line in text.splitlines() if line.startswith("PublishPort")],
        ),
    ],
)
def test_it_is_published_on_the_address_that_was_said(
    verified: Verified, form: str, read: Callable[[str], list[str]]
) -> None:
    for host, shown in (("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")):
        (text,) = texts(form, verified, SERVICE._replace(host=host, port=9000)).values()
        assert read(text) == [f"{shown}:9000:8000"]


def test_a_bundle_without_a_measurement_has_no_limit_of_memory_and_says_so(verified: Verified) -> None:
    other = with_manifest(verified, measurement=None)
    for form in ("compose", "kubernetes", "quadlet"):
        for text in texts(form, other).values():
            assert "No limit of memory: this bundle brings no measurement" in text
            assert not any(line.strip().startswith(("mem_limit", "memory")) for line in text.splitlines())


def test_the_version_of_a_chart_is_a_semantic_one(verified: Verified) -> None:
    for version, chart in (
        ("1", "1.0.0"),
        ("2.1-rc1", "2.1.0-rc1"),
        ("2026.11.20", "2026.11.20"),
        ("v_7", "0.0.0+v-7"),
    ):
        files = texts("helm", with_manifest(verified, version=version))
        said = yaml.safe_load(files["edgeward-golden/Chart.yaml"])
        assert (said["version"], said["appVersion"]) == (chart, version)
