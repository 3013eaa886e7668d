"""UMAP coordinates of a run's test embeddings, kept beside the run."""

from __future__ import annotations

import warnings

import numpy as np

from .runs import Result


def umap_coordinates(result: Result, seed: int = 0) -> np.ndarray | None:
    """Two-dimensional UMAP of the test embeddings, float32 (n, 2), in the order of the predictions.

    Read from ``umap.npz`` in the run's folder; fitted and kept there the first time.  The fit is seeded, but
    only the same machine and versions draw the same picture.

    Returns
    -------
    ndarray or None
        None where neither coordinates nor embeddings were archived.
    """
    path = result.folder / "umap.npz"
    if not path.is_file():
        if result.embedding is None:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from umap import UMAP

            fitted = UMAP(n_neighbors=15, min_dist=0.1, metric="cosine", random_state=seed, n_jobs=1)
            points = fitted.fit_transform(result.embedding.astype(np.float32))
        np.savez_compressed(path, points=points.astype(np.float16))
    with np.load(path, allow_pickle=False) as f:
        return f["points"].astype(np.float32)
