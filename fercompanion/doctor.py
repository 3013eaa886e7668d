"""What is on this machine: data sets with their counts, copies and conflicts, and what torch can do."""

from __future__ import annotations

import importlib.util
import os
import platform
import textwrap
from collections.abc import Sequence

import numpy as np
import torch

from .data import CK_CLASSES, FER_CLASSES, NAMES, SPLITS, DataError, Faces, load_faces
from .predict import cpu_multiplies_bf16

WIDTH = 100
WHOLE = "all"  # the key of the counts where a data set has no official splits

# Counts in class order; then what exact comparison of the pixels finds in a complete copy.
_FER_COUNTS = {
    "Training": (3995, 436, 4097, 7215, 4830, 3171, 4965),
    "PublicTest": (467, 56, 496, 895, 653, 415, 607),
    "PrivateTest": (491, 55, 528, 879, 594, 416, 626),
}
EXPECTED_COUNTS = {
    "fer2013": {split: dict(zip(FER_CLASSES, counts, strict=True)) for split, counts in _FER_COUNTS.items()},
    "ckplus": {WHOLE: dict(zip(CK_CLASSES, (135, 177, 75, 207, 84, 249, 54), strict=True))},
}
EXPECTED_FINDINGS = {
    "fer2013": {
        "distinct": 34034,
        "surplus_copies": 1853,
        "copy_groups": 1516,
        "groups_across_splits": 557,
        "groups_with_label_conflict": 57,
        "constant": 12,
        "copies_of_training": {"PublicTest": 280, "PrivateTest": 288},
    },
    "ckplus": {"subjects": 118, "sequences": 327},
}


def examine(faces: Faces) -> dict:
    """Count and compare the images of a data set.

    Returns
    -------
    dict
        Plain data (strings, numbers, dicts).  `counts` and `expected_counts` are {split: {class: n}},
        with the one split "all" where there are no official splits; `expected_counts` and
        `counts_match` are None for a data set whose counts are not published.  `copies_of_training`
        is the number of PublicTest and PrivateTest images with an exact copy in Training.
        `differing` names the findings that are not those of a complete copy of the data set.
    """
    counts = {}
    for split in [s for s in SPLITS if s in faces.split] or [WHOLE]:
        labels = faces.labels if split == WHOLE else faces.labels[faces.where(split)]
        counts[split] = {name: int(np.sum(labels == k)) for k, name in enumerate(faces.classes)}
    digests = faces.digests()
    _, group, size = np.unique(digests, return_inverse=True, return_counts=True)
    training = digests[faces.where("Training")]
    expected = EXPECTED_COUNTS.get(faces.name)
    findings = {
        "distinct": len(size),
        "surplus_copies": len(faces) - len(size),
        "copy_groups": int(np.sum(size > 1)),
        "groups_across_splits": int(np.sum(_kinds(group, faces.split) > 1)),
        "groups_with_label_conflict": int(np.sum(_kinds(group, faces.labels) > 1)),
        "copies_of_training": {
            split: int(np.isin(digests[faces.where(split)], training).sum())
            for split in ("PublicTest", "PrivateTest")
        },
        "constant": int(np.sum(faces.images.min((1, 2)) == faces.images.max((1, 2)))),
        "subjects": len(set(faces.subject.tolist()) - {""}),
        "sequences": len(set(faces.sequence.tolist()) - {""}),
    }
    known = EXPECTED_FINDINGS.get(faces.name, {})
    return {
        "name": faces.name,
        "layout": faces.layout,
        "n": len(faces),
        "sha256": faces.sha256,
        "counts": counts,
        "expected_counts": expected,
        "counts_match": None if expected is None else counts == expected,
        **findings,
        "differing": [key for key, value in known.items() if findings[key] != value],
    }


def _kinds(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How many different values occur in each group, int (G,)."""
    codes = np.unique(values, return_inverse=True)[1]
    return np.bincount(np.unique(np.stack([group, codes]), axis=1)[0])


def report(faces: Faces) -> str:
    """The findings of `examine` as text for a terminal, at most 100 columns wide."""
    return _text(examine(faces))


def _text(found: dict) -> str:
    lines = [
        f"{found['name']}: {found['n']:,} images, {found['layout']}",
        f"  sha256 {found['sha256']}",
        "",
        *_table(found["counts"]),
        "",
    ]
    if found["counts_match"]:
        lines.append("  counts        as published")
    elif found["counts_match"] is False:
        lines.append("  counts        NOT as published (this copy is incomplete or altered); published:")
        lines += ["", *_table(found["expected_counts"]), ""]
    lines.append(
        f"  exact copies  {found['surplus_copies']:,} surplus copies in {found['copy_groups']:,} "
        f"groups, {found['distinct']:,} distinct images"
    )
    if found["surplus_copies"]:
        lines.append(
            f"                {found['groups_across_splits']:,} groups span splits, "
            f"{found['groups_with_label_conflict']:,} carry different labels"
        )
    if "Training" in found["counts"]:
        leaked = found["copies_of_training"]
        lines.append(
            f"  leakage       {leaked['PublicTest']:,} PublicTest and {leaked['PrivateTest']:,} "
            "PrivateTest images have an exact copy in Training"
        )
    lines.append(f"  constant      {found['constant']:,} images of one grey level")
    if found["subjects"]:
        lines.append(f"  people        {found['subjects']:,} subjects, {found['sequences']:,} sequences")
    for key in found["differing"]:
        known = EXPECTED_FINDINGS[found["name"]][key]
        lines.append(f"  note          {key} is {found[key]}; a complete copy has {known}")
    return "\n".join(part for line in lines for part in _wrapped(line, 16))


def _table(counts: dict[str, dict[str, int]]) -> list[str]:
    classes = next(iter(counts.values()))
    columns = {split: [*by_class.values(), sum(by_class.values())] for split, by_class in counts.items()}
    if len(columns) > 1:
        columns[WHOLE] = [sum(row) for row in zip(*columns.values(), strict=True)]
    lines = [f"  {'':<12}" + "".join(f"{split:>13}" for split in columns)]
    for k, name in enumerate([*classes, WHOLE]):
        lines.append(f"  {name:<12}" + "".join(f"{column[k]:>13,}" for column in columns.values()))
    return lines


def _wrapped(line: str, indent: int = 2) -> list[str]:
    if len(line) <= WIDTH:
        return [line]
    return textwrap.wrap(line, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def machine() -> str:
    """One line: Python, torch, CUDA, whether bf16 is fast here, and whether MTCNN can be imported."""
    parts = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    if torch.cuda.is_available():
        bf16 = "yes" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
        parts.append(f"cuda {torch.cuda.get_device_name()} (bf16 {bf16})")
    else:
        parts.append("cuda no")
    parts.append(f"CPU bf16 {'yes' if cpu_multiplies_bf16() else 'no'}")
    has_facenet = importlib.util.find_spec("facenet_pytorch") is not None
    parts.append(f"facenet-pytorch {'yes' if has_facenet else 'no'}")
    return "machine: " + ", ".join(parts)


def doctor(names: Sequence[str] = (), root: str | os.PathLike | None = None) -> int:
    """Print a report on data sets and the machine.

    Parameters
    ----------
    names : sequence of str
        Data sets asked for; none means all, and then a missing one is information, not a failure.
    root : path, optional
        As for `load_faces`.

    Returns
    -------
    int
        1 if a data set that was asked for is missing, damaged, or not complete, else 0.
    """
    failed = False
    for name in names or NAMES:
        try:
            found = examine(load_faces(name, root))
        except DataError as error:
            text = str(error) if str(error).startswith(f"{name}: ") else f"{name}: {error}"
            print("\n".join(_wrapped(text)), end="\n\n")
            failed = True
        else:
            print(_text(found), end="\n\n")
            failed = failed or found["counts_match"] is False
    print("\n".join(_wrapped(machine())))
    return int(failed and bool(names))
