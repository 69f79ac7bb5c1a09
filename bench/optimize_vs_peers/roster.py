"""Who takes part: each peer's script and the environment it runs in."""

from pathlib import Path
from typing import NamedTuple

PEERS_FOLDER = Path(__file__).parent / "peers"
REQUIREMENTS_FOLDER = PEERS_FOLDER / "requirements"


class Peer(NamedTuple):
    """`peers/SCRIPT.py` runs in the environment that `peers/requirements/ENVIRONMENT.txt` describes."""

    script: str
    environment: str


PEERS = (
    Peer("ort_static", "onnxruntime"),
    Peer("ort_dynamic", "onnxruntime"),
    Peer("nncf_ptq", "nncf"),
    Peer("litert_quantizer", "litert_torch"),
    Peer("tflite_converter", "tensorflow"),
    Peer("olive_int8", "olive"),
    Peer("neural_compressor_ptq", "neural_compressor"),
    Peer("modelopt_int8", "modelopt"),
    Peer("quark_int8", "quark"),
)


def environments() -> tuple[str, ...]:
    return tuple(dict.fromkeys(peer.environment for peer in PEERS))
