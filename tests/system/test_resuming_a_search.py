"""A search that was stopped goes on where it was, and takes nothing that was made of other data or by other code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DIGITS = Path(__file__).parents[2] / "examples" / "digits"


def optimising(cache: Path, output: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "edgeward", "optimize", str(DIGITS / "digits.onnx"),
        "--data", str(DIGITS / "evaluation.npz"), "--calibration", str(DIGITS / "calibration.npz"),
        "--threads", "1", "-o", str(output), "--json", *more,
    ]  # fmt: skip
    home = {"XDG_CACHE_HOME": str(cache), "XDG_CONFIG_HOME": str(cache.parent / "config")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **home})


def kept(cache: Path) -> dict[str, float]:
    """Load time by recipe: no two measurements have the same."""
    found = [json.loads(file.read_text()) for file in cache.glob("edgeward/trials/[0-9a-f]*/kept.json")]
    return {one["trial"]["recipe"]: one["trial"]["load_ms"] for one in found}


@pytest.mark.slow
def test_a_stopped_search_goes_on_where_it_was(tmp_path):
    cache = tmp_path / "cache"
    first = optimising(cache, tmp_path / "out")
    while len(kept(cache)) < 3 and first.poll() is None:
        time.sleep(0.02)
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130
    assert not (tmp_path / "out").exists()
    before = kept(cache)
    assert len(before) >= 3
    (forecast,) = cache.glob("edgeward/trials/[0-9a-f]*/forecast.json")
    told = json.loads(forecast.read_text())
    second = optimising(cache, tmp_path / "out")
    report = json.loads(second.communicate(timeout=250)[0])
    assert second.returncode == 0
    measured = {trial["recipe"]: trial.get("load_ms") for trial in report["trials"]}
    assert {recipe: measured[recipe] for recipe in before} == before
    assert report["forecast"]["took_s"] == told["took_s"], "layers are not timed again: the same recipes are asked for"
    assert all(trial.get("latency_ms") for trial in report["trials"] if trial["recipe"] in before)


@pytest.mark.slow
def test_another_seed_draws_other_samples_and_takes_nothing_old(tmp_path):
    cache = tmp_path / "cache"
    assert optimising(cache, tmp_path / "one", "--time-limit", "12s").wait(200) == 0
    before = kept(cache)
    assert before
    assert optimising(cache, tmp_path / "two", "--time-limit", "12s", "--seed", "5").wait(200) == 0
    places = list(cache.glob("edgeward/trials/[0-9a-f]*/kept.json"))
    assert len(places) > len(before)


@pytest.mark.slow
def test_nothing_is_kept_when_it_is_not_wanted(tmp_path):
    cache = tmp_path / "cache"
    assert optimising(cache, tmp_path / "out", "--no-cache", "--time-limit", "8s").wait(200) == 0
    assert not kept(cache)
