"""The agent on a machine that systemd runs, with a service that `edgeward deploy` put there."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import systemd_machine
from systemd_machine import PYTHON, Machine

from edgeward import bundle

sys.path.append(str(Path(__file__).resolve().parents[1] / "faults"))
import fragile_bundle

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(systemd_machine.missing() is not None, reason=str(systemd_machine.missing())),
]
UNIT = "edgeward-fragile"
AGENT = f"{PYTHON} -m edgeward.agent.main"


class Device:
    """A deployed service, an agent beside it, and bundles that may be put on offer."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        key = bundle.create_key(folder / "signing.key")
        public = machine.put(bundle.public_path_of(key.path))
        self.first = machine.put(fragile_bundle.make(folder / "first", key))
        self.second = machine.put(fragile_bundle.make(folder / "second", key, version="2.0.0"))
        self.crashing = machine.put(
            fragile_bundle.make(folder / "crashing", key, version="3.0.0", first=fragile_bundle.CRASH)
        )
        self.fourth = machine.put(fragile_bundle.make(folder / "fourth", key, version="4.0.0"))
        machine.edgeward(f"deploy {self.first} --key {public} --host {machine.address}")
        ready = f"http://{machine.address}:8000/v2/health/ready"
        lines = [
            'service = "fragile"', 'source = "/offer"', 'keys = ["/etc/edgeward/fragile/signer-1.pub"]',
            f'ready = "{ready}"', "probation-s = 2", "every-s = 1", "start-limit-s = 60",
        ]  # fmt: skip
        (machine.root / "etc/edgeward/agent.toml").write_text("\n".join(lines) + "\n")

    def offer(self, folder: str) -> None:
        self.machine.sh(f"rm -rf /offer.new; cp -r {folder} /offer.new; rm -rf /offer; mv /offer.new /offer", code=0)

    def agent(self, words: str, code: int = 0) -> str:
        return self.machine.sh(f"{AGENT} {words}", code=code)

    @property
    def version(self) -> str | None:
        status, told = self.machine.ask("GET", "/v2/models/fragile")
        return told["versions"][0] if status == 200 else None


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    folder = tmp_path_factory.mktemp("device")
    machine = Machine(folder)
    try:
        yield Device(machine, folder)
    finally:
        machine.close()


def test_it_takes_a_new_bundle_and_says_so(device: Device) -> None:
    device.offer(device.second)
    assert "fragile 2.0.0" in device.agent("once")
    assert device.version == "2.0.0"
    assert device.agent("once") == "up to date"
    told = json.loads(device.agent("status --json"))
    assert told["newest"]["version"] == "2.0.0"
    assert told["before"] is not None


def test_one_whose_runtime_crashes_in_its_self_test_never_runs(device: Device) -> None:
    device.offer(device.crashing)
    assert "the self-test did not pass" in device.agent("once", code=1)
    assert device.version == "2.0.0"
    assert "failed here before" in device.agent("once")


def test_one_that_does_not_start_as_a_service_is_stepped_back_from(device: Device) -> None:
    """Its self-test passes; then the unit lets no new version start, as a missing permission would."""
    device.offer(device.fourth)
    link = "/var/lib/edgeward/services/fragile/current"
    now = device.machine.sh(f"readlink {link}")
    device.machine.drop_in(UNIT, "only", f"ExecStartPre=/bin/sh -c 'test $(readlink {link}) = {now}'")
    assert "stepped back" in device.agent("once", code=1)
    device.machine.drop_in(UNIT, "only")
    assert device.version == "2.0.0"
    assert "4.0.0" not in device.agent("status").splitlines()[0]


def test_a_rollback_by_hand_goes_to_the_bundle_before(device: Device) -> None:
    device.agent("rollback")
    device.machine.wait(lambda: device.version == "1.0.0", "the first version")


def test_as_a_service_of_its_own_it_goes_on_by_itself(device: Device) -> None:
    device.machine.sh(f"{AGENT} unit > /etc/systemd/system/edgeward-agent.service", code=0)
    device.machine.sh("rm -rf /var/lib/edgeward/agent; systemctl daemon-reload", code=0)
    device.offer(device.second)
    device.machine.sh("systemctl start edgeward-agent", code=0)
    device.machine.wait(lambda: device.version == "2.0.0", "the agent's own update")
    pid = device.machine.show("edgeward-agent", "MainPID")
    rss = device.machine.sh(f"grep VmRSS /proc/{pid}/status")
    assert int(rss.split()[1]) < 60_000, rss
    device.machine.sh(f"kill -9 {pid}", code=0)
    device.machine.wait(lambda: device.machine.show("edgeward-agent", "MainPID") not in ("0", pid), "another agent")
