"""The packages that `edgeward export --as deb` writes: installed on a minimal Debian 12, the model answers."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import container_host
import pytest
import systemd_machine
from container_host import GOLDEN, edgeward
from systemd_machine import Machine

from edgeward import __version__
from edgeward.kit.codec import to_json

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(systemd_machine.missing() is not None, reason=str(systemd_machine.missing())),
]
INFER = "/v2/models/digits/infer"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("machine"))
    try:
        made.sh("rm -r /opt/edgeward", code=0)
        yield made
    finally:
        made.close()


def test_it_is_installed_by_dpkg_answers_and_is_purged(machine: Machine, tmp_path: Path) -> None:
    bundle = container_host.make_bundle(tmp_path)
    options = ("--key", GOLDEN / "signer.pub", "--host", machine.address, "--arch", "amd64")
    edgeward("export", bundle, "--as", "deb", "-o", tmp_path / "packages", *options)
    edgeward("export", bundle, "--as", "deb", "-o", tmp_path / "again", *options)
    names = sorted(path.name for path in (tmp_path / "packages").iterdir())
    assert [re.sub(r"\+[0-9a-f]{8}_", "_", name) for name in names] == [
        "edgeward-bundle-digits_1_all.deb",
        f"edgeward-onnxruntime_{__version__}_amd64.deb",
    ]
    for name in names:
        assert (tmp_path / "packages" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    place = machine.put(tmp_path / "packages")
    machine.sh(f"dpkg --install {place}/*.deb", code=0)
    machine.sh("test $(stat -c %U /usr/lib/edgeward/bundles/digits/index.json) = root", code=0)
    machine.wait(lambda: machine.show("edgeward-digits", "ActiveState") == "active", "the service")
    (port,) = machine.ask("GET", "/v2/models/digits")[1]["inputs"]
    shape = [1, *port["shape"][1:]]
    status, answer = machine.ask(
        "POST", INFER, to_json({"inputs": [{**port, "shape": shape, "data": [0] * math.prod(shape)}]})
    )
    assert (status, answer["outputs"][0]["shape"]) == (200, [1, 10])
    assert machine.sh("systemctl is-enabled edgeward-digits") == "enabled"
    assert machine.sh("/opt/edgeward/bin/edgeward --version").startswith("edgeward, version ")
    assert machine.sh("edgeward --version", code=0) == f"edgeward, version {__version__}"
    assert machine.sh("edgeward-agent --version", code=0) == __version__
    assert machine.sh("systemctl is-enabled edgeward-agent") == "disabled", "it waits for its settings"
    machine.sh("systemctl start edgeward-agent", code=0)
    assert machine.show("edgeward-agent", "ActiveState") == "inactive", "without settings it does not run"
    assert machine.sh("dpkg --verify edgeward-onnxruntime edgeward-bundle-digits", code=0) == ""
    pid = machine.show("edgeward-digits", "MainPID")
    machine.sh(f"dpkg --install {place}/edgeward-bundle*.deb", code=0)
    assert machine.show("edgeward-digits", "MainPID") not in ("0", pid), "an update runs what it brought"
    machine.sh("dpkg --purge edgeward-bundle-digits edgeward-onnxruntime", code=0)
    assert machine.ask("GET", "/v2/models/digits")[0] == 0
    left = "find /opt/edgeward /usr/lib/edgeward /etc/edgeward /etc/systemd/system -mindepth 1 2>/dev/null"
    assert not [line for line in machine.sh(left).splitlines() if "edgeward" in line]
