"""Nothing leaves the machine: the whole line in a network namespace without a way out, every connect watched."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DIGITS = Path(__file__).parents[2] / "examples" / "digits"


def _can_unshare() -> bool:
    return shutil.which("unshare") is not None and subprocess.run(["unshare", "-n", "true"]).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace: apt-get install strace")
@pytest.mark.skipif(not _can_unshare(), reason="needs the right to make a network namespace (root)")
def test_the_whole_line_runs_without_a_network_and_tries_to_reach_nobody(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    watched = f"strace -f -qq -e trace=connect,sendto -o {trace}"
    line = f"ip link set lo up; exec {watched} {sys.executable} -m edgeward demo -o {tmp_path}/demo"
    finished = subprocess.run(
        ["unshare", "-n", "sh", "-c", line],
        capture_output=True, text=True, timeout=280,
        env={**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert "over HTTP, a 7 is" in finished.stdout
    attempts = re.findall(r"(?:connect|sendto)\(.*sa_family=AF_INET6?.*", trace.read_text())
    foreign = [attempt for attempt in attempts if not re.search(r'inet_addr\("127\.|"::1"', attempt)]
    assert attempts, "the demo's own request must have been seen, else this test sees nothing"
    assert foreign == []
