"""What needs no training: nearest neighbours among the pixels, or among an untrained network's features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from . import evaluate, protocols
from .data import SPLITS, DataError, Faces, clean_mask, load_faces
from .plans import Profile, dnnrl_runs
from .predict import predict, this_machine, to_stack
from .runs import Run, kept_arrays, results_folder, whole_or_told
from .train import untrained_model
from .whole import kept_if_possible, whole

DRAWS = 1000
"""Random splits on which the nearest pixels are tried."""


def grey_neighbours(
    profile: str, dataset: str, root: str | None = None
) -> tuple[np.ndarray, np.ndarray, int] | None:
    """k-NN on the grey values themselves, k chosen on PublicTest: the floor of DNNRL's Table 2.

    Kept as ``grey-neighbours.npz`` beside the data set's runs, so that it can be printed without the images.

    Returns
    -------
    hits, clean, k or None
        bool (1, n) hits on PrivateTest, bool (n,) whether an image has no exact copy in Training, and k.  None where
        they were not kept and the data set is not on this machine.
    """

    def grey(faces: Faces) -> np.ndarray:
        return faces.images.reshape(len(faces), -1).astype(np.float32)

    return _neighbours(results_folder(profile) / dataset / "grey-neighbours.npz", dataset, root, grey)


def network_neighbours(
    profile: str, run: Run, root: str | None = None
) -> tuple[np.ndarray, np.ndarray, int] | None:
    """The same on what a run's network makes of the faces before its first step, with the weights that it starts from.

    Kept as ``untrained-<arm>.npz``; returns what `grey_neighbours` does.
    """

    def embedded(faces: Faces) -> np.ndarray:
        machine = this_machine()
        model = untrained_model(run.recipe, len(faces.classes), run.seed).to(machine.device)
        image, _ = to_stack(faces.images, None, machine.device)
        return predict(model, image, None, machine, run.recipe)[1]

    path = results_folder(profile) / run.dataset / f"untrained-{run.recipe.arm}.npz"
    return _neighbours(path, run.dataset, root, embedded)


def floors(plan: Profile, root: str | None = None) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    """k-NN without any training, beside a profile's runs of DNNRL: title -> what `grey_neighbours` returns, where it is known."""
    first = next(run for run in dnnrl_runs(plan) if run.recipe.arm == "dnnrl")
    found = {
        "grey values": grey_neighbours(plan.name, plan.wild, root),
        "DNNRL before training": network_neighbours(plan.name, first, root),
    }
    return {title: floor for title, floor in found.items() if floor}


def _neighbours(path: Path, dataset: str, root: str | None, features: Callable[[Faces], np.ndarray]):
    def made() -> dict[str, np.ndarray] | None:
        try:
            faces = load_faces(dataset, root)
        except DataError:
            return None
        every, rows = features(faces), [faces.where(split) for split in SPLITS]
        (bank, valid, test), labels = [every[r] for r in rows], [faces.labels[r] for r in rows]
        k = evaluate.best_k(bank, labels[0], valid, labels[1], len(faces.classes))
        predicted = evaluate.neighbour_logits(bank, labels[0], test, k, len(faces.classes)).argmax(1)
        return {"hits": predicted == labels[2], "clean": clean_mask(faces)[rows[2]], "k": np.array(k)}

    kept = kept_arrays(path, made)
    return None if kept is None else (kept["hits"][None], kept["clean"], int(kept["k"]))


def nearest_pixels(profile: str, dataset: str, n_folds: int, root: str | None = None) -> pd.DataFrame | None:
    """Accuracy of the nearest training image under Kim et al.'s three protocols, a row a split: the null model.

    Kept as ``nearest-pixels.csv`` beside the data set's runs, so that it can be drawn without the images.

    Parameters
    ----------
    n_folds : of the folded protocols, of which 20 different foldings are taken; of random splits `DRAWS`.

    Returns
    -------
    DataFrame or None
        protocol, n_test, accuracy, and the shares of test frames with a frame of the same sequence and of the same
        subject in training, all in per cent.  None where it was not kept and the data set is not on this machine.
    """
    path = results_folder(profile) / dataset / "nearest-pixels.csv"
    if path.is_file():
        with whole_or_told(path):
            kept = pd.read_csv(path)
            if (kept["n_folds"] == n_folds).all():
                return kept.drop(columns="n_folds")
    try:
        faces = load_faces(dataset, root)
    except DataError:
        return None
    splits = {"random": protocols.random_splits(faces, DRAWS), "sequence": [], "subject": []}
    for seed in range(20):
        splits["sequence"] += protocols.sequence_folds(faces, n_folds, seed)
        splits["subject"] += protocols.subject_folds(faces, n_folds, seed)
    rows = []
    for protocol, some in splits.items():
        predicted = evaluate.pixel_nearest(faces, some)
        frame = pd.DataFrame({"n_test": [len(test) for _, test in some]})
        frame["accuracy"] = [
            100 * (p == faces.labels[test]).mean() for p, (_, test) in zip(predicted, some, strict=True)
        ]
        for what in ("sequence", "subject"):
            frame[f"same {what}"] = 100 * evaluate.siblings_in_training(getattr(faces, what), some)
        frame.insert(0, "protocol", protocol)
        rows.append(frame)
    found = pd.concat(rows, ignore_index=True).round(4)
    with kept_if_possible(path), whole(path) as f:
        found.assign(n_folds=n_folds).to_csv(f, index=False)
    return found
