"""`edgeward optimize`, the real command, on everything that is wrong: one sentence, the right code, nothing left."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import models_for_tests as made
import numpy as np
import onnx
import pytest

from edgeward.kit.errors import Unsupported
from edgeward.measure.metering import meter_of

Mount = Callable[..., Path]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(made.classifier(), path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return made.write_samples(tmp_path / "data.npz")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a file system of its own on a folder, with these options of mount(8)."""
    mounted: list[Path] = []

    def mounted_at(*options: str) -> Path:
        folder = tmp_path / "mounted"
        folder.mkdir(exist_ok=True)
        program = shutil.which("mount")
        if program is None or subprocess.run([program, *options, folder], capture_output=True).returncode != 0:
            pytest.skip("needs the right to mount (root)")
        mounted.append(folder)
        return folder

    yield mounted_at
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


def _command(model: Path, data: Path, output: Path, *more: str) -> list[str]:
    order = [str(model), "--data", str(data), "-o", str(output), "--time-limit", "1s", "--threads", "1", *more]
    return [sys.executable, "-m", "edgeward", "optimize", *order]


def _environment(output: Path) -> dict[str, str]:
    """With a place for the signing key that is this test's own."""
    home = str(output.parent / "home")
    return {**os.environ, "HOME": home, "XDG_CONFIG_HOME": home}


def _start(model: Path, data: Path, output: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        _command(model, data, output, *more), text=True, env=_environment(model.parent / "out"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _told(process: subprocess.Popen[str], code: int) -> str:
    """The one sentence with which the process ended, and it ended with `code`."""
    _, stderr = process.communicate(timeout=120)
    sentences = [line for line in stderr.splitlines() if line.startswith("edgeward: ")]
    assert process.returncode == code, stderr
    assert len(sentences) == 1, stderr
    assert "Traceback" not in stderr
    assert "a mistake in edgeward itself" not in stderr
    return sentences[0]


def _refusal(model: Path, data: Path, *more: str, code: int = 2) -> str:
    """The sentence that `edgeward optimize` ends with; it left no output."""
    folder = model.parent / "work"
    folder.mkdir(exist_ok=True)
    sentence = _told(_start(model, data, folder / "out", *more), code)
    assert list(folder.iterdir()) == []
    return sentence


def _until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Waits for something that a running command does on its way."""
    while not happened():
        assert process.poll() is None, "it ended before it came so far"
        time.sleep(0.01)


def _is_at_work(folder: Path) -> Callable[[], bool]:
    return lambda: any(folder.glob(".out.partial-*/.trials-*/*.onnx"))


# The model


def test_a_missing_model_is_named(tmp_path: Path, data: Path) -> None:
    assert "absent.onnx: no such model file" in _refusal(tmp_path / "absent.onnx", data)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
        (b"no model at all", "no ONNX model"),
        (bytes(5000), "no ONNX model"),
    ],
)
def test_a_file_that_is_no_model_is_called_what_it_is(tmp_path: Path, data: Path, content: bytes, said: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert said in _refusal(path, data)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_model_is_refused_wherever_it_was_cut(model: Path, data: Path, share: float) -> None:
    whole = model.read_bytes()
    model.write_bytes(whole[: int(len(whole) * share)])
    assert "model.onnx: this" in _refusal(model, data)


@pytest.mark.parametrize("domain", ["", "some.company"])
def test_an_unknown_operator_is_named_and_not_supported(model: Path, data: Path, domain: str) -> None:
    onnx.save(made.with_unknown_operator(domain), model)
    assert "Wobble" in _refusal(model, data, code=4)


@pytest.mark.slow
def test_a_free_height_and_width_is_mended_by_the_shape_that_the_hint_names(model: Path, data: Path) -> None:
    onnx.save(made.classifier(side="side"), model)
    process = _start(model, data, model.parent / "out")
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "free in height or width" in stderr
    hint = stderr.split("try: ")[1].split()
    assert hint == ["--shape", "image=1x1x8x8"]
    mended = _start(model, data, model.parent / "out", *hint)
    _, stderr = mended.communicate(timeout=120)
    assert mended.returncode == 0, stderr
    assert (model.parent / "out" / "report.html").exists()


def test_a_shape_that_does_not_fit_the_model_is_refused(model: Path, data: Path) -> None:
    assert "fixed at 8, got 9" in _refusal(model, data, "--shape", "image=1x1x9x9")
    assert "no input 'x'" in _refusal(model, data, "--shape", "x=1x1x8x8")


# The data


_IMAGES, _LABELS = made.samples()
_WITH_NAN = (_IMAGES / np.float32(255)).reshape(-1, 1, 8, 8)
_WITH_NAN[17, 0, 3, 3] = np.nan


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"image": np.zeros((90, 1, 7, 7), np.float32)}, "wants 1x8x8 per sample", id="another shape"),
        pytest.param({"image": np.zeros(90, np.float32)}, "wants 1x8x8 per sample", id="numbers for images"),
        pytest.param({"image": np.float32(1)}, "a single number", id="one number"),
        pytest.param({"image": np.zeros((0, 8, 8, 1), np.uint8)}, "no samples", id="no samples"),
        pytest.param({"image": _IMAGES.astype("U")}, "wanted float32", id="texts"),
        pytest.param({"image": _IMAGES.astype(np.complex64)}, "wanted float32", id="complex numbers"),
        pytest.param({"image": _WITH_NAN}, "NaN or infinity), in sample 17", id="NaN"),
        pytest.param({"labels": _LABELS[:50]}, "90 samples but labels of length 50", id="fewer labels"),
        pytest.param({"labels": np.int64(1)}, "labels of length one number", id="one label"),
        pytest.param({"labels": np.ones(90, np.int64)}, "all 72 labels are class 1", id="one class"),
        pytest.param({"labels": _LABELS + 1}, "the model knows classes 0..2", id="labels from one"),
        pytest.param({"labels": _LABELS - 1}, "a label is -1", id="a negative label"),
        pytest.param({"labels": _LABELS + 1j}, "the labels are complex128", id="complex labels"),
        pytest.param({"labels": np.where(_LABELS == 1, np.nan, 0.5)}, "labels hold a value", id="NaN for labels"),
        pytest.param({"image": np.array([None] * 90)}, "Python objects", id="Python objects"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(model: Path, tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    sentence = _refusal(model, made.write_samples(tmp_path / "bad.npz", **changed))
    assert said in sentence
    assert "bad.npz" in sentence


def test_a_wrong_input_name_is_told_with_the_right_one(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", picture=_IMAGES, labels=_LABELS)
    assert "the model's input is 'image', the file has labels, picture" in _refusal(model, tmp_path / "bad.npz")


def test_missing_data_are_named(model: Path, tmp_path: Path) -> None:
    assert "absent.npz: no such data set" in _refusal(model, tmp_path / "absent.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"garbage" * 50])
def test_an_npz_that_is_none_is_refused(model: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    assert "bad.npz: this is no readable .npz" in _refusal(model, tmp_path / "bad.npz")


def test_a_truncated_npz_is_refused(model: Path, data: Path) -> None:
    data.write_bytes(data.read_bytes()[:3000])
    assert "no readable .npz" in _refusal(model, data)


def test_an_npz_with_a_flipped_byte_is_refused(model: Path, data: Path) -> None:
    content = bytearray(data.read_bytes())
    content[3000] ^= 0xFF
    data.write_bytes(content)
    assert "no readable .npz" in _refusal(model, data)


def test_an_empty_folder_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no image and no WAV file" in _refusal(model, tmp_path / "empty")


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_corrupt_image_among_good_ones_is_named(model: Path, tmp_path: Path, content: bytes | None) -> None:
    folder = made.write_images(tmp_path / "images")
    bad = folder / "class-1" / "010.png"
    bad.write_bytes(bad.read_bytes()[:90] if content is None else content)
    assert "class-1/010.png: this image cannot be decoded" in _refusal(model, folder)


# The output


def test_an_output_folder_that_is_not_empty_is_untouched(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    assert "exists and is not empty" in _told(_start(model, data, out), 2)
    assert [(file.name, file.read_text()) for file in out.iterdir()] == [("thesis.txt", "years of work")]


def test_an_output_that_is_a_file_is_untouched(model: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("years of work")
    assert "is a file, wanted a folder" in _told(_start(model, data, tmp_path / "out"), 2)
    assert (tmp_path / "out").read_text() == "years of work"


def test_an_output_inside_a_file_is_refused(model: Path, data: Path) -> None:
    assert f"{data}: exists already" in _told(_start(model, data, data / "out"), 2)


@pytest.mark.parametrize("place", ["/proc", "/sys"])
def test_a_place_where_nobody_can_write_is_named(model: Path, data: Path, place: str) -> None:
    assert f"{place}/out" in _told(_start(model, data, Path(place) / "out"), 2)


def test_a_read_only_file_system_is_told(model: Path, data: Path, mount: Mount) -> None:
    folder = mount("-t", "tmpfs", "-o", "ro,size=1m", "tmpfs")
    assert f"{folder}/out: the file system is read-only" in _told(_start(model, data, folder / "out"), 2)


@pytest.mark.slow
@pytest.mark.parametrize("left_kilobytes", [0, 40])
def test_no_space_left_is_told_and_nothing_stays(model: Path, data: Path, mount: Mount, left_kilobytes: int) -> None:
    folder = mount("-t", "tmpfs", "-o", "size=1m", "tmpfs")
    (folder / "ballast").write_bytes(bytes((1024 - left_kilobytes) * 1024))
    assert f"{folder}/out: no space left" in _told(_start(model, data, folder / "out"), 1)
    assert [file.name for file in folder.iterdir()] == ["ballast"]


def test_no_space_for_temporary_files_is_told_and_no_trial_fails_for_it(model: Path, data: Path, mount: Mount) -> None:
    folder = mount("-t", "tmpfs", "-o", "size=64k", "tmpfs")
    (folder / "ballast").write_bytes(bytes(60 * 1024))
    process = subprocess.Popen(
        _command(model, data, model.parent / "out", "--time-limit", "120s"), text=True,
        env={**_environment(model.parent / "out"), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert f"{folder}: no space left" in _told(process, 1)
    assert not (model.parent / "out").exists()


# The limits


@pytest.mark.slow
def test_an_unreachable_budget_names_the_nearest_candidate(model: Path, data: Path, tmp_path: Path) -> None:
    sentence = _told(_start(model, data, tmp_path / "out", "--budget", "p50<0.0001ms"), 3)
    assert "the nearest is " in sentence
    assert "over 0.0001 ms" in sentence
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]


def test_energy_cannot_be_limited_where_it_is_not_measured(model: Path, data: Path) -> None:
    with contextlib.suppress(Unsupported):
        meter_of()
        pytest.skip("this machine has an energy meter")
    assert "no energy" in _refusal(model, data, "--budget", "energy<1mJ", code=4)


@pytest.mark.parametrize("budget", ["p50", "p50<1MB", "colour<1ms", "p50<1.2.3ms"])
def test_a_budget_that_cannot_be_read_is_refused(model: Path, data: Path, budget: str) -> None:
    assert "--budget" in _refusal(model, data, "--budget", budget)


@pytest.mark.parametrize("drop", ["nan", "inf", "much"])
def test_a_drop_that_is_no_number_is_refused(model: Path, data: Path, drop: str) -> None:
    assert "--max-drop" in _refusal(model, data, f"--max-drop={drop}")


# Interruptions


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(model: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    process = _start(model, data, folder / "out")
    _until(_is_at_work(folder), process)
    process.send_signal(signal.SIGINT)
    assert "stopped" in _told(process, 130)
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_what_a_killed_run_left_is_removed_by_the_next(model: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    killed = _start(model, data, folder / "out")
    _until(_is_at_work(folder), killed)
    killed.kill()
    killed.communicate(timeout=60)
    assert [file.name.partition("-")[0] for file in folder.iterdir()] == [".out.partial"]
    second = _start(model, data, folder / "out")
    _, stderr = second.communicate(timeout=120)
    assert second.returncode == 0, stderr
    assert [file.name for file in folder.iterdir()] == ["out"]


@pytest.mark.slow
def test_of_two_runs_at_once_one_writes_the_output_whole_and_the_other_is_told(
    model: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    with contextlib.ExitStack() as ends:
        both = [_start(model, data, folder / "out") for _ in range(2)]
        for process in both:
            ends.callback(process.kill)
        endings = [(process.communicate(timeout=120)[1], process.returncode) for process in both]
    assert sorted(code for _, code in endings) == [0, 2]
    assert "exists and is not empty" in next(stderr for stderr, code in endings if code == 2)
    assert [file.name for file in folder.iterdir()] == ["out"]
    checked = subprocess.run(
        [sys.executable, "-m", "edgeward", "verify", folder / "out" / "bundle"],
        capture_output=True, text=True, env=_environment(tmp_path / "out"),
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
