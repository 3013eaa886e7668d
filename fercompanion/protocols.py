"""Who trains and who tests: FER2013's official splits, three ways of folding CK+, and Kim et al.'s random splits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .data import JOINED, DataError, Faces

PROTOCOLS = ("official", "subject", "sequence", "frame", "random")
TITLES = {
    "random": "random frames",
    "frame": "random frames",
    "sequence": "new sequences",
    "subject": "new people",
}
"""Protocol of the lab -> what is new about a test frame."""
SHARE = 800 / 981
"""Of the frames, that train in Kim et al.'s random splits."""


@dataclass(frozen=True, eq=False)
class Parts:
    """Index arrays, int64, of the images that train, select and test.

    `valid` is empty where nothing is selected: the last epoch is then the result.
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def parts(faces: Faces, protocol: str, fold: int = 0, n_folds: int = 10) -> Parts:
    """The parts of one run.

    Parameters
    ----------
    protocol
        "official": Training, PublicTest, PrivateTest.  "subject", "sequence", "frame": fold `fold` of
        `n_folds`, in which no subject, no sequence, or merely no frame stands on both sides.
        "random": draw `fold` of `random_splits`; the same draw whatever `n_folds`.

    Raises
    ------
    DataError
        There is no such protocol or fold, or the data set lacks what it needs: official splits, names of people or films.
    """
    if protocol == "official":
        found = Parts(*(faces.where(s) for s in ("Training", "PublicTest", "PrivateTest")))
        lacks = [s for s, rows in (("Training", found.train), ("PrivateTest", found.test)) if not len(rows)]
        if len(lacks) == 2:
            raise DataError(f"{faces.name} has no official splits; use protocol subject, sequence or frame")
        if lacks:
            use = f"; it trains beside FER2013, as {JOINED}" * (faces.name == "sfew")
            raise DataError(f"{faces.name} has no {lacks[0]}, which protocol official needs{use}")
        return found
    folds = {"subject": subject_folds, "sequence": sequence_folds, "frame": frame_folds}
    if protocol not in PROTOCOLS:
        raise DataError(f"there is no protocol {protocol!r}; the protocols are {', '.join(PROTOCOLS)}")
    if n_folds < (1 if protocol == "random" else 2) or not 0 <= fold < n_folds:
        raise DataError(f"protocol {protocol}: there is no fold {fold + 1} of {n_folds}")
    if protocol == "random":
        train, test = random_splits(faces, fold + 1)[fold]
    else:
        train, test = folds[protocol](faces, n_folds)[fold]
    return Parts(train, np.zeros(0, np.int64), test)


def subject_folds(faces: Faces, n_folds: int = 10, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds in which no person is on both sides; each image is tested exactly once.

    Returns
    -------
    list of (train_index, test_index), int64

    Raises
    ------
    DataError
        The data set names no subjects, or fewer than `n_folds`.
    """
    return _folds(faces, faces.subject, "subjects", n_folds, seed)


def sequence_folds(faces: Faces, n_folds: int = 10, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds in which no image sequence is on both sides, but people may be; each image is tested exactly once.

    Returns
    -------
    list of (train_index, test_index), int64

    Raises
    ------
    DataError
        The data set names no sequences, or fewer than `n_folds`.
    """
    return _folds(faces, faces.sequence, "sequences", n_folds, seed)


def frame_folds(faces: Faces, n_folds: int = 10, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds of single frames: what many papers do, and what lets near-copies of test frames into training.

    Returns
    -------
    list of (train_index, test_index), int64; each image is tested exactly once.

    Raises
    ------
    DataError
        The data set has fewer frames than `n_folds`.
    """
    return _folds(faces, np.arange(len(faces)).astype(str), "frames", n_folds, seed)


def random_splits(faces: Faces, n_splits: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Independent random draws of frames (Kim et al. Sect. 3: 800 of CK+'s 981 train, 181 test).

    Unlike folds the test sets of two draws overlap, and some frames may never be tested.  The first draws are the
    same however many are asked for.

    Parameters
    ----------
    n_splits : how many draws; seed : of all of them.

    Returns
    -------
    list of (train_index, test_index), int64, ascending

    Raises
    ------
    DataError
        The data set has too few frames.
    """
    n = len(faces)
    n_train = round(SHARE * n)
    if not 0 < n_train < n:
        raise DataError(f"{faces.name} has {n} frames: too few to split at random")
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n) for _ in range(n_splits)]
    return [(np.sort(order[:n_train]), np.sort(order[n_train:])) for order in orders]


def _folds(faces: Faces, groups: np.ndarray, what: str, n_folds: int, seed: int):
    """Deal shuffled groups, largest first, each to the fold that is smallest so far."""
    names, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    if (names == "").any():
        raise DataError(f"{faces.name} does not name its {what}: they cannot be kept apart")
    if len(names) < n_folds:
        raise DataError(f"{faces.name} has {len(names)} {what}: too few for {n_folds} folds")
    shuffled = np.random.default_rng(seed).permutation(len(names))
    filled, fold_of = np.zeros(n_folds, np.int64), np.empty(len(names), np.int64)
    for g in shuffled[np.argsort(-size[shuffled], kind="stable")]:
        fold_of[g] = filled.argmin()
        filled[fold_of[g]] += size[g]
    fold = fold_of[group]
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_folds)]
