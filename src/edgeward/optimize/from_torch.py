"""A PyTorch module or exported program → ONNX, by PyTorch's own exporter, without its chatter."""

import contextlib
import io
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch

from edgeward.kit.errors import Unsupported


def exported(program: Any, examples: Sequence[Any] = (), **options: Any) -> onnx.ModelProto:
    """The model as ONNX. Raises Unsupported, with PyTorch's reason, for what its exporter cannot say."""
    with tempfile.TemporaryDirectory(prefix="edgeward-") as folder:
        file = Path(folder) / "model.onnx"
        try:
            torch.onnx.export(
                program, tuple(examples), f=str(file), dynamo=True, external_data=False, verbose=False, **options
            )
            model = onnx.load(str(file))
        except Exception as error:
            raise Unsupported(f"PyTorch cannot bring this model to ONNX: {sentence(error)}") from error
    for part in (model.graph, *model.graph.node, *model.graph.value_info):
        part.ClearField("metadata_props")  # where on the exporting machine the code stood
    return model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter talks on standard output, by warnings and in the log."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def sentence(error: Exception) -> str:
    """The start of another library's words, on one line and without the colours of a terminal."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())[:200] or type(error).__name__
