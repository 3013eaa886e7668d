"""What the four papers published: every number with its table, data set and protocol as printed."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

METHODS = {
    "VGG19": "vgg19",
    "Baseline 1 (local key regions, CE only)": "baseline1",
    "Baseline 2 (no key regions, CE+triplet)": "baseline2",
    "Our method (LKRNet)": "lkrnet",
}
"""Methods of LKRNet's Tables 2 and 3 that this project trains, and the name of the arm."""


def published(paper: str | None = None, item: str | None = None) -> list[dict[str, str]]:
    """Rows of ``papers/published.csv``: paper, item, dataset, protocol, method, metric, class, value (as printed).

    Parameters
    ----------
    paper : "LKRNet", "DNNRL", "Liu2019" or "Kim2022"; all if omitted.
    item : table, figure or section, such as "Table 3".
    """
    with open(Path(__file__).with_name("published.csv"), newline="") as f:
        return [
            row for row in csv.DictReader(f) if paper in (None, row["paper"]) and item in (None, row["item"])
        ]


def published_recalls(item: str, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Per-class recalls in per cent of LKRNet's "Table 2" (CK+) or "Table 3" (FER2013), nan for a dash.

    Returns
    -------
    dict
        Method as printed -> float (K,) in the order of `classes`.
    """
    table: dict[str, np.ndarray] = {}
    for row in published("LKRNet", item):
        values = table.setdefault(row["method"], np.full(len(classes), np.nan))
        if row["value"]:
            values[classes.index(row["class"])] = float(row["value"])
    return table


def published_gains(dataset: str) -> dict[str, float]:
    """The differences of Sect. 4.3.4 in percentage points: "LKRNet minus VGG19" -> 3.132 and so on."""
    rows = published("LKRNet", "Sect. 4.3.4 text")
    return {
        r["method"]: float(r["value"])
        for r in rows
        if r["metric"] == "accuracy_delta_points" and r["dataset"] == dataset
    }
