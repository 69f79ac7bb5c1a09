"""TensorFlow's own converter on a Keras model: full int8 with calibration, float inputs and outputs."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras
from case_files import Case, Made, main


def static(case: Case, out: Path) -> Made:
    model = tf_keras.models.load_model(str(case.file("model.h5")), compile=False)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: _samples(case)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    file = out.with_suffix(".tflite")
    file.write_bytes(converter.convert())
    return Made(file, "litert", "int8")


def _samples(case: Case) -> Iterator[list[np.ndarray]]:
    for sample in case.calibration():
        yield [tensor.astype(np.float32) for tensor in sample.values()]


if __name__ == "__main__":
    main({"TFLite converter int8": static})
