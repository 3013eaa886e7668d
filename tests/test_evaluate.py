"""Statistics against scipy, torchmetrics and naive loops."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, permutation_test

from fercompanion import evaluate
from fercompanion.data import FER_CLASSES
from fercompanion.doctor import EXPECTED_COUNTS
from fercompanion.papers import METHODS, published, published_gains, published_recalls
from fercompanion.pooling import estimate_of
from fercompanion.tables import implied


def test_accuracy_is_wilson():
    rng = np.random.default_rng(0)
    hits = rng.random(200) < 0.7
    e = evaluate.accuracy(hits)
    interval = binomtest(int(hits.sum()), 200).proportion_ci(method="wilson")
    assert (e.value, e.low, e.high) == pytest.approx(
        (100 * hits.mean(), 100 * interval.low, 100 * interval.high)
    )


def test_recalls_and_confusion_agree_with_torchmetrics():
    rng = np.random.default_rng(0)
    torchmetrics = pytest.importorskip("torchmetrics.functional")
    labels, predicted = rng.integers(0, 7, (2, 300))
    arguments = torch.as_tensor(predicted), torch.as_tensor(labels)
    theirs = torchmetrics.recall(*arguments, task="multiclass", num_classes=7, average="none")
    ours = [e.value / 100 for e in evaluate.recalls(labels, predicted, 7)]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    matrix = torchmetrics.confusion_matrix(*arguments, task="multiclass", num_classes=7)
    np.testing.assert_array_equal(evaluate.confusion(labels, predicted, 7), matrix)


def test_paired_bootstrap_covers_the_known_standard_error():
    """For single images the interval is about 1.96 standard errors of the mean difference each way."""
    rng = np.random.default_rng(0)
    a, b = rng.random((1, 2000)) < 0.75, rng.random((1, 2000)) < 0.70
    difference = a.astype(float) - b
    e = evaluate.clustered_difference(a, b)
    assert e.value == pytest.approx(100 * difference.mean())
    half = 196 * difference.std() / np.sqrt(difference.size)
    assert (e.high - e.low) / 2 == pytest.approx(half, rel=0.08)


def test_clusters_widen_the_interval():
    """Ten copies of each image are no more evidence than one."""
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 1, 100)) < 0.7
    once = evaluate.clustered_difference(a, b)
    copies = [np.repeat(x, 10, axis=1) for x in (a, b)]
    clustered = evaluate.clustered_difference(*copies, np.repeat(np.arange(100), 10))
    naive = evaluate.clustered_difference(*copies)
    assert clustered.high - clustered.low == pytest.approx(once.high - once.low, rel=0.1)
    assert naive.high - naive.low < 0.5 * (clustered.high - clustered.low)


def test_kinds_of_clusters_are_drawn_as_the_clusters_are(monkeypatch):
    """Moments of the total and of its size, against the multinomial draw of every single cluster."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(evaluate, "DRAWS", 40_000)
    size, sums = rng.integers(1, 4, 60).astype(float), rng.integers(-1, 2, (2, 60)).astype(float)
    total, n = evaluate._resampled(sums, size, np.random.default_rng(0))
    all_rows = np.vstack([sums, size])
    drawn = np.vstack([total.T, n])
    np.testing.assert_allclose(drawn.mean(1), all_rows.sum(1), atol=0.25)
    np.testing.assert_allclose(np.cov(drawn), np.cov(all_rows, bias=True) * 60, rtol=0.05, atol=1.0)


def test_several_seeds_widen_the_interval_by_their_spread():
    rng = np.random.default_rng(0)
    hits = np.stack([rng.random(3000) < p for p in (0.60, 0.70, 0.80)])
    other = np.zeros_like(hits)
    e = evaluate.clustered_difference(hits, other)
    assert e.high - e.low > 10 and e.value == pytest.approx(100 * hits.mean())


def test_unpaired_hits_are_refused():
    with pytest.raises(ValueError, match="not paired"):
        evaluate.clustered_difference(np.ones((1, 3), bool), np.ones((1, 4), bool))


def test_mcnemar_counts_discordant_images():
    first = np.array([1, 1, 1, 1, 1, 1, 0, 1, 0], bool)
    second = np.array([0, 0, 0, 0, 0, 1, 1, 1, 0], bool)
    m = evaluate.mcnemar(first, second)
    assert (m.only_first, m.only_second) == (5, 1)
    assert m.p == pytest.approx(2 * (1 + 6) / 2**6)
    assert evaluate.fewest_alone() == 6  # 2 / 2**5 is more than 5 %, 2 / 2**6 less


def test_distances_against_all_pairs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 5))
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


def test_corrected_t_against_its_formula():
    """Nadeau and Bengio: the variance of the mean is s^2 (1/J + n_test/n_train), of a t with J - 1 degrees."""
    rng = np.random.default_rng(0)
    from scipy import stats

    d = rng.normal(0.5, 1.0, 12)
    found = evaluate.corrected_t(d, 800, 181)
    mean = sum(d) / 12
    variance = sum((x - mean) ** 2 for x in d) / 11
    t = mean / (variance * (1 / 12 + 181 / 800)) ** 0.5
    assert found.t == pytest.approx(t)
    assert found.p == pytest.approx(2 * stats.t(11).sf(abs(t)))
    half = stats.t(11).ppf(0.975) * mean / t
    assert (found.difference.value, found.difference.low, found.difference.high) == pytest.approx(
        (mean, mean - half, mean + half)
    )
    common = stats.ttest_1samp(d, 0)
    assert abs(found.t) < 0.55 * abs(common.statistic)  # which would be far too sure
    no_test = evaluate.corrected_t(d, 10**9, 1)
    assert no_test.p == pytest.approx(common.pvalue, rel=1e-3)


def test_corrected_t_needs_two_splits_that_differ():
    assert np.isnan(evaluate.corrected_t([0.5], 800, 181).p)
    assert evaluate.corrected_t([0.5], 800, 181).difference.value == 0.5
    same = evaluate.corrected_t([0.0, 0.0, 0.0], 800, 181)
    assert (same.t, same.p) == (0.0, 1.0)
    always = evaluate.corrected_t([-0.5, -0.5], 800, 181)  # one image of 181 in each: by luck, not for sure
    assert always.difference.value == -0.5 and np.isnan([always.difference.low, always.t, always.p]).all()
    levels = np.array([70, 75, 80, 85, 90])
    rounded = 100 * ((levels + 1) / 99) - 100 * (levels / 99)  # not equal to the last bit
    assert np.ptp(rounded) > 0 and np.isnan(evaluate.corrected_t(rounded, 882, 99).p)


def test_the_interval_of_one_error_in_181():
    """Kim et al.'s 99.44 % is 180 of 181, truncated; the interval is as wide as the whole of Table 2."""
    e = evaluate.exact_accuracy(180, 181)
    assert (e.value, e.low, e.high) == pytest.approx((99.4475, 96.96, 99.99), abs=0.005)
    assert evaluate.exact_accuracy(181, 181).high == 100
    assert evaluate.exact_accuracy(0, 181).low == 0 and evaluate.exact_accuracy(0, 181).high > 1


def test_exact_intervals_are_scipys_and_go_on_between_whole_numbers():
    for right in (0, 3, 100, 180, 181):
        own, theirs = evaluate.exact_accuracy(right, 181), binomtest(right, 181).proportion_ci(method="exact")
        assert (own.low, own.high) == pytest.approx((100 * theirs.low, 100 * theirs.high))
    lows = [evaluate.exact_accuracy(right, 116).low for right in (115, 115.5, 115.9, 116)]
    assert lows == sorted(lows) and lows[0] < lows[-1]


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_the_variance_of_few_seeds_is_all_there(seeds, monkeypatch):
    """The mean of what is drawn scatters as the mean of so many seeds does, by its usual unbiased estimate."""
    values = np.arange(seeds) ** 2
    monkeypatch.setattr(evaluate, "DRAWS", 200_000)
    drawn = evaluate._shares(seeds, np.random.default_rng(0)) @ values
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.02)
    assert drawn.var() == pytest.approx(values.var(ddof=1) / seeds if seeds > 1 else 0, rel=0.02)


def test_images_in_clusters_are_worth_as_many_as_their_errors_are_apart():
    people = np.repeat(np.arange(100), 8)
    apart, together = np.ones((2, 1, 800), bool)
    apart[0, 8 * np.arange(40)] = False
    together[0, :40] = False  # all of five people
    assert evaluate.effective_images(apart, people) == 800
    for size in (4, 5):  # all people alike, whatever their sums round to; one person alone tells nothing
        hits, four = np.tile(np.arange(size) > 0, 4)[None], np.repeat(np.arange(4), size)
        assert evaluate.effective_images(hits, four) == 4 * size
        assert evaluate.effective_images(hits[:, :size], four[:size]) == 1
    assert evaluate.effective_images(together, people) == pytest.approx(100, rel=0.02)


def test_a_single_error_is_not_all_that_an_interval_knows_of():
    """A bootstrap over people could draw only the one."""
    people = np.repeat(np.arange(116), 8)
    hits = np.ones((1, len(people)), bool)
    found = []
    for wrong in range(6):
        hits[0, 8 * np.arange(wrong)] = False
        found.append(estimate_of(hits, people))
    one = evaluate.exact_accuracy(927, 928)
    assert found[1].value == one.value and found[1].low == pytest.approx(one.low, abs=0.01)
    lows = [e.low for e in found[1:5]]
    assert lows == sorted(lows, reverse=True) and found[5].low == pytest.approx(lows[-1], abs=0.1)
    assert found[0] == evaluate.exact_accuracy(116, 116)
    assert found[5] == evaluate.clustered_accuracy(hits, people)


def test_seeds_that_agree_are_no_more_images():
    """Without people too: of 55 images none, and all but one, right with both seeds."""
    none = estimate_of(np.zeros((2, 55), bool))
    assert none == evaluate.exact_accuracy(0, 55)
    one = np.ones((2, 55), bool)
    one[:, 0] = False
    assert estimate_of(one).low == pytest.approx(evaluate.exact_accuracy(54, 55).low, abs=0.2)
    assert estimate_of(one).high < 100
    many = np.random.default_rng(0).random((2, 300)) < 0.7
    assert estimate_of(many) == evaluate.clustered_accuracy(many)


def test_where_all_are_wrong_or_none_is_there_an_interval_says_so():
    people = np.repeat(np.arange(9), 8)
    assert estimate_of(np.zeros((1, 72), bool), people) == evaluate.exact_accuracy(0, 9)
    half = np.tile([True, False], (1, 12))
    assert estimate_of(half, people[:24]).value == 50  # of three people, each half right
    for seeds in (1, 2):
        assert np.isnan(estimate_of(np.zeros((seeds, 0), bool)).value)


def test_pixel_nearest_against_a_loop(demo_ck):
    """The training image that correlates best lends its label."""
    rng = np.random.default_rng(0)
    few = demo_ck.subset(rng.choice(900, 60, replace=False))
    order = rng.permutation(60)
    splits = [(order[:45], order[45:]), (order[10:50], order[:10])]
    found = evaluate.pixel_nearest(few, splits)
    for predicted, (train, test) in zip(found, splits, strict=True):
        for label, row in zip(predicted, test, strict=True):
            r = [np.corrcoef(few.images[row].ravel(), few.images[k].ravel())[0, 1] for k in train]
            assert label == few.labels[train[int(np.argmax(r))]]


def test_pixels_know_their_own_sequence_and_nothing_else(demo_ck):
    """No learning: near perfect where neighbours of the same sequence stand in training, near chance where not."""
    from fercompanion.protocols import random_splits, sequence_folds, subject_folds

    found = {}
    for name, splits in (
        ("random", random_splits(demo_ck, 20)),
        ("sequence", sequence_folds(demo_ck)),
        ("subject", subject_folds(demo_ck)),
    ):
        hits = [
            p == demo_ck.labels[test]
            for p, (_, test) in zip(evaluate.pixel_nearest(demo_ck, splits), splits, strict=True)
        ]
        found[name] = np.concatenate(hits).mean()
    assert found["random"] > 0.95 and max(found["sequence"], found["subject"]) < 0.35


def test_siblings_in_training(demo_ck):
    """A frame of a sequence of three is alone in the test set with a probability that can be computed."""
    from fercompanion.protocols import random_splits, sequence_folds, subject_folds

    assert set(np.unique(demo_ck.sequence, return_counts=True)[1]) == {3}
    splits = random_splits(demo_ck, 200)
    expected = 1 - 165 / 899 * 164 / 898
    found = evaluate.siblings_in_training(demo_ck.sequence, splits)
    assert found.mean() == pytest.approx(expected, abs=0.003)
    assert (evaluate.siblings_in_training(demo_ck.sequence, sequence_folds(demo_ck)) == 0).all()
    assert (evaluate.siblings_in_training(demo_ck.subject, sequence_folds(demo_ck)) > 0.5).all()
    assert (evaluate.siblings_in_training(demo_ck.subject, subject_folds(demo_ck)) == 0).all()
    groups, one = np.array(list("aabbc")), [(np.array([0, 2]), np.array([1, 3, 4]))]
    np.testing.assert_allclose(evaluate.siblings_in_training(groups, one), [2 / 3])


def test_a_contrast_of_one_group_is_the_paired_difference():
    rng = np.random.default_rng(0)
    hits, other = rng.random((4, 300)) < 0.7, rng.random((4, 300)) < 0.6
    gain = hits.astype(int) - other
    one, known = evaluate.contrast([gain], [1.0]), evaluate.clustered_difference(hits, other)
    assert one.value == pytest.approx(known.value)
    assert (one.low, one.high) == pytest.approx((known.low, known.high), abs=0.5)
    halves = evaluate.contrast([gain[:, :100], gain[:, 100:]], [0.5, -0.5])
    assert halves.value == pytest.approx(50 * (gain[:, :100].mean() - gain[:, 100:].mean()))


def test_a_contrast_draws_seeds_for_all_groups_together():
    """Seeds that lift one group and sink the other widen the interval of their difference, not of their sum."""
    luck = np.array([-1, 1, -1, 1, -1, 1])[:, None] * np.ones((6, 400), int)
    apart, together = (evaluate.contrast([luck, sign * luck], [1.0, 1.0]) for sign in (1, -1))
    assert apart.high - apart.low > 200 and together.high - together.low < 1e-9


def test_signs_are_flipped_by_cluster():
    """Exact for few clusters: of 2^6 ways two are as far out as six equal signs; frames of a subject add nothing."""
    clusters = np.repeat(np.arange(6), 5)
    hits, other = np.ones((1, 30), bool), np.zeros((1, 30), bool)
    assert evaluate.sign_flip(hits, other, clusters) == pytest.approx(2 / 64, abs=0.005)
    assert evaluate.sign_flip(hits, hits, clusters) == 1
    mixed = np.repeat([[1, 0, 1, 0, 1, 0]], 5).reshape(5, 6).T.reshape(1, 30).astype(bool)
    assert evaluate.sign_flip(mixed, ~mixed, clusters) == 1


def test_flipped_signs_agree_with_scipy():
    """Clusters of different sizes, gains and losses."""
    rng = np.random.default_rng(1)
    hits, other, clusters = rng.random((3, 90)) < 0.7, rng.random((3, 90)) < 0.6, rng.integers(0, 9, 90)
    gain = np.bincount(clusters, (hits.astype(float) - other).mean(0))
    exact = permutation_test((gain,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert evaluate.sign_flip(hits, other, clusters) == pytest.approx(exact.pvalue, abs=0.01)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [0]])
def test_distances_of_a_fold_that_has_no_pairs(labels):
    """Of one person's single expression there is nothing between classes; the rest is told."""
    found = evaluate.distances(np.eye(3)[: len(labels)], np.array(labels))
    assert np.isnan(found["silhouette"]) and np.isnan(found["ratio"])
    assert np.isfinite(found["intra"]) == (labels == [0, 0, 0]) and np.isfinite(found["inter"]) == (
        len(set(labels)) > 1
    )


def test_the_mean_of_few_values_has_students_interval():
    e = evaluate.mean_interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert (e.value, e.high - e.value) == pytest.approx((3.0, 2.776 * np.sqrt(2.5 / 5)), rel=1e-3)
    assert np.isnan(evaluate.mean_interval(np.array([7.0])).low)


def test_rounded_recalls_leave_half_a_point_either_way():
    frame = implied("Table 3", FER_CLASSES, EXPECTED_COUNTS["fer2013"]["PrivateTest"])
    for side, by in (("lowest", -0.5), ("highest", 0.5)):
        np.testing.assert_allclose(frame[side], frame["implied accuracy"] + by, atol=0.011)


def test_whole_people_are_worth_one_less_than_there_are():
    people, hits = np.repeat(np.arange(20), 8), np.ones((1, 160), bool)
    hits[0, :40] = False
    assert evaluate.effective_images(hits, people) == pytest.approx(19)


def test_an_image_is_wrong_if_any_seed_is():
    """Five people with an error in some seed are enough to draw from, though none is wrong in all seeds."""
    people = np.repeat(np.arange(50), 8)
    hits = np.ones((2, 400), bool)
    hits[0, 8 * np.arange(5)] = hits[1, 8 * np.arange(5) + 1] = False
    assert estimate_of(hits, people) == evaluate.clustered_accuracy(hits, people)
