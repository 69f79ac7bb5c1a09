# ruff: noqa: E402 - what these tests import may be missing, which is told first
"""Pipelines of scikit-learn, as its converter writes them: every verb ends in a result or in one clear sentence."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")
skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed: pip install skl2onnx")

from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import GradientBoostingClassifier, IsolationForest, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

NAMES = np.array(["setosa", "versicolor", "virginica"])


def edgeward(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeward", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)


def evaluated(model: Path, data: Path, *more: object) -> dict[str, object]:
    done = edgeward("evaluate", model, "--data", data, "--json", *more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def saved(folder: Path, fitted: object, sample: np.ndarray, **options: object) -> Path:
    onnx.save(skl2onnx.to_onnx(fitted, sample, **options), folder / "model.onnx")
    return folder / "model.onnx"


def flowers(folder: Path, *, named: bool = False, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray, Path]:
    features, classes = load_iris(return_X_y=True)
    labels = NAMES[classes] if named else classes
    np.savez(folder / "data.npz", x=features.astype(dtype), labels=labels)
    return features.astype(dtype), labels, folder / "data.npz"


CLASSIFIERS = {
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression()),
    "forest": RandomForestClassifier(10, random_state=0),
    "boosting": GradientBoostingClassifier(n_estimators=5, random_state=0),
    "perceptron": make_pipeline(StandardScaler(), MLPClassifier(max_iter=300, random_state=0)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("named", [False, True], ids=["numbers", "names"])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_a_classifier_scores_as_scikit_learn_says(kind, named, dtype, tmp_path):
    if dtype == "float64" and kind != "logistic regression":
        pytest.skip("one classifier in double precision is enough")
    features, labels, data = flowers(tmp_path, named=named, dtype=dtype)
    fitted = CLASSIFIERS[kind].fit(features, labels)
    model = saved(tmp_path, fitted, features[:1])
    found = evaluated(model, data)
    assert found["metric"] == "top1"
    assert found["value"] == pytest.approx(fitted.score(features, labels), abs=0.01)


def test_probabilities_are_judged_where_the_metric_ranks(tmp_path):
    features, labels, _ = flowers(tmp_path)
    binary = (labels == 2).astype(int)
    np.savez(tmp_path / "binary.npz", x=features, labels=binary)
    model = saved(tmp_path, LogisticRegression(max_iter=500).fit(features, binary), features[:1])
    from sklearn.metrics import roc_auc_score

    wanted = roc_auc_score(binary, LogisticRegression(max_iter=500).fit(features, binary).predict_proba(features)[:, 1])
    assert evaluated(model, tmp_path / "binary.npz", "--metric", "auc")["value"] == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("written", ["one for outliers", "as scikit-learn"])
def test_outliers_are_found_however_they_are_labelled(written, tmp_path):
    generator = np.random.default_rng(0)
    samples = np.concatenate([generator.normal(0, 1, (90, 4)), generator.normal(0, 6, (30, 4))]).astype(np.float32)
    outlier = np.repeat([0, 1], [90, 30])
    np.savez(tmp_path / "data.npz", x=samples, labels=outlier if written == "one for outliers" else 1 - 2 * outlier)
    forest = IsolationForest(n_estimators=5, random_state=0).fit(samples[:90])
    model = saved(tmp_path, forest, samples[:1], target_opset={"": 17, "ai.onnx.ml": 3})
    assert evaluated(model, tmp_path / "data.npz", "--metric", "auc")["value"] > 0.85
    assert evaluated(model, tmp_path / "data.npz")["value"] > 0.7


@pytest.mark.parametrize("kind", [Ridge(), RandomForestRegressor(5, random_state=0)], ids=["ridge", "forest"])
def test_a_regressor_errs_as_scikit_learn_says(kind, tmp_path):
    features, targets = load_diabetes(return_X_y=True)
    features = features.astype(np.float32)
    np.savez(tmp_path / "data.npz", x=features, labels=targets.astype(np.float32))
    fitted = kind.fit(features, targets)
    found = evaluated(saved(tmp_path, fitted, features[:1]), tmp_path / "data.npz")
    assert found["metric"] == "mse"
    assert found["value"] == pytest.approx(((fitted.predict(features) - targets) ** 2).mean(), rel=0.01)


def columns(folder: Path) -> tuple[Path, Path, float]:
    """A pipeline with an input for each column, of three types, and a table for it with its accuracy."""
    generator = np.random.default_rng(0)
    city, age = generator.choice(["bonn", "kiel", "ulm"], 120), generator.integers(18, 80, 120)
    income = generator.normal(0, 1, 120).astype(np.float32)
    labels = ((city == "ulm") | (income > 0.5)).astype(int)
    table = np.empty((120, 3), object)
    table[:, 0], table[:, 1], table[:, 2] = city, age, income
    steps = [("city", OneHotEncoder(), [0]), ("age", "passthrough", [1]), ("income", StandardScaler(), [2])]
    fitted = make_pipeline(ColumnTransformer(steps), LogisticRegression(max_iter=1000)).fit(table, labels)
    types = [("city", StringTensorType([None, 1])), ("age", Int64TensorType([None, 1])),
             ("income", FloatTensorType([None, 1]))]  # fmt: skip
    onnx.save(skl2onnx.convert_sklearn(fitted, initial_types=types), folder / "model.onnx")
    rows = [f"{a},{b},{c},{d}" for a, b, c, d in zip(city, age, income, labels, strict=True)]
    (folder / "data.csv").write_text("\n".join(["city,age,income,label", *rows]) + "\n")
    np.savez(folder / "data.npz", city=city[:, None], age=age[:, None], income=income[:, None], labels=labels)
    return folder / "model.onnx", folder / "data.csv", float(fitted.score(table, labels))


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_columns_go_in_by_name(suffix, tmp_path):
    model, table, score = columns(tmp_path)
    assert evaluated(model, table.with_suffix(suffix))["value"] == pytest.approx(score, abs=0.01)


def test_a_missing_column_is_told(tmp_path):
    model, table, _ = columns(tmp_path)
    table.write_text(table.read_text().replace("income", "salary", 1))
    done = edgeward("evaluate", model, "--data", table)
    assert done.returncode == 2
    assert "no column 'income'" in done.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [*CLASSIFIERS, "columns"])
def test_the_search_ends_in_a_bundle_that_answers(kind, tmp_path):
    if kind == "columns":
        model, data, _ = columns(tmp_path)
        data = data.with_suffix(".npz")
    else:
        features, labels, data = flowers(tmp_path, named=kind == "forest")
        model = saved(tmp_path, CLASSIFIERS[kind].fit(features, labels), features[:1])
    done = edgeward("optimize", model, "--data", data, "--time-limit", "10s", "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["chosen"]
    ran = edgeward("run", tmp_path / "out" / "bundle", "-i", data, "--json")
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) > 100
    for verb in (("show", model), ("bench", model, "--data", data)):
        done = edgeward(*verb)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".joblib"])
@pytest.mark.parametrize("verb", ["show", "optimize"])
def test_a_pickle_is_refused_with_its_way_out(verb, suffix, tmp_path):
    file = tmp_path / f"pipeline{suffix}"
    file.write_bytes(pickle.dumps(LogisticRegression()))
    more = () if verb == "show" else ("--data", tmp_path, "-o", tmp_path / "out")
    done = edgeward(verb, file, *more)
    assert done.returncode == 6
    assert "runs whatever code" in done.stderr
    assert "skl2onnx" in done.stderr
