"""Statistics against scipy, torchmetrics and naive loops."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from fercompanion import evaluate
from fercompanion.data import FER_CLASSES
from fercompanion.doctor import EXPECTED_COUNTS
from fercompanion.papers import METHODS, published, published_gains, published_recalls
from fercompanion.tables import implied

RNG = np.random.default_rng(0)


def test_accuracy_is_wilson():
    hits = RNG.random(200) < 0.7
    e = evaluate.accuracy(hits)
    interval = binomtest(int(hits.sum()), 200).proportion_ci(method="wilson")
    assert (e.value, e.low, e.high) == pytest.approx(
        (100 * hits.mean(), 100 * interval.low, 100 * interval.high)
    )


def test_recalls_and_confusion_agree_with_torchmetrics():
    torchmetrics = pytest.importorskip("torchmetrics.functional")
    labels, predicted = RNG.integers(0, 7, (2, 300))
    arguments = torch.as_tensor(predicted), torch.as_tensor(labels)
    theirs = torchmetrics.recall(*arguments, task="multiclass", num_classes=7, average="none")
    ours = [e.value / 100 for e in evaluate.recalls(labels, predicted, 7)]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    matrix = torchmetrics.confusion_matrix(*arguments, task="multiclass", num_classes=7)
    np.testing.assert_array_equal(evaluate.confusion(labels, predicted, 7), matrix)


def test_paired_bootstrap_covers_the_known_standard_error():
    """For single images the interval is about 1.96 standard errors of the mean difference each way."""
    a, b = RNG.random((1, 2000)) < 0.75, RNG.random((1, 2000)) < 0.70
    difference = a.astype(float) - b
    e = evaluate.paired_difference(a, b)
    assert e.value == pytest.approx(100 * difference.mean())
    half = 196 * difference.std() / np.sqrt(difference.size)
    assert (e.high - e.low) / 2 == pytest.approx(half, rel=0.08)


def test_clusters_widen_the_interval():
    """Ten copies of each image are no more evidence than one."""
    a, b = RNG.random((2, 1, 100)) < 0.7
    once = evaluate.paired_difference(a, b)
    copies = [np.repeat(x, 10, axis=1) for x in (a, b)]
    clustered = evaluate.clustered_difference(*copies, np.repeat(np.arange(100), 10))
    naive = evaluate.paired_difference(*copies)
    assert clustered.high - clustered.low == pytest.approx(once.high - once.low, rel=0.1)
    assert naive.high - naive.low < 0.5 * (clustered.high - clustered.low)


def test_several_seeds_widen_the_interval_by_their_spread():
    hits = np.stack([RNG.random(3000) < p for p in (0.60, 0.70, 0.80)])
    other = np.zeros_like(hits)
    e = evaluate.paired_difference(hits, other)
    assert e.high - e.low > 10 and e.value == pytest.approx(100 * hits.mean())


def test_unpaired_hits_are_refused():
    with pytest.raises(ValueError, match="not paired"):
        evaluate.paired_difference(np.ones((1, 3), bool), np.ones((1, 4), bool))


def test_mcnemar_counts_discordant_images():
    first = np.array([1, 1, 1, 1, 1, 1, 0, 1, 0], bool)
    second = np.array([0, 0, 0, 0, 0, 1, 1, 1, 0], bool)
    m = evaluate.mcnemar(first, second)
    assert (m.only_first, m.only_second) == (5, 1)
    assert m.p == pytest.approx(2 * (1 + 6) / 2**6)


def test_distances_against_all_pairs():
    x = RNG.normal(size=(40, 5))
    labels = np.repeat(np.arange(4), 10)
    d = evaluate.distances(x, labels)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    square = ((unit[:, None] - unit[None]) ** 2).sum(-1)
    same = labels[:, None] == labels[None]
    other_than_itself = ~np.eye(40, dtype=bool)
    assert d["intra"] == pytest.approx(square[same & other_than_itself].mean())
    assert d["inter"] == pytest.approx(square[~same].mean())
    assert d["ratio"] == pytest.approx(d["inter"] / d["intra"])


def test_implied_accuracy_of_the_printed_tables():
    """The ledger's values: VGG19 69.15 and LKRNet 72.2 on FER2013."""
    frame = implied("Table 3", FER_CLASSES, EXPECTED_COUNTS["fer2013"]["PrivateTest"])
    assert frame.loc["VGG19", "implied accuracy"] == pytest.approx(69.15, abs=0.02)
    assert frame.loc["LKRNet", "implied accuracy"] == pytest.approx(72.2, abs=0.05)
    gain = frame.loc["LKRNet", "implied accuracy"] - frame.loc["VGG19", "implied accuracy"]
    assert gain == pytest.approx(published_gains("FER2013")["LKRNet minus VGG19"], abs=1)


def test_published_numbers():
    assert {r["paper"] for r in published()} == {"LKRNet", "DNNRL", "Liu2019", "Kim2022"}
    table = published_recalls("Table 3", FER_CLASSES)
    assert set(METHODS) <= set(table)
    np.testing.assert_array_equal(table["Our method (LKRNet)"], [65, 75, 55, 90, 61, 84, 70])
