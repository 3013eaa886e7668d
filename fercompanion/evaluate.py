"""Statistics on predictions: accuracies with intervals, paired comparisons, distances between embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, in the value's own unit."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def accuracy(hits: np.ndarray, confidence: float = 0.95) -> Estimate:
    """Accuracy in per cent with Wilson's interval.

    Parameters
    ----------
    hits : bool (n,), one a *independent* image.  Frames of one sequence are not: see `clustered_accuracy`.
    """
    from scipy.stats import binomtest

    n, k = len(hits), int(np.sum(hits))
    if n == 0:
        return Estimate(*[float("nan")] * 3)
    interval = binomtest(k, n).proportion_ci(confidence, method="wilson")
    return Estimate(100 * k / n, 100 * interval.low, 100 * interval.high)


def clustered_accuracy(
    hits: np.ndarray, clusters: np.ndarray, draws: int = 5000, seed: int = 0, confidence: float = 0.95
) -> Estimate:
    """Accuracy in per cent with a bootstrap over clusters (subjects) instead of images.

    Parameters
    ----------
    hits : bool (n,) or (S, n) for S seeds, of which the mean is taken.
    clusters : (n,), the cluster of each image.
    """
    difference = clustered_difference(
        np.atleast_2d(hits), np.zeros_like(np.atleast_2d(hits)), clusters, draws, seed, confidence
    )
    return difference


def recalls(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> list[Estimate]:
    """Recall of each class in per cent with Wilson's interval."""
    return [accuracy(predicted[labels == k] == k) for k in range(n_classes)]


def confusion(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Confusion matrix int64 (K, K): rows the true class, columns the predicted one."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, predicted, labels=np.arange(n_classes))


def paired_difference(
    hits: np.ndarray, other: np.ndarray, draws: int = 5000, seed: int = 0, confidence: float = 0.95
) -> Estimate:
    """Accuracy of `hits` minus that of `other` in percentage points, bootstrapped over images and seeds.

    Parameters
    ----------
    hits, other : bool (S, n)
        One row a seed, one column an image; the same seeds and images in both.  Each draw takes images and,
        where there are several, seeds with replacement, the same for both.
    """
    hits, other = np.atleast_2d(hits), np.atleast_2d(other)
    return clustered_difference(hits, other, np.arange(hits.shape[1]), draws, seed, confidence)


def clustered_difference(
    hits: np.ndarray,
    other: np.ndarray,
    clusters: np.ndarray,
    draws: int = 5000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """`paired_difference` with whole clusters (subjects) drawn instead of images."""
    hits, other = np.atleast_2d(hits).astype(np.int8), np.atleast_2d(other).astype(np.int8)
    if hits.shape != other.shape or hits.shape[1] != len(clusters):
        raise ValueError(f"hits {hits.shape}, other {other.shape}, clusters {len(clusters)}: not paired")
    _, cluster = np.unique(clusters, return_inverse=True)
    size = np.bincount(cluster).astype(float)
    # Sums of the difference by seed and cluster; a draw reweights clusters and seeds.
    sums = np.stack([np.bincount(cluster, row, len(size)) for row in hits - other])  # (S, C)
    rng = np.random.default_rng(seed)
    values = np.empty(draws)
    for chunk in np.array_split(np.arange(draws), max(1, draws // 250)):
        weight = rng.multinomial(len(size), np.full(len(size), 1 / len(size)), len(chunk))  # (d, C)
        seeds = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), len(chunk)) / len(sums)
        values[chunk] = ((weight @ sums.T) * seeds).sum(1) / (weight @ size)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(100 * float(sums.sum() / len(sums) / size.sum()), 100 * float(low), 100 * float(high))


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
        "ratio": inter / intra; "silhouette": scikit-learn's, Euclidean.
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
    other_dot = float(total @ total) - n - same_dot
    intra, inter = 2 - 2 * same_dot / same_pairs, 2 - 2 * other_dot / (n * (n - 1) - same_pairs)
    return {
        "intra": intra,
        "inter": inter,
        "ratio": inter / intra if intra > 1e-9 else float("nan"),
        "silhouette": float(silhouette_score(unit, labels)),
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
    value = float(np.asarray(recall_percent, float) @ share)
    return Estimate(value, max(0.0, value - 0.5), min(100.0, value + 0.5))
