"""A trained student as an ONNX file that stands in its teacher's place: same input, same output, same layout."""

import contextlib
import io
import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from edgeward.kit.errors import Failed
from edgeward.optimize.passes import base, simplify
from edgeward.records.candidate import Step
from edgeward.records.model import TensorSpec


class Dressed(nn.Module):
    """A network of channels-first scores, taking what the teacher takes and giving what it gives."""

    def __init__(self, body: nn.Module, *, channels_last: bool, flat: bool, probabilities: bool) -> None:
        super().__init__()
        self.body, self.channels_last, self.flat, self.probabilities = body, channels_last, flat, probabilities

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        if self.flat:
            value = value.unsqueeze(1)
        elif self.channels_last:
            value = value.permute(0, 3, 1, 2)
        scores = self.body(value)
        return torch.softmax(scores, -1) if self.probabilities else scores


def to_onnx(network: nn.Module, input_spec: TensorSpec, output_name: str) -> onnx.ModelProto:
    """The network with its normalisations folded and a free batch axis. Raises Failed where ONNX Runtime answers
    otherwise than torch."""
    network.eval()
    shape = [size for size in input_spec.shape[1:] if isinstance(size, int)]
    sample = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    model = _exported(network, sample, input_spec.name, output_name)
    context = base.Context(samples=[], kind="tensor", preprocess=())
    model = simplify.plugin.apply(model, Step(use="simplify"), context).model
    with torch.no_grad():
        wanted = network(sample).numpy()
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {input_spec.name: sample.numpy()})[0]
    apart = float(np.abs(found - wanted).max())
    if not apart <= 1e-3 * max(1.0, float(np.abs(wanted).max())):
        raise Failed(f"the exported student answers otherwise than the trained one: apart by {apart:.3g}")
    return model


def _exported(network: nn.Module, sample: torch.Tensor, input_name: str, output_name: str) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "student.onnx"
        # The exporter talks to its own authors on both streams; what matters is checked above.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            torch.onnx.export(
                network, (sample,), file, dynamo=True, external_data=False, verbose=False, input_names=[input_name],
                output_names=[output_name], dynamic_shapes=({0: torch.export.Dim("batch")},),
            )  # fmt: skip
        model = onnx.load(file)
    for part in (model.graph, *model.graph.node, *model.graph.value_info):
        part.ClearField("metadata_props")  # notes of the exporter: where on this machine the code stands
    onnx.checker.check_model(model)
    return model
