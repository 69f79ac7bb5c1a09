"""Runs a model on one sample: raw sample → preprocess → runtime → postprocess → answer."""

from edgeward.infer.predictor import Answer, Predictor, Sample
from edgeward.infer.preprocess import Preprocessor, output_of
from edgeward.infer.samples import read_image, read_npz, read_wav

__all__ = ["Answer", "Predictor", "Preprocessor", "Sample", "output_of", "read_image", "read_npz", "read_wav"]
