"""The documentation says what is: what it shows runs, what it names exists, what is generated is fresh."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WALKED = [
    "README.md",
    "docs/bundle.md",
    pytest.param("docs/pipelines.md", marks=pytest.mark.slow),
    pytest.param("docs/doctor.md", marks=pytest.mark.slow),
    pytest.param("docs/start.md", marks=pytest.mark.slow),
]
BLOCK = re.compile(r"^```console run\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
OWN_PATH = re.compile(r"`((?:src|docs|tests|bench|examples)/[^`\s*]+)`")


def steps_of(page: Path) -> Iterator[tuple[str, str]]:
    """Each `$ command` of the page's runnable blocks, with the output shown below it."""
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            while command.endswith("\\"):
                more, _, shown = shown.partition("\n")
                command += "\n" + more
            yield command, shown


def lent(folder: Path) -> dict[str, str]:
    """A folder that sees the repository's tests and examples as the page's reader does, and a home of its own."""
    for name in ("tests", "examples", "docs"):
        if (ROOT / name).exists():
            (folder / name).symlink_to(ROOT / name)
    (folder / "home").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EDGEWARD_", "XDG_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "HOME": str(folder / "home"), "PATH": path, "NO_COLOR": "1", "COLUMNS": "120"}


@pytest.mark.parametrize("name", WALKED)
def test_what_a_page_shows_runs_and_says_what_is_shown(name: str, tmp_path: Path) -> None:
    environment = lent(tmp_path)
    steps = list(steps_of(ROOT / name))
    assert steps, f"{name} shows nothing that runs"
    for command, shown in steps:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, f"{name}: {command}\n{done.stdout}"
        # Figures differ from machine to machine; words do not.
        said = set(re.findall(r"[A-Za-z]{3,}", done.stdout))
        missing = set(re.findall(r"[A-Za-z]{3,}", shown)) - said
        assert not missing, f"{name}: {command}\nthe page shows {sorted(missing)}; it said:\n{done.stdout}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_path_on_a_page_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = [target for target in LINK.findall(text) if "://" not in target]
    broken = [target for target in links if not (page.parent / target).exists()]
    broken += [path for path in OWN_PATH.findall(text) if not (ROOT / path).exists()]
    assert not broken


def test_the_architecture_page_names_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / "src" / "edgeward").glob("*/__init__.py")}
    assert rooms
    assert not {room for room in rooms if f"`{room}`" not in text}


def test_the_page_on_passes_names_every_pass() -> None:
    text = (ROOT / "docs" / "passes.md").read_text(encoding="utf-8")
    folder = ROOT / "src" / "edgeward" / "optimize" / "passes"
    names = {path.stem.replace("_", "-") for path in folder.glob("*.py")} - {"--init--", "base"}
    assert names
    assert not {name for name in names if f"| `{name}` |" not in text}


def test_the_readme_is_read_in_one_go() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100


def test_every_page_is_reached_from_the_readme() -> None:
    reached = {ROOT / "README.md"}
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            place = (page.parent / target).resolve()
            found = sorted(place.glob("*.md")) if place.is_dir() else [place]
            new = [one for one in found if one.suffix == ".md" and one.exists() and one not in reached]
            reached.update(new)
            waiting.extend(new)
    assert not [str(page.relative_to(ROOT)) for page in PAGES if page not in reached]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_fresh_and_every_promised_verb_has_a_file(reference: ModuleType) -> None:
    assert reference.faults(reference.FOLDER) == []


def test_a_changed_page_of_the_reference_is_told_as_stale(reference: ModuleType, tmp_path: Path) -> None:
    for name, text in reference.pages().items():
        (tmp_path / name).write_text(text)
    whole = reference.faults(tmp_path)
    (tmp_path / "errors.md").write_text("other")
    (tmp_path / "records.md").unlink()
    assert [fault for fault in reference.faults(tmp_path) if fault not in whole] == [
        "docs/reference/errors.md: is stale; run `make docs`",
        "docs/reference/records.md: is stale; run `make docs`",
    ]


MEMBER = re.compile(r"^```python member=(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ENTRY = re.compile(r"^```toml entry\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def install(page: Path, folder: Path) -> dict[str, str]:
    """The page's member as a distribution of somebody else; the environment in which it is installed."""
    text = page.read_text(encoding="utf-8")
    ((name, code),) = MEMBER.findall(text)
    (entry,) = ENTRY.findall(text)
    (folder / f"{name}.py").write_text(code)
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    ((group, points),) = tomllib.loads(entry)["project"]["entry-points"].items()
    lines = "".join(f"{key} = {value}\n" for key, value in points.items())
    (about / "entry_points.txt").write_text(f"[{group}]\n{lines}")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


def python(code: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_runtime_of_the_page_is_found_and_passes_the_smoke_inference(tmp_path: Path) -> None:
    environment = install(ROOT / "docs" / "adding" / "a-runtime.md", tmp_path)
    code = "from edgeward.measure.smoke import smoke; found = smoke('polynomial'); print(found.works, found.reason)"
    assert python(code, environment) == "True a one-node model gave the right answer\n"


def test_the_runtime_of_the_page_tells_bad_input_in_a_sentence(tmp_path: Path) -> None:
    environment = install(ROOT / "docs" / "adding" / "a-runtime.md", tmp_path)
    code = """
import numpy as np
from edgeward.infer import runtimes
from edgeward.kit.errors import WrongInput
runtime = runtimes.load("polynomial")
for bad in (lambda: runtime.load(b"no", threads=1),
            lambda: runtime.load(b"[1]", threads=1).run({"z": np.zeros(1, np.float32)}),
            lambda: runtime.load(b"[1]", threads=1).run({"x": np.zeros(1)})):
    try:
        bad()
    except WrongInput as error:
        print(error.message)
"""
    assert len(python(code, environment).splitlines()) == 3


def test_the_pass_of_the_page_gives_a_changed_copy_that_answers_nearly_alike(tmp_path: Path) -> None:
    environment = install(ROOT / "docs" / "adding" / "a-pass.md", tmp_path)
    code = """
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
from edgeward.infer import runtimes
from edgeward.optimize import passes
from edgeward.records.candidate import Step
weight = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])], [numpy_helper.from_array(weight, "w")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
before = model.SerializeToString()
made = passes.load("round-weights").apply(model, Step(use="round-weights"), passes.Context((), "tensor", ()))
assert model.SerializeToString() == before
onnx.checker.check_model(made.model)
run = lambda data: runtimes.load("onnxruntime").load(data, threads=1).run({"x": np.ones((1, 8), np.float32)})[0]
error = np.abs(run(before) - run(made.model.SerializeToString())).max()
assert 0 < error < 0.01, error
print(*made.notes)
"""
    assert python(code, environment) == "rounded 1 weights\n"


def test_the_probe_of_the_page_reads_a_tree_and_names_a_broken_sensor(tmp_path: Path) -> None:
    environment = install(ROOT / "docs" / "adding" / "a-probe.md", tmp_path)
    code = """
import pathlib, tempfile
from edgeward.measure import probes
root = pathlib.Path(tempfile.mkdtemp())
file = root / "proc/sys/kernel/random/entropy_avail"
assert probes.readings(root, ["entropy"]) == ()
file.parent.mkdir(parents=True)
for text in ("256", "full"):
    file.write_text(text)
    print([(one.probe, one.value, one.fault) for one in probes.readings(root, ["entropy"])])
"""
    whole, broken = python(code, environment).splitlines()
    assert whole == "[('entropy', 256.0, None)]"
    assert broken == "[('entropy', None, \"not readable: 'full' is no number\")]"


def test_the_source_of_the_page_gives_samples_through_a_pipeline(tmp_path: Path) -> None:
    environment = install(ROOT / "docs" / "adding" / "a-source.md", tmp_path)
    code = """
from edgeward.infer import Predictor
from edgeward.infer.runtimes import load
from edgeward.infer.runtimes.echo import EchoModel
from edgeward.kit import codec
from edgeward.records.model import TensorSpec
from edgeward.serve import Flow, Running
from edgeward.serve.parts import source_of
from edgeward.serve.sources import Wanted
def model():
    spec = TensorSpec(name="x", dtype="float32", shape=("n", 3))
    return Predictor(load("echo").load(codec.to_json(EchoModel(inputs=(spec,))), threads=1))
wanted = Wanted("m", "tensor", (TensorSpec(name="x", dtype="float32", shape=(3,)),))
source = source_of("load:cpu?interval_s=0.01")
counts = Running(model, source, wanted, [], flow=Flow(limit=3), tell=print, seen=lambda one: print(one.source)).run()
print(counts.answered)
"""
    assert python(code, environment) == "load\n" * 3 + "3\n"


def test_the_sink_of_the_page_counts_what_a_run_answers(tmp_path: Path) -> None:
    environment = install(ROOT / "docs" / "adding" / "a-sink.md", tmp_path)
    environment["XDG_CONFIG_HOME"] = str(tmp_path / "configuration")
    digits = ROOT / "examples" / "digits"
    options = ("--preprocess", digits / "preprocess.toml", "--labels", digits / "labels.txt", "-o", "digits")
    for arguments in (
        ("pack", digits / "digits.onnx", *options),
        ("sign", "digits"),
        ("run", "digits", "-i", digits / "unseen", "--sink", "tally:seen.json"),
    ):
        command = [sys.executable, "-m", "edgeward", *map(str, arguments)]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=120)
    assert sum(json.loads((tmp_path / "seen.json").read_bytes()).values()) == 10


def test_the_packer_of_the_page_writes_what_export_puts(tmp_path: Path) -> None:
    environment = install(ROOT / "docs" / "adding" / "a-packer.md", tmp_path)
    bundle = ROOT / "tests" / "golden" / "bundle-v1-good"
    words = ["export", bundle, "--as", "script", "-o", "out", "--key", bundle.parent / "signer.pub"]
    command = [sys.executable, "-m", "edgeward", *map(str, words)]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=120)
    made = tmp_path / "out" / "golden.sh"
    assert os.access(made, os.X_OK)
    assert "--env ORT_DISABLE_TELEMETRY=1 " in made.read_text()
    subprocess.run(["sh", "-n", made], check=True, timeout=60)
