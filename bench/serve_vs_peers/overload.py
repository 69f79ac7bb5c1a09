"""A live source that is twice as fast as the model: bench/test_live_overload.py, with its output and its promise."""

import re
import sys
from pathlib import Path

from bench.serve_vs_peers.context import Context
from bench.serve_vs_peers.report import Check, Part

from edgeward.kit import process
from edgeward.kit.errors import Failed

_TEST = Path(__file__).resolve().parents[1] / "test_live_overload.py"


def part(context: Context) -> Part:
    seconds = 5 if context.quick else context.overload_s
    command = [sys.executable, "-m", "pytest", str(_TEST), "-q", "-s", "--overload-s", str(seconds)]
    finished = process.run(command, limit_s=seconds + 120)
    output = finished.output.decode()
    late = re.search(r"older than two result periods: (.*)", output)
    if finished.code != 0 or late is None:
        raise Failed(f"the overload did not end well: {output[-300:]}")
    told = output[output.index("\nn ") : output.index("the answers") + len("the answers")].strip()
    check = Check(f"2× overload for {seconds:g} s: no result older than two periods", late[1][:2] == "0 ", late[1])
    return Part("Overload", f"A live source twice as fast as the model.\n\n```\n{told}\n```", [check])
