"""Data sets as people keep them, and every way they can be wrong."""

import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeward.kit.errors import WrongInput
from edgeward.measure.dataset import open_dataset
from edgeward.records.model import TensorSpec

IMAGE = TensorSpec(name="x", dtype="float32", shape=(8, 8, 3))
VECTOR = TensorSpec(name="x", dtype="float32", shape=(4,))
WAVE = TensorSpec(name="x", dtype="float32", shape=("samples",))


def picture(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(path)


def recording(path: Path, rate: int = 8000, length: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.arange(length) * 100).astype("<i2").tobytes())


def test_a_folder_of_class_folders(tmp_path):
    for name, grey in (("cat/a.png", 1), ("cat/b.png", 2), ("dog/a.png", 3)):
        picture(tmp_path / name, grey)
    data = open_dataset(tmp_path, [IMAGE])
    assert (data.kind, data.class_names, data.labels.tolist()) == ("image", ("cat", "dog"), [0, 0, 1])
    assert [int(sample["x"][0, 0, 0]) for sample in data] == [1, 2, 3]
    assert data[0]["x"].dtype == np.uint8


def test_numbered_classes_are_in_the_order_of_numbers(tmp_path):
    for name in ("2", "10", "1"):
        picture(tmp_path / name / "a.png", 1)
    assert open_dataset(tmp_path, [IMAGE]).class_names == ("1", "2", "10")


def test_labels_csv(tmp_path):
    picture(tmp_path / "a.png", 1)
    picture(tmp_path / "b.png", 2)
    (tmp_path / "labels.csv").write_text("file,label\na.png,dog\nb.png,cat\n")
    data = open_dataset(tmp_path, [IMAGE])
    assert [data.class_names[label] for label in data.labels] == ["dog", "cat"]


def test_labels_csv_that_misses_a_file_names_it(tmp_path):
    picture(tmp_path / "a.png", 1)
    picture(tmp_path / "b.png", 2)
    (tmp_path / "labels.csv").write_text("file,label\na.png,dog\n")
    with pytest.raises(WrongInput, match=r"b\.png"):
        open_dataset(tmp_path, [IMAGE])


def test_recordings_are_labelled_by_the_start_of_their_name(tmp_path):
    for name in ("7_a_0.wav", "7_a_1.wav", "3_b_0.wav"):
        recording(tmp_path / name)
    data = open_dataset(tmp_path, [WAVE])
    assert (data.kind, data.class_names, data.sample_rate_hz) == ("audio", ("3", "7"), 8000)
    assert data.labels.tolist() == [0, 1, 1]
    assert data[0]["x"].dtype == np.float32
    assert np.abs(data[0]["x"]).max() <= 1


def test_recordings_of_two_rates_are_refused(tmp_path):
    recording(tmp_path / "1_a.wav")
    recording(tmp_path / "1_b.wav", rate=16000)
    with pytest.raises(WrongInput, match="16000 Hz"):
        list(open_dataset(tmp_path, [WAVE]))


def test_a_corrupt_image_is_named(tmp_path):
    picture(tmp_path / "cat" / "a.png", 1)
    (tmp_path / "cat" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nnot one")
    with pytest.raises(WrongInput, match=r"b\.png: this image cannot be decoded"):
        list(open_dataset(tmp_path, [IMAGE]))


def test_rows_of_a_table_are_samples(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c,d,label\n1,2,3,4,0\n5,6,7,8,1\n")
    data = open_dataset(tmp_path / "t.csv", [VECTOR])
    assert data.labels.tolist() == [0, 1]
    assert data[1]["x"].tolist() == [5, 6, 7, 8]


def test_rows_of_a_series_become_windows_that_never_cross_series(tmp_path):
    rows = [f"{i},{i * 10},{'s' if i < 5 else 't'},{i % 2}" for i in range(9)]
    (tmp_path / "t.csv").write_text("a,b,series,label\n" + "\n".join(rows) + "\n")
    data = open_dataset(tmp_path / "t.csv", [TensorSpec(name="x", dtype="float32", shape=(2, 2))])
    assert [sample["x"][:, 0].tolist() for sample in data] == [[0, 1], [2, 3], [5, 6], [7, 8]]
    assert data.labels.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a header and at least one row"),
        ("a,b,c,d\n", "a header and at least one row"),
        ("a,b,c,d\n1,2,3\n", "line 2 has 3 cells"),
        ("a,b,c,d\n1,2,x,4\n", "column 'c': 'x' is no number"),
        ("a,b,c,d\n1,2,nan,4\n", "is not finite"),
        ("a,b,c\n1,2,3\n", "3 feature columns do not make"),
    ],
)
def test_a_table_that_is_wrong_says_where(tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(WrongInput, match=words):
        open_dataset(tmp_path / "t.csv", [VECTOR])


def test_a_part_keeps_samples_and_labels_together(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.arange(12, dtype=np.float32).reshape(3, 4), labels=np.array([5, 6, 7]))
    part = open_dataset(tmp_path / "d.npz", [VECTOR]).part(np.array([2, 0]))
    assert (part.labels.tolist(), part[0]["x"][0], len(part)) == ([7, 5], 8, 2)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"foo": np.ones((3, 4), np.float32)}, "the model's input is 'x'"),
        ({"x": np.ones((3, 4), np.float32), "labels": np.ones(2)}, "3 samples but labels of length 2"),
        ({"x": np.array([[1, np.nan, 1, 1]], np.float32)}, r"not finite .* in sample 0"),
        ({"x": np.ones((0, 4), np.float32)}, "no samples"),
        ({"x": np.array(["a"])}, "wanted float32"),
        ({"x": np.float32(1)}, "a single number"),
    ],
)
def test_an_npz_that_is_wrong_says_how(tmp_path, arrays, words):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(WrongInput, match=words):
        open_dataset(tmp_path / "d.npz", [VECTOR])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04cut", b"no zip"])
def test_what_is_no_npz_is_told(tmp_path, content):
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(WrongInput, match=r"no readable \.npz"):
        open_dataset(tmp_path / "d.npz", [VECTOR])


def test_an_empty_folder_and_a_missing_one(tmp_path):
    with pytest.raises(WrongInput, match="no image and no WAV"):
        open_dataset(tmp_path, [IMAGE])
    with pytest.raises(WrongInput, match="no such data set"):
        open_dataset(tmp_path / "nothing", [IMAGE])
