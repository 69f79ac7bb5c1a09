"""Everything that is promised of serving, measured: python -m bench.serve_vs_peers --environments FOLDER --work FOLDER

By default all parts; what a part found is kept under --work and used in the report until that part runs again. Writes
results.md there and prints it.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from bench.serve_vs_peers import bundles, environments, idle, in_process, memory, overload, race, soak, swap
from bench.serve_vs_peers.context import Context
from bench.serve_vs_peers.load import Load
from bench.serve_vs_peers.report import Part, to_markdown
from bench.serve_vs_peers.roster import PEERS

from edgeward.kit.errors import EdgewardError
from edgeward.measure import machine
from edgeward.measure.conditions import conditions

PARTS: dict[str, Callable[[Context], Part]] = {
    "http": race.part,
    "idle": idle.part,
    "memory": memory.part,
    "soak": soak.part,
    "cold-start": memory.cold_start,
    "in-process": in_process.own_process,
    "socket": in_process.unix_socket,
    "swap": swap.part,
    "overload": overload.part,
}
_DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.serve_vs_peers")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--environments", type=Path, required=True, help="where the peers' virtual environments stand")
    parser.add_argument("--work", type=Path, required=True, help="where everything that is made goes")
    parser.add_argument("--model", type=Path, default=_DIGITS, help="an ONNX model of one input; default: the digits")
    parser.add_argument("--soak", type=int, default=1_000_000, metavar="N", help="requests of the soak")
    parser.add_argument("--overload-s", type=float, default=600, metavar="S", help="how long the overload lasts")
    parser.add_argument("--quick", action="store_true", help="a few of everything, to see that it works")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"there is no part {min(unknown)}; there are {', '.join(PARTS)}")
    if not asked.model.is_file():
        parser.error(f"there is no model {asked.model}")
    for folder in (asked.work, asked.environments):
        folder.mkdir(parents=True, exist_ok=True)
    for peer in PEERS:
        _say(f"environment {peer.name}: {environments.make(asked.environments, peer.name) or 'ready'}")
    try:
        bundle, load = bundles.make(asked.model, asked.work), Load(asked.work)
        context = Context(bundle, asked.work, asked.environments, load, asked.quick, asked.soak, asked.overload_s)
        for name in asked.parts or PARTS:
            _say(name)
            found = PARTS[name](context)
            found = msgspec.structs.replace(found, text=f"{found.text}\n\n{_setting(context)}")
            (asked.work / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    except EdgewardError as error:
        sys.exit(f"bench: {error.message}")
    kept = [asked.work / f"{name}.json" for name in PARTS]
    parts = [msgspec.json.decode(file.read_bytes(), type=Part) for file in kept if file.exists()]
    (asked.work / "results.md").write_text(to_markdown(parts), encoding="utf-8")
    print(to_markdown(parts))


def _setting(context: Context) -> str:
    quick = "**A quick run: no figures to rely on.** " if context.quick else ""
    return (
        f"{quick}{context.small.model.name}; {machine.usable_cpu_count()} CPUs of {machine.cpu()}; "
        f"{conditions().line()}; one thread."
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
