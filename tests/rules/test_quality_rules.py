"""Metrics against an independent implementation, and what cannot be judged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, r2_score, roc_auc_score

from edgeward.kit.errors import Failed, WrongInput
from edgeward.measure.quality import METRICS, check_targets, drop, interval, metric_for, metric_named

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


def test_binary_f1_is_that_of_class_one():
    wanted = f1_score(LABELS, SCORES[:, 0] > 0)
    assert METRICS["f1_binary"].score(SCORES, LABELS) == pytest.approx(wanted)


def test_r2_agrees_with_scikit_learn():
    targets = GENERATOR.normal(3, 2, (200, 3))
    outputs = targets + GENERATOR.normal(0, 1, (200, 3))
    assert METRICS["r2"].score(outputs, targets) == pytest.approx(r2_score(targets, outputs))


def test_rmse_is_the_root_of_mse():
    outputs, targets = GENERATOR.normal(size=(50, 1)), GENERATOR.normal(size=50)
    assert METRICS["rmse"].score(outputs, targets) == pytest.approx(METRICS["mse"].score(outputs, targets) ** 0.5)


def test_mean_iou_by_hand_leaves_255_out():
    truth = np.array([[[0, 0, 1, 1]], [[1, 255, 1, 0]]], np.uint8)
    found = np.array([[[0, 1, 1, 1]], [[1, 0, 0, 0]]], np.uint8)
    assert METRICS["miou"].score(found, truth) == pytest.approx((2 / 4 + 3 / 5) / 2)


def test_retrieval_asks_for_the_nearest_other_sample():
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [1, 0.05]])
    assert METRICS["retrieval"].score(vectors, np.array([0, 0, 1, 0])) == 0.75


def test_a_retrieval_set_without_pairs_is_told():
    with pytest.raises(WrongInput, match="no two samples have the same label"):
        check_targets(METRICS["retrieval"], np.ones((3, 2)), np.arange(3), "data.npz")


def test_the_auc_of_one_class_is_not_defined_but_its_interval_leaves_such_draws_out():
    assert np.isnan(METRICS["auc"].score(SCORES, np.ones(400, int)))
    few = np.array([1, 0, 0, 0, 0])
    low, high = interval(METRICS["auc"], SCORES[:5], few, seed=0)
    assert 0 <= low <= high <= 1


def test_answers_that_are_nan_are_told_not_averaged():
    broken = SCORES.copy()
    broken[7] = np.nan
    with pytest.raises(Failed, match="NaN to 1 of 400 samples, first to 7"):
        drop(METRICS["auc"], SCORES, broken, LABELS, seed=0)


def test_a_task_is_no_metric_and_its_metric_is_named():
    with pytest.raises(WrongInput, match="is a task") as caught:
        metric_named("detection")
    assert caught.value.hint == "--metric map"


@given(st.sampled_from(["f1", "f1_binary", "auc", "rmse", "r2", "mse", "top1"]), st.integers(0, 1000))
def test_weights_count_a_sample_as_often_as_they_say(name, seed):
    generator = np.random.default_rng(seed)
    weights = generator.integers(0, 4, 400)
    rows = np.repeat(np.arange(400), weights)
    metric = METRICS[name]
    targets = LABELS if metric.kind == "class" else SCORES[:, 0] * 2 + 1
    outputs = SCORES + generator.normal(size=SCORES.shape)
    whole = metric.weighted(outputs, targets)(weights[None].astype(float))[0]
    assert whole == pytest.approx(metric.score(outputs[rows], targets[rows]))


@given(st.sampled_from(["f1", "auc", "rmse", "r2"]), st.integers(0, 1000))
def test_the_drop_of_equal_answers_is_nothing(name, seed):
    targets = LABELS if METRICS[name].kind == "class" else SCORES[:, 0] * 2 + 1
    assert drop(METRICS[name], SCORES, SCORES, targets, seed=seed)[:2] == (0, (0, 0))
