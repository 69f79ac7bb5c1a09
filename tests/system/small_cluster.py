"""What `k3s` is to `edgeward deploy`, for tests: its `ctr` is a real containerd's; its `kubectl` is this program, which
runs the one pod of a DaemonSet in that containerd. No Kubernetes can be had here: what it takes is checked against the
schemas of Kubernetes and by kubectl's documented interface, and no more than that is shown by it.

    python small_cluster.py FOLDER WORDS…      as `k3s WORDS…`
"""

import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

_VERSION = "1.34"
POD = "pod"


class Cluster:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ctr = ["ctr", "--address", str(folder / "containerd.sock"), "--namespace", "k8s.io"]
        self.history, self.log = folder / "history.json", folder / "pod.log"

    def call(self, *words: str, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*self.ctr, *words], capture_output=True, text=True, timeout=timeout, check=False)

    @property
    def applied(self) -> list[list[dict[str, Any]]]:
        """Every set of objects that was applied, the newest last."""
        return json.loads(self.history.read_text()) if self.history.exists() else []

    def save(self, applied: list[list[dict[str, Any]]]) -> None:
        self.history.write_text(json.dumps(applied))

    def objects(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in (self.applied or [[]])[-1] if one["kind"].lower() == kind]

    def stop(self) -> None:
        self.call("task", "kill", "--signal", "SIGKILL", POD)
        for _ in range(100):
            if (
                self.call("container", "rm", POD).returncode == 0
                or "not found" in self.call("container", "info", POD).stderr
            ):
                return
            self.call("task", "rm", "--force", POD)
            time.sleep(0.1)

    def start(self) -> None:
        """The pod, as the newest manifest has it."""
        self.stop()
        spec = self.objects("daemonset")[0]["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        self.log.write_bytes(b"")
        options = [
            "--detach",
            "--net-host",
            "--read-only",
            "--snapshotter",
            "native",
            "--log-uri",
            f"file://{self.log}",
        ]
        for one in container["env"]:
            options += ["--env", f"{one['name']}={one['value']}"]
        options += ["--mount", "type=tmpfs,src=tmpfs,dst=/tmp,options=rw:mode=1777"]
        done = self.call("run", *options, container["image"], POD, timeout=120)
        if done.returncode:
            self.log.write_text(done.stderr)

    def is_ready(self) -> bool:
        probe = ["task", "exec", "--exec-id", f"probe{time.monotonic_ns()}", POD]
        return self.call(*probe, "/opt/edgeward/bin/python", "-m", "edgeward.link.alive", "8000").returncode == 0

    def is_running(self) -> bool:
        return any(line.split()[::2] == [POD, "RUNNING"] for line in self.call("task", "ls").stdout.splitlines())


def kubectl(cluster: Cluster, words: list[str]) -> int:
    verb, *rest = words
    if verb == "label":
        kind, node, label, how = rest
        ours = (kind, how) == ("node", "--overwrite") and node == platform.node().lower() and label.endswith("=true")
        (cluster.folder / "label").write_text(label)
        return 0 if ours else 1
    if verb == "get" and rest[0].startswith("daemonset/"):
        return 0 if any(one["metadata"]["name"] == rest[0][10:] for one in cluster.objects("daemonset")) else 1
    if verb == "get":
        assert rest[1:] == ["--output", "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}"], rest
        print(f"127.0.0.1:{cluster.objects('service')[0]['spec']['ports'][0]['port']}")
        return 0
    if verb == "apply":
        objects = list(yaml.safe_load_all(Path(rest[1]).read_text()))
        for one in objects:
            kubernetes_validate.validate(one, _VERSION, strict=True)
        is_new = objects != (cluster.applied or [None])[-1]
        if is_new:
            cluster.save([*cluster.applied, objects])
            cluster.start()
        return 0
    if verb == "rollout" and rest[0] == "undo":
        cluster.save(cluster.applied[:-1])
        cluster.start()
        return 0
    if verb == "rollout":
        end_s = time.monotonic() + float(rest[-1].removesuffix("s"))
        while time.monotonic() < end_s:
            if cluster.is_ready():
                return 0
            if not cluster.is_running():
                break  # the real one waits to the end of its time
            time.sleep(0.3)
        print("error: timed out waiting for the condition", file=sys.stderr)
        return 1
    if verb == "exec":
        assert rest[1] == "--", rest
        done = cluster.call("task", "exec", "--exec-id", f"exec{time.monotonic_ns()}", POD, *rest[2:], timeout=120)
        print(done.stdout, end="")
        print(done.stderr, end="", file=sys.stderr)
        return done.returncode
    if verb == "logs":
        print("\n".join(cluster.log.read_text().splitlines()[-20:]))
        return 0
    if verb == "delete":
        cluster.save([])
        cluster.stop()
        return 0
    print(f"unknown command {words}", file=sys.stderr)
    return 1


def main(folder: Path, words: list[str]) -> int:
    cluster = Cluster(folder)
    if words == ["--version"]:
        print("k3s version v1.34.1+k3s1 (0000000)")
        return 0
    if words[0] == "ctr":
        return subprocess.run([*cluster.ctr, *words[1:]], check=False).returncode
    return kubectl(cluster, words[1:])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
