"""What the verbs that train read first: a model, the samples to learn from, and the steps between them."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import onnx

    from edgeward.measure.dataset import LoadedSet
    from edgeward.records.model import ModelFacts, Preprocess, TensorSpec


class Lesson(NamedTuple):
    """A model that can be trained, its one input without the batch axis, and what it learns from."""

    model: "onnx.ModelProto"
    facts: "ModelFacts"
    input: "TensorSpec"
    samples: "LoadedSet"
    steps: "Preprocess"


def read_lesson(verb: str, model: Path, data: Path, preprocess: Path | None) -> Lesson:
    """What `verb`, a module of training, needs. Raises Unsupported where a package of it is missing and for a model
    with several inputs, and what reading raises."""
    from importlib import import_module

    from edgeward.kit import codec
    from edgeward.kit.errors import Unsupported
    from edgeward.measure.dataset import open_dataset
    from edgeward.measure.fit import fit_steps
    from edgeward.optimize.inspect import describe
    from edgeward.optimize.readers import read_model
    from edgeward.records.model import PreprocessFile, TensorSpec

    given = read_model(model)
    facts = describe(given)
    try:
        import_module(f"edgeward.optimize.training.{verb}")
    except ModuleNotFoundError as error:
        hint = "pip install 'edgeward[train]'"
        raise Unsupported(f"{verb} needs the package {error.name!r}, which is not installed", hint=hint) from error
    if len(facts.inputs) != 1:
        raise Unsupported(f"{model}: it has {len(facts.inputs)} inputs; only models with one can be trained here")
    (spec,) = facts.inputs
    entry = TensorSpec(name=spec.name, dtype=spec.dtype, shape=spec.shape[1:])
    samples = open_dataset(data, (entry,))
    if preprocess is not None:
        steps = codec.from_toml(preprocess, PreprocessFile).preprocess
    else:
        steps = fit_steps(entry, samples.kind, samples[0])
    return Lesson(given, facts, entry, samples, steps)
