"""Face data sets: one frozen record, `Faces`, and one function that loads it, `load_faces`."""

from __future__ import annotations

import difflib
import hashlib
import os
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from .layouts import (
    SPLITS,
    DataError,
    first_line,
    read_ckplus,
    read_fer2013,
    read_sfew,
    read_sheet,
    unreadable,
)

__all__ = [
    "CK_CLASSES",
    "FER_CLASSES",
    "NAMES",
    "SPLITS",
    "DataError",
    "Faces",
    "clean_mask",
    "first_line",
    "load_faces",
    "unreadable",
]

# The order of the numbers in fer2013.csv; CK+ has contempt in the place of neutral.
FER_CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
CK_CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "contempt")
NAMES = ("demo", "demo-ck", "fer2013", "ckplus", "sfew")
JOINED = "fer2013+sfew"
DATA_TITLES = {"fer2013": "FER2013", "ckplus": "CK+", "sfew": "SFEW 2.0", JOINED: "FER2013 + SFEW 2.0"}
"""Name of a data set -> as people write it; the demo sets' names are their own."""
VARIABLE = "FERCOMPANION_DATA"


def data_title(name: str) -> str:
    """A data set's name as people write it."""
    return DATA_TITLES.get(name, name)


def whose(name: str) -> str:
    """What numbers on a data set are called beside a paper's, with which those on synthetic faces have nothing in common."""
    return "synthetic faces" if name.startswith("demo") else "ours"


HOW_TO_GET = {
    "fer2013": "FER2013 is on Kaggle, competition "
    "challenges-in-representation-learning-facial-expression-recognition-challenge: put "
    "icml_face_data.csv or fer2013.csv, or the image folders train/ and test/, into fer2013/",
    "ckplus": "CK+ is given on request by the Affect Analysis Group (Cohn-Kanade) at the University of "
    "Pittsburgh; its 48-pixel version circulates on Kaggle as CK+48: put its class folders into "
    "CK+48/",
    "sfew": "SFEW 2.0 is given on request by the organisers of the EmotiW challenge: put Train_Aligned_Faces/ and "
    "Val_Aligned_Faces/, each with a folder for each class, into SFEW_2.0/",
}


@dataclass(frozen=True, eq=False)
class Faces:
    """A data set of grey square faces.

    Attributes
    ----------
    name : str
        "demo", "demo-ck", "fer2013", "ckplus", "sfew" or "fer2013+sfew".
    images : ndarray of uint8, (N, S, S)
        S = 48 unless `superres.enlarge` made them larger.
    labels : ndarray of int64, (N,)
        Index into `classes`.
    classes : tuple of str
    split : ndarray of str, (N,)
        "Training", "PublicTest" or "PrivateTest"; "" in a data set without official splits (CK+).
    subject, sequence : ndarray of str, (N,)
        "" where unknown.
    source : ndarray of str, (N,)
        Unique: path relative to the data set, or file and line ("fer2013.csv:17").
    layout : str
        Which form of the data set was found, for people.
    truth : ndarray of float32, (N, 5, 2), or None
        True landmarks as (x, y) in pixels (eyes, nose, mouth corners; left in the image first).
        Demo sets only.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    split: np.ndarray
    subject: np.ndarray
    sequence: np.ndarray
    source: np.ndarray
    layout: str
    truth: np.ndarray | None = None

    def __post_init__(self):
        shape = self.images.shape
        if self.images.dtype != np.uint8 or self.images.ndim != 3 or shape[1] != shape[2]:
            raise ValueError(f"images must be uint8 (N, S, S), not {self.images.dtype} {shape}")
        for name in ("labels", "split", "subject", "sequence", "source"):
            if not isinstance(getattr(self, name), np.ndarray):
                raise ValueError(f"{name} must be an array, not a {type(getattr(self, name)).__name__}")
        if self.labels.dtype != np.int64:
            raise ValueError(f"labels must be int64, not {self.labels.dtype}")
        for name, value in self._columns():
            if len(value) != len(self):
                raise ValueError(f"{name} has {len(value)} entries for {len(self)} images")
        if len(self) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(
                f"labels from {self.labels.min()} to {self.labels.max()} for {len(self.classes)} classes"
            )

    def _columns(self):
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        return [(name, value) for name, value in values if isinstance(value, np.ndarray)]

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, index_or_mask) -> Faces:
        """The images chosen by an integer index array or a boolean mask, in that order."""
        index = np.asarray(index_or_mask)
        if index.size == 0:
            index = index.astype(np.int64)  # an empty list is float for NumPy
        return replace(self, **{name: value[index] for name, value in self._columns()})

    def where(self, split: str) -> np.ndarray:
        """Indices, int64, of the images of an official split; empty if the data set has no splits.

        Raises
        ------
        DataError
            If there is no split of that name.
        """
        if split not in SPLITS:
            raise DataError(f"{self.name}: there is no split {split!r}; the splits are {', '.join(SPLITS)}.")
        return np.flatnonzero(self.split == split)

    @property
    def title(self) -> str:
        """The name as people write it."""
        return data_title(self.name)

    @cached_property
    def sha256(self) -> str:
        """Hex digest of images, labels, split and classes; the source names do not enter."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images))
        digest.update(np.ascontiguousarray(self.labels, "<i8"))
        digest.update("\n".join(self.split).encode())
        digest.update("\n".join(self.classes).encode())
        return digest.hexdigest()

    def digests(self) -> np.ndarray:
        """Content digest of every image, uint64 (N,): equal for exact copies."""
        raw = b"".join(hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in self.images)
        return np.frombuffer(raw, "<u8").astype(np.uint64)


def load_faces(name: str, root: str | os.PathLike | None = None) -> Faces:
    """Load a data set.

    Parameters
    ----------
    name : str
        "demo" and "demo-ck" are embedded in the package and ignore `root`; "fer2013", "ckplus" and "sfew"
        are licensed and must be on this machine.  "fer2013+sfew" is FER2013 with SFEW's training faces added
        to Training (DNNRL's Table 3); who selects and tests stays FER2013's.
    root : path, optional
        The folder of the data set, or one that contains it under a usual name.  Default: the
        environment variable FERCOMPANION_DATA.

    Returns
    -------
    Faces
        Always in the same order for the same files.

    Raises
    ------
    DataError
        One line: what is missing or wrong, where, and what to do.
    """
    if name in ("demo", "demo-ck"):
        classes = FER_CLASSES if name == "demo" else CK_CLASSES
        return Faces(name=name, classes=classes, **read_sheet(Path(__file__).parent / "demo", name, classes))
    if name == "fer2013":
        return _load_licensed(name, root, FER_CLASSES, read_fer2013)
    if name == "ckplus":
        return _load_licensed(name, root, CK_CLASSES, read_ckplus)
    if name == "sfew":
        return _load_licensed(name, root, FER_CLASSES, read_sfew)
    if name == JOINED:
        return _joined(load_faces("fer2013", root), load_faces("sfew", root))
    close = difflib.get_close_matches(str(name).lower(), NAMES, 1, 0.4)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise DataError(f"There is no data set {name!r}{hint} The data sets are {', '.join(NAMES)}.")


def _joined(fer2013: Faces, sfew: Faces) -> Faces:
    added = sfew.subset(sfew.where("Training"))
    columns = {name: np.concatenate([value, getattr(added, name)]) for name, value in fer2013._columns()}
    sources = [f"{faces.name}/{source}" for faces in (fer2013, added) for source in faces.source]
    layout = f"FER2013: {fer2013.layout}; SFEW 2.0, Training alone: {sfew.layout}"
    return replace(fer2013, name=JOINED, layout=layout, **columns | {"source": np.array(sources)})


def load_or_demo(name: str, root: str | os.PathLike | None = None) -> Faces:
    """The data set, or, with a note, its demo stand-in if it is not on this machine."""
    try:
        return load_faces(name, root)
    except DataError as error:
        stand_in = "demo-ck" if name == "ckplus" else "demo"
        print(f"{error}\nShowing the {stand_in} faces in its place.")
        return load_faces(stand_in)


def _load_licensed(name: str, root, classes: tuple[str, ...], read) -> Faces:
    remedy = f"{HOW_TO_GET[name]} (demo and demo-ck need nothing)."
    where = "the folder given"
    if not root:
        root, where = os.environ.get(VARIABLE), VARIABLE
    if not root:
        raise DataError(f"{name}: {VARIABLE} is not set; set it to the folder that holds the data. {remedy}")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"{name}: {folder} ({where}) is not a folder. {remedy}")
    found = read(folder, classes)
    if found is None:
        raise DataError(f"{name}: not found in {folder} ({where}) or subfolders of a usual name. {remedy}")
    return Faces(name=name, classes=classes, **found)


def clean_mask(faces: Faces) -> np.ndarray:
    """Which images have no exact copy in Training, bool (N,).

    Of the images of Training itself, the first of several copies counts as clean.  In a data set
    without official splits every image is clean.
    """
    digests = faces.digests()
    training = faces.where("Training")
    mask = ~np.isin(digests, digests[training])
    mask[training[np.unique(digests[training], return_index=True)[1]]] = True
    return mask
