"""edgeward doctor: what is wrong with this machine, and the command that mends it."""

from typing import TYPE_CHECKING

import click

from edgeward.cli import console
from edgeward.cli.probe import refuse_other_hosts

if TYPE_CHECKING:
    from edgeward.measure.privacy import Contact
    from edgeward.records.target import Finding


@click.command()
@click.argument("host", required=False)
@click.option("--privacy", is_flag=True, help="List every host that could be contacted, and what stands in the way.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: a list.")
def command(host: str | None, privacy: bool, as_json: bool) -> int:
    """What is wrong with this machine, and the command that mends it.

    Ends with exit code 1 when there is a problem; warnings and notes leave it at 0.

    \b
    edgeward doctor
    edgeward doctor --privacy
    """
    refuse_other_hosts(host, "doctor")
    return _privacy(as_json) if privacy else _examine(as_json)


def _examine(as_json: bool) -> int:
    from edgeward.kit.clock import SystemClock
    from edgeward.measure import doctor, examination

    findings = doctor.examine(examination.gather(SystemClock()))
    if as_json:
        console.print_json(findings)
    else:
        _show(findings)
    return 1 if any(finding.level == "problem" for finding in findings) else 0


def _show(findings: tuple["Finding", ...]) -> None:
    console.table("", ("level", "check", "seen"), [(one.level, one.check, one.message) for one in findings])
    mends = [one for one in findings if one.mend]
    if mends:
        console.say("What to do:")
    for one in mends:
        console.say(f"  # {one.check}\n  {one.mend}")
    counts = {level: sum(one.level == level for one in findings) for level in ("problem", "warning", "note", "ok")}
    console.say(", ".join(f"{count} {level}" for level, count in counts.items() if count))


def _privacy(as_json: bool) -> int:
    from edgeward.measure import privacy

    contacts = privacy.contacts()
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
