"""Readings → frames: what changed between two moments, service by service."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from edgeward.measure import sysfs
from edgeward.measure.watch import machines, notices, processes
from edgeward.measure.watch.questions import Said, ask

_GONE_S = 300.0
"""So long a service that has gone is still told of."""


class _Seen(NamedTuple):
    """One service at one moment."""

    pid: int | None
    said: Said
    process: processes.Process | None


class Watcher:
    """Gives a frame each time it is asked: what happened since the last one. One owner, one thread."""

    def __init__(self, urls: Sequence[str] = (), root: Path = sysfs.ROOT) -> None:
        self._urls = tuple(url.rstrip("/") for url in urls)
        self._root = root
        self._at_s = time.monotonic()
        self._machine: machines.Reading | None = None
        self._seen: dict[str, _Seen] = {}
        self._left: dict[str, tuple[float, str]] = {}

    def frame(self) -> dict[str, Any]:
        """The machine and its services, as the Frame record has them. The first has no rates."""
        now_s, reading = time.monotonic(), machines.read(self._root)
        elapsed_s = now_s - self._at_s if self._machine else 0.0
        found, dead = self._notices()
        seen = self._look({**dict.fromkeys(self._urls), **found})
        self._note_those_that_left(seen, dead, now_s)
        frame = {
            "at": datetime.now(timezone.utc).isoformat(),  # noqa: TID251 - kit.clock is not carried to a device
            "interval_s": round(elapsed_s, 3),
            "machine": machines.state(self._machine, reading, elapsed_s, self._root),
            "services": [service(url, self._seen.get(url), one, elapsed_s) for url, one in seen.items()]
            + [_gone(url, now_s - at_s, how) for url, (at_s, how) in self._left.items()],
        }
        self._at_s, self._machine, self._seen = now_s, reading, seen
        return frame

    def _notices(self) -> tuple[dict[str, int | None], set[str]]:
        """The services that announced themselves, with their processes; and those that died with their notice left.
        With URLs given, only of those."""
        all_found = notices.found(notices.folders(self._root), self._root)
        told = [one for one in all_found if not self._urls or one.url in self._urls]
        found: dict[str, int | None] = {one.url: one.pid for one in told if one.lives}
        return found, {one.url for one in told if not one.lives} - found.keys()

    def _look(self, services: dict[str, int | None]) -> dict[str, _Seen]:
        answers = ask(list(services))
        return {
            url: _Seen(pid, answers[url], processes.read(pid, self._root) if pid else None)
            for url, pid in services.items()
        }

    def _note_those_that_left(self, seen: dict[str, _Seen], dead: set[str], now_s: float) -> None:
        for url in (dead | self._seen.keys()) - seen.keys() - self._left.keys():
            self._left[url] = (now_s, "died" if url in dead else "stopped")
        self._left = {
            url: (at_s, how) for url, (at_s, how) in self._left.items() if url not in seen and now_s - at_s < _GONE_S
        }


def _gone(url: str, since_s: float, how: str) -> dict[str, Any]:
    return {"url": url, "state": how, "gone_for_s": round(since_s, 1)}


def service(url: str, before: _Seen | None, after: _Seen, elapsed_s: float) -> dict[str, Any]:
    """One service as a frame tells it."""
    same = before if before is not None and before.pid == after.pid else None
    threads = []
    if after.process is not None:
        threads = processes.cpu_by_thread(same.process if same else None, after.process, elapsed_s)
    cpu = [thread["cpu"] for thread in threads if thread["cpu"] is not None]
    stats = after.said.stats
    told = {
        "url": url,
        "pid": after.pid,
        "state": _state(stats),
        "reason": after.said.reason,
        "cpu": round(sum(cpu), 3) if cpu else None,
        "memory_bytes": after.process.memory_bytes if after.process else None,
        "memory_kind": after.process.memory_kind if after.process else None,
        "threads": threads,
    }
    if stats is None:
        return told
    server = stats["server"]
    passed_s = after.said.at_s - same.said.at_s if same else 0.0
    earlier = _counts(same.said.stats, server) if same else {}
    models = [model(row, earlier.get((row["name"], row["version"])), passed_s) for row in stats["model_stats"]]
    return {**told, "version": server.get("version"), "uptime_s": server.get("uptime_s"), "models": models}


def _state(stats: dict[str, Any] | None) -> str:
    if stats is None:
        return "silent"
    return "ready" if stats["server"].get("ready") else "stopping"


def _counts(stats: dict[str, Any] | None, server: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """The models' earlier numbers, unless the service has started anew since."""
    if stats is None or stats["server"].get("uptime_s", 0) > server.get("uptime_s", 0):
        return {}
    return {(row["name"], row["version"]): row for row in stats["model_stats"]}


def model(row: dict[str, Any], before: dict[str, Any] | None, passed_s: float) -> dict[str, Any]:
    """One model as a frame tells it: rates since the last frame, percentiles of its latest requests."""
    latency = row.get("latency_ms", {}).get("total", {})
    kept = (
        "name",
        "version",
        "runtime",
        "threads",
        "placement",
        "requests",
        "errors",
        "in_flight",
        "queued",
        "dropped",
    )
    told = {name: row.get(name) for name in kept}
    told.update({f"{mark}_ms": latency.get(mark) for mark in ("p50", "p95", "p99")})
    if before is not None and passed_s > 0:
        spans = {"rate_per_s": "requests", "errors_per_s": "errors", "dropped_per_s": "dropped"}
        told.update({rate: _rate(row, before, count, passed_s) for rate, count in spans.items()})
    return told


def _rate(row: dict[str, Any], before: dict[str, Any], count: str, passed_s: float) -> float | None:
    now, then = row.get(count), before.get(count)
    return None if now is None or then is None else round(max(0, now - then) / passed_s, 2)
