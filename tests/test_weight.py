"""What the agent weighs: in a fresh interpreter, what its import brings along."""

import json
import subprocess
import sys

_LOOK = """
import json, sys
import edgeward.agent.main
heavy = ("numpy", "onnx", "onnxruntime", "click", "rich", "torch", "pydantic", "httpx", "requests", "asyncio")
with open("/proc/self/status") as file:
    rss = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
print(json.dumps({"heavy": [name for name in heavy if name in sys.modules], "rss_kb": rss}))
"""


def test_the_agent_is_light() -> None:
    told = json.loads(subprocess.run([sys.executable, "-c", _LOOK], capture_output=True, check=True).stdout)
    assert told["heavy"] == []
    assert told["rss_kb"] < 45_000
