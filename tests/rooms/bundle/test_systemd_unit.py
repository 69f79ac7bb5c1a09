"""The unit that `edgeward deploy` writes: as it was reviewed, and as the bundle needs it."""

from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from edgeward import bundle
from edgeward.bundle.needs import needs_of
from edgeward.bundle.packers import Service, load
from edgeward.bundle.packers.systemd import _quoted

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
SERVICE = Service("/opt/edgeward/bin/python", "/var/lib/edgeward/services/golden/current")


class Claiming(NamedTuple):
    """A verified bundle whose manifest says something else."""

    manifest: object
    signers: object


@pytest.fixture(scope="module")
def verified() -> bundle.VerifiedBundle:
    return bundle.verify(GOLDEN / "bundle-v1-good", bundle.trusted_keys([GOLDEN / "signer.pub"]))


def unit(verified: object, service: Service = SERVICE) -> list[str]:
    return load("systemd").pack(verified, service)[-1].data.decode().splitlines()  # type: ignore[arg-type]


def claiming(verified: bundle.VerifiedBundle, **changes: object) -> Claiming:
    return Claiming(replace(verified.manifest, **changes), verified.signers)


def test_the_unit_is_the_golden_one(verified: bundle.VerifiedBundle) -> None:
    wanted = (GOLDEN / "edgeward-golden.service").read_text().splitlines()
    assert unit(verified) == wanted, "make golden, and review the difference"
    page = GOLDEN.parents[1] / "docs" / "systemd.md"
    assert "\n".join(wanted) in page.read_text(), "docs/systemd.md shows the unit"


def test_a_runtime_on_the_cpu_gets_no_device_and_one_on_a_gpu_its_own(verified: bundle.VerifiedBundle) -> None:
    assert "MemoryDenyWriteExecute=yes" in unit(claiming(verified, runtime="litert"))
    lines = unit(claiming(verified, runtime="onnxruntime"))
    assert {"PrivateDevices=yes", "PrivateUsers=yes", "MemoryDenyWriteExecute=yes"} <= set(lines)
    lines = unit(claiming(verified, runtime="onnxruntime-openvino-npu"))
    assert {"DevicePolicy=closed", "DeviceAllow=char-accel rw", "SupplementaryGroups=render"} <= set(lines)
    assert not {"PrivateDevices=yes", "PrivateUsers=yes", "MemoryDenyWriteExecute=yes"} & set(lines)


@pytest.mark.parametrize(
    "runtime", ["openvino", "openvino-bf16", "onnxruntime-openvino", "onnxruntime-xnnpack", "tensorrt"]
)
def test_where_a_runtime_writes_code_the_unit_says_why(verified: bundle.VerifiedBundle, runtime: str) -> None:
    lines = unit(claiming(verified, runtime=runtime))
    assert "MemoryDenyWriteExecute=yes" not in lines
    assert any(line.startswith("# No MemoryDenyWriteExecute: ") for line in lines)


def test_a_bundle_without_a_measurement_has_no_memory_limit(verified: bundle.VerifiedBundle) -> None:
    lines = unit(claiming(verified, measurement=None))
    assert not any(line.startswith("MemoryMax=") for line in lines)
    assert "# No MemoryMax: this bundle brings no measurement to take it from." in lines


def test_limits_come_from_the_measurement(verified: bundle.VerifiedBundle) -> None:
    measured = verified.manifest.measurement
    assert measured is not None
    slow = replace(measured, peak_memory_bytes=100 << 20, latency=replace(measured.latency, p99_ms=1000.0))
    needs = needs_of(replace(verified.manifest, measurement=slow, thread_count=3))
    assert needs.memory_bytes == (2 * 100 + 256) << 20
    assert needs.watchdog_s == 30 + 2 * 32
    assert (needs.cpus, needs_of(verified.manifest, threads=1).cpus) == (4, 2)


@pytest.mark.parametrize(
    ("host", "closed"), [("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("localhost", True)]
)
def test_a_service_for_this_machine_hears_no_other(verified: bundle.VerifiedBundle, host: str, closed: bool) -> None:
    assert ("IPAddressDeny=any" in unit(verified, SERVICE._replace(host=host))) == closed


def test_a_newer_systemd_waits_for_reloads(verified: bundle.VerifiedBundle) -> None:
    assert "Type=notify-reload" in unit(verified, SERVICE._replace(systemd=257))
    assert {"Type=notify", "ExecReload=/bin/sh -c 'kill -HUP $MAINPID'"} <= set(unit(verified))


def test_words_that_mean_something_to_systemd_are_escaped() -> None:
    assert _quoted("/opt/my env/50%/$x/python") == '"/opt/my env/50%%/$$x/python"'
    assert _quoted("%d/signer-1.pub") == "%d/signer-1.pub"
