"""Edgeward's optimiser beside its peers: python -m bench.optimize_vs_peers CASES --environments FOLDER --work FOLDER

CASES is a case folder or a folder of them (README.md). What a peer made is kept under --work and used again; Edgeward
runs anew. Writes results.json and results.md there and prints the tables.
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from bench.optimize_vs_peers import environments
from bench.optimize_vs_peers.cases import Case, Opened, find_cases, open_case
from bench.optimize_vs_peers.engines import size_bytes
from bench.optimize_vs_peers.prepare import prepare
from bench.optimize_vs_peers.race import Job, Runner, race
from bench.optimize_vs_peers.roster import PEERS, Peer
from bench.optimize_vs_peers.run_peers import Effort, Entry, run_edgeward, run_peer
from bench.optimize_vs_peers.score import Scored, score_edgeward, score_peer
from bench.optimize_vs_peers.table import EDGEWARD, CaseResult, Row, summary, to_markdown
from numpy.typing import NDArray

from edgeward.infer import Predictor, runtimes
from edgeward.kit.errors import WrongInput
from edgeward.measure import bench, machine
from edgeward.measure.conditions import conditions
from edgeward.measure.dataset import open_dataset
from edgeward.measure.quality import Metric, drop, metric_named
from edgeward.measure.statistics import median_ratio_interval

_RACE_SAMPLES = 8


class Model:
    """An entry that ran: its answers, and then its times."""

    def __init__(self, entry: Entry, scored: Scored, size: int) -> None:
        self.entry, self.scored, self.size = entry, scored, size


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.optimize_vs_peers")
    parser.add_argument("cases", type=Path)
    parser.add_argument("--environments", type=Path, required=True, help="where the peers' virtual environments stand")
    parser.add_argument("--work", type=Path, required=True, help="where everything that is made goes")
    parser.add_argument("--peers", nargs="*", default=[peer.script for peer in PEERS])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each race")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if unknown := set(asked.peers) - {peer.script for peer in PEERS}:
        parser.error(f"no peer is called {min(unknown)}; there are {', '.join(peer.script for peer in PEERS)}")
    try:
        cases = find_cases(asked.cases)
    except WrongInput as error:
        parser.error(str(error))
    peers = [peer for peer in PEERS if peer.script in asked.peers]
    asked.environments.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(peer.environment for peer in peers):
        _say(f"environment {name}: {environments.make(asked.environments, name) or 'ready'}")
    results = []
    for case in cases:
        results.append(_case(case, peers, asked))
        text = "\n".join([summary(results), *[to_markdown(result) for result in results]])
        (asked.work / "results.md").write_text(text, encoding="utf-8")
        (asked.work / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(results)))
        print(to_markdown(results[-1]), flush=True)
    print(summary(results))


def _case(case: Case, peers: list[Peer], asked: argparse.Namespace) -> CaseResult:
    opened = open_case(case)
    place = asked.work / f"{case.name}-{case.digest()[:12]}"
    prepared = place / "prepared"
    if not (prepared / "task.json").exists():
        shutil.rmtree(prepared, ignore_errors=True)
        place.mkdir(parents=True, exist_ok=True)
        prepare(opened, prepared, seed=asked.seed)
    efforts = [_effort(peer, case, place, prepared, asked) for peer in peers]
    _say(f"{case.name}: edgeward")
    shutil.rmtree(place / EDGEWARD, ignore_errors=True)
    ours = run_edgeward(case, place / EDGEWARD, seed=asked.seed)
    given = Entry("float ONNX Runtime, as given", "given", "onnxruntime", "float", str(case.model.resolve()))
    entries = [*ours.entries, given, *(entry for effort in efforts for entry in effort.entries)]
    models, failed = _scored(opened, prepared, place, entries)
    took = {effort.peer: effort.took_s for effort in [ours, *efforts]}
    return _result(opened, place, models, failed, took, asked)


def _effort(peer: Peer, case: Case, place: Path, prepared: Path, asked: argparse.Namespace) -> Effort:
    kept = place / f"{peer.script}.json"
    if kept.exists():
        return _moved(msgspec.json.decode(kept.read_bytes(), type=Effort), lambda file: str(place / file))
    _say(f"{case.name}: {peer.script}")
    shutil.rmtree(place / peer.script, ignore_errors=True)
    effort = run_peer(peer, prepared, place / peer.script, asked.environments)
    told = _moved(effort, lambda file: str(Path(file).resolve().relative_to(place.resolve())))
    kept.write_bytes(msgspec.json.encode(told))
    return effort


def _moved(effort: Effort, at: Callable[[str], str]) -> Effort:
    """The same with its files elsewhere: what is kept names them by their place in the case's folder."""
    entries = [msgspec.structs.replace(entry, file=at(entry.file)) if entry.file else entry for entry in effort.entries]
    return msgspec.structs.replace(effort, entries=entries)


def _scored(opened: Opened, prepared: Path, place: Path, entries: list[Entry]) -> tuple[list[Model], list[Entry]]:
    models, failed = list[Model](), list[Entry]()
    inputs = list(opened.inputs)
    data = open_dataset(prepared / "evaluation.npz", inputs, opened.session.outputs)
    for entry in entries:
        if entry.failure is not None:
            failed.append(entry)
            continue
        _say(f"{opened.case.name}: scoring {entry.name}")
        try:
            if entry.peer == EDGEWARD:
                scored = score_edgeward(opened.case, place / EDGEWARD)
            else:
                scored = score_peer(opened, data, entry.runtime, Path(entry.file))
            models.append(Model(entry, scored, size_bytes(Path(entry.file))))
        except Exception as error:  # noqa: BLE001 - a model that its runtime refuses is a row with its reason
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            failed.append(msgspec.structs.replace(entry, failure=f"its model does not run: {reason}"))
    return models, failed


def _result(
    opened: Opened, place: Path, models: list[Model], failed: list[Entry], took: dict[str, float],
    asked: argparse.Namespace,
) -> CaseResult:  # fmt: skip
    """Races what ran; where nothing is Edgeward's, the rows have no times."""
    case, metric, setting = opened.case, metric_named(opened.case.metric), _setting()
    given = next(model for model in models if model.entry.peer == "given").scored
    rows = [_row(model, given, metric, asked.seed) for model in models]
    runs = 0
    if models[0].entry.peer == EDGEWARD:
        times = _times("model", opened, place, models, asked)
        runs = int(times[0].size)
        rows = [_with_times(row, times[index], times[0], asked.seed) for index, row in enumerate(rows)]
        if case.kind == "vision":
            frames = _times("frame", opened, place, models, asked)
            rows = [_with_frames(row, frames[index], frames[0], asked.seed) for index, row in enumerate(rows)]
    lost = [Row(entry.name, entry.peer, took_s=entry.took_s, failure=entry.failure) for entry in failed]
    result = CaseResult(
        case.name, case.kind, case.metric, case.max_drop, len(opened.evaluation), runs,
        sorted([*rows, *lost], key=lambda row: row.peer != EDGEWARD), took, setting=setting,
        max_size_share=case.size_share, max_seconds=case.seconds,
    )  # fmt: skip
    return result if not runs else _behind_best(result, models, given, metric, asked.seed)


def _row(model: Model, given: Scored, metric: Metric, seed: int) -> Row:
    lost = drop(metric, given.outputs, model.scored.outputs, given.targets, seed=seed)
    return Row(
        model.entry.name, model.entry.peer, model.entry.precision, model.entry.runtime,
        score=metric.score(model.scored.outputs, given.targets), drop=lost.value, drop_ci=lost.interval,
        size_bytes=model.size, took_s=model.entry.took_s,
    )  # fmt: skip


def _with_times(row: Row, taken: NDArray[np.float64], ours: NDArray[np.float64], seed: int) -> Row:
    if np.isnan(taken).any():
        return msgspec.structs.replace(row, failure="its process died while it was timed")
    ratio, interval = median_ratio_interval(taken, ours, seed=seed)
    return msgspec.structs.replace(row, p50_us=float(np.median(taken)) * 1000, ratio=ratio, ratio_ci=interval)


def _with_frames(row: Row, taken: NDArray[np.float64], ours: NDArray[np.float64], seed: int) -> Row:
    if np.isnan(taken).any():
        return row
    ratio, interval = median_ratio_interval(taken, ours, seed=seed)
    return msgspec.structs.replace(row, frame_us=float(np.median(taken)) * 1000, frame_ratio=ratio, frame_ci=interval)


def _behind_best(result: CaseResult, models: list[Model], given: Scored, metric: Metric, seed: int) -> CaseResult:
    """Edgeward's answers against those of the most accurate peer; where no peer ran, of the float model."""
    sign = 1 if metric.higher_is_better else -1
    peers = models[2:] or models[1:2]
    best = max(peers, key=lambda model: sign * metric.score(model.scored.outputs, given.targets))
    behind = drop(metric, best.scored.outputs, models[0].scored.outputs, given.targets, seed=seed)
    return msgspec.structs.replace(
        result, accuracy_behind_best=behind.value, accuracy_behind_best_ci=tuple(behind.interval)
    )


def _setting() -> str:
    versions = ", ".join(f"{name} {runtimes.load(name).version()}" for name in ("onnxruntime", "litert", "openvino"))
    return (
        f"{machine.usable_cpu_count()} CPUs of {machine.cpu()}; {conditions().line()}; one thread, batch 1; "
        f"raced in {versions}."
    )


def _times(
    what: str, opened: Opened, place: Path, models: list[Model], asked: argparse.Namespace
) -> list[NDArray[np.float64]]:
    """Milliseconds of each model, rounds × runs."""
    _say(f"{opened.case.name}: timing {len(models)} models from the {'raw ' if what == 'frame' else ''}{what}")
    predictor = Predictor(opened.session, preprocess=opened.steps)
    raw = [opened.evaluation[index] for index in range(_RACE_SAMPLES)]
    raw = [sample for sample in raw if all(sample[name].shape == raw[0][name].shape for name in sample)]
    bench.save_feeds(place / "race-raw.npz", raw)
    bench.save_feeds(place / "race-tensors.npz", [predictor.tensors(sample) for sample in raw])
    runners = [
        Runner(EDGEWARD, str(place / EDGEWARD)) if model.entry.peer == EDGEWARD
        else Runner(model.entry.runtime, model.entry.file)
        for model in models
    ]  # fmt: skip
    return race(
        Job(
            "frame" if what == "frame" else "model", runners, str(place / "race-tensors.npz"),
            str(place / "race-raw.npz"), list(opened.inputs), opened.session.outputs[0], opened.steps, asked.seconds,
            asked.seed, opened.case.metric in ("top1", "top5", "f1"), opened.reading,
        )
    )  # fmt: skip


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
