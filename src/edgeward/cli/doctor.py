"""edgeward doctor: what is wrong with this machine or another, and the command that mends it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from edgeward.measure.doctor import Facts
    from edgeward.measure.fixes import Done, Fix
    from edgeward.measure.privacy import Contact
    from edgeward.records.target import Finding


@click.command()
@click.argument("host", required=False)
@click.option("--fix", is_flag=True, help="Mend what can be mended without losing anything, after asking.")
@click.option("-y", "--yes", is_flag=True, help="With --fix: do not ask.")
@click.option("--all", "show_all", is_flag=True, help="Show what is in order too.")
@click.option("--privacy", is_flag=True, help="List every host that could be contacted, and what stands in the way.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: a list.")
@click.option("--root", type=PATH, hidden=True, help="A recorded tree in place of this machine.")
def command(
    host: str | None, fix: bool, yes: bool, show_all: bool, privacy: bool, as_json: bool, root: Path | None
) -> int:
    """What is wrong with this machine or HOST, and the command that mends it.

    Ends with exit code 1 when there is a problem; warnings and notes leave it at 0. With --fix: when a problem is
    left, or something could not be mended.

    \b
    edgeward doctor
    edgeward doctor --fix
    edgeward doctor pi@raspberrypi
    edgeward doctor --privacy

    HOST is looked at over your own ssh; it needs Python 3.9 and nothing else, and nothing is written there.
    """
    from edgeward.kit.errors import WrongInput

    if host is not None and not _is_here(host):
        if fix:
            raise _only_here(host)
        if privacy:
            return _privacy(as_json, host)
        return _tell(_facts_of_host(host), show_all=show_all, as_json=as_json)
    if yes and not fix:
        raise WrongInput("--yes says that --fix is not to ask; there is no --fix", hint="edgeward doctor --fix --yes")
    if privacy:
        return _privacy(as_json)
    return _fix(root, yes=yes, as_json=as_json) if fix else _tell(_facts_here(root), show_all=show_all, as_json=as_json)


def _is_here(host: str) -> bool:
    import platform

    from edgeward.cli.probe import HERE

    return host in (*HERE, platform.node())


def _only_here(host: str) -> Exception:
    from edgeward.kit.errors import Unsupported

    return Unsupported(
        f"{host}: doctor --fix changes the machine it runs on alone", hint=f"ssh -t {host} edgeward doctor --fix"
    )


def _facts_here(root: Path | None, before: "Facts | None" = None) -> "Facts":
    """The facts now; runtimes as they were `before`, and none for a recorded tree."""
    from edgeward.kit.clock import SystemClock
    from edgeward.measure import examination, sysfs

    known = before.runtimes if before else () if root else None
    return examination.gather(SystemClock(), root or sysfs.ROOT, known)


def _facts_of_host(host: str) -> "Facts":
    from edgeward.measure.doctor_afar import facts_afar

    console.note(f"looking at {host}")
    return facts_afar(host)


def _tell(facts: "Facts", *, show_all: bool, as_json: bool) -> int:
    from edgeward.measure import doctor

    findings = doctor.examine(facts)
    if as_json:
        console.print_json(findings)
    else:
        _show(findings, show_all=show_all)
    return _exit_code(findings)


def _exit_code(findings: tuple["Finding", ...]) -> int:
    return 1 if any(finding.level == "problem" for finding in findings) else 0


def _show(findings: tuple["Finding", ...], *, show_all: bool) -> None:
    shown = [one for one in findings if show_all or one.level != "ok"]
    for one in shown:
        console.paragraph(f"{one.level:<8} {one.check}: {one.message}", hang=9)
        if one.mend:
            console.say(f"         $ {one.mend}")
    counts = {level: sum(one.level == level for one in findings) for level in ("problem", "warning", "note", "ok")}
    words = [f"{count} {_many(level, count)}" for level, count in counts.items() if count]
    hidden = "" if show_all else " (--all shows them)"
    console.say(("\n" if shown else "") + ", ".join(words) + (hidden if counts["ok"] else ""))


def _many(level: str, count: int) -> str:
    return "in order" if level == "ok" else level if count == 1 else f"{level}s"


def _fix(root: Path | None, *, yes: bool, as_json: bool) -> int:
    from edgeward.measure import doctor, fixes, sysfs

    place, facts = root or sysfs.ROOT, _facts_here(root)
    wanted = fixes.fixes_for(doctor.examine(facts), facts, place)
    done = list(_one_by_one(wanted, place, yes=yes, quiet=as_json))
    if as_json:
        console.print_json(done)
    else:
        console.say(_summary(len(wanted), sum(one.done for one in done)))
    left = doctor.examine(_facts_here(root, facts) if done else facts)
    return 1 if _exit_code(left) or any(not one.done for one in done) else 0


def _one_by_one(wanted: "Iterable[Fix]", place: Path, *, yes: bool, quiet: bool) -> "Iterator[Done]":
    """Says at once what became of each. A Ctrl-C waits for the end of the one at hand, and ends it before the next."""
    import signal

    from edgeward.measure import fixes

    for one in wanted:
        if not (yes or _agreed(one)):
            continue
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            done = fixes.apply(one, place)
            if not quiet:
                _show_done(done)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield done


def _agreed(one: "Fix") -> bool:
    import sys

    from edgeward.kit.errors import WrongInput

    if not sys.stdin.isatty():
        raise WrongInput("there is no terminal to ask on", hint="edgeward doctor --fix --yes")
    sys.stdout.flush()  # what was done stands before the next question, also where it goes into a pipe
    return click.confirm(f"{one.check}: {one.does}?", err=True)


def _show_done(one: "Done") -> None:
    console.paragraph(
        f"{'done' if one.done else 'NOT DONE':<8} {one.check}: {one.does if one.done else one.reason}", hang=9
    )
    if one.undo:
        console.say(f"         undo: {one.undo}")


def _summary(wanted: int, done: int) -> str:
    if not wanted:
        return "nothing to mend that can be mended from here; edgeward doctor shows the rest"
    return f"{done} of {wanted} mended"


def _privacy(as_json: bool, host: str | None = None) -> int:
    from edgeward.measure import privacy

    contacts = privacy.contacts_afar(host) if host else privacy.contacts()
    if as_json:
        console.print_json(contacts)
        return 0
    rows = [(one.part, f"{', '.join(one.hosts) or 'none'}\n{one.when}\n{one.state}\n") for one in contacts]
    console.table("Hosts that could be contacted", ("part", "host, when, state"), rows)
    _show_mentions(contacts)
    return 0


def _show_mentions(contacts: tuple["Contact", ...]) -> None:
    for one in contacts:
        if one.mentions:
            console.say(f"The libraries of {one.part} also name {len(one.mentions)} other hosts, as links in texts and")
            console.say("licences, which nothing is known to contact; --json lists them.")
