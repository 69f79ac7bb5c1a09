"""Runs a model on one sample: raw sample → preprocess → runtime → postprocess → answer."""

from edgeward.infer.answer import Answer, document_of
from edgeward.infer.postprocess import classes_of
from edgeward.infer.predictor import Predictor, Sample
from edgeward.infer.preprocess import Preprocessor, output_of
from edgeward.infer.samples import read_image, read_npz, read_wav

__all__ = [
    "Answer",
    "Predictor",
    "Preprocessor",
    "Sample",
    "classes_of",
    "document_of",
    "output_of",
    "read_image",
    "read_npz",
    "read_wav",
]
