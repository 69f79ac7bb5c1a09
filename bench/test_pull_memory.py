"""How much memory a pull of a large bundle takes: `python -m pytest bench/test_pull_memory.py -s` prints it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeward.bundle import layout as oci
from edgeward.bundle.registry import Reference, push
from edgeward.kit.codec import to_canonical_json

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests/faults"))
from registries import needs_registry, registry

_PULL = """
import json, resource, sys
from pathlib import Path
from edgeward.bundle.registry import fetch, parse
def used(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))
before = used("VmRSS")
fetch(parse(sys.argv[1]), Path(sys.argv[2]))
print(json.dumps({"before": before, "most": used("VmHWM")}))
"""


@needs_registry
@pytest.mark.parametrize("megabytes", [5, 500])
def test_the_memory_of_a_pull(tmp_path: Path, megabytes: int) -> None:
    folder = tmp_path / "layout"
    folder.mkdir()
    layout = oci.create(folder)
    weight = layout.put(os.urandom(megabytes << 20), "application/vnd.cncf.model.weight.v1.raw")
    manifest = oci.OciManifest(
        schema_version=2, media_type=oci.MANIFEST_TYPE, artifact_type=oci.MODEL_TYPE,
        config=layout.put(b"{}", oci.EMPTY_TYPE), layers=(weight,),
    )  # fmt: skip
    entry = layout.put(to_canonical_json(manifest), oci.MANIFEST_TYPE, {"org.opencontainers.image.ref.name": "1"})
    layout.write_index(oci.OciIndex(schema_version=2, manifests=(entry,)))
    with registry(tmp_path / "registry") as host:
        push(folder, Reference(host, "large", "1"))
        (tmp_path / "out").mkdir()
        command = [sys.executable, "-c", _PULL, f"{host}/large:1", str(tmp_path / "out")]
        told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    print(f"\n{megabytes} MB: {told['before'] / 1e3:.1f} MB before, {told['most'] / 1e3:.1f} MB at most")
