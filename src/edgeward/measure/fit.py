"""How raw samples become a model's input where nobody said so: the least that makes the shapes fit."""

from edgeward.infer import Sample
from edgeward.kit.errors import WrongInput
from edgeward.records.model import FitLength, Normalize, Preprocess, Resize, SampleKind, TensorSpec, ToLayout

IMAGE_SCALINGS: dict[str, Normalize | None] = {
    "0..255": None,
    "0..1": Normalize(),
    "-1..1": Normalize(mean=(0.5,), std=(0.5,)),
    "ImageNet mean and deviation": Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
}
"""The value ranges that image models are commonly trained with. Which one a model wants is measured, not guessed."""


def fit_steps(spec: TensorSpec, kind: SampleKind, sample: Sample, scaling: Normalize | None = None) -> Preprocess:
    """Steps that bring samples like this one to the input `spec` (shape without batch axis).

    Raises WrongInput where the input is free in a dimension that images must be resized to, or wants features.
    """
    if kind == "audio":
        return _fit_audio(spec)
    if kind == "image":
        return _fit_image(spec, sample[spec.name].shape, scaling)
    return ()


def _fit_image(spec: TensorSpec, shape: tuple[int, ...], scaling: Normalize | None) -> Preprocess:
    if len(spec.shape) == 2:
        height, width, planes_first = spec.shape[0], spec.shape[1], False
    else:
        planes_first = spec.shape[2] not in (1, 3) or (spec.shape[0] in (1, 3) and spec.shape[0] == shape[2])
        height, width = spec.shape[1:] if planes_first else spec.shape[:2]
    steps: list[Resize | Normalize | ToLayout] = []
    if isinstance(height, int) and isinstance(width, int):
        if shape[:2] != (height, width):
            steps.append(Resize(height=height, width=width))
    else:
        placed = (shape[2], *shape[:2]) if planes_first else shape
        fixed = [dim if isinstance(dim, int) else size for dim, size in zip(spec.shape, placed, strict=False)]
        raise WrongInput(
            f"input {spec.name!r} is free in height or width ({'x'.join(map(str, spec.shape))}), and must be fixed",
            hint=f"--shape {spec.name}={'x'.join(map(str, (1, *fixed)))}",
        )
    if scaling is not None:
        steps.append(scaling)
    if planes_first:
        steps.append(ToLayout(layout="NCHW"))
    return tuple(steps)


def _fit_audio(spec: TensorSpec) -> Preprocess:
    lengths = [dim for dim in spec.shape if dim != 1]
    if len(lengths) > 1:
        shape = "x".join(str(dim) for dim in spec.shape)
        raise WrongInput(
            f"input {spec.name!r} takes {shape} features per sample, the data are waveforms",
            hint="say how they are made with --preprocess FILE.toml (docs/preprocessing.md)",
        )
    if lengths and isinstance(lengths[0], int):
        return (FitLength(samples=lengths[0]),)
    return ()
