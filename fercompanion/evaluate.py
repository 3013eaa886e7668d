"""Statistics on predictions: accuracies with intervals, paired comparisons, distances between embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

CONFIDENCE = 0.95
"""Of every interval, which `verdicts` counts on."""
TAILS = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
POWER = 0.8
"""With which a difference is to be found, if there is one."""
DRAWS = 10_000
"""Of a bootstrap."""
FLIPS = 20_000
"""Of a test by random signs."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, in the value's own unit."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


NOTHING = Estimate(*[float("nan")] * 3)
"""What there is to say of no images."""


def mean_interval(values: np.ndarray) -> Estimate:
    """Mean of independent values with Student's t-interval; of fewer than two without one (nan)."""
    from scipy.stats import sem, t

    n, mean = len(values), float(np.mean(values))
    half = float(t.ppf(TAILS[1], n - 1) * sem(values)) if n > 1 else np.nan
    return Estimate(mean, mean - half, mean + half)


def accuracy(hits: np.ndarray) -> Estimate:
    """Accuracy in per cent with Wilson's interval.

    Parameters
    ----------
    hits : bool (n,), one a *independent* image.  Frames of one sequence are not: see `clustered_accuracy`.
    """
    from scipy.stats import binomtest

    n, k = len(hits), int(np.sum(hits))
    if n == 0:
        return NOTHING
    interval = binomtest(k, n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(100 * k / n, 100 * interval.low, 100 * interval.high)


def clustered_accuracy(hits: np.ndarray, clusters: np.ndarray | None = None) -> Estimate:
    """Accuracy in per cent with a bootstrap over clusters (subjects) instead of images; see `clustered_difference`.

    Parameters
    ----------
    hits : bool (n,) or (S, n), a row a seed; clusters (n,).
    """
    return clustered_difference(hits, np.zeros_like(hits), clusters)


def recalls(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> list[Estimate]:
    """Recall of each class in per cent with Wilson's interval; all nan for a class without images.

    Parameters
    ----------
    labels, predicted : int (n,), from 0 to `n_classes` - 1.
    """
    return [accuracy(predicted[labels == k] == k) for k in range(n_classes)]


def confusion(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Confusion matrix int64 (K, K), in images: rows the true class, columns the predicted one.

    Parameters
    ----------
    labels, predicted : int (n,), from 0 to `n_classes` - 1 = K - 1.
    """
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, predicted, labels=np.arange(n_classes))


def clustered_difference(
    hits: np.ndarray,
    other: np.ndarray,
    clusters: np.ndarray | None = None,
) -> Estimate:
    """Accuracy of `hits` minus that of `other` in percentage points, bootstrapped over clusters and seeds.

    Parameters
    ----------
    hits, other : bool or int (S, n)
        One row a seed, one column an image; the same seeds and images in both.  Each draw takes clusters and,
        where there are several, seeds with replacement, the same for both; see `_shares`.
    clusters : (n,), the cluster (subject) of each image; None where each stands for itself.

    Returns
    -------
    Estimate
        All nan where there are no images.

    Raises
    ------
    ValueError
        The three are not of the same images, or the first two not of the same seeds.
    """
    hits, other = np.atleast_2d(hits).astype(np.int8), np.atleast_2d(other).astype(np.int8)
    clusters = np.arange(hits.shape[1]) if clusters is None else clusters
    if hits.shape != other.shape or hits.shape[1] != len(clusters):
        raise ValueError(f"hits {hits.shape}, other {other.shape}, clusters {len(clusters)}: not paired")
    if not hits.size:
        return NOTHING
    _, cluster = np.unique(clusters, return_inverse=True)
    size = np.bincount(cluster).astype(float)
    sums = np.stack([np.bincount(cluster, row, len(size)) for row in hits - other])  # (S, C)
    rng = np.random.default_rng(0)
    drawn, n = _resampled(sums, size, rng)
    values = (drawn * _shares(len(sums), rng)).sum(1) / n
    low, high = np.quantile(values, TAILS)
    return Estimate(100 * float(sums.sum() / len(sums) / size.sum()), 100 * float(low), 100 * float(high))


def _shares(seeds: int, rng) -> np.ndarray:
    """Weights (`DRAWS`, S) of S seeds, of which S - 1 are drawn with replacement.

    S of them would show (S - 1) / S of their variance alone (Rao and Wu 1988): half of it for two seeds.
    """
    drawn = max(1, seeds - 1)
    return rng.multinomial(drawn, np.full(seeds, 1 / seeds), DRAWS) / drawn


def _resampled(sums: np.ndarray, size: np.ndarray, rng) -> tuple[np.ndarray, np.ndarray]:
    """Totals of clusters drawn with replacement, as many as there are: float (draws, S), and their sizes (draws,).

    Clusters with the same size and sums are interchangeable, so that the kinds are drawn and not each cluster: of
    thousands of images a pair of networks knows three kinds.
    """
    kinds, counts = np.unique(np.vstack([size, sums]), axis=1, return_counts=True)
    times = rng.multinomial(counts.sum(), counts / counts.sum(), DRAWS)
    return times @ kinds[1:].T, times @ kinds[0]


def contrast(gains: list[np.ndarray], weights: list[float]) -> Estimate:
    """A weighted sum of mean gains on several groups of images, in percentage points, bootstrapped.

    Parameters
    ----------
    gains : for each group int (S, n): hits of one network minus hits of another, a row a seed.  A draw takes images
        within each group, and the seeds for all groups together, since one network answers for all.
    weights : of each group's mean.

    Returns
    -------
    Estimate
        All nan where a group has no images.
    """
    if not all(gain.size for gain in gains):
        return NOTHING
    rng, total, values = np.random.default_rng(0), 0.0, 0.0
    shares = _shares(len(gains[0]), rng)
    for gain, weight in zip(gains, weights, strict=True):
        total += weight * gain.mean()
        drawn, n = _resampled(gain, np.ones(gain.shape[1]), rng)
        values += weight * (drawn * shares).sum(1) / n
    low, high = np.quantile(values, TAILS)
    return Estimate(100 * float(total), 100 * float(low), 100 * float(high))


def sign_flip(hits: np.ndarray, other: np.ndarray, clusters: np.ndarray) -> float:
    """Two-sided p of a paired difference by flipping the sign of whole clusters (subjects) at random.

    Under the null hypothesis each subject's difference might as well have been the other way round.

    Parameters
    ----------
    hits, other : bool or int (S, n), a row a seed; clusters (n,).
    """
    gain = (np.atleast_2d(hits).astype(float) - np.atleast_2d(other)).mean(0)
    _, cluster = np.unique(clusters, return_inverse=True)
    sums = np.bincount(cluster, gain)
    # Clusters with the same sum are interchangeable: how many of them keep their sign is binomial.
    size, number = np.unique(np.abs(sums).round(9), return_counts=True)
    kept = np.random.default_rng(0).binomial(number, 0.5, (FLIPS, len(size)))
    as_far = np.abs((2 * kept - number) @ size) >= abs(sums.sum()) - 1e-6
    return float((as_far.sum() + 1) / (FLIPS + 1))


@dataclass(frozen=True)
class McNemar:
    """Images that only the first, only the second network gets right, and the exact two-sided p."""

    only_first: int
    only_second: int
    p: float


def mcnemar(hits: np.ndarray, other: np.ndarray) -> McNemar:
    """Exact McNemar test on the discordant images of one pair of networks, bool (n,) each."""
    from scipy.stats import binomtest

    first, second = int(np.sum(hits & ~other)), int(np.sum(other & ~hits))
    p = binomtest(first, first + second).pvalue if first + second else 1.0
    return McNemar(first, second, float(p))


def fewest_alone() -> int:
    """How many images one network must get right alone, and the other none, to be told apart by `mcnemar`."""
    return next(k for k in count(1) if mcnemar(np.ones(k, bool), np.zeros(k, bool)).p < 1 - CONFIDENCE)


def resolvable(n: int, discordant: float) -> float:
    """Smallest difference in points that a paired test on n images at the level of 5 % finds with a power of 80 %.

    Parameters
    ----------
    discordant : share of the images on which the two networks differ; 0.12 to 0.20 for two good ones.
    """
    from scipy.stats import norm

    return float((norm.ppf(TAILS[1]) + norm.ppf(POWER)) * 100 * np.sqrt(discordant / n))


def distances(embedding: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Numbers for Fig. 6: how far apart classes lie in the embedding.

    Parameters
    ----------
    embedding : float (n, D), brought to unit length first.
    labels : int (n,)

    Returns
    -------
    dict
        "intra": mean squared distance of two images of a class; "inter": of two of different classes;
        "ratio": inter / intra; "silhouette": scikit-learn's, Euclidean.  nan where there are no such images, as in a
        fold of one class.
    """
    from sklearn.metrics import silhouette_score

    unit = embedding.astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    # |a - b|^2 = 2 - 2 a.b on unit vectors, so that sums over pairs follow from sums over classes.
    total, n = unit.sum(0), len(unit)
    same_dot = same_pairs = 0.0
    for k in np.unique(labels):
        members = unit[labels == k]
        same_dot += float(members.sum(0) @ members.sum(0)) - len(members)
        same_pairs += len(members) * (len(members) - 1)
    other_dot, other_pairs = float(total @ total) - n - same_dot, n * (n - 1) - same_pairs
    nan, classes = float("nan"), len(np.unique(labels))
    intra = 2 - 2 * same_dot / same_pairs if same_pairs else nan
    inter = 2 - 2 * other_dot / other_pairs if other_pairs else nan
    return {
        "intra": intra,
        "inter": inter,
        "ratio": inter / intra if intra > 1e-9 else nan,
        "silhouette": float(silhouette_score(unit, labels)) if 1 < classes < n else nan,
    }


def implied_accuracy(recall_percent: np.ndarray, counts: np.ndarray) -> Estimate:
    """Overall accuracy that a table of rounded recalls implies on known class counts.

    Parameters
    ----------
    recall_percent : (K,) recalls printed in whole per cent.
    counts : (K,) images a class.

    Returns
    -------
    Estimate
        low and high are the bounds if every recall was rounded by up to half a per cent.
    """
    share = counts / counts.sum()
    recall = np.asarray(recall_percent, float)
    low, high = np.maximum(recall - 0.5, 0), np.minimum(recall + 0.5, 100)
    return Estimate(*(float(r @ share) for r in (recall, low, high)))


NEIGHBOURS = tuple(range(1, 52, 2))
"""Values of k among which `best_k` chooses."""


def neighbour_logits(
    bank: np.ndarray, bank_labels: np.ndarray, queries: np.ndarray, k: int, n_classes: int
) -> np.ndarray:
    """k-NN as logits: log of the smoothed share of each class among the k nearest (DNNRL Sect. 4).

    Parameters
    ----------
    bank : float (M, D), embeddings of the training images, with labels int (M,).
    queries : float (n, D)

    Returns
    -------
    float32 (n, K); the largest is the majority's, of equal ones the class of smallest number.
    """
    return _share(_nearest(bank, bank_labels, queries, k), n_classes)


def best_k(
    bank: np.ndarray, bank_labels: np.ndarray, queries: np.ndarray, labels: np.ndarray, n_classes: int
) -> int:
    """The k of `NEIGHBOURS` with the highest accuracy on validation embeddings (n, D); the smallest of equals."""
    near = _nearest(bank, bank_labels, queries, min(NEIGHBOURS[-1], len(bank)))
    hits = [(_share(near[:, :k], n_classes).argmax(1) == labels).mean() for k in NEIGHBOURS]
    return NEIGHBOURS[int(np.argmax(hits))]


def _nearest(bank, bank_labels, queries, k: int) -> np.ndarray:
    """Labels int (n, k) of the k nearest of the bank, nearest first."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(k, len(bank)), algorithm="brute").fit(bank)
    return bank_labels[search.kneighbors(queries, return_distance=False)]


def _share(near: np.ndarray, n_classes: int) -> np.ndarray:
    votes = np.stack([(near == c).sum(1) for c in range(n_classes)], 1)
    return np.log((votes + 1 / n_classes) / (near.shape[1] + 1)).astype(np.float32)


@dataclass(frozen=True)
class Corrected:
    """Mean of a difference over resampled splits, with the corrected t of Nadeau and Bengio and its two-sided p.

    Attributes
    ----------
    difference : with its interval, in the differences' own unit.
    t, p : with len(differences) - 1 degrees of freedom; nan, as the interval, for fewer than two splits, and for
        differences that are all the same and not 0: a few whole images in each split scatter, as a rule.
    """

    difference: Estimate
    t: float
    p: float


def corrected_t(differences: np.ndarray, n_train: int, n_test: int) -> Corrected:
    """Corrected resampled t-test (Nadeau and Bengio 2003, Sect. 4) of differences from J random splits of one data set.

    The splits share images, so their differences are not independent, and the common variance s^2 / J is too small
    by far: here it is s^2 (1 / J + n_test / n_train).

    Parameters
    ----------
    differences : (J,), one a split, such as accuracy of one network minus that of another in points.
    n_train, n_test : images that train and test in each split.
    """
    from scipy.stats import t as student

    d = np.asarray(differences, float)
    mean = float(d.mean()) if len(d) else float("nan")
    if len(d) < 2:
        return Corrected(Estimate(mean, float("nan"), float("nan")), float("nan"), float("nan"))
    # But for rounding no scatter to go by; that they are all 0 is a difference of nothing.
    if np.ptp(d) < 1e-9:
        nothing = Estimate(0.0, 0.0, 0.0), 0.0, 1.0
        return Corrected(*(nothing if abs(mean) < 1e-9 else (Estimate(mean, np.nan, np.nan), np.nan, np.nan)))
    error = float(np.sqrt(d.var(ddof=1) * (1 / len(d) + n_test / n_train)))
    half = float(student.ppf(TAILS[1], len(d) - 1)) * error
    p = 2 * float(student.sf(abs(mean) / error, len(d) - 1))
    return Corrected(Estimate(mean, mean - half, mean + half), mean / error, p)


def effective_images(hits: np.ndarray, clusters: np.ndarray) -> float:
    """How many independent images would know as much of the accuracy: fewer, the more errors share a cluster.

    Parameters
    ----------
    hits : bool (S, n); clusters (n,).
    """
    hit = hits.mean(0)
    _, cluster = np.unique(clusters, return_inverse=True)
    sums = np.bincount(cluster, hit - hit.mean())
    if len(sums) == 1 or hit.mean() in (0, 1):  # nothing tells how alike a cluster's images are
        return float(len(sums))
    variance = (sums**2).sum() * len(sums) / (len(sums) - 1) / len(hit) ** 2
    independent = len(hit) * variance < 1e-9  # all clusters alike
    return float(len(hit) if independent else min(len(hit), hit.mean() * (1 - hit.mean()) / variance))


def exact_accuracy(right: float, n: float) -> Estimate:
    """Accuracy in per cent of `right` of `n` independent images with Clopper and Pearson's interval.

    Wider than Wilson's of `accuracy`; exact where hardly an image is wrong.

    Parameters
    ----------
    right, n : fractions, too, of images in clusters: n is what `effective_images` says, right its share (Korn and Graubard
        1998).
    """
    from scipy.stats import beta

    tail, wrong = TAILS[0], n - right
    low = beta.ppf(tail, right, wrong + 1) if right > 0 else 0.0
    high = beta.isf(tail, right + 1, wrong) if wrong > 0 else 1.0
    return Estimate(100 * right / n, 100 * float(low), 100 * float(high))


def nearest_image(faces, splits: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """The training image that is nearest to each test image, without any learning.

    Nearest of the 48 x 48 grey values, each image brought to zero mean and unit variance: the one that correlates
    best, the first of several.

    Parameters
    ----------
    faces : `data.Faces`
    splits : (train_index, test_index) each, as the functions of `protocols` return them.

    Returns
    -------
    list of int64 (n_test,) arrays
        Rows of the data set, in the order of each split's test_index.
    """
    from sklearn.metrics import pairwise_distances

    pixels = faces.images.reshape(len(faces), -1).astype(np.float32)
    pixels -= pixels.mean(1, keepdims=True)
    pixels /= np.maximum(pixels.std(1, keepdims=True), 1e-6)
    distance = pairwise_distances(pixels)  # (N, N), once for all splits
    return [train[distance[np.ix_(test, train)].argmin(1)] for train, test in splits]


def pixel_nearest(faces, splits: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """What no learning at all recognises: the label of `nearest_image`, int64 (n_test,) for each split."""
    return [faces.labels[rows] for rows in nearest_image(faces, splits)]


def siblings_in_training(groups: np.ndarray, splits: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Share of each split's test images that have an image of their own group in training, float (J,) in 0-1.

    Parameters
    ----------
    groups : (N,), the sequence or the subject of each image of the data set.
    """
    return np.array([np.isin(groups[test], groups[train]).mean() for train, test in splits])


ENSEMBLE_WEIGHTS = tuple(k / 20 for k in range(21))
"""Weights of the first network among which `ensemble_weight` chooses."""


def ensemble(logits: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Networks' logits (..., K) fused: log of the weighted mean of their softmaxes; the weights add up to 1.

    Liu et al. fuse models A and B by an "ensemble method" that they do not name; the mean of the softmaxes is
    assumed.
    """
    from scipy.special import log_softmax, logsumexp

    shares = np.reshape(weights, (-1, *[1] * np.ndim(logits[0])))
    return logsumexp([log_softmax(x, -1) for x in logits], axis=0, b=shares)


def ensemble_weight(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> float:
    """The weight of `ENSEMBLE_WEIGHTS` with the highest accuracy on validation logits (n, K); of equals the nearest 1/2."""
    hits = [(ensemble((first, second), (w, 1 - w)).argmax(-1) == labels).sum() for w in ENSEMBLE_WEIGHTS]
    return min(ENSEMBLE_WEIGHTS, key=lambda w: (-hits[ENSEMBLE_WEIGHTS.index(w)], abs(w - 0.5)))
