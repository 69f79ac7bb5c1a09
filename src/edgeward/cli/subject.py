"""What a positional X stands for: a model file, or a bundle that was verified first."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgeward.kit.errors import WrongInput

if TYPE_CHECKING:
    from edgeward.infer import Predictor, Sample
    from edgeward.infer.runtimes import Session
    from edgeward.measure.dataset import LoadedSet
    from edgeward.records.model import Preprocess, TensorSpec


class Subject(NamedTuple):
    """Something that can be run. `inputs` are per raw sample; `preprocess` None: nobody said yet."""

    name: str
    model: bytes
    runtime: str
    inputs: "tuple[TensorSpec, ...]"
    preprocess: "Preprocess | None"
    threads: int

    def session(self, threads: int | None = None) -> "Session":
        from edgeward.infer import runtimes

        return runtimes.load(self.runtime).load(self.model, threads=threads or self.threads)

    def predictor_for(self, data: "LoadedSet", threads: int | None = None) -> "Predictor":
        """With the steps of the bundle, or the least that makes these data fit a plain model."""
        from edgeward.infer import Predictor
        from edgeward.measure.fit import fit_steps

        steps = self.preprocess
        if steps is None:
            steps = fit_steps(self.inputs[0], data.kind, data[0])
        return Predictor(self.session(threads), preprocess=steps)


def subject_at(path: Path, keys: Sequence[Path] = (), preprocess: Path | None = None) -> Subject:
    """The model or bundle at `path`. Raises WrongInput for what is neither, Refused for a bundle that fails."""
    if path.is_dir():
        return _of_bundle(path, keys)
    from edgeward.infer import runtimes
    from edgeward.kit import codec
    from edgeward.optimize.inspect import read_model
    from edgeward.records.model import PreprocessFile, TensorSpec

    model = read_model(path).SerializeToString()
    session = runtimes.load("onnxruntime").load(model, threads=1)
    inputs = tuple(TensorSpec(name=s.name, dtype=s.dtype, shape=s.shape[1:]) for s in session.inputs)
    steps = codec.from_toml(preprocess, PreprocessFile).preprocess if preprocess else None
    return Subject(path.name, model, "onnxruntime", inputs, steps, 1)


def _of_bundle(path: Path, keys: Sequence[Path]) -> Subject:
    from edgeward.bundle import find_bundle, trusted_keys, verify

    verified = verify(find_bundle(path), trusted_keys(tuple(keys)))
    manifest = verified.manifest
    return Subject(
        f"{manifest.name} {manifest.version}", verified.model, manifest.runtime, manifest.inputs, manifest.preprocess,
        manifest.thread_count,
    )  # fmt: skip


def drawn_samples(session: "Session", count: int = 4) -> "list[Sample]":
    """Input tensors of the model's own shapes, drawn at random with a fixed seed."""
    import numpy as np

    generator = np.random.default_rng(0)
    samples: list[Sample] = []
    for _ in range(count):
        sample = {}
        for spec in session.inputs:
            free = [dim for dim in spec.shape[1:] if isinstance(dim, str)]
            if free:
                raise WrongInput(
                    f"input {spec.name!r} is free in {free[0]!r}, so its values cannot be drawn", hint="--data DATA"
                )
            shape = tuple(dim for dim in spec.shape[1:] if isinstance(dim, int))
            if spec.dtype.startswith("float"):
                sample[spec.name] = generator.random(shape).astype(spec.dtype)
            else:
                sample[spec.name] = generator.integers(0, 2 if spec.dtype == "bool" else 100, shape).astype(spec.dtype)
        samples.append(sample)
    return samples
