"""Who takes part."""

from pathlib import Path
from typing import NamedTuple

from bench.serve_vs_peers.forms import BENTO, BINARY, LIT, RAW, Form

PEERS_FOLDER = Path(__file__).parent / "peers"
REQUIREMENTS_FOLDER = PEERS_FOLDER / "requirements"
EDGEWARD = "edgeward"


class Contestant(NamedTuple):
    """`peers/NAME.py` runs in the environment that `peers/requirements/NAME.txt` describes; Edgeward is itself.

    `package` is the one whose version is told.
    """

    name: str
    title: str
    form: Form
    package: str = ""


OURS = Contestant(EDGEWARD, "Edgeward", BINARY)
BARE = Contestant("bare", "bare ASGI function on uvicorn", RAW, "uvicorn")
PEERS = (
    BARE,
    Contestant("triton", "Triton (PyTriton)", BINARY, "nvidia-pytriton"),
    Contestant("bento", "BentoML", BENTO, "bentoml"),
    Contestant("lit", "LitServe", LIT, "litserve"),
)
