"""Trains a small classifier of spoken digits on the recordings of the Free Spoken Digit Dataset.

Writes a case: model.onnx, model.pt2, case.toml, preprocess.toml, calibration/ and evaluation/ (recordings that training
never saw).
Needs `pip install torch==2.13.0` and then `pip install 'edgeward[train]'`. Takes about a minute on one core.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeward.infer import Preprocessor, read_wav
from edgeward.records.model import PreprocessFile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from case_folder import describe, export, new_folder
from networks import NETWORKS

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="WAVs: {digit}_{speaker}_{n}.wav")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="a new folder to write")
    parser.add_argument("--network", choices=NETWORKS, default="plain")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    files = sorted(file for file in arguments.data.rglob("*.wav") if re.fullmatch(r"\d_[^_]+_\d+", file.stem))
    parts = split(files)
    if not parts["evaluation"] or not parts["train"]:
        parser.error(f"{arguments.data}: too few recordings named like 7_jackson_12.wav: {len(files)}")
    new_folder(parser, arguments.output)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    print(", ".join(f"{len(part)} for {name}" for name, part in parts.items()), file=sys.stderr)
    features, labels = tensors(parts["train"])
    model = NETWORKS[arguments.network](features.mean().item(), features.std().item())
    train(model, features, labels, arguments.epochs)
    for name in ("calibration", "evaluation"):
        (arguments.output / name).mkdir(parents=True)
        for file in parts[name]:
            shutil.copyfile(file, arguments.output / name / file.name)
    (arguments.output / "preprocess.toml").write_text(PREPROCESS_TOML, encoding="utf-8")
    features, labels = tensors(parts["evaluation"])
    kind = "sequence" if arguments.network == "transformer" else "audio"
    describe(arguments.output, name=f"spoken-digits-{arguments.network}", kind=kind, metric="top1", max_drop=0.01)
    right = export(model, arguments.output, features, takes="features", gives="scores").argmax(1) == labels.numpy()
    print(f"accuracy on {len(right)} recordings it never saw: {right.mean():.4f}", file=sys.stderr)


if __name__ == "__main__":
    main()
