"""Claims that need no run: judged by arithmetic on what is printed, by autograd, or by counting parameters.

Each function takes the archive of runs as all judges of `claims` do, and does not look at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
import torchvision

from .data import FER_CLASSES
from .losses import TrainingLoss, exponential_triplet_loss
from .models import build_model
from .papers import METHODS, published, published_accuracies, published_recalls
from .recipes import PAPER, arm
from .siblings import DNNRL
from .verdicts import FAILS, HOLDS, Judgement


def disgust(_) -> Judgement:
    """L8: LKRNet's recall of disgust in Table 3 against the other papers' and against its own VGG19."""
    recall = {
        m: v[FER_CLASSES.index("disgust")] for m, v in published_recalls("Table 3", FER_CLASSES).items()
    }
    ours, vgg19 = (recall[m] for wanted in ("lkrnet", "vgg19") for m, a in METHODS.items() if a == wanted)
    best = max((m for m in recall if m not in METHODS), key=recall.get)
    lead, gain = ours - recall[best], ours - vgg19
    why = f"the lead is {'there' if lead >= 6 else 'smaller'}, "
    why += "and VGG19 lacks it" if gain > 0 else "but the plain VGG19 has it too: no gain of the method"
    shown = f"{lead:+.0f} over {best}, {gain:+.0f} over the paper's own VGG19"
    verdict = HOLDS if lead >= 6 and gain > 0 else FAILS
    return Judgement(verdict, why, shown, "≥ 6", "arithmetic", "LKRNet's Table 3")


def exponential_slopes(distances: Sequence[float], alpha: float = 0.2, gamma: float = 0.0) -> pd.DataFrame:
    """DNNRL's loss of one triplet and its slope dL/dD by autograd, at relative distances D from -4 to 4.

    Returns
    -------
    DataFrame
        Indexed by D; columns (reading of Eq. 1, "loss" or "slope").  "Eq. 1 as printed" has D's sign turned.
    """
    columns = {}
    for name, turned, clamp in (
        ("Eq. 1 as printed", True, True),
        ("sign of Eqs. 2–4", False, True),
        ("no clamp", False, False),
    ):
        d = torch.tensor(list(distances), dtype=torch.float64, requires_grad=True)
        near = torch.full_like(d, 5).sqrt().view(-1, 1, 1)
        far = (5 + d).sqrt().view(-1, 1, 1)
        pair = (far, near) if turned else (near, far)
        loss = partial(exponential_triplet_loss, torch.zeros(1, 1), alpha=alpha, gamma=gamma, clamp=clamp)
        losses = torch.vmap(loss)(*pair)
        columns[name, "loss"] = losses.tolist()
        columns[name, "slope"] = torch.autograd.grad(losses.sum(), d)[0].tolist()
    return pd.DataFrame(columns, index=pd.Index(distances, name="D"))


def hard_triplets(_) -> Judgement:
    """D4: whether the gradient grows as triplets get more difficult, that is with falling D."""
    at = (-1.0, -0.1, 0.1, 1.0, 3.0)
    table = exponential_slopes(at, DNNRL.alpha, DNNRL.gamma)
    clamped, free = (table[reading, "slope"].abs().to_numpy() for reading in ("sign of Eqs. 2–4", "no clamp"))
    grows, grows_free = (bool((np.diff(s) < 0).all()) for s in (clamped, free))
    lost = ", ".join(f"{d:g}" for d, s in zip(at, clamped, strict=True) if s == 0)
    why = f"violated triplets (D = {lost}) have no gradient" if lost else "every triplet has a gradient"
    why += f"; without the clamp the gradient {'grows' if grows_free else 'does not grow'} with difficulty throughout"
    if lost:
        why += (
            f". The paper wants the margin γ 'to prevent learning very difficult samples'; with γ = {DNNRL.gamma:g} each "
            "triplet in the wrong order counts as one"
        )
    shown = ", ".join(f"{s:.3f} at {d:g}" for d, s in zip(at, clamped, strict=True))
    told = {"test": "gradients by autograd", "protocol": f"α = {DNNRL.alpha:g}, γ = {DNNRL.gamma:g}"}
    return Judgement(HOLDS if grows else FAILS, why, f"|dL/dD| {shown}", "Fig. 3", **told)


def champion(_) -> Judgement:
    """D5: DNNRL's printed accuracy against the challenge winner's on the same test set."""
    value = published_accuracies("DNNRL", "Table 2")
    won = {r["protocol"]: float(r["value"]) for r in published("Liu2019") if "champion" in r["method"]}
    lead = value["DNNRL"] - won["PrivateTest"]
    why = f"the winner has {won['PrivateTest']} on PrivateTest and {won['PublicTest']} on PublicTest (Liu et al.)"
    claimed = f"{value['DNNRL']:.2f} > {value['FERwin [16] (Tang)']:.1f}"
    return Judgement(
        HOLDS if lead > 0 else FAILS,
        why,
        f"{value['DNNRL']:.2f} − {won['PrivateTest']} = {lead:.2f}",
        claimed,
        "arithmetic",
        "printed, PrivateTest",
    )


def liu_parameters() -> dict[str, int]:
    """Network -> weights: Liu et al.'s A and B, the VGGs with one layer for the seven classes, and VGG16 as it was published."""
    with torch.device("meta"):
        built = {
            "A": build_model("liu_a"),
            "B": build_model("liu_b"),
            "VGG16": build_model("vgg16", batch_norm=False),
            "VGG19": build_model("liu_vgg19", batch_norm=False),
            "whole VGG16": torchvision.models.vgg16(),
        }
    return {name: sum(p.numel() for p in model.parameters()) for name, model in built.items()}


def parameters(_) -> Judgement:
    """M2: parameters of the network that has the printed accuracy, A + B, beside VGG16 and VGG19."""
    rows = [r for r in published("Liu2019") if r["metric"].startswith("parameter")]
    claimed = {r["class"]: float(r["value"]) for r in rows if r["metric"] == "parameter_ratio_percent"}
    counted = {r["method"]: int(r["value"]) for r in rows if r["item"] == "Table 1"}
    counts = liu_parameters()
    both, whole = counts["A"] + counts["B"], counts["whole VGG16"]
    own = {f"vs {v}": 100 * both / counts[v] for v in ("VGG16", "VGG19")}
    alone = [100 * counted["Improved model"] / counted[v] for v in ("VGG16", "VGG19")]
    why = f"{alone[0]:.1f} and {alone[1]:.1f} % follow from the printed counts, but A's alone; the accuracy is A + B's"
    shares = ", ".join(f"{v:.0f} % {k}" for k, v in own.items())
    shown = (
        f"VGGs without their fully connected layers, as in Table 1, but with one for the classes: A + B {both:,} = {shares}; A alone {counts['A']:,}. "
        f"Of VGG16 with them ({whole:,}) A + B are {100 * both / whole:.0f} %"
    )
    verdict = HOLDS if all(own[k] <= claimed[k] + 0.1 for k in claimed) else FAILS
    return Judgement(verdict, why, shown, ", ".join(f"{v} % {k}" for k, v in claimed.items()), "exact counts")


def same_loss(_) -> Judgement:
    """L11: with λ = 0 LKRNet has Baseline 1's loss and gradients to the last bit."""
    generator = torch.Generator().manual_seed(0)
    image, mask = torch.rand(2, 6, 1, 44, 44, generator=generator)
    labels, triplets = torch.arange(6) % 3, tuple(torch.tensor(rows) for rows in ([0, 1], [3, 4], [1, 2]))
    recipes = [arm(PAPER, name, width=0.05) for name in ("baseline1", "lkrnet-lambda0")]
    found = []
    for recipe in recipes:
        torch.manual_seed(0)
        model = build_model(recipe.model, **recipe.model_options())
        loss = TrainingLoss(recipe, 7, 256)(model(image, mask), labels, triplets)
        found.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    equal = all(torch.equal(x, y) for x, y in zip(*found, strict=True))
    why = f"loss and gradients are {'the same' if equal else 'not the same'} to the last bit"
    why += (
        ": by our reading of Baseline 1, which follows this sentence of Sect. 4.3.1; by Sect. 3.2 it would 'only use local "
        "key regions' and be another network"
    )
    if recipes[0].triplets != recipes[1].triplets:
        why += "; if triplets are drawn all the same, a step of λ = 0 shows three times the images"
    shown = f"loss {found[0][0]:.6f} and {found[1][0]:.6f}"
    return Judgement(
        HOLDS if equal else FAILS, why, shown, "equal", "exact equality", "one batch, same weights"
    )
