"""Waveforms, sensor rows and tables, against SciPy and against formulas written out."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft, signal

from edgeward.infer import Preprocessor
from edgeward.infer.preprocess import takes_missing
from edgeward.infer.sound import resampling_filters
from edgeward.kit.errors import WrongInput
from edgeward.records.model import (
    Detrend,
    FftFeatures,
    LogMel,
    Mfcc,
    OneHot,
    Resample,
    Standardize,
    Window,
)  # fmt: skip

MEL = LogMel(sample_rate=16000, frame_length=480, hop_length=320, mel_count=40, low_hz=20.0, high_hz=7600.0)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def tone(hertz, rate, seconds=1.0):
    return np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize(
    ("old", "new"), [(48000, 16000), (44100, 16000), (8000, 16000), (16000, 22050), (16000, 11025)]
)
def test_resampling_is_the_polyphase_filter_of_scipy_with_our_low_pass(old, new):
    wave = noise(2000)
    shared = math.gcd(old, new)
    up, down = new // shared, old // shared
    cutoff = min(1, up / down) * 0.91
    reach = math.ceil(32 / cutoff)
    time = np.arange(-reach * up + 1, reach * up) / up
    inside = np.clip(1 - (time * cutoff / 32) ** 2, 0, None)
    low_pass = np.sinc(time * cutoff) * np.i0(9.0 * np.sqrt(inside)) * (inside > 0)
    wanted = signal.resample_poly(wave.astype(np.float64), up, down, window=low_pass / low_pass.sum())
    got = Preprocessor((Resample(from_hz=old, to_hz=new),))(wave)
    assert got.dtype == np.float32
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() < 2e-4 * np.abs(wanted).max()


def test_what_the_lower_rate_cannot_hold_is_gone_and_the_rest_is_as_it_was():
    down = Preprocessor((Resample(from_hz=48000, to_hz=16000),))
    assert np.abs(down(tone(9000, 48000))[100:-100]).max() < 1e-4  # 80 dB below
    kept = down(tone(6000, 48000))[100:-100]
    assert np.abs(kept - tone(6000, 16000)[100:-100]).max() < 1e-3


@settings(max_examples=30, deadline=None)
@given(old=st.integers(100, 5000), new=st.integers(100, 5000), length=st.integers(0, 3000))
def test_a_constant_stays_what_it_is_at_any_rate(old, new, length):
    got = Preprocessor((Resample(from_hz=old, to_hz=new),))(np.full(length, 0.5, np.float32))
    assert len(got) == math.ceil(length * new / old)
    edge = math.ceil(40 * max(1, new / old))
    assert np.allclose(got[edge:-edge], 0.5, atol=1e-4)


def test_the_weights_between_two_values_sum_to_one():
    assert np.allclose(resampling_filters(160, 441).sum(axis=1), 1, atol=1e-5)


def test_mfcc_is_the_orthonormal_dct_of_the_log_mel_energies():
    wave = noise(16000)
    energies = Preprocessor((MEL,))(wave)
    wanted = fft.dct(energies.astype(np.float64), type=2, norm="ortho", axis=1)[:, :13]
    got = Preprocessor((MEL, Mfcc(count=13)))(wave)
    assert got.shape == (49, 13)
    assert np.allclose(got, wanted, atol=1e-4)


def test_mfcc_without_energies_says_what_is_missing():
    with pytest.raises(WrongInput, match="mfcc wants frames of at least 13 mel energies") as told:
        Preprocessor((Mfcc(count=13),))(noise(16000))
    assert "log_mel" in told.value.hint


def test_a_window_is_the_newest_part_and_a_shorter_sample_is_refused():
    rows = noise(50, 3)
    assert (Preprocessor((Window(length=20, hop=10),))(rows) == rows[-20:]).all()
    with pytest.raises(WrongInput, match="window wants at least 51 values or rows, the sample has 50"):
        Preprocessor((Window(length=51, hop=1),))(rows)


@pytest.mark.parametrize("method", ["constant", "linear"])
@pytest.mark.parametrize("shape", [(1,), (2,), (37,), (64, 3)])
def test_detrending_is_scipy_s(method, shape):
    rows = noise(*shape) + 5 + np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)).astype(np.float32)
    wanted = signal.detrend(rows.astype(np.float64), axis=0, type=method) if shape[0] > 1 else rows * 0
    assert np.allclose(Preprocessor((Detrend(method=method),))(rows), wanted, atol=1e-4)


@pytest.mark.parametrize("taper", ["hann", "none"])
@pytest.mark.parametrize("count", [64, 65])
def test_the_power_spectrum_is_scipy_s_periodogram(taper, count):
    rows = noise(count, 2)
    step = FftFeatures(sample_rate=100.0, value="power", taper=taper)
    window = "hann" if taper == "hann" else "boxcar"
    _, wanted = signal.periodogram(
        rows.astype(np.float64), 100.0, window, detrend=False, scaling="spectrum", axis=0
    )  # fmt: skip
    assert np.allclose(Preprocessor((step,))(rows), wanted, atol=1e-6)


def test_a_sine_has_its_power_in_its_band_and_its_root_as_magnitude():
    rows = 3 * tone(50, 1000)
    edges = (0.0, 30.0, 70.0, 500.0)
    power = Preprocessor((FftFeatures(sample_rate=1000.0, edges_hz=edges, value="power", taper="none"),))(rows)
    assert np.allclose(power, [0, 4.5, 0], atol=1e-3)
    magnitude = Preprocessor((FftFeatures(sample_rate=1000.0, edges_hz=edges, value="magnitude", taper="none"),))(rows)
    assert np.allclose(magnitude, np.sqrt(power))
    logs = Preprocessor((FftFeatures(sample_rate=1000.0, edges_hz=edges, taper="none"),))(rows)
    assert np.allclose(logs, np.log(power + 1e-12), atol=0.5)


@pytest.mark.parametrize("edges", [(1.0,), (2.0, 2.0), (3.0, 1.0)])
def test_bands_without_width_are_refused(edges):
    with pytest.raises(WrongInput, match="edges_hz"):
        Preprocessor((FftFeatures(sample_rate=10.0, edges_hz=edges),))


def test_columns_are_standardised_and_what_is_missing_becomes_what_it_shall():
    rows = np.array([1, np.nan, 30], np.float32)
    filled = Standardize(mean=(2, 4, 10), std=(1, 2, 5), fill=(0, 4, 0))
    assert Preprocessor((filled,))(rows).tolist() == [-1, 0, 4]
    assert takes_missing((filled,))
    plain = Standardize(mean=(2, 4, 10), std=(1, 2, 5))
    assert np.isnan(Preprocessor((plain,))(rows)[1])
    assert not takes_missing((plain,))
    with pytest.raises(WrongInput, match="standardize has 3 values, one per column; the sample has 2 columns"):
        Preprocessor((plain,))(rows[:2])
    with pytest.raises(WrongInput, match="standardize has 3 and 2 values"):
        Preprocessor((Standardize(mean=(2, 4, 10), std=(1, 2)),))


def test_standardising_is_scikit_learn_s():
    from sklearn.preprocessing import StandardScaler

    rows = noise(200, 4) * [1, 10, 0.1, 1000] + [0, 5, -3, 1e4]
    scaler = StandardScaler().fit(rows)
    step = Standardize(mean=tuple(scaler.mean_), std=tuple(scaler.scale_))
    assert np.allclose(Preprocessor((step,))(rows), scaler.transform(rows), atol=1e-3)


def test_a_column_of_numbers_and_one_of_words_become_one_column_for_each_value():
    numbers = Preprocessor((OneHot(column=1, values=(3.0, 5.0)),))
    assert numbers(np.array([7, 5, 9], np.float32)).tolist() == [7, 0, 1, 9]
    assert numbers(np.array([7, 4, 9], np.float32)).tolist() == [7, 0, 0, 9]
    table = Preprocessor((OneHot(column=1, values=("red", "blue")), Standardize(mean=(0,), std=(1,), fill=(0,))))
    assert table(np.array(["7.5", "red", ""])).tolist() == [7.5, 1, 0, 0]


def test_one_hot_is_scikit_learn_s():
    from sklearn.preprocessing import OneHotEncoder

    words = np.random.default_rng(0).choice(["a", "b", "c", "d"], (30, 1))
    encoder = OneHotEncoder(categories=[["a", "b", "c"]], handle_unknown="ignore", sparse_output=False).fit(words)
    step = OneHot(column=0, values=("a", "b", "c"))
    assert (Preprocessor((step,))(words).astype(np.float32) == encoder.transform(words)).all()


def test_a_word_where_a_number_is_wanted_is_told():
    with pytest.raises(WrongInput, match=r"a column holds no number: .*'red'"):
        Preprocessor((Standardize(mean=(0,), std=(1,)),))(np.array(["1", "red"]))
    with pytest.raises(WrongInput, match="its values are strings, the sample is float32"):
        Preprocessor((OneHot(column=0, values=("red",)),))(noise(3))
    with pytest.raises(WrongInput, match="all numbers, or all strings"):
        Preprocessor((OneHot(column=0, values=("red", 3.0)),))
