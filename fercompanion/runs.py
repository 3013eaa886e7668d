"""Runs: (recipe, data set, protocol, fold, seed), their folders, and how finished ones are found and read."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .data import DataError, unreadable
from .recipes import Recipe
from .whole import DAMAGED, kept_if_possible, save_arrays

AROUND = Path(__file__).resolve().parents[1]
"""The folder that holds the package."""
ROOT = AROUND if (AROUND / "pyproject.toml").is_file() else Path.cwd()
"""The repository; for a package that was installed without it, the folder where one works."""
HISTORY = "history.csv"
"""A run's epochs, a line each."""
PARTS = (HISTORY, "predictions.npz", "embedding.npy")
"""What a run is made of beside run.json, and cannot be made again without training."""
DRAWN = ("cam.npz", "umap.npz", "triplets.npz")
"""What notebooks keep beside a run."""
INFO = set(
    (
        "recipe dataset data_sha256 classes protocol fold n_folds seed n epochs selected_epoch selection k parameters "
        "metrics machine train_seconds predict_seconds versions commit"
    ).split()
)
"""What every run.json tells, and tables count on."""
NUMBERS = {"metrics", "embedding"}
"""Where run.json may say null: nan, which JSON does not know."""


@dataclass(frozen=True)
class Run:
    """One training run of a plan.

    Attributes
    ----------
    recipe, dataset, protocol, seed : what, on which faces, under which protocol (`protocols.PROTOCOLS`).
    fold, n_folds : of the folded protocols; 0 of 1 under "official".
    """

    recipe: Recipe
    dataset: str
    protocol: str = "official"
    fold: int = 0
    n_folds: int = 1
    seed: int = 0

    @property
    def where(self) -> Path:
        """Folder below the profile's."""
        fold = "" if self.protocol == "official" else f"fold{self.fold + 1}of{self.n_folds}-"
        return Path(self.dataset, self.recipe.name, self.protocol, f"{fold}seed{self.seed}")

    def __str__(self) -> str:
        return str(self.where)


@dataclass(frozen=True, eq=False)
class Result:
    """A finished run, read from its folder; arrays are loaded when first asked for.

    Attributes
    ----------
    info : contents of run.json.
    folder : where it lies.
    """

    info: dict
    folder: Path

    @property
    def recipe(self) -> Recipe:
        """The recipe it was made with; fields that a later version added were at their defaults then.

        Raises
        ------
        TypeError
            It has a field that this version does not know.
        """
        return Recipe(**self.info["recipe"])

    @cached_property
    def history(self) -> dict[str, np.ndarray]:
        """Columns of history.csv, one value an epoch."""
        path = self.folder / HISTORY
        with whole_or_told(path), open(path, newline="") as f:
            rows = list(csv.DictReader(f))
            return {k: np.array([float(r[k]) for r in rows]) for k in rows[0]}

    @cached_property
    def predictions(self) -> dict[str, np.ndarray]:
        """Arrays of predictions.npz for valid and test: index, labels, clean, subject, and logits (float32) by view.

        Clean are images without an exact copy among those that trained.

        Where logits were not kept, predicted classes (uint8) by view; `predicted` tells them for any.
        """
        arrays = load_arrays(self.folder / "predictions.npz")
        return {k: v.astype(np.float32) if "logits" in k else v for k, v in arrays.items()}

    def predicted(self, view: str, part: str = "test") -> np.ndarray:
        """int (n,), the class that the network names for each image.

        Raises
        ------
        KeyError
            The faces were not looked at this way.
        """
        if (logits := self.predictions.get(f"{part}_logits_{view}")) is not None:
            return logits.argmax(1)
        return self.predictions[f"{part}_predicted_{view}"]

    @cached_property
    def embedding(self) -> np.ndarray | None:
        """float16 (n, D) of the test images; None where it was not kept."""
        path = self.folder / "embedding.npy"
        if not path.is_file():
            return None
        with whole_or_told(path):
            return np.load(path, allow_pickle=False)

    def weights(self) -> dict:
        """The selected epoch's weights.

        Raises
        ------
        DataError
            They were not kept (they are never archived), or their file is damaged.
        """
        path = self.folder / "weights.safetensors"
        if not path.is_file():
            raise DataError(f"{path}: no weights here (archives hold none); {anew('the folder')}")
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except OSError as error:  # whatever its own words are
            raise unreadable(path, error) from None
        except SafetensorError as error:
            raise DataError(
                f"{path}: damaged ({error}); delete the folder, and the run is trained anew"
            ) from None


def results_folder(profile: str) -> Path:
    """results/<profile>, or with RETRAIN=1 results/<profile>-retrain, so that archives stay untouched.

    FERCOMPANION_RESULTS replaces results/.

    Raises
    ------
    DataError
        The profile's name is none of one folder.
    """
    if not profile or profile in (".", "..") or Path(profile).name != profile:
        raise DataError(f"profile {profile!r}: expected the name of one folder")
    root = Path(os.environ.get("FERCOMPANION_RESULTS") or ROOT / "results").expanduser()
    return root / (f"{profile}-retrain" if is_set("RETRAIN") else profile)


def is_set(variable: str) -> bool:
    """Whether an environment variable asks for something: neither empty nor 0."""
    return os.environ.get(variable, "") not in ("", "0")


def anew(what: str) -> str:
    """How to train what is archived once more: a remedy for the end of a message."""
    aside = f"move {what} away to train anew"
    return aside if is_set("RETRAIN") else f"{aside}, or set RETRAIN=1 to train into a folder of its own"


def find(run: Run, profile: str) -> Result | None:
    """The finished run, or None.

    Raises
    ------
    DataError
        The folder holds a run of another recipe under the same name.
    """
    path = results_folder(profile) / run.where / "run.json"
    if not path.is_file():
        return None
    result = read(path)
    known = asdict(result.recipe)
    other = [k for k, v in asdict(run.recipe).items() if known[k] != v]
    if other:
        raise DataError(f"{path}: made with another recipe ({', '.join(other)} differ); {anew('the folder')}")
    return result


def read(path: Path) -> Result:
    """The run that a run.json tells of.

    Raises
    ------
    DataError
        The file is damaged, lacks what every run has, or holds a recipe that this version does not know.
    """
    try:
        info = json.loads(path.read_text())
        if lacks := sorted(INFO - info.keys()):
            raise ValueError(f"no {', '.join(lacks)} in it")
        for name in NUMBERS & info.keys():
            info[name] = {k: float("nan") if v is None else v for k, v in info[name].items()}
        result = Result(info, path.parent)
        try:
            _ = result.recipe
        except (TypeError, ValueError) as error:
            said = f"made by another version of fercompanion ({error}); update, or move it away"
            raise DataError(f"{path}: {said}") from None
    except PermissionError as error:
        raise unreadable(path, error) from None
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}); delete it, and the run is trained anew") from None
    return result


@contextmanager
def whole_or_told(path: Path):
    """Faults in reading a file of a run's folder, each as a DataError that says what to do."""
    try:
        yield
    except PermissionError as error:
        raise unreadable(path, error) from None
    except DAMAGED as error:
        said = "missing" if isinstance(error, FileNotFoundError) else f"damaged ({str(error).strip()})"
        remedy = "it, and it is made"
        if path.name in PARTS:
            remedy = f"{path.with_name('run.json')}, and the run is trained"
        raise DataError(f"{path}: {' '.join(said.split())}; restore it, or delete {remedy} anew") from None


def find_all(runs: list[Run], profile: str) -> dict[Run, Result]:
    """Those of the runs that are finished, in their order."""
    return {run: result for run in runs if (result := find(run, profile)) is not None}


def kept_arrays(path: Path, made: Callable[[], dict[str, np.ndarray] | None]) -> dict[str, np.ndarray] | None:
    """The arrays of a .npz; the first time made, and kept there if that is possible.

    Parameters
    ----------
    made : gives the arrays, or None where they cannot be made; then nothing is kept.
    """
    if path.is_file():
        return load_arrays(path)
    arrays = made()
    if arrays is not None:
        with kept_if_possible(path):
            save_arrays(path, **arrays)
    return arrays


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a .npz.

    Raises
    ------
    DataError
        It is missing or damaged.
    """
    with whole_or_told(path), np.load(path, allow_pickle=False) as f:
        return dict(f)
