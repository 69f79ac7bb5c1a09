"""Runs the peers on a prepared case, each in its environment, and Edgeward; gathers what they made."""

import json
import sys
from pathlib import Path
from time import perf_counter

from bench.optimize_vs_peers import environments
from bench.optimize_vs_peers.cases import Case
from bench.optimize_vs_peers.roster import PEERS_FOLDER, Peer
from msgspec import Struct

from edgeward.kit import process
from edgeward.kit.errors import Failed

_LIMIT_S = 1800
_SOURCE = PEERS_FOLDER.parents[2] / "src"
_QUIET = {"CI": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1", "TQDM_DISABLE": "1"}
"""Peers are asked not to report home, and not to fetch anything."""


class Entry(Struct, frozen=True):
    """One model that somebody made of the case, or why there is none. `took_s` is of this model's making alone."""

    name: str
    peer: str
    runtime: str = ""
    precision: str = ""
    file: str = ""
    took_s: float | None = None
    failure: str | None = None


class Effort(Struct, frozen=True):
    """What one tool took for a case: its process from start to end, imports included."""

    peer: str
    took_s: float
    entries: list[Entry]


def run_peer(peer: Peer, prepared: Path, out: Path, environments_folder: Path) -> Effort:
    """Never raises for what the peer does: a crash is a row with its reason."""
    reason = environments.missing(environments_folder, peer.environment)
    if reason is not None:
        return Effort(peer.script, 0.0, [Entry(peer.script, peer.script, failure=reason)])
    out.mkdir(parents=True)
    command = [str(environments.python(environments_folder, peer.environment))]
    command += [str(PEERS_FOLDER / f"{peer.script}.py"), str(prepared.absolute()), str(out.absolute())]
    start = perf_counter()
    try:
        finished = process.run(command, limit_s=_LIMIT_S, env={**_QUIET, "PYTHONPATH": str(_SOURCE)}, folder=out)
        ending, complaint = finished.ending, finished.complaint
    except Failed as error:
        ending, complaint = str(error), ""
    took_s = perf_counter() - start
    (out / "complaints.txt").write_text(complaint)
    told = out / "made.json"
    if not told.exists():
        last = complaint.splitlines()[-1] if complaint else ""
        return Effort(peer.script, took_s, [Entry(peer.script, peer.script, failure=f"{ending}: {last}"[:300])])
    rows = json.loads(told.read_text())
    return Effort(peer.script, took_s, [Entry(**{**row, "peer": peer.script}) for row in rows])


def run_edgeward(case: Case, out: Path, *, seed: int) -> Effort:
    """`edgeward optimize` as a user calls it; the entry's file is its output folder."""
    command = [sys.executable, "-m", "edgeward", "optimize", str(case.model), "--data", str(case.evaluation)]
    command += ["--calibration", str(case.calibration), "--metric", case.metric, "--max-drop", str(case.max_drop)]
    command += ["--threads", "1", "--seed", str(seed), "--no-cache", "--json", "-o", str(out)]
    if case.preprocess is not None:
        command += ["--preprocess", str(case.preprocess)]
    start = perf_counter()
    finished = process.run(command, limit_s=_LIMIT_S)
    took_s = perf_counter() - start
    if finished.code != 0:
        reason = " ".join(finished.complaint.rpartition("edgeward: ")[2].split())[:300]
        return Effort("edgeward", took_s, [Entry("edgeward", "edgeward", failure=f"{finished.ending}: {reason}")])
    chosen = json.loads(finished.output)["chosen"]
    entry = Entry(
        f"edgeward: {chosen['recipe']}", "edgeward", chosen["runtime"], chosen["precision"], str(out / chosen["file"]),
        took_s,
    )  # fmt: skip
    return Effort("edgeward", took_s, [entry])
