"""The inference service as the agent sees it: a program that somebody else runs."""

from typing import NamedTuple, Protocol

import urllib3

from edgeward.kit import systemctl

_ASK_S = 5.0


class Health(NamedTuple):
    """`is_ready` while it answers; `has_failed` once it has ended or was started anew. `why` is for a person."""

    is_ready: bool
    has_failed: bool
    why: str


class Service(Protocol):
    def restart(self) -> None:
        """Starts it with the bundle of now. Raises Failed where it does not start."""
        ...

    def stop(self) -> None: ...

    def health(self) -> Health:
        """How it does since the last restart."""
        ...


class SystemdService:
    """A unit; it is asked at `ready` too, where there is such an address."""

    def __init__(self, unit: str, ready: str | None, limit_s: float) -> None:
        self._unit, self._ready, self._limit_s = unit, ready, limit_s
        self._pool = urllib3.PoolManager(retries=False, timeout=_ASK_S)

    def restart(self) -> None:
        systemctl.forget_failures(self._unit)
        systemctl.tell("restart", self._unit, limit_s=self._limit_s)

    def stop(self) -> None:
        systemctl.tell("stop", self._unit)

    def health(self) -> Health:
        state, again = systemctl.show(self._unit, "ActiveState"), systemctl.show(self._unit, "NRestarts")
        if state == "failed" or again not in ("", "0"):
            words = [line for line in systemctl.last_words(self._unit) if line.startswith("edgeward: ")]
            told = words[-1].removeprefix("edgeward: ") if words else f"it is {state}, started anew {again} times"
            return Health(False, True, told)
        if state != "active":
            return Health(False, False, f"it is {state}")
        if self._ready is None:
            return Health(True, False, "active")
        try:
            status = self._pool.request("GET", self._ready).status
        except urllib3.exceptions.HTTPError as error:
            return Health(False, False, f"{self._ready} does not answer: {error}")
        return Health(status == 200, False, f"{self._ready} answered {status}")
