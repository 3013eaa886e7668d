"""What is drawn of a run's test embeddings, kept beside the run: UMAP coordinates, distances in triplets."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch

from .runs import Result, kept_arrays
from .train import draw_triplets

SEED = 0
"""Of UMAP's layout and of the triplets, which are kept: another would not be looked at."""


def umap_coordinates(result: Result) -> np.ndarray | None:
    """Two-dimensional UMAP of the test embeddings, float32 (n, 2), in the order of the predictions.

    Read from ``umap.npz`` in the run's folder; fitted and kept there the first time.  The fit is seeded, but
    only the same machine and versions draw the same picture.

    Returns
    -------
    ndarray or None
        None where neither coordinates nor embeddings were archived.
    """

    def fitted(embedding: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from umap import UMAP

            fit = UMAP(n_neighbors=15, min_dist=0.1, metric="cosine", random_state=SEED, n_jobs=1)
            return fit.fit_transform(embedding)

    return _kept(result, "umap.npz", "points", fitted)


def triplet_distances(result: Result) -> np.ndarray | None:
    """Relative distances D = |a - n|^2 - |a - p|^2 of random triplets of the test images, float32 (T,).

    One triplet an anchor.  Read from ``triplets.npz`` in the run's folder; drawn and kept there the first time.

    Returns
    -------
    ndarray or None
        None where neither distances nor embeddings were archived.
    """

    def drawn(x: np.ndarray) -> np.ndarray:
        labels = torch.as_tensor(result.predictions["test_labels"]).long()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            *triplets, real = draw_triplets(torch.arange(len(x)), labels, None, "batch")[1]
        a, p, n = (t[real] for t in triplets)
        return ((x[a] - x[n]) ** 2).sum(1) - ((x[a] - x[p]) ** 2).sum(1)

    return _kept(result, "triplets.npz", "d", drawn)


def _kept(
    result: Result, file: str, name: str, made: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray | None:
    """The array in a file of the run's folder; made of its embedding, and kept in half precision, the first time."""

    def arrays() -> dict[str, np.ndarray] | None:
        if result.embedding is None:
            return None
        return {name: made(result.embedding.astype(np.float32)).astype(np.float16)}

    kept = kept_arrays(result.folder / file, arrays)
    return None if kept is None else kept[name].astype(np.float32)
