"""What it takes to replace the deployed version by each candidate, and what keeping its scales and order cost."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from edgeward.optimize.choose import choose
from edgeward.optimize.parent import Parent, delta_bytes, is_bound
from edgeward.optimize.trials import Candidate
from edgeward.records.candidate import Report, Trial, Update


def with_deltas(candidates: list[Candidate], parent: Parent | None) -> list[Candidate]:
    """The candidates, each with the size of an update to it."""
    if parent is None:
        return candidates
    return [
        one._replace(trial=replace(one.trial, delta_bytes=delta_bytes(parent.model_bytes, one.model_bytes)))
        for one in candidates
    ]


def with_update(report: Report, parent: Parent | None, tied_with_fastest: Mapping[str, bool]) -> Report:
    """The report, with what the update takes beside what it would have taken without a parent."""
    if parent is None:
        return report
    free = [replace(trial, delta_bytes=None) for trial in report.trials if not is_bound(trial.steps)]
    unbound = choose(free, tied_with_fastest, gate="").chosen
    chosen = report.chosen
    deltas = {trial.recipe: trial.delta_bytes for trial in report.trials}
    update = Update(
        parent=parent.bundle, name=parent.name, version=parent.version,
        delta_bytes=None if chosen is None else chosen.delta_bytes,
        unbound=None if unbound is None else unbound.recipe,
        unbound_delta_bytes=None if unbound is None else deltas[unbound.recipe],
        quality_cost=_cost(chosen, unbound),
    )  # fmt: skip
    return replace(report, update=update, notes=(*report.notes, *_notes(report, parent)))


def _cost(chosen: Trial | None, unbound: Trial | None) -> float | None:
    if chosen is None or unbound is None or chosen.quality_drop is None or unbound.quality_drop is None:
        return None
    return chosen.quality_drop - unbound.quality_drop


def _notes(report: Report, parent: Parent) -> tuple[str, ...]:
    """Said where nothing of the parent could be kept, with the reason."""
    bound = [trial for trial in report.trials if is_bound(trial.steps)]
    if any(trial.failure is None for trial in bound):
        return ()
    said = f"nothing of {parent.name} {parent.version} (--parent) is kept"
    return (f"{said}: {_reason(bound, parent)}",)


def _reason(bound: Sequence[Trial], parent: Parent) -> str:
    if parent.fault is not None:
        return parent.fault
    return next((trial.failure for trial in bound if trial.failure), "the passes that made it have nothing to do here")
