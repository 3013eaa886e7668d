"""The networks as boxes and arrows, drawn from their modules and the sizes that a forward pass reports."""

from __future__ import annotations

from itertools import groupby

import matplotlib.pyplot as plt
import torch
from torch import nn

STEP = 1.3
"""Distance of boxes in a chain."""


def architecture(model):
    """Fig. 1: the two branches with the sizes of their maps, read off a forward pass."""
    trunk, maps = [], torch.zeros(1, 3, 44, 44)
    for k, block in enumerate(model.eval().trunk, 1):
        with torch.no_grad():
            maps = block(maps)
        trunk.append(f"block {k}\n{_size(maps.shape[1:])}")
    figure, ax = plt.subplots(figsize=(11, 2.8))
    steps = _chain(ax, 0, 0.5, ["image\n1×44×44", *trunk], "#F2F2F2")
    mask, small = _chain(
        ax,
        3 * STEP,
        -0.55,
        ["MTCNN mask M\n1×44×44", f"M(p)↓\n1×{_size(maps.shape[2:])}"],
        "#E8F3EC",
    )
    answer = _box(ax, (len(steps) + 5.2) * STEP, 0.5, "prediction: mean of\nboth softmaxes", "#F2F2F2")
    for y, branch, first, colour in (
        (1.0, "global", "p", "#DCE9F5"),
        (0.0, "local", "p′ = p ⊙ M(p)↓\n(Eq. 4)", "#FBE3D2"),
    ):
        linear = [m.out_features for m in model.heads[branch].children() if isinstance(m, nn.Linear)]
        pooled = f"max-pool,\nmean {model.heads[branch][0].in_features}"
        classes = model.classifiers[branch].out_features
        texts = [first, pooled, *[f"FC {n}" for n in linear], f"FC {classes}, CE\n({branch} branch)"]
        boxes = _chain(ax, (len(steps)) * STEP, y, texts, colour)
        _arrow(ax, steps[-1], boxes[0])
        _arrow(ax, boxes[-1], answer)
        if branch == "local":
            _arrow(ax, small, boxes[0])
        else:
            loss = _box(
                ax, (len(steps) + len(linear) + 1.4) * STEP, 0.5, "+ λ · triplet (unit length)", "white"
            )
            _arrow(ax, boxes[-2], loss)
    ax.set(xlim=(-0.6, (len(steps) + len(texts) + 1) * STEP - 0.2), ylim=(-0.8, 1.25))
    ax.axis("off")
    return figure


def layers(model):
    """Fig. 3: the layers of the modified VGG19 in order, read off the modules."""
    names = []
    for module in [
        *model.trunk.modules(),
        *model.tails["global"].modules(),
        *model.heads["global"].modules(),
    ]:
        if isinstance(module, nn.Conv2d):
            names.append(f"Conv3-{module.out_channels}")
        elif isinstance(module, nn.MaxPool2d):
            names.append("Maxpool")
        elif isinstance(module, nn.Linear):
            names.append(f"FC {module.out_features}")
    names.append(f"FC {model.classifiers['global'].out_features}")
    rows = 6
    figure, ax = plt.subplots(figsize=(6.2, 2.5))
    before = None
    for number, name in enumerate(names):
        column, row = divmod(number, rows)
        row = row if column % 2 == 0 else rows - 1 - row  # up and down in turn, as in the paper
        colour = "#DCE9F5" if name.startswith("Conv") else "#FBE3D2" if name == "Maxpool" else "#E8F3EC"
        box = _box(ax, column, -row, name, colour)
        if before is not None:
            _arrow(ax, before, box)
        before = box
    ax.set(xlim=(-0.4, (len(names) - 1) // rows + 0.4), ylim=(0.5 - rows, 0.5))
    ax.axis("off")
    return figure


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _chain(ax, x: float, y: float, texts: list[str], colour: str) -> list:
    """Boxes from left to right with arrows between."""
    boxes = [_box(ax, x + k * STEP, y, text, colour) for k, text in enumerate(texts)]
    for a, b in zip(boxes, boxes[1:], strict=False):
        _arrow(ax, a, b)
    return boxes


def _box(ax, x: float, y: float, text: str, colour: str):
    style = {"boxstyle": "round,pad=0.35", "fc": colour, "ec": "0.45", "lw": 0.7}
    return ax.text(x, y, text, ha="center", va="center", fontsize=7, bbox=style)


def _arrow(ax, start, end) -> None:
    """From one box to another, cut at their borders."""
    style = {"arrowstyle": "-|>", "lw": 0.8, "color": "0.3", "shrinkA": 1, "shrinkB": 1}
    patches = {"patchA": start.get_bbox_patch(), "patchB": end.get_bbox_patch()}
    ax.annotate("", end.get_position(), start.get_position(), arrowprops=style | patches)


def model_a(model, size: int = 48):
    """Liu et al. Fig. 1: model A's three flows with the sizes of their maps, read off a forward pass."""
    steps, x, pools = [], torch.zeros(1, 1, size, size), 0
    for flow in ("entry", "middle", "exit"):
        for unit in getattr(model.eval(), flow):
            with torch.no_grad():
                x = unit(x)
            if isinstance(unit, torch.nn.MaxPool2d):
                pools += 1
            else:
                kind = "conv 3×3" if unit[0].groups == 1 else "separable"
                steps.append((flow, pools, kind, _size(tuple(x.shape[1:]))))
    groups = [(step, len(list(same))) for step, same in groupby(steps)]
    figure, ax = plt.subplots(figsize=(9.6, 2.0))
    colours = {"entry": "#DCE9F5", "middle": "#FBE3D2", "exit": "#E8F3EC"}
    boxes = [_box(ax, 0, 0, f"image\n{_size((1, size, size))}", "#F2F2F2")]
    spans: dict[str, list[float]] = {}
    pool = 0
    for place, ((flow, pools, kind, shape), n) in enumerate(groups, 1):
        boxes.append(_box(ax, place * STEP, 0, f"{n} × {kind}\n{shape}", colours[flow]))
        _arrow(ax, boxes[-2], boxes[-1])
        if pools > pool:
            ax.text((place - 0.5) * STEP, 0.21, "max-pool", ha="center", fontsize=6, color="0.3")
        pool = pools
        spans.setdefault(flow, []).append(place * STEP)
    end = len(boxes) * STEP
    head = model.classifier
    boxes.append(
        _box(ax, end, 0, f"1 × conv 3×3\n{head.out_channels}×{_size(tuple(x.shape[2:]))}", colours["exit"])
    )
    boxes.append(_box(ax, end + STEP, 0, "mean, softmax\n(cross-entropy)", "white"))
    for a, b in zip(boxes[-3:], boxes[-2:], strict=False):
        _arrow(ax, a, b)
    _arrow(ax, boxes[-3], _box(ax, end, -0.62, f"mean: {head.in_channels} features\n(center loss)", "white"))
    spans["exit"].append(end)
    for flow, places in spans.items():
        low, high = places[0] - 0.48 * STEP, places[-1] + 0.48 * STEP
        ax.plot([low, high], [0.5, 0.5], color="0.5", lw=0.8)
        ax.text((low + high) / 2, 0.56, f"{flow} flow", ha="center", fontsize=8)
    ax.set(xlim=(-0.6, end + 1.6 * STEP), ylim=(-0.85, 0.75))
    ax.axis("off")
    return figure
