"""`edgeward-agent`: keeps one service of this device up to date, and steps back by itself."""

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from edgeward import __version__
from edgeward.agent import decide
from edgeward.agent.run import Agent
from edgeward.agent.service import SystemdService
from edgeward.bundle.agent_units import resident, sharing, timed
from edgeward.bundle.store import STORE, Store
from edgeward.kit import codec, notify
from edgeward.kit.clock import SystemClock
from edgeward.kit.errors import EdgewardError, from_os_error
from edgeward.records.agent import AgentSettings

SETTINGS = Path("/etc/edgeward/agent.toml")
_PING_S = 10.0


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Ends the process: 0 done, 1 failed or stepped back, 2 wrong input, 5 the source was not reached, 6 refused."""
    parser = _parser()
    asked = parser.parse_args(words)
    try:
        sys.exit(_act(asked))
    except KeyboardInterrupt:
        sys.exit(130)
    except EdgewardError as error:
        _tell(error)
        sys.exit(error.exit_code)
    except OSError as error:
        told = from_os_error(error)
        _tell(told)
        sys.exit(told.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgeward-agent", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--config", type=Path, default=SETTINGS, help=f"default: {SETTINGS}")
    parser.add_argument("--store", type=Path, default=STORE, help=f"where bundles are kept; default: {STORE}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("run", help="look again and again, as a service")
    verbs.add_parser("once", help="look once, for a timer; also what a stick's coming starts")
    verbs.add_parser("check", help="what there is and what would be done; changes nothing")
    verbs.add_parser("status", help="what runs, what was tried and why not").add_argument("--json", action="store_true")
    verbs.add_parser("rollback", help="go back to the bundle before, and do not take this one again")
    verbs.add_parser("hold", help="no updates until they are released")
    verbs.add_parser("release", help="updates again")
    share = verbs.add_parser("share", help="let others in this network fetch the blobs that are here")
    share.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1; 0.0.0.0 is every address")
    share.add_argument("--port", type=int, default=5151, help="default: 5151")
    unit = verbs.add_parser("unit", help="print the unit of the agent itself")
    kinds = unit.add_mutually_exclusive_group()
    kinds.add_argument("--timer", action="store_true", help="of a timer that looks once, instead of a resident service")
    kinds.add_argument("--share", action="store_true", help="of a service that shares what is here")
    return parser


def _act(asked: argparse.Namespace) -> int:
    if asked.verb == "unit":
        made = timed if asked.timer else sharing if asked.share else resident
        sys.stdout.write(made(sys.executable))
        return 0
    if asked.verb == "share":
        from edgeward.agent.share import share

        share(asked.store, asked.host, asked.port)
    settings = codec.from_toml(asked.config, AgentSettings)
    agent = Agent(settings, Store(asked.store), _service(settings), SystemClock())
    if asked.verb == "status":
        told = status(agent)
        sys.stdout.write(codec.to_pretty_json(told).decode() if asked.json else _page(told))
    elif asked.verb == "run":
        _run(agent)
    else:
        acts: dict[str, Callable[[], str]] = {
            "once": agent.once, "check": agent.check, "rollback": agent.rollback,
            "hold": lambda: agent.hold(held=True), "release": lambda: agent.hold(held=False),
        }  # fmt: skip
        sys.stdout.write(acts[asked.verb]() + "\n")
    return 0


def _service(settings: AgentSettings) -> SystemdService:
    unit = settings.unit or f"edgeward-{settings.service}.service"
    return SystemdService(unit, settings.ready, settings.start_limit_s)


def _run(agent: Agent) -> NoReturn:
    """Looks at intervals for ever. The watchdog of its own unit hears of every look and of every wait."""
    notify.tell("READY=1")
    while True:
        try:
            said = agent.once()
        except EdgewardError as error:
            said = error.message
            _tell(error)
        except OSError as error:
            said = from_os_error(error).message
            _tell(from_os_error(error))
        notify.tell(notify.status(said), "WATCHDOG=1")
        left_s = decide.next_wait_s(agent.settings.every_s, agent.state.tries_in_vain, random.random())  # noqa: S311
        end_s = time.monotonic() + left_s
        while (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _PING_S))
            notify.tell("WATCHDOG=1")


def status(agent: Agent) -> dict[str, Any]:
    """What a person wants to know of it."""
    state, store, name = agent.state, agent.store, agent.settings.service
    return {
        "service": name, "source": agent.settings.source, "runs": store.current(name), "before": store.previous(name),
        "newest": state.newest, "on_trial": state.trial, "held": state.is_held, "checked_at": state.checked_at,
        "trouble": state.trouble, "tries_in_vain": state.tries_in_vain, "failed": dict(state.failed),
        "used_bytes": store.used_bytes(), "noted": state.noted[-10:],
    }  # fmt: skip


def _page(told: dict[str, Any]) -> str:
    newest = told["newest"]
    lines = [
        f"{told['service']}: {newest.version if newest else 'nothing has proved itself yet'}",
        f"runs      {told['runs'] or 'nothing'}",
        f"before    {told['before'] or 'nothing to go back to'}",
        f"source    {told['source']}",
        f"checked   {told['checked_at'] or 'never'}"
        + (f"; since then in vain: {told['trouble']}" * bool(told["trouble"])),
        f"takes     {told['used_bytes'] / 1e6:.1f} MB",
    ]
    lines += ["updates are held; edgeward-agent release"] if told["held"] else []
    lines += [f"on trial  {told['on_trial'].digest}"] if told["on_trial"] else []
    lines += [f"failed    {digest[:19]}… {reason}" for digest, reason in told["failed"].items()]
    lines += [f"{one.at:%Y-%m-%d %H:%M}  {one.what}" for one in told["noted"]]
    return "\n".join(lines) + "\n"


def _tell(error: EdgewardError) -> None:
    hint = f"\n  try: {error.hint}" if error.hint else ""
    sys.stderr.write(f"edgeward-agent: {error.message}{hint}\n")


if __name__ == "__main__":
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    main()
