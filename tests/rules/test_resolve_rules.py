"""Which variant fits a device."""

import json

import pytest

from edgeward.bundle.resolve import Device, choose, judge
from edgeward.kit.errors import Refused, Unsupported

ORT, LITE, VINO = (f"sha256:{letter * 64}" for letter in "abc")
PI = Device("raspberry-pi-5", {"onnxruntime": "1.27.0", "litert": "2.1.0"}, 4 << 30)


def entry(digest: str, runtime: str, versions: str = ">=1,<3", **said: str) -> dict:
    annotations = {"io.edgeward.runtime": runtime, "io.edgeward.runtime-versions": versions}
    annotations |= {f"io.edgeward.{name.replace('_', '-')}": value for name, value in said.items()}
    return {
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
        "artifactType": "application/vnd.cncf.model.manifest.v1+json", "annotations": annotations,
    }  # fmt: skip


def index(*entries: dict) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": entries}).encode()


def measured(target: str, p50: str, memory: str = "1000000") -> dict[str, str]:
    return {"measured_on": target, "p50_ms": p50, "peak_memory_bytes": memory}


def test_the_fastest_of_those_that_were_measured_on_such_a_device_wins() -> None:
    found = index(
        entry(ORT, "onnxruntime", **measured("raspberry-pi-5", "9")),
        entry(LITE, "litert", **measured("raspberry-pi-5", "4")),
        entry(VINO, "onnxruntime", **measured("laptop", "1")),
    )
    assert [one.digest for one in judge(found, PI)] == [LITE, ORT, VINO]
    assert choose(found, PI) == LITE


def test_without_a_measurement_the_smallest_wins() -> None:
    found = index(entry(ORT, "onnxruntime", model_bytes="900"), entry(LITE, "litert", model_bytes="300"))
    assert choose(found, PI) == LITE


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        (entry(VINO, "openvino"), "openvino does not run on raspberry-pi-5"),
        (entry(ORT, "onnxruntime", ">=2"), "wants onnxruntime >=2, there is 1.27.0"),
        (entry(ORT, "onnxruntime", **measured("x", "1", str(3 << 30))), "wants 6442 MB of memory, there are 4295"),
        (entry(ORT, "onnxruntime", "what"), "'what' is no version limit"),
    ],
)
def test_what_does_not_fit_is_refused_for_its_reason(variant: dict, reason: str) -> None:
    assert str(judge(index(variant), PI)[0].refused).startswith(reason)
    with pytest.raises(Unsupported, match="no variant fits raspberry-pi-5"):
        choose(index(variant), PI)


def test_an_index_of_something_else_is_refused() -> None:
    with pytest.raises(Refused, match="is no variant of a bundle"):
        judge(index({**entry(ORT, "onnxruntime"), "artifactType": "application/x"}), PI)
    with pytest.raises(Unsupported, match="it lists none"):
        choose(index(), PI)
