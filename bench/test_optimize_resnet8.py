"""Edgeward's choice for MLPerf Tiny's resnet8 beside what ONNX Runtime's own quantiser makes, in one interleaved run.

Needs the model and CIFAR-10 as image folders: EDGEWARD_BENCH_DATA names a folder with mlperf-tiny/resnet8-float.onnx,
cifar10-train/ and cifar10-evaluation/. Prints a table; asserts nothing about time.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from edgeward.infer import Predictor, runtimes
from edgeward.measure import bench
from edgeward.measure.dataset import open_dataset
from edgeward.measure.evaluate import answers
from edgeward.measure.jobs import Contender
from edgeward.records.model import TensorSpec

DATA = Path(os.environ.get("EDGEWARD_BENCH_DATA", "bench-data"))
MODEL = DATA / "mlperf-tiny" / "resnet8-float.onnx"
SPEC = TensorSpec(name="input_1", dtype="float32", shape=(32, 32, 3))


class Reader(CalibrationDataReader):
    def __init__(self, samples):
        self._rest = iter(samples)

    def get_next(self):
        sample = next(self._rest, None)
        return None if sample is None else {"input_1": sample["input_1"].astype(np.float32)[None]}


@pytest.mark.skipif(not MODEL.exists(), reason=f"{MODEL} is not here; EDGEWARD_BENCH_DATA names its folder")
def test_resnet8_beside_the_runtimes_own_quantiser(tmp_path):
    evaluation = open_dataset(DATA / "cifar10-evaluation", [SPEC])
    train = open_dataset(DATA / "cifar10-train", [SPEC])
    calibration = list(train.part(np.sort(np.random.default_rng(0).permutation(len(train))[:256])))
    command = [sys.executable, "-m", "edgeward", "optimize", str(MODEL), "--data", str(DATA / "cifar10-evaluation")]
    command += ["--calibration", str(DATA / "cifar10-train"), "--threads", "1", "-o", str(tmp_path / "out"), "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    files = {"float, as given": MODEL, f"edgeward: {report['chosen']['recipe']}": tmp_path / "out" / "model.onnx"}
    settings = {
        "ORT static, default types (s8s8)": {"activation_type": QuantType.QInt8},
        "ORT static u8s8, per channel": {"activation_type": QuantType.QUInt8, "per_channel": True},
        "ORT static u8s8, per tensor": {"activation_type": QuantType.QUInt8},
    }
    for index, (name, options) in enumerate(settings.items()):
        files[name] = tmp_path / f"peer{index}.onnx"
        quantize_static(str(MODEL), str(files[name]), Reader(calibration), weight_type=QuantType.QInt8, **options)
    contenders, scores = [], []
    for index, file in enumerate(files.values()):
        predictor = Predictor(runtimes.load("onnxruntime").load(file.read_bytes(), threads=1))
        found = answers(predictor, evaluation, metric="top1")
        scores.append(float((found.outputs.argmax(1) == found.targets).mean()))
        feeds = bench.save_feeds(tmp_path / f"{index}.npz", [predictor.tensors(evaluation[i]) for i in range(8)])
        contenders.append(Contender(str(file), "onnxruntime", 1, str(feeds)))
    times = bench.race(contenders, seconds=9, seed=0)
    print(f"\n{'':42} {'top1':>6} {'bytes':>8} {'p50 µs':>7}   speed [95 %], n {times[0].size}")
    for (name, file), score, mine in zip(files.items(), scores, times, strict=True):
        ratio = bench.compare(times[0], mine, seed=0)
        low, high = ratio.ratio_ci
        size = file.stat().st_size
        print(
            f"{name:42} {score:6.4f} {size:8} {1000 * np.median(mine):7.1f}   {ratio.ratio:.2f} [{low:.2f}, {high:.2f}]"
        )
