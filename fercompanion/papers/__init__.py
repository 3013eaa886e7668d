"""What the four papers published: every number with its table, data set and protocol as printed."""

from __future__ import annotations

import csv
from itertools import permutations
from pathlib import Path

import numpy as np

METHODS = {
    "VGG19": "vgg19",
    "Baseline 1 (local key regions, CE only)": "baseline1",
    "Baseline 2 (no key regions, CE+triplet)": "baseline2",
    "Our method (LKRNet)": "lkrnet",
}
"""Methods of LKRNet's Tables 2 and 3 that this project trains, and the name of the arm."""


ACCURACIES = {
    "DNNRL": {"AlexNet": "alexnet", "DNN": "dnn", "T-DNN": "tdnn", "DNNRL": "dnnrl"},
    "Liu2019": {"VGG16": "liu-vgg16", "VGG19": "liu-vgg19", "Model A": "liu-a", "Model B": "liu-b"},
    "Kim2022": {
        "Transformer Network (Resnet18) + Softmax": "kim-resnet18",
        "Modified ResNet + Softmax": "kim-softmax",
        "TransformerNetwork (Modified Resnet) + Triplet": "kim",
    },
}
"""The siblings' methods that this project trains, and the name of the arm; Liu et al. print their ensemble alone."""


class Titles(dict):
    """Arm -> its name in tables and figures; arms of one's own have their own."""

    def __missing__(self, arm: str) -> str:
        return arm


TITLES = Titles(
    {
        "vgg19": "VGG19",
        "baseline1": "Baseline 1",
        "baseline2": "Baseline 2",
        "lkrnet": "LKRNet",
        "lkrnet-lambda0": "LKRNet, λ = 0",
        "lkrnet-lambda0.1": "LKRNet, λ = 0.1",
        "lkrnet-lambda0.4": "LKRNet, λ = 0.4",
        "lkrnet-shuffled-mask": "LKRNet, shuffled masks",
        "lkrnet-mean-mask": "LKRNet, mean mask",
        "alexnet": "AlexNet",
        "dnn": "DNN",
        "tdnn": "T-DNN",
        "dnnrl": "DNNRL",
        "dnnrl-unclamped": "DNNRL, unclamped",
        "tdnn-joint": "T-DNN with softmax",
        "dnnrl-joint": "DNNRL with softmax",
        "liu-a": "Model A",
        "liu-a-no-center": "A, no center loss",
        "liu-a-relu": "A, ReLU",
        "liu-a-no-augmentation": "A, crops alone",
        "liu-b": "Model B, SRGAN",
        "liu-b-bicubic": "Model B, bicubic",
        "liu-b-48": "Model B, 48 pixels",
        "liu-ensemble": "A + B",
        "liu-vgg16": "VGG16",
        "liu-vgg19": "VGG19 (Liu et al.)",
        "liu-a-no-center-relu": "A, no center loss, ReLU",
        "liu-a-no-center-no-augmentation": "A, no center loss, crops alone",
        "liu-a-relu-no-augmentation": "A, ReLU, crops alone",
        "liu-a-no-center-relu-no-augmentation": "A, none of the three",
        "kim": "STN + ResNet-10, triplet",
        "kim-softmax": "STN + ResNet-10, softmax",
        "kim-resnet18": "STN + ResNet-18, softmax",
        "kim-no-occlusion": "STN + ResNet-10, triplet, trained clean",
    }
)


def published_accuracies(paper: str, item: str, protocol: str = "") -> dict[str, float]:
    """Overall accuracies in per cent of one table: method as printed -> value.

    Parameters
    ----------
    protocol : words that the row's protocol must contain; any row if empty.
    """
    found = {}
    for row in published(paper, item):
        if (
            row["class"] == "overall"
            and row["metric"].startswith("accuracy_")
            and protocol in row["protocol"]
        ):
            scale = 100 if row["metric"] == "accuracy_fraction" else 1
            found[row["method"]] = round(scale * float(row["value"]), 3)
    return found


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


def frames_tested() -> int:
    """How many frames of CK+ Kim et al. test on."""
    return next(int(r["value"]) for r in published("Kim2022") if r["class"] == "test frames")


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


def published_gains(of: str) -> dict[str, float]:
    """Differences in percentage points: "LKRNet minus VGG19" -> 3.132 and so on.

    Parameters
    ----------
    of : "FER2013" or "CK+", of which LKRNet's Sect. 4.3.4 prints them; or "DNNRL", whose Table 2 gives them.
    """
    if of == "DNNRL":
        value = published_accuracies("DNNRL", "Table 2")
        return {
            f"{a} minus {b}": round(value[a] - value[b], 2) for a, b in permutations(ACCURACIES["DNNRL"], 2)
        }
    rows = published("LKRNet", "Sect. 4.3.4 text")
    return {
        r["method"]: float(r["value"])
        for r in rows
        if r["metric"] == "accuracy_delta_points" and r["dataset"] == of
    }
