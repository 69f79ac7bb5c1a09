"""What happened, layer by layer: the report with the time, the noise and the forecast of each layer."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeward.infer import Predictor, runtimes
from edgeward.kit import log
from edgeward.kit.errors import EdgewardError
from edgeward.measure.dataset import LoadedSet
from edgeward.optimize.forecast import Outlook, with_truth
from edgeward.optimize.layer_profile import first_feeds, profiled_layers, with_forecast
from edgeward.optimize.sensitivity import SAMPLES, layer_noise
from edgeward.optimize.trials import Candidate, Chains
from edgeward.records.candidate import Layer, Recipe, Report

_NOISE_S = 1.5
_QUANTISER = "quantize-static"


class Seen(NamedTuple):
    """A model as it was run, with a sample to run it on again."""

    recipe: str
    runtime: str
    model: bytes
    threads: int
    feeds: dict[str, NDArray[np.generic]]


def seen(candidate: Candidate) -> Seen:
    """What is needed to run the candidate again when its files are gone."""
    contender = candidate.contender
    return Seen(
        candidate.trial.recipe, contender.runtime, candidate.model_bytes, contender.threads, first_feeds(contender)
    )


def explained(report: Report, outlook: Outlook, ran: Sequence[Seen], noise_db: dict[str, float]) -> Report:
    """The report with the forecast beside what was measured, and with the layers of the model as given and of the
    chosen one. What a runtime does not tell is left out, and a note says why. `noise_db` is by layer."""
    told = with_truth(outlook.told, report.trials, report.baseline)
    notes, layers = list[str](), dict[str, tuple[Layer, ...]]()
    wanted = [report.baseline.recipe, *([report.chosen.recipe] if report.chosen else [])]
    for one in ran:
        if one.recipe not in wanted or one.recipe in layers:
            continue
        try:
            found = profiled_layers(one.model, one.runtime, one.feeds, threads=one.threads, graph=outlook.graph)
            layers[one.recipe] = _with_noise(with_forecast(found, told.layers), noise_db)
        except EdgewardError as error:
            notes.append(f"no times of layers of {one.recipe}: {error.message}")
        except Exception as error:  # noqa: BLE001 - what only explains the result must not take it away
            notes.append(f"no times of layers of {one.recipe}: {type(error).__name__}")
    return replace(
        report, forecast=told, layers=layers.get(report.baseline.recipe, ()),
        chosen_layers=layers.get(report.chosen.recipe, ()) if report.chosen else (), notes=(*report.notes, *notes),
    )  # fmt: skip


def _with_noise(layers: Sequence[Layer], noise_db: dict[str, float]) -> tuple[Layer, ...]:
    return tuple(
        replace(layer, sqnr_db=round(noise_db[layer.name], 2)) if layer.name in noise_db else layer for layer in layers
    )


def noise_of(recipes: Sequence[Recipe], chains: Chains, calibration: LoadedSet) -> dict[str, float]:
    """By layer, signal over noise in decibels where it alone computes in int8: as the first of the recipes quantises
    that the search made itself. Empty where there is none, or its layers cannot be compared with the float ones."""
    for recipe in recipes:
        place = next((place for place, step in enumerate(recipe.steps) if step.use == _QUANTISER), None)
        if place is None or not chains.has(recipe.steps[: place + 1]):
            continue
        try:
            before = chains.passed(recipe.steps[:place])
            after = chains.passed(recipe.steps[: place + 1])
            session = runtimes.load("onnxruntime").load(before.model.SerializeToString(), threads=1)
            predictor = Predictor(session, preprocess=before.preprocess)
            feeds = [predictor.tensors(calibration[index]) for index in range(min(len(calibration), SAMPLES))]
            found = layer_noise(before.model, after.model, feeds, seconds=_NOISE_S)
        except Exception as error:  # noqa: BLE001 - what only explains the result must not take it away
            log.debug("no-noise-of-layers", recipe=recipe.name, error=error)
            continue
        return {layer.name: layer.sqnr_db for layer in found}
    return {}
