"""A program of its own, for an interpreter that has TensorFlow and nothing of edgeward: brings a SavedModel to LiteRT,
then answers samples with the SavedModel itself. Ends with its standard input.

Messages are eight bytes of length and so many bytes. The first answer is the LiteRT file; each further message is an
.npz of inputs by name, and its answer an .npz of outputs by name. "-" before an answer: a sentence on what went wrong.
"""

import io
import os
import struct
import sys
from typing import Any


def main(folder: str) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # TensorFlow talks on standard output
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"})
    made = None
    while made is None or (head := sys.stdin.buffer.read(8)):
        try:
            if made is None:
                made, function = converted(folder)
                reply = b"+" + made
            else:
                reply = b"+" + answered(function, sys.stdin.buffer.read(struct.unpack("<Q", head)[0]))
        except Exception as error:  # noqa: BLE001 - TensorFlow raises whatever it likes; edgeward makes a sentence of it
            made, text = made or b"", f"{type(error).__name__}: {error}"
            reply = b"-" + " ".join(text.split())[:300].encode()
        answers.write(struct.pack("<Q", len(reply)) + reply)
        answers.flush()


def converted(folder: str) -> tuple[bytes, Any]:
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    keys = list(loaded.signatures)
    if not keys:
        raise ValueError("it has no signature, so nothing says what it takes")
    key = "serving_default" if "serving_default" in keys else keys[0]
    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[key])
    return converter.convert(), loaded.signatures[key]


def answered(function: Any, feeds: bytes) -> bytes:
    import numpy as np
    import tensorflow as tf

    with np.load(io.BytesIO(feeds), allow_pickle=False) as arrays:
        outputs = function(**{name: tf.constant(arrays[name]) for name in arrays.files})
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value.numpy() for name, value in outputs.items()})
    return buffer.getvalue()


if __name__ == "__main__":
    main(sys.argv[1])
