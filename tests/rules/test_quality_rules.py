"""Metrics against an independent implementation, and what cannot be judged."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from edgeward.kit.errors import WrongInput
from edgeward.measure.quality import METRICS, check_targets, drop, metric_for, metric_named

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 2, 400)
SCORES = (LABELS + GENERATOR.normal(0, 1, 400)).round(1)[:, None]


def test_auc_agrees_with_scikit_learn_ties_included():
    assert METRICS["auc"].score(SCORES, LABELS) == pytest.approx(roc_auc_score(LABELS, SCORES[:, 0]))


def test_macro_f1_agrees_with_scikit_learn():
    labels, scores = GENERATOR.integers(0, 5, 300), GENERATOR.normal(size=(300, 5))
    wanted = f1_score(labels, scores.argmax(1), average="macro")
    assert METRICS["f1"].score(scores, labels) == pytest.approx(wanted)


def test_top5_counts_a_label_among_the_five_best():
    scores = np.arange(10.0)[None].repeat(2, 0)
    assert METRICS["top5"].score(scores, np.array([5, 4])) == 0.5


def test_errors_drop_is_the_relative_rise():
    targets = np.zeros((200, 3))
    worse = drop(METRICS["mse"], np.full((200, 3), 1.0), np.full((200, 3), 1.1), targets, seed=0)
    assert worse.value == pytest.approx(0.21)
    assert worse.interval == pytest.approx((0.21, 0.21))


def test_a_better_candidate_has_a_negative_drop():
    labels = np.tile([0, 1], 100)
    right = np.eye(2)[labels]
    half = right.copy()
    half[:100] = half[:100, ::-1]
    assert drop(METRICS["top1"], half, right, labels, seed=0).value == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (None, "needs labels"),
        (np.zeros(10, np.int64), "all 10 labels are class 0"),
        (np.arange(10), "a label is 9, the model knows classes 0..2"),
        (np.linspace(0, 1, 10), "wants one class number per sample"),
    ],
)
def test_what_cannot_be_judged_is_told(targets, words):
    with pytest.raises(WrongInput, match=words):
        check_targets(METRICS["top1"], np.zeros((10, 3), np.float32), targets, "data.npz")


def test_the_data_choose_the_metric():
    outputs = np.zeros((4, 3), np.float32)
    assert metric_for(outputs, np.arange(4)).name == "top1"
    assert metric_for(outputs, np.ones((4, 3))).name == "mse"
    assert metric_for(outputs, None).name == "agreement"


def test_an_unknown_metric_names_the_known_ones():
    with pytest.raises(WrongInput, match="top1"):
        metric_named("accuracy")
