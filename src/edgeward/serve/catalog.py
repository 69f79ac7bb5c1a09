"""Which models are served, and under which names they are found. A change is made in one step."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from edgeward.kit.errors import WrongInput
from edgeward.serve.intake import Refusal
from edgeward.serve.models import ServedModel
from edgeward.serve.protocol import Port
from edgeward.serve.stats import ModelStats

_MOST_PAST = 16


class Past(NamedTuple):
    """What is left of a model that was served."""

    name: str
    version: str
    stats: ModelStats


class Catalog:
    """The models of now. `places` has each under its version's path, and the newest of a name also without one. `past`
    are the numbers of those that are served no more: a counter that is read now and then must not lose its end."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self.models: tuple[ServedModel, ...] = ()
        self.places: dict[str, ServedModel] = {}
        self.past: dict[tuple[str, str], Past] = {}
        self.put(models)

    def put(self, models: Sequence[ServedModel]) -> None:
        """From now on these are served, and no others. Raises WrongInput for two of one name and version. Numbers of
        one name and version go on where they were, also those of one that was served before."""
        check_names((model.name, model.version) for model in models)
        known = self.past | {(one.name, one.version): Past(one.name, one.version, one.stats) for one in self.models}
        for model in models:
            before = known.pop((model.name, model.version), None)
            if before is not None:
                model.stats = before.stats
        self.past = dict(list(known.items())[-_MOST_PAST:])
        self.models, self.places = tuple(models), _places(models)

    def find(self, name: str, version: str) -> ServedModel:
        """The model of this name, the newest where `version` is empty. Raises Refusal where there is none."""
        place = f"/v2/models/{name}/versions/{version}" if version else f"/v2/models/{name}"
        model = self.places.get(place)
        if model is None:
            raise Refusal(404, self.unknown(place))
        return model

    def about(self, model: ServedModel) -> dict[str, Any]:
        """What goes in and out of it."""
        return {
            "name": model.name,
            "versions": [other.version for other in self.models if other.name == model.name],
            "platform": model.platform,
            "inputs": [_described(port) for port in model.signature.inputs.values()],
            "outputs": [_described(port) for port in model.signature.outputs.values()],
        }

    def unknown(self, path: str) -> str:
        """Why there is nothing at this path."""
        models = self.models
        served = ", ".join(f"{model.name} {model.version}" for model in models) or "no model"
        match path.split("/")[1:]:
            case ["v2", "models", name, *_] if name and not any(model.name == name for model in models):
                return f"there is no model {name[:80]!r}; this server has {served}"
            case ["v2", "models", name, "versions", version, *_] if not any(
                (model.name, model.version) == (name, version) for model in models
            ):
                return f"model {name!r} has no version {version[:80]!r}; this server has {served}"
            case _:
                return f"there is nothing at {path[:80]!r}; see /v2, /v2/models/NAME, /metrics and /"


def check_names(names: Iterable[tuple[str, str]]) -> None:
    """Raises WrongInput where a name and version comes twice."""
    seen = set()
    for name, version in names:
        if (name, version) in seen:
            raise WrongInput(f"{name} {version} is given twice; clients could not tell the two apart")
        seen.add((name, version))


def _described(port: Port) -> dict[str, Any]:
    return {"name": port.name, "datatype": port.datatype, "shape": port.shape}


def _places(models: Iterable[ServedModel]) -> dict[str, ServedModel]:
    places = {}
    for model in sorted(models, key=lambda model: _age(model.version)):
        places[f"/v2/models/{model.name}"] = model
        places[f"/v2/models/{model.name}/versions/{model.version}"] = model
    return places


def _age(version: str) -> tuple[Any, ...]:
    """Orders versions as people do: 1.9 before 1.10, and 2.0-rc1 before 2.0."""
    main, _, early = version.partition("-")
    return _pieces(main), not early, _pieces(early)


def _pieces(text: str) -> list[tuple[int, int, str]]:
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.findall(r"[0-9]+|[^0-9.]+", text)]
