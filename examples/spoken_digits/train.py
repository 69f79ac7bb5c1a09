"""Trains a small classifier of spoken digits on the recordings of the Free Spoken Digit Dataset.

Writes spoken-digits.onnx, preprocess.toml, calibration/ and evaluation/ (recordings that training never saw).
Needs `pip install torch==2.13.0` and then `pip install 'edgeward[train]'`. Takes about a minute on one core.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

from edgeward.infer import Preprocessor, read_wav
from edgeward.records.model import PreprocessFile

SEED = 7
CALIBRATION = 300
EVALUATION_TAKES = 5  # the first takes of every digit by every speaker, as the data set's authors advise
SAMPLE_RATE_HZ = 8000
PREPROCESS_TOML = """\
# From the recording (8 kHz, mono, -1..1) to the input tensor: one second, then log-mel energies, frames x mels
[[preprocess]]
type = "fit_length"
samples = 8000

[[preprocess]]
type = "log_mel"
sample_rate = 8000
frame_length = 256
hop_length = 128
mel_count = 40
low_hz = 20.0
high_hz = 4000.0
"""
STEPS = msgspec.toml.decode(PREPROCESS_TOML, type=PreprocessFile).preprocess


class SpokenDigits(nn.Module):
    """(batch, 1, frames, mels) plain log-mel energies → (batch, 10) scores. `mean` and `std` are of the energies."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        widths = ((1, 32, 2), (32, 64, 2), (64, 64, 1), (64, 96, 2))
        self.body = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
                for into, out, stride in widths
            ),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(96, 10),
        )  # fmt: skip

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.body((features - self.mean) / self.std)  # type: ignore[no-any-return]


def split(files: list[Path]) -> dict[str, list[Path]]:
    """The recordings of each purpose; no recording serves two."""
    evaluation = [file for file in files if int(file.stem.split("_")[2]) < EVALUATION_TAKES]
    others = sorted(set(files) - set(evaluation))
    order = [others[index] for index in np.random.default_rng(SEED).permutation(len(others))]
    return {"evaluation": evaluation, "calibration": order[:CALIBRATION], "train": order[CALIBRATION:]}


def tensors(files: list[Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (count, 1, frames, mels) and labels, made by the same code that runs on the device."""
    prepare = Preprocessor(STEPS)
    features: list[NDArray[np.float32]] = []
    for file in files:
        wave, rate_hz = read_wav(file)
        if rate_hz != SAMPLE_RATE_HZ:
            raise SystemExit(f"{file}: recorded at {rate_hz} Hz, wanted {SAMPLE_RATE_HZ} Hz")
        features.append(prepare(wave)[None])
    return torch.from_numpy(np.stack(features)), torch.tensor([int(file.stem.split("_")[0]) for file in files])


def train(model: nn.Module, features: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    """Adam with a cosine schedule; recordings shift by up to 4 frames, so that the network learns no fixed start."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    for epoch in range(epochs):
        for rows in torch.randperm(len(features)).split(32):
            shift = int(torch.randint(-4, 5, ()))
            loss = nn.functional.cross_entropy(model(features[rows].roll(shift, 2)), labels[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
        print(f"epoch {epoch + 1}/{epochs}: loss {loss.item():.4f}", file=sys.stderr)


def export(model: nn.Module, file: Path, sample: torch.Tensor) -> NDArray[np.float32]:
    """Writes the ONNX file; returns what it answers. Raises ValueError when that is not what PyTorch answers."""
    model.eval()
    torch.onnx.export(
        model, (sample,), file, dynamo=True, external_data=False, input_names=["features"], output_names=["scores"],
        dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False,
    )  # fmt: skip
    exported = onnx.load(file)
    for part in (exported.graph, *exported.graph.node, *exported.graph.value_info):
        part.ClearField("metadata_props")  # notes of the exporter: where on this machine the code stands
    onnx.checker.check_model(exported)
    onnx.save(exported, file)
    with torch.no_grad():
        expected = model(sample).numpy()
    scores: NDArray[np.float32] = ort.InferenceSession(file).run(None, {"features": sample.numpy()})[0]
    if not np.abs(scores - expected).max() < 1e-3:
        raise ValueError("ONNX Runtime does not answer as PyTorch does")
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="WAVs: {digit}_{speaker}_{n}.wav")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="a new folder to write")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    files = sorted(file for file in arguments.data.rglob("*.wav") if re.fullmatch(r"\d_[^_]+_\d+", file.stem))
    parts = split(files)
    if not parts["evaluation"] or not parts["train"]:
        parser.error(f"{arguments.data}: too few recordings named like 7_jackson_12.wav: {len(files)}")
    if arguments.output.is_file() or any(arguments.output.glob("*")):
        parser.error(f"{arguments.output}: there is something in it; name a new folder")
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    print(", ".join(f"{len(part)} for {name}" for name, part in parts.items()), file=sys.stderr)
    features, labels = tensors(parts["train"])
    model = SpokenDigits(features.mean().item(), features.std().item())
    train(model, features, labels, arguments.epochs)
    for name in ("calibration", "evaluation"):
        (arguments.output / name).mkdir(parents=True)
        for file in parts[name]:
            shutil.copyfile(file, arguments.output / name / file.name)
    (arguments.output / "preprocess.toml").write_text(PREPROCESS_TOML, encoding="utf-8")
    features, labels = tensors(parts["evaluation"])
    right = export(model, arguments.output / "spoken-digits.onnx", features).argmax(1) == labels.numpy()
    print(f"accuracy on {len(right)} recordings it never saw: {right.mean():.4f}", file=sys.stderr)


if __name__ == "__main__":
    main()
