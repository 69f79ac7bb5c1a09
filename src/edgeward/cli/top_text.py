"""A frame → the lines that a person sees, for a terminal of any width."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from edgeward.cli.columns import Column, lines
from edgeward.cli.console import milliseconds, size
from edgeward.records.watch import Frame, MachineSeen, ModelSeen, ServiceSeen, ThreadSeen

Style = Literal["", "bold", "dim", "alarm"]
BUSY_THREADS = 6
_INDENT = "  "
_BARS = " ▁▂▃▄▅▆▇█"
_PLAIN = str.maketrans(
    {"–": "-", "·": "-", "°": " ", "µ": "u", "×": "x", "…": "~", **dict(zip(_BARS, " .:-=+*#@", strict=True))}
)

_MODELS = (
    Column("model", least=14),
    Column("on", least=14, spare=1),
    Column("placement", least=9, spare=4),
    Column("/s", right=True),
    Column("p50", right=True),
    Column("p95", right=True, spare=6),
    Column("p99", right=True),
    Column("queue", right=True),
    Column("drops", right=True),
    Column("errors", right=True, spare=2),
    Column("requests", right=True, spare=5),
    Column("governor", least=10, spare=3),
)


class Line(NamedTuple):
    """A line and how it is shown; "alarm" is what a person should look at."""

    text: str
    style: Style = ""


def screen(frame: Frame, width: int, *, all_threads: bool = False, where: str = "here") -> list[Line]:
    """All of a frame but its title: the machine, and each service with its models and threads."""
    told = machine(frame.machine, width)
    if not frame.services:
        told += [Line(""), *_nothing_serves(where)]
    for one in frame.services:
        told += [Line(""), *service(one, width, all_threads=all_threads)]
    return [Line(line.text[:width], line.style) for line in told]


def speaks_unicode(encoding: str | None, environment: Mapping[str, str]) -> bool:
    """Whether a terminal shows "µ" and "·": one that calls itself a VT does not, nor one without a locale of UTF-8."""
    said = (environment.get("LC_ALL") or environment.get("LANG") or "C").upper()
    utf8 = all("UTF8" in name.upper().replace("-", "") for name in (encoding or "", said))
    return utf8 and not environment.get("TERM", "").startswith("vt")


def plain(text: str) -> str:
    """The text for a terminal that knows ASCII alone."""
    return text.translate(_PLAIN).encode("ascii", "replace").decode()


def machine(seen: MachineSeen, width: int) -> list[Line]:
    """Two lines or more: processor, memory and what is waited for, heat and power where they are told."""
    cpu = [f"CPU {share(seen.cpu_busy)}{_bars(seen.cpus)} of {_count(seen.cpu_count, 'CPU')}"]
    cpu += [] if seen.load is None else [f"load {seen.load:.2f}"]
    cpu += [] if seen.frequency_mhz is None else [f"{seen.frequency_mhz / 1000:.2f} GHz"]
    cpu += [] if seen.governor is None else [f"{seen.governor} governor"]
    memory = [f"memory {size(seen.memory_used_bytes)} of {size(seen.memory_bytes)}"]
    waits = [
        f"{name} {share(value)}"
        for name, value in (("CPU", seen.waits.cpu), ("memory", seen.waits.memory), ("disk", seen.waits.io))
        if value is not None
    ]
    memory += [f"waits for {', '.join(waits)}"] if waits else []
    heat = [] if seen.temperature_c is None else [f"{seen.temperature_c:.0f} °C"]
    heat += [] if seen.power_mw is None else [f"{seen.power_mw / 1000:.2f} W"]
    told = [Line(text) for text in (*_packed(cpu, width), *_packed(memory + heat, width))]
    if seen.throttled:
        told.append(Line("throttled: heat or power holds the clock down now", "alarm"))
    return told


def service(seen: ServiceSeen, width: int, *, all_threads: bool = False) -> list[Line]:
    """Its state, its models, its threads."""
    if seen.state in ("stopped", "died"):
        return [_that_left(seen)]
    told = [Line(text, "" if seen.state == "ready" else "alarm") for text in _packed(_state(seen), width)]
    if seen.models:
        title, *rows = lines(_MODELS, [_model(one) for one in seen.models], width - len(_INDENT))
        told.append(Line(_INDENT + title, "dim"))
        told += [
            Line(_INDENT + row, "alarm" if one.dropped_per_s or one.errors_per_s else "bold")
            for row, one in zip(rows, seen.models, strict=True)
        ]
    return told + _threads(seen.threads, all_threads=all_threads)


def _that_left(seen: ServiceSeen) -> Line:
    ago = duration(seen.gone_for_s or 0.0)
    if seen.state == "stopped":
        return Line(f"{seen.url}  stopped, seen {ago} ago", "dim")
    return Line(f"{seen.url}  died: it was killed or crashed, noticed {ago} ago", "alarm")


def _state(seen: ServiceSeen) -> list[str]:
    state = f"does not answer: {seen.reason}" if seen.state == "silent" else seen.state
    told = [f"{seen.url}  {state}"]
    told += [] if seen.uptime_s is None else [f"up {duration(seen.uptime_s)}"]
    told += [] if seen.pid is None else [f"pid {seen.pid}"]
    told += [] if seen.cpu is None else [f"CPU {share(seen.cpu)}"]
    told += [] if seen.memory_bytes is None else [f"{size(seen.memory_bytes)} {seen.memory_kind}"]
    return told


def _model(seen: ModelSeen) -> tuple[str, ...]:
    threads = f" ×{seen.threads}" if seen.threads else ""
    return (
        f"{seen.name} {seen.version}",
        f"{seen.runtime or '–'}{threads}",
        seen.placement or "–",
        rate(seen.rate_per_s),
        milliseconds(seen.p50_ms),
        milliseconds(seen.p95_ms),
        milliseconds(seen.p99_ms),
        *("–" if value is None else str(value) for value in (seen.queued, seen.dropped, seen.errors, seen.requests)),
        seen.decision or "",
    )


def _threads(seen: Sequence[ThreadSeen], *, all_threads: bool) -> list[Line]:
    """The busy ones by name, and how many rest."""
    busy = [one for one in seen if all_threads or (one.cpu or 0) >= 0.005]
    shown = busy if all_threads else busy[:BUSY_THREADS]
    told = [
        Line(f"{_INDENT}{share(one.cpu):>6}  {one.name}{'' if one.core is None else f' on CPU {one.core}'}")
        for one in shown
    ]
    if rest := len(seen) - len(shown):
        resting = "idle" if len(shown) == len(busy) else "less busy or idle"
        told.append(Line(f"{_INDENT}{'':6}  {_count(rest, 'thread')} {resting}", "dim"))
    return told


def _nothing_serves(where: str) -> list[Line]:
    return [
        Line(f"No edgeward service is found {where}."),
        Line("  start one:                    edgeward serve out/bundle"),
        Line("  one in a container or so on:  edgeward top --url http://127.0.0.1:8000"),
    ]


def share(value: float | None) -> str:
    """ "31 %" """
    return "–" if value is None else f"{value * 100:.0f} %"


def rate(value: float | None) -> str:
    """A second: "812", "9.5", "0"."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 or value == 0 else f"{value:.1f}"


def duration(seconds: float) -> str:
    """The two largest units: "3 min 5 s"."""
    rest = int(seconds)
    parts: list[str] = []
    for name, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if rest >= length or (length == 1 and not parts):
            parts.append(f"{rest // length} {name}")
            rest %= length
    return " ".join(parts[:2])


def _bars(cpus: Sequence[float]) -> str:
    """One character a CPU, of up to 32."""
    if not 1 < len(cpus) <= 32:
        return ""
    return f" [{''.join(_BARS[round(min(1.0, one) * 8)] for one in cpus)}]"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _packed(parts: Sequence[str], width: int) -> list[str]:
    """The parts side by side, on as few lines as they need."""
    told = [parts[0]]
    for part in parts[1:]:
        if len(told[-1]) + 2 + len(part) <= width:
            told[-1] += f", {part}"
        else:
            told.append(f"{_INDENT}{part}")
    return told
