"""Put a finished run's network into the package, with a model card computed from its predictions.

    python tools/ship_model.py results/paper-cpu/fer2013/long-dnn/official/seed0
    python tools/ship_model.py --check          the card still says what the predictions say

The network that `predict` and notebook 00 use by default lies in fercompanion/trained/: weights in half precision
(safetensors), run.json, and the card. The run itself stays archived in results/.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from fercompanion import evaluate
from fercompanion.papers import TITLES
from fercompanion.photo import SHIPPED, load_run
from fercompanion.plans import AVERAGED
from fercompanion.runs import ROOT, Result
from fercompanion.whole import whole

LARGEST = 8e6
CARD = """\
# Model card: expressions on 48 × 48 grey faces

| | |
|---|---|
| network | {what}, {width} times as wide as the paper's: {parameters:,} parameters, {size:.1f} MB in half precision (sha256 {sha256_weights}…) |
| trained on | {dataset}, {train:,} Training images ({layout}; sha256 {sha256}…); nothing else |
| recipe | {epochs} epochs, seed {seed}, {optimizer}; `run.json` has all of it |
| selected | {selection}, epoch {selected} |
| made by | commit {commit}, torch {torch}, {machine} |

## How often it is right

PrivateTest, which chose neither the epoch nor the recipe: {n:,} images, {views}, 95 % intervals (Wilson).

| | n | accuracy % |
|---|---|---|
| all | {n:,} | {all} |
| without an exact copy in Training | {n_clean:,} | {clean} |
| {one} | {n:,} | {centre} |

| class | n | recall % | most often taken for |
|---|---|---|---|
{classes}

The labels themselves are noisy: people who label these images agree with them about two times in three. The
weights are rounded to half precision after this test.

## What it is for

To try the companion on a picture, and as a small start for experiments. FER2013's photographs come from the web
and their rights are not cleared: use these weights for research and teaching only.

## What it must not be used for

- No decision about a person: not in hiring, teaching, medicine, insurance, policing or at a border. In the European
  Union, inferring emotions of people at work or in education is forbidden but for medical and safety reasons (AI Act, Article 5).
- A face is not a feeling. The seven names are what strangers wrote under a picture, not what anybody felt.
- Nothing is known about age, skin colour, gender or culture of the faces in FER2013, so nothing about how the errors
  fall on groups of people. It has not been tested on any other data.
"""


def card(result: Result, weights: bytes) -> str:
    """The card of a run and its packaged weights: all numbers from its predictions and its run.json."""
    info, arrays = result.info, result.predictions
    labels, ten = arrays["test_labels"], result.predicted("tencrop")
    clean, names = arrays["test_clean"], info["classes"]
    uncropped = info["recipe"]["crop"] == info["recipe"]["canvas"]  # then all crops are the same

    def estimate(hits: np.ndarray) -> str:
        return str(evaluate.accuracy(hits))

    papers = {arm: f" ({paper})" for paper, arm in AVERAGED.items()}
    rows = []
    for k, (name, recall) in enumerate(zip(names, evaluate.recalls(labels, ten, len(names)), strict=True)):
        own = ten[labels == k]
        wrong = np.bincount(own[own != k], minlength=len(names))
        other = f"{names[wrong.argmax()]} ({100 * wrong.max() / len(own):.0f} %)" if wrong.any() else "–"
        rows.append(f"| {name} | {len(own):,} | {recall} | {other} |")
    return CARD.format(
        what=TITLES[result.recipe.arm] + papers.get(result.recipe.arm, ""),
        **{k: info["recipe"][k] for k in ("width", "optimizer")},
        **{
            k: info[k]
            for k in ("parameters", "dataset", "layout", "epochs", "seed", "selection", "commit", "machine")
        },
        size=len(weights) / 1e6,
        sha256_weights=hashlib.sha256(weights).hexdigest()[:12],
        views="mean over the face and its mirror image" if uncropped else "mean over ten crops",
        one="the face alone" if uncropped else "centre crop alone",
        train=info["n"]["train"],
        sha256=info["data_sha256"][:12],
        selected=info["selected_epoch"],
        torch=info["versions"]["torch"],
        n=len(labels),
        n_clean=int(clean.sum()),
        all=estimate(ten == labels),
        clean=estimate((ten == labels)[clean]),
        centre=estimate(result.predicted("centre") == labels),
        classes="\n".join(rows),
    )


def ship(folder: Path) -> Path:
    """Write weights, run.json and card; returns the folder."""
    result = load_run(folder)
    halved = {k: v.half() if v.is_floating_point() else v for k, v in result.weights().items()}
    if not all(torch.isfinite(v).all() for v in halved.values()):
        raise SystemExit(f"{folder}/weights.safetensors: a weight is too large for half precision")
    weights = save(halved)
    if len(weights) > LARGEST:
        raise SystemExit(f"{folder}: {len(weights) / 1e6:.1f} MB of weights, more than {LARGEST / 1e6:.0f}")
    made = {"weights.safetensors": weights, "MODEL_CARD.md": card(result, weights).encode()}
    for name, content in (made | {"run.json": (folder / "run.json").read_bytes()}).items():
        with whole(SHIPPED / name) as file:
            file.write(content)
    return SHIPPED


def archived() -> Result:
    """The run in results/ that the shipped network comes from."""
    info = load_run(SHIPPED).info
    for path in (ROOT / "results").glob(
        f"*/{info['dataset']}/{info['recipe']['name']}/*/*seed{info['seed']}/run.json"
    ):
        if path.read_bytes() == (SHIPPED / "run.json").read_bytes():
            return Result(info, path.parent)
    raise SystemExit(f"{SHIPPED}/run.json: its run is not in results/")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="a finished run, with weights.safetensors")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; status 1 if the card is out of date"
    )
    options = parser.parse_args()
    if options.check:
        weights = (SHIPPED / "weights.safetensors").read_bytes()
        if (SHIPPED / "MODEL_CARD.md").read_text("utf-8") != card(archived(), weights):
            print(f"{SHIPPED}/MODEL_CARD.md: out of date; ship the run anew", file=sys.stderr)
            return 1
        return 0
    if options.folder is None:
        parser.error("name a run's folder, or --check")
    print(f"written to {ship(options.folder)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
