"""The golden bundles are what their script makes, on every machine."""

import filecmp
import subprocess
import sys


def test_making_them_anew_gives_the_same_bytes(golden, tmp_path):
    subprocess.run([sys.executable, golden / "make.py", tmp_path / "made"], check=True)
    assert (tmp_path / "made" / "edgeward-golden.service").read_bytes() == (
        golden / "edgeward-golden.service"
    ).read_bytes()
    for case in [*golden.glob("bundle-*"), *golden.glob("variants-*")]:
        made = tmp_path / "made" / case.name
        names = {path.relative_to(case) for path in case.rglob("*") if path.is_file()}
        assert {path.relative_to(made) for path in made.rglob("*") if path.is_file()} == names
        different = filecmp.cmpfiles(case, made, [str(name) for name in names], shallow=False)[1:]
        assert different == ([], []), case.name
