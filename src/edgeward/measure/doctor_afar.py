"""The doctor's facts of a device over ssh: its kernel's files and a few trials there; nothing is written there."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from edgeward.kit.errors import Failed
from edgeward.measure import accelerators, afar, conditions, examination, system_facts
from edgeward.measure.carry import Errand
from edgeward.measure.doctor import Facts
from edgeward.measure.system_facts import Tried

_MODULES = ("edgeward", "edgeward.measure", "edgeward.measure.snapshot", "edgeward.measure.tried")
_LINKS = ("driver",)


class Examined(afar.Snapshot, frozen=True, kw_only=True):
    """What `measure/tried.py` answers."""

    tried: Tried


def facts_afar(host: str, options: Sequence[str] = ()) -> Facts:
    """The facts of `host`, at its own time. Raises what an Errand raises."""
    answer = _answer(host, options)
    with TemporaryDirectory(prefix="edgeward-afar-") as folder:
        root = Path(folder)
        afar.lay_out(root, answer.files, host)
        return examination.facts_of(
            root,
            answer.tried,
            accelerators.find(root),
            now=datetime.fromtimestamp(answer.tried.now or 0, UTC),
            python=answer.python,
            runtimes=(),
            telemetry_switch=None,
            storage_free_bytes=answer.storage_free_bytes,
            pi_throttled=conditions.pi_throttled(root),
            closed_nodes=answer.tried.closed_nodes,
            text_encoding=answer.tried.text_encoding,
            key_folder="",
            key_folder_fault=None,
            host=host,
        )


def _answer(host: str, options: Sequence[str]) -> Examined:
    nodes = list(examination.nodes())
    patterns = list(dict.fromkeys([*afar.PATTERNS, *system_facts.PATTERNS, *nodes]))
    ask = {
        "patterns": patterns, "links": _LINKS, "bare": system_facts.BARE, "nodes": nodes,
        "cpu_limits": examination.CPU_LIMITS,
    }  # fmt: skip
    with Errand(host, _MODULES, ask, options) as errand:
        said = next(iter(errand))
    try:
        return msgspec.convert(said, Examined)
    except msgspec.ValidationError as error:
        raise Failed(f"{host} gave another answer than it was asked for: {error}") from None
