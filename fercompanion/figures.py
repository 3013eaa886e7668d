"""Drawings of the papers' figures, in one style; saved as PDF and PNG, with the numbers as CSV beside them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.patheffects import withStroke
from PIL import Image
from scipy.cluster.vq import vq
from torchvision.transforms.functional import center_crop

from . import arithmetic
from .augment import black_blocks, random_crop, random_flip
from .data import DataError, Faces
from .landmarks import Landmarks
from .models.kim2022 import sample
from .papers import TITLES
from .pooling import Tested, common_seeds
from .recipes import ARMS
from .regions import key_region_mask
from .runs import ROOT, results_folder
from .siblings import ARMS as SIBLING_ARMS
from .siblings import with_and_without
from .tables import PRINTED
from .verdicts import NOT_RUN, SHORT, VERDICTS
from .whole import whole

STYLE = Path(__file__).with_name("paper.mplstyle")
CLASS_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#555555")
"""Okabe and Ito's palette, one colour a class."""
CLASS_MARKERS = "osD^vP*"


LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)))
OTHERS: list[str] = []
"""Arms of none of the papers, in the order in which they were first drawn."""


def arm_style(arm: str) -> dict:
    """Colour, line and marker of an arm, the same in every figure: by its place among its paper's arms, or behind LKRNet's."""
    family = next((list(a) for a in (ARMS, *SIBLING_ARMS.values()) if arm in a), None)
    if family is None:
        if arm not in OTHERS:
            OTHERS.append(arm)
        family = [*ARMS, *OTHERS]
    place = family.index(arm)
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    # Where the colours begin anew, the lines and markers must not.
    shift = place + place // len(colours)
    return {
        "color": colours[place % len(colours)],
        "ls": LINES[shift % len(LINES)],
        "marker": CLASS_MARKERS[shift % len(CLASS_MARKERS)],
    }


def use_style() -> None:
    """Switch matplotlib to the project's style."""
    plt.style.use(STYLE)


def save(
    figure,
    profile: str,
    name: str,
    note: str = "",
    table: pd.DataFrame | None = None,
    shows: Sequence[Faces] = (),
) -> Path:
    """Write figures/<profile>/<name>.pdf and .png, and .csv if there is a table, each whole or not at all.

    With RETRAIN=1 the folder is <profile>-retrain, as the results'.  An empty table is not written, so that
    redrawing without the runs does not wipe out what was drawn from them.

    Parameters
    ----------
    figure : None to write the table alone.
    note : printed small under the figure: data, epochs, n, protocol; its lines are kept apart.
    shows : data sets whose faces the figure shows.  If one is licensed the figure goes to build/figures/
        instead, which git ignores; if a demo set stands in for the profile's own, to figures/demo/.
    """
    licensed = any(not faces.name.startswith("demo") for faces in shows)
    own = results_folder("demo" if shows and not licensed else profile).name
    folder = ROOT / ("build/figures" if licensed else "figures") / own
    if figure is not None:
        if note:
            note = note.replace(" %", "\N{NO-BREAK SPACE}%")
            text = "\n".join(fill(line, 110, break_on_hyphens=False) for line in note.split("\n"))
            # Below the axes: savefig's tight box takes it in.
            figure.text(0.5, -0.02, text, ha="center", va="top", fontsize=7, color="0.35")
        figure.savefig(drawn := BytesIO(), format="png")
        with whole(folder / f"{name}.png") as file, Image.open(drawn) as picture:
            reduced(picture).save(file, "PNG", optimize=True, dpi=picture.info["dpi"])
        with whole(folder / f"{name}.pdf") as file:
            figure.savefig(file, format="pdf", metadata={"CreationDate": None})
    if table is not None and len(table):
        with whole(folder / f"{name}.csv") as file:
            table.to_csv(file)
    return folder / name


def reduced(picture: Image.Image) -> Image.Image:
    """A picture in 256 colours, a mostly grey one in 72: half the size or less, and no difference to the eye.

    In a mostly grey one the few coloured pixels have 32 colours to themselves: else those of a legend become one.
    """
    picture = picture.convert("RGB")
    pixels = np.asarray(picture).reshape(-1, 3)
    coloured = np.ptp(pixels, axis=1) > 15
    parts = [(pixels, 256)]
    if coloured.mean() < 0.03:
        parts = [(pixels[~coloured], 40), (pixels[coloured], 32)]
    palette = []
    for some, colours in parts:
        if len(some):
            best = Image.fromarray(some[None]).quantize(colours, Image.Quantize.MEDIANCUT, kmeans=2)
            palette += best.getpalette()
    # Exactly the nearest: PIL's own search looks up two bits a channel too coarsely, and white turns grey.
    palette = np.array(palette, float).reshape(-1, 3)
    nearest = vq(pixels.astype(float), palette)[0]
    small = Image.fromarray(nearest.astype(np.uint8).reshape(picture.height, picture.width))
    small.putpalette(palette.astype(np.uint8).tobytes())
    return small


def class_rows(faces: Faces, per_class: int, rng: np.random.Generator, allowed=None) -> np.ndarray:
    """Random image indices (K, per_class), a row a class; of a class with fewer images some stand twice.

    Raises
    ------
    DataError
        A class has no image.
    """
    pool, rows = np.arange(len(faces)) if allowed is None else allowed, []
    for k, name in enumerate(faces.classes):
        own = pool[faces.labels[pool] == k]
        if not len(own):
            raise DataError(f"{faces.name}: no image shows {name}; `make doctor` tells what is missing")
        rows.append(rng.choice(own, per_class, replace=len(own) < per_class))
    return np.stack(rows)


def face_grid(faces: Faces, rows: np.ndarray, title: str, axes) -> None:
    """Samples by class (Fig. 4): one row of `rows` a class, drawn as one picture on `axes`."""
    grid = np.concatenate([np.concatenate(list(faces.images[r]), 1) for r in rows])
    axes.imshow(grid, vmin=0, vmax=255)
    axes.set_yticks(np.arange(len(rows)) * 48 + 24, faces.classes)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_title(title)
    for spine in axes.spines.values():
        spine.set_visible(False)


def key_regions(faces: Faces, landmarks: Landmarks, rows: np.ndarray, alpha: float = 0.3):
    """Fig. 2: for one face a class, the image with landmarks and box, its mask, and the two multiplied."""
    masks = key_region_mask(landmarks.points[rows], landmarks.boxes[rows], 48, alpha)
    figure, axes = plt.subplots(3, len(rows), figsize=(1.05 * len(rows), 3.5))
    for column, (row, mask) in enumerate(zip(rows, masks, strict=True)):
        image = faces.images[row]
        axes[0, column].imshow(image, vmin=0, vmax=255)
        axes[0, column].plot(*landmarks.points[row].T, "+", color="#E69F00", ms=5, mew=1.2)
        x1, y1, x2, y2 = landmarks.boxes[row]
        axes[0, column].add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec="#56B4E9", lw=1))
        axes[0, column].set(xlim=(-0.5, 47.5), ylim=(47.5, -0.5))
        axes[1, column].imshow(mask, vmin=0, vmax=1, cmap="viridis")
        axes[2, column].imshow(image * mask, vmin=0, vmax=255)
        axes[0, column].set_title(faces.classes[faces.labels[row]])
    for ax, label in zip(axes[:, 0], ("MTCNN", "Eq. 3", "product"), strict=True):
        ax.set_ylabel(label)
    _bare(axes)
    return figure


def picture_rows(
    rows: dict[str, np.ndarray],
    titles: Sequence[str],
    limits=(0, 255),
    below: dict[str, Sequence[str]] | None = None,
):
    """Rows of small grey pictures, one row a step and one column an example.

    Parameters
    ----------
    rows : label of the row -> (n, s, s) pictures; the sides may differ between rows.
    titles : n, one a column.
    limits : values drawn black and white.
    below : label of a row -> n words, one below each of its pictures.
    """
    n = len(titles)
    figure, axes = plt.subplots(len(rows), n, figsize=(1.05 * n + 0.4, 1.1 * len(rows) + 0.25), squeeze=False)
    for line, (label, pictures) in zip(axes, rows.items(), strict=True):
        for ax, picture in zip(line, pictures, strict=True):
            ax.imshow(picture, vmin=limits[0], vmax=limits[1])
        line[0].set_ylabel(label, fontsize=8)
        for ax, words in zip(line, (below or {}).get(label, ()), strict=False):
            ax.set_xlabel(words, fontsize=7, labelpad=2)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    _bare(axes)
    return figure


def preprocessing(face: np.ndarray, mask: np.ndarray):
    """Fig. 5: resize, random 44 x 44 crop, flip, 3 x 3 black block; the mask moves along below."""
    torch.manual_seed(0)
    stack = torch.stack([torch.as_tensor(face).float() / 255, torch.as_tensor(mask)])[None]
    steps = [("48 × 48", stack)]
    steps.append(("random 44 × 44 crop", random_crop(stack, 44)))
    steps.append(("flip (p = 0.5)", random_flip(steps[-1][1], 1.0)))
    steps.append(("3 × 3 black block", black_blocks(steps[-1][1], 1, 3)))
    steps.append(("test: centre crop", center_crop(stack, [44])))
    figure, axes = plt.subplots(2, len(steps), figsize=(1.5 * len(steps), 3.1))
    for column, (title, s) in enumerate(steps):
        axes[0, column].imshow(s[0, 0], vmin=0, vmax=1)
        axes[1, column].imshow(s[0, 1], vmin=0, vmax=1, cmap="viridis")
        axes[0, column].set_title(title)
    axes[0, 0].set_ylabel("image")
    axes[1, 0].set_ylabel("mask")
    _bare(axes)
    return figure


def curves(
    tested: dict[str, Tested],
    part: str,
    ylabel: str,
    printed: dict[str, float] | None = None,
    whose: str = "the paper's",
):
    """Fig. 9: accuracy against epochs, a line an arm.

    Right of the last epoch a bar an arm from its lowest seed or fold to its highest, since bands of many arms are one
    grey.

    Parameters
    ----------
    printed : arm -> the paper's accuracy in per cent: a stroke in the right margin.
    whose : what the legend calls these strokes.
    """
    figure, ax = plt.subplots(figsize=(6.2, 3.0))
    length = max(len(r.history["epoch"]) for t in tested.values() for r in t.results)
    for place, (arm, t) in enumerate(tested.items(), 1):
        style = arm_style(arm) | ({"ms": 3.5} if length <= 12 else {"marker": None})
        _learning_curve(ax, t, part, band=False, label=TITLES[arm], **style)
        if len(t.results) > 1:
            ends = [r.history[f"{part}_accuracy"][-1] for r in t.results]
            ends, at = (min(ends), max(ends)), length * (1.02 + 0.02 * place)
            ax.vlines(at, *ends, color=style["color"], lw=1.5)
            ax.plot([at, at], ends, "_", ms=6, mew=1.5, color=style["color"])
    shown = {arm: value for arm, value in (printed or {}).items() if arm in tested}
    for arm, value in shown.items():
        where = {"transform": ax.get_yaxis_transform(), "clip_on": False, "solid_capstyle": "butt"}
        ax.plot([1.005, 1.04], [value, value], lw=2, color=arm_style(arm)["color"], **where)
    if shown:
        ax.plot([], [], "_", ms=9, mew=2, color="black", label=whose)
    ax.set(ylabel=ylabel, xticks=[t for t in ax.get_xticks() if 0 < t <= length])
    figure.legend(loc="outside right center")
    return figure


def lengths(groups: Sequence[dict[str, Tested]], arms: tuple[str, str]):
    """Accuracy against epochs in training and on PublicTest, a line an arm and length, and what two arms differ by there.

    Parameters
    ----------
    groups : two arms trained for one number of epochs, then for the next; all but the last are drawn pale.
    arms : the two; the second minus the first is drawn, over the seeds that both have.
    """
    figure, axes = plt.subplots(1, 3, figsize=(9.0, 3.1))
    axes[1].sharey(axes[0])
    parts = {"train": "Training (transformed images)", "valid": "PublicTest (centre crop)"}
    for ax, (part, title) in zip(axes, parts.items(), strict=False):
        for tested in groups:
            pale = {} if tested is groups[-1] else {"alpha": 0.7, "lw": 1.3}
            for arm, t in tested.items():
                style = arm_style(arm) | {"marker": None} | pale
                _learning_curve(ax, t, part, label=f"{TITLES[arm]}, {t.epochs} epochs", **style)
        ax.set(title=title)
    axes[0].set_ylabel("accuracy, %")
    axes[1].legend(loc="lower right")
    for tested in groups:
        seeds = common_seeds(*(tested[a] for a in arms))
        other, first = (_by_epoch(tested[a], "valid")[list(seeds)].mean(axis=1, skipna=False) for a in arms)
        pale = {} if tested is groups[-1] else {"alpha": 0.5}
        axes[2].plot(first - other, color="0.2", lw=1, label=f"{tested[arms[1]].epochs} epochs", **pale)
    axes[2].axhline(0, color="0.6", lw=0.8, zorder=0)
    most = max(map(abs, axes[2].get_ylim()))
    axes[2].set(title=f"{TITLES[arms[1]]} − {TITLES[arms[0]]}, PublicTest", ylim=(-most, most))
    axes[2].set(xlabel="epoch", ylabel="points")
    axes[2].legend(loc="lower right")
    return figure


def _by_epoch(t: Tested, part: str) -> pd.DataFrame:
    """Accuracy by epoch, a column a run, named by its seed."""
    lines = [pd.Series(r.history[f"{part}_accuracy"], r.history["epoch"]) for r in t.results]
    return pd.concat(lines, axis=1, keys=[r.info.get("seed") for r in t.results])


def _learning_curve(ax, t: Tested, part: str, band: bool = True, **style) -> None:
    """An arm's accuracy against epochs: mean over seeds or folds, and from lowest to highest of them a pale `band`.

    Runs that lose patience differ in length; the mean goes as far as all of them train, or it would leap.
    """
    each = _by_epoch(t, part)
    if band and each.shape[1] > 1:
        ax.fill_between(
            each.index, each.min(axis=1), each.max(axis=1), color=style["color"], alpha=0.12, lw=0
        )
    ax.plot(each.mean(axis=1, skipna=False), **style)
    ax.set_xlabel("epoch")
    ax.xaxis.get_major_locator().set_params(integer=True)


def embeddings(
    points: dict[str, np.ndarray], labels: np.ndarray, classes: tuple[str, ...], titles: dict[str, str]
):
    """Fig. 6: UMAP of the test embeddings, one panel an arm.

    Parameters
    ----------
    points : arm -> float (n, 2).
    titles : arm -> title of its panel.
    """
    figure, axes = plt.subplots(1, len(points), figsize=(3.2 * len(points), 3.5), squeeze=False)
    size = float(np.clip(9000 / len(labels), 3, 14))
    n = np.bincount(labels, minlength=len(classes))
    for ax, (arm, xy) in zip(axes[0], points.items(), strict=True):
        for k, name in enumerate(classes):
            # The fewer, the further in front, and where marks are small the larger: 55 among thousands would disappear.
            own, rare = labels == k, n[k] < len(labels) / 20
            look = {"s": 14 if rare else size, "c": CLASS_COLOURS[k], "marker": CLASS_MARKERS[k]}
            ax.scatter(*xy[own].T, lw=0, alpha=0.75, zorder=2 + (n > n[k]).sum() / len(n), label=name, **look)
        ax.set_title(titles[arm])
    _bare(axes)
    for ax in axes[0]:  # else the edge of one cloud seems to belong to the next
        ax.spines[:].set(visible=True, color="0.85", lw=0.6)
    legend = figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=len(classes),
        handletextpad=0.1,
        columnspacing=1.0,
    )
    for handle in legend.legend_handles:
        handle.set_sizes([30])
    return figure


def confusions(
    matrices: dict[str, np.ndarray], classes: tuple[str, ...], printed: dict[str, np.ndarray] | None = None
):
    """Fig. 7: confusion matrices, rows normalised to per cent, with the counts that make 100 %.

    Parameters
    ----------
    matrices : title -> (K, K), a row a true class.
    printed : title -> (K,), the paper's recalls in per cent, at the right of the rows.
    """
    figure, axes = plt.subplots(1, len(matrices), figsize=(3.9 * len(matrices), 3.7), squeeze=False)
    for ax, (title, matrix) in zip(axes[0], matrices.items(), strict=True):
        n = matrix.sum(1)
        share = 100 * matrix / np.maximum(n, 1)[:, None]
        true = [f"{c} ({k:.0f})" for c, k in zip(classes, n, strict=True)]
        said = (share + 0.5).astype(int)  # halves up, as in the tables
        labels = {
            "xticklabels": classes,
            "yticklabels": true,
            "annot": said,
            "fmt": "d",
            "annot_kws": {"size": 8},
        }
        sns.heatmap(share, vmin=0, vmax=100, cmap="Blues", square=True, cbar=False, ax=ax, **labels)
        ax.set(title=title, xlabel="predicted", ylabel="true (n)")
        plt.setp(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
        ax.tick_params(axis="y", rotation=0)
        words = {"fontsize": 8, "color": "0.35", "ha": "center", "va": "center"}
        if recalls := list((printed or {}).get(title, ())):
            for row, said in enumerate(["paper", *(f"{recall:.0f}" for recall in recalls)]):
                ax.text(len(classes) + 0.5, max(row - 0.5, -0.3), said, **words)
    figure.colorbar(ax.collections[0], ax=axes[0, -1], label="% of the true class", shrink=0.8)
    return figure


def heatmaps(images: np.ndarray, cams: dict[str, np.ndarray], titles: list[str], named: dict[str, list[str]]):
    """Fig. 8: each image beside its Grad-CAM from several networks, and below each what the network reads.

    Parameters
    ----------
    images : uint8 (n, S, S), of which the networks saw the middle.
    cams : network's title -> float32 (n, s, s) in 0-1, s <= S.
    titles : one a column, the true classes.
    named : network's title -> the classes that it names, one a column.
    """
    from pytorch_grad_cam.utils.image import show_cam_on_image

    figure, axes = plt.subplots(
        1 + len(cams), len(images), figsize=(1.1 * len(images) + 0.6, 1.3 * (1 + len(cams)) + 0.3)
    )
    side = next(iter(cams.values())).shape[-1]
    images = center_crop(torch.as_tensor(images), [side]).numpy()
    grey = np.repeat((images / 255).astype(np.float32)[..., None], 3, -1)
    for column, image in enumerate(grey):
        axes[0, column].imshow(image)
        axes[0, column].set_title(titles[column], fontsize=8)
        for row, (network, maps) in enumerate(cams.items(), 1):
            name = named[network][column]
            right = {"color": "0.2"} if name == titles[column] else {"color": "#D55E00"}
            axes[row, column].set_xlabel(name, fontsize=7, labelpad=2, **right)
            axes[row, column].imshow(
                show_cam_on_image(image, maps[column].astype(np.float32), use_rgb=True, image_weight=0.55)
            )
            if not maps[column].any():
                middle = {"ha": "center", "transform": axes[row, column].transAxes}
                axes[row, column].text(0.5, 0.06, "zero", color="white", fontsize=8, **middle)
    for ax, label in zip(axes[:, 0], ("face", *cams), strict=True):
        ax.set_ylabel(label)
    _bare(axes)
    scale = {"label": "Grad-CAM, of each map's own largest", "ticks": [0, 1], "shrink": 0.6, "aspect": 25}
    figure.colorbar(ScalarMappable(cmap="jet"), ax=axes, **scale)
    return figure


def mean_heatmaps(
    means: dict[str, np.ndarray],
    counts: dict[str, np.ndarray],
    points: np.ndarray,
    classes: tuple[str, ...],
):
    """Grad-CAM averaged over the test images of each class: what may be shown of licensed faces.

    Parameters
    ----------
    means : network's title -> float32 (K, s, s) in 0-1.
    counts : network's title -> (K,), images behind each mean, written below it.
    points : (5, 2), median landmarks, drawn as crosses.
    """
    figure, axes = plt.subplots(
        len(means), len(classes), figsize=(1.15 * len(classes), 1.3 * len(means) + 0.3), squeeze=False
    )
    highest = max(float(np.nanmax(maps)) for maps in means.values())
    for row, (title, maps) in enumerate(means.items()):
        for column, name in enumerate(classes):
            ax = axes[row, column]
            picture = ax.imshow(maps[column], vmin=0, vmax=highest, cmap="viridis")
            ax.plot(*points.T, "+", color="white", ms=5, mew=0.9)
            ax.set_xlabel(f"n = {counts[title][column]:,}", fontsize=7, labelpad=2)
            if row == 0:
                ax.set_title(name)
        axes[row, 0].set_ylabel(title)
    _bare(axes)
    figure.colorbar(picture, ax=axes, label="mean Grad-CAM", shrink=0.9)
    return figure


def detection_rates(table: pd.DataFrame, images: pd.DataFrame):
    """Share of faces that MTCNN finds, by class and split (rows and columns of the table), in per cent.

    Parameters
    ----------
    images : their number, in the same rows and columns; written below each class, a line a column.
    """
    figure, ax = plt.subplots(figsize=(6.2, 2.6))
    for column, marker in zip(table, "osD^", strict=False):
        ax.plot(range(len(table)), table[column], marker, label=column, ms=5, alpha=0.8)
    counts = ["\n".join(f"{n:,.0f}" for n in images.loc[name]) for name in table.index]
    names = [f"{name}\n{n}" for name, n in zip(table.index, counts, strict=True)]
    ax.set_xticks([-0.95, *range(len(table))], ["\n" + "\n".join(table), *names], fontsize=7)
    ax.tick_params(axis="x", length=0)
    ax.set(ylabel="faces found by MTCNN, %", xlim=(-1.4, len(table) - 0.6))
    ax.set_ylim(min(90, table.min().min() - 1), 100.3)
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def ingredients(hits: dict[str, np.ndarray], table: pd.DataFrame):
    """Accuracy of Liu et al.'s model A without and with each ingredient, a line for each setting of the other two.

    Parameters
    ----------
    hits : `pooling.model_a_hits`.
    table : `tables.ingredients` of the same arms; the difference over all four settings is each panel's title.
    """
    figure, axes = plt.subplots(1, len(table), figsize=(6.6, 3.2), sharey=True)
    for ax, part in zip(axes, table.index, strict=True):
        for number, (there, pair) in enumerate(with_and_without(part).items()):
            ends = [100 * hits[a].mean() for a in reversed(pair)]
            aside = 0.03 * (2 * number - 3)  # else one mark hides another
            # One ingredient has its own colour in all panels, neither and both have theirs.
            place = list(table.index).index(there[0]) + 1 if len(there) == 1 else 2 * len(there)
            style = {"color": CLASS_COLOURS[place], "ls": LINES[place], "marker": CLASS_MARKERS[place]}
            ax.plot([aside, 1 + aside], ends, label=" and ".join(there) or "neither", **style)
        ax.plot(
            table.loc[part, ["without, %", "with it, %"]],
            color="0.2",
            lw=4,
            alpha=0.3,
            label="mean",
            zorder=1,
        )
        ax.set_xticks([0, 1], ["without", "with"])
        gain = table.loc[part, "difference"]
        ax.set(title=f"{part}\n{'+' * (gain[0] != '-')}{gain} points", xlim=(-0.25, 1.25))
        ax.legend(
            title="beside", loc="upper center", bbox_to_anchor=(0.5, -0.1), fontsize=7, title_fontsize=7
        )
    axes[0].set_ylabel("accuracy, %")
    return figure


def _bare(axes) -> None:
    """No ticks and no frame."""
    for ax in np.ravel(axes):
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)


def exponential_loss(alpha: float = 0.2):
    """DNNRL's Fig. 3: the loss of a triplet against its relative distance D, and beside it its slope dL/dD."""
    table = arithmetic.exponential_slopes(np.linspace(-4, 4, 401).round(9), alpha)
    figure, axes = plt.subplots(1, 2, figsize=(7.0, 2.7), sharex=True)
    styles = (
        ("no clamp", "--", "#D55E00"),
        ("sign of Eqs. 2–4", "-", "#0072B2"),
        ("Eq. 1 as printed", ":", "#555555"),
    )
    for name, line, colour in styles:
        slope = table[name, "slope"].where(table[name, "slope"].diff().abs() < 0.1)  # a gap where it jumps
        axes[0].plot(table.index, table[name, "loss"], line, color=colour, label=name)
        axes[1].plot(table.index, slope, line, color=colour, label=name)
    for ax, label in zip(axes, ("loss of a triplet", "its slope dL/dD"), strict=True):
        ax.axvspan(-4, 0, color="0.93", lw=0)
        ax.set(xlabel="relative distance D = d²(a, n) − d²(a, p)", ylabel=label, xlim=(-4, 4))
    axes[0].set_ylim(0, None)
    axes[1].axhline(0, color="0.6", lw=0.6, zorder=0)
    axes[0].text(-3.9, 0.03, "violated:\nnegative nearer", fontsize=8, color="0.3", va="bottom")
    axes[1].text(-3.9, 0.01, "violated: no gradient", fontsize=8, color="#0072B2", va="bottom")
    axes[1].text(0.2, 0.2, "above 0: moves D\nthe wrong way", fontsize=8, color="#555555", va="top")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def relative_distances(gaps: dict[str, np.ndarray]):
    """How far the triplets of each network are satisfied: share of triplets below each D, one line a network.

    Parameters
    ----------
    gaps : arm -> float (T,), D of random triplets, from -4 to 4.  The line's height at D = 0 is the share of
        violated ones, which the legend says.
    """
    figure, ax = plt.subplots(figsize=(6.4, 2.8))
    limit = min(4.0, 1.05 * max(np.quantile(np.abs(d), 0.995) for d in gaps.values()))
    for arm, d in gaps.items():
        share = 100 * np.arange(1, len(d) + 1) / len(d)
        violated = f"{TITLES[arm]} ({100 * (d <= 0).mean():.0f} % violated)"
        ax.plot(np.sort(d), share, label=violated, **arm_style(arm) | {"marker": None})
    ax.axvspan(-limit, 0, fc="0.93", lw=0, zorder=0)
    ax.axhline(50, color="0.6", lw=0.6, zorder=0)
    ax.text(-0.98 * limit, 52, "half of the triplets", fontsize=7, color="0.4")
    ax.text(-0.98 * limit, 96, "violated", fontsize=8, color="0.3", va="top")
    ax.set(xlabel="relative distance D = d²(a, n) − d²(a, p)", ylabel="% of triplets with a smaller D")
    ax.set(xlim=(-limit, limit), ylim=(0, 100))
    figure.legend(loc="outside right center")
    return figure


def transformers(images: np.ndarray, theta: np.ndarray, titles: Sequence[str]):
    """What a spatial transformer does (Kim et al. Fig. 2): above where it looks, below what it passes on.

    Parameters
    ----------
    images : (n, s, s) in any units.
    theta : (n, 2, 3) affine maps, as `models.kim2022.Kim.theta` returns them.
    titles : n.
    """
    n, side = len(images), images.shape[-1]
    maps = torch.as_tensor(theta).float()
    seen = sample(torch.as_tensor(images).float()[:, None], maps)[:, 0].numpy()
    figure, axes = plt.subplots(2, n, figsize=(1.25 * n + 0.4, 2.9), squeeze=False)
    lines = np.linspace(-1, 1, 7)
    edge = np.linspace(-1, 1, 25)
    for column in range(n):
        top, bottom = axes[:, column]
        for ax, picture in ((top, images[column]), (bottom, seen[column])):
            ax.imshow(picture, vmin=images[column].min(), vmax=images[column].max())
        for k in lines:
            for x, y in ((np.full_like(edge, k), edge), (edge, np.full_like(edge, k))):
                where = np.stack([x, y, np.ones_like(x)]).T @ np.asarray(theta[column], float).T  # (25, 2)
                pixel = (where + 1) * side / 2 - 0.5
                outer = abs(k) == 1
                top.plot(
                    *pixel.T, color="#D55E00" if outer else "#E69F00", lw=1.4 if outer else 0.5, alpha=0.9
                )
        top.set(xlim=(-0.2 * side, 1.2 * side), ylim=(1.2 * side, -0.2 * side))
        top.set_title(titles[column])
    axes[0, 0].set_ylabel("image and grid")
    axes[1, 0].set_ylabel("passed on")
    _bare(axes)
    return figure


def nearest_faces(faces: Faces, rows: np.ndarray, nearest: dict[str, np.ndarray]):
    """Test faces above their nearest training faces under several protocols, with what they share.

    Parameters
    ----------
    rows : int (n,), test images of `faces`.
    nearest : title of a protocol -> int (n,), the nearest training image of each.
    """
    figure, axes = plt.subplots(
        1 + len(nearest), len(rows), figsize=(1.18 * len(rows) + 0.5, 1.42 * (1 + len(nearest)))
    )
    for column, row in enumerate(rows):
        axes[0, column].imshow(faces.images[row], vmin=0, vmax=255)
        axes[0, column].set_title(faces.classes[faces.labels[row]])
        for line, found in enumerate(nearest.values(), 1):
            other = found[column]
            right = faces.labels[other] == faces.labels[row]
            if faces.sequence[other] == faces.sequence[row]:
                tie = "same sequence"
            else:
                tie = "same person" if faces.subject[other] == faces.subject[row] else "other person"
            ax = axes[line, column]
            ax.imshow(faces.images[other], vmin=0, vmax=255)
            ax.set_xlabel(
                f"{faces.classes[faces.labels[other]]}\n{tie}",
                fontsize=7,
                labelpad=2,
                color="#00704F" if right else "#B03A00",
            )
    _bare(axes)
    for ax, label in zip(axes[:, 0], ("tested", *nearest), strict=True):
        ax.set_ylabel(label, fontsize=8)
    return figure


def protocol_strips(
    splits: pd.DataFrame,
    null: pd.DataFrame | None,
    printed: dict[str, float],
    groups: dict[str, str],
    chance: float,
):
    """Accuracy of each split under each protocol: untrained nearest pixels as a box, networks as dots.

    The first protocol is drawn a second time, enlarged, since on CK+ all of it lies close to 100 %: on the left without
    its dots.  A stroke is the mean of a network's splits but those that fell back.

    Parameters
    ----------
    splits : `kim_tables.by_split`.
    null : `untrained.nearest_pixels`; boxes of its quartiles, whiskers over 95 % of the splits.
    printed : label -> published accuracy, drawn where it was measured: in the first group.
    groups : protocol -> title, from left to right.
    chance : accuracy in per cent of always naming the largest class.
    """
    figure, (ax, close) = plt.subplots(1, 2, figsize=(9.4, 3.8), width_ratios=[len(groups), 1.7])
    # A network of the printed recipe comes right behind the same one of a shortened recipe.
    full, network = splits["network"].str.endswith(PRINTED), splits["network"].str.removesuffix(PRINTED)
    splits = splits.assign(network=network, full=full)
    networks = sorted(set(zip(network, full, strict=True)))
    rng = np.random.default_rng(0)
    if null is not None:
        ax.add_patch(plt.Rectangle((0, 0), 0, 0, fc="0.85", ec="0.35", label="nearest pixels, untrained"))
    first = next(iter(groups))
    for panel, shown in ((ax, list(groups)), (close, [first])):
        for group, protocol in enumerate(shown):
            if null is not None:
                _null_box(panel, group - 0.34, null.loc[null["protocol"] == protocol, "accuracy"])
            own = splits[splits["protocol"] == protocol]
            _strips(panel, group, own, networks, rng, panel is ax, panel is close or protocol != first)
        for (label, value), style in zip(printed.items(), ("--", ":", "-."), strict=False):
            panel.hlines(value, -0.48, 0.48, color="black", lw=1, ls=style, label=label)
        panel.set_xlim(-0.5, len(shown) - 0.5)
    ax.set_xticks(range(len(groups)), groups.values())
    ax.tick_params(axis="x", length=0)
    for edge in range(1, len(groups)):
        ax.axvline(edge - 0.5, color="0.9", lw=0.8, zorder=0)
    ax.axhline(chance, color="0.6", lw=0.8, ls=(0, (1, 3)))
    ax.text(-0.47, chance + 1, "always the largest class", fontsize=7, color="0.45")
    ax.set(ylabel="accuracy, %", ylim=(0, 103))
    least = splits.loc[(splits["protocol"] == first) & splits["fell back"].isna(), "clean"].min()
    close.set(ylim=(min(89.5, least - 2), 100.6), title=f"{groups[first]}, enlarged", xticks=[])
    handles = ax.get_legend_handles_labels()[0]
    for number, name in enumerate(dict.fromkeys(name for name, _ in networks)):
        handles.append(_dot(CLASS_MARKERS[number], CLASS_COLOURS[number], name))
    if full.any():
        handles += [
            _dot("s", "0.35", "filled: printed recipe"),
            _dot("s", "0.35", "hollow: shortened recipe", True),
        ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _dot(marker: str, colour: str, label: str, hollow: bool = False):
    """A legend's dot."""
    return plt.Line2D(
        [], [], ls="", marker=marker, ms=5, mfc="white" if hollow else colour, mec=colour, label=label
    )


def _null_box(ax, x: float, values: pd.Series) -> None:
    """Quartiles, and whiskers over 95 % of the values."""
    keys = ("whislo", "q1", "med", "q3", "whishi")
    box = dict(zip(keys, values.quantile([0.025, 0.25, 0.5, 0.75, 0.975]), strict=True)) | {"fliers": []}
    ax.bxp(
        [box],
        positions=[x],
        widths=0.17,
        patch_artist=True,
        showfliers=False,
        manage_ticks=False,
        boxprops={"facecolor": "0.85", "edgecolor": "0.35"},
        medianprops={"color": "0.1", "lw": 1.4},
        whiskerprops={"color": "0.35"},
        capprops={"color": "0.35"},
    )


def _strips(ax, group: int, splits: pd.DataFrame, networks: Sequence, rng, tell: bool, dots: bool) -> None:
    """A column of dots a network; filled if all are of one recipe, else those of a shortened recipe hollow.

    Parameters
    ----------
    networks : (name, whether by the printed recipe), from left to right.
    tell : name the epoch in which a run fell back.
    dots : draw all runs, else only those that fell back.
    """
    names, both = list(dict.fromkeys(name for name, _ in networks)), any(full for _, full in networks)
    places = np.linspace(-0.17, 0.42, max(len(networks), 2))
    half = min(0.045, 0.35 * np.diff(places)[0])
    for place, (name, full) in zip(places, networks, strict=False):
        own = splits[(splits["network"] == name) & (splits["full"] == full)]
        colour, marker = CLASS_COLOURS[names.index(name)], CLASS_MARKERS[names.index(name)]
        x, drawn = group + place, own if dots else own[own["fell back"].notna()]
        ax.plot(
            x + (rng.uniform(-0.6, 0.6, len(drawn)) * half if len(drawn) > 3 else np.zeros(len(drawn))),
            drawn["clean"],
            marker,
            mfc=colour if full or not both else "white",
            mec=colour,
            ms=4.5,
            mew=0.9,
            alpha=0.8,
            ls="",
        )
        kept = own.loc[own["fell back"].isna(), "clean"]
        if len(kept):
            ax.hlines(kept.mean(), x - half, x + half, color=colour, lw=2)
        for value, epoch in own.loc[own["fell back"].notna() & tell, ["clean", "fell back"]].to_numpy():
            up = 1 if value < 50 else -1  # away from the line of the largest class, and from the other dots
            how = {"ha": "center", "va": "bottom" if up > 0 else "top", "fontsize": 6.5, "color": colour}
            ax.text(x, value + 2.5 * up, f"fell back in epoch {epoch:.0f}", **how)


def occlusion(table: pd.DataFrame):
    """`kim_tables.occlusion`: what hiding parts of the test faces costs networks that did and did not train on such.

    One panel a protocol, two lines from clean to occluded test faces; bars are the table's intervals.  Where a run fell
    back, the lines are those without its split, and hollow marks show all splits.
    """
    titles, rest = [], {}
    for title in table.index.unique(0):
        base, comma, without = title.partition(", without ")
        titles += [] if comma else [title]
        rest[base] = comma + without
    figure, axes = plt.subplots(
        1, len(titles), figsize=(2.25 * len(titles) + 0.6, 3.1), sharey=True, squeeze=False
    )
    views = ["tested on clean faces", "tested on occluded faces"]
    for ax, title in zip(axes[0], titles, strict=True):
        own = table.loc[title + rest[title]]
        for number, name in enumerate(("clean faces", "occluded faces")):
            e, x, aside = own.loc[name, views], np.arange(2), 2 * number - 1
            value, low, high = np.array([(one.value, one.low, one.high) for one in e]).T
            colour, marker = CLASS_COLOURS[2 - number], CLASS_MARKERS[number]  # as in `protocol_strips`
            ax.errorbar(
                x + 0.04 * aside,
                value,
                [value - low, high - value],
                color=colour,
                ls=LINES[number],
                marker=marker,
                ms=4.5,
                capsize=2,
                label=f"trained on {name}",
            )
            if rest[title]:
                every = [one.value for one in table.loc[title].loc[name, views]]
                ax.plot(
                    x + 0.04 * aside, every, ":", color=colour, lw=0.9, marker=marker, ms=4.5, mfc="white"
                )
        splits = int(own["splits"].iloc[0])
        ax.set(xticks=[0, 1], xticklabels=["clean", "occluded"], xlim=(-0.35, 1.35))
        ax.set_title(title.replace(", ", ",\n"), fontsize=9)
        said = f"{splits} split{'s' * (splits > 1)}{rest[title]}"
        ax.text(0.03, 0.03, said, transform=ax.transAxes, fontsize=7, color="0.35")
    axes[0, 0].set_ylabel("accuracy, %")
    figure.supxlabel("test faces", fontsize=9)
    handles = axes[0, 0].get_legend_handles_labels()[0]
    if any(rest.values()):
        handles.append(_dot("s", "0.35", "the same with the split on which a run fell back", True))
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


VERDICT_MARKS = dict(
    zip(
        VERDICTS,
        (("o", "#0072B2"), ("X", "#D55E00"), ("D", "#E69F00"), ("o", "white"), ("_", "#555555")),
        strict=True,
    )
)
"""Verdict -> marker and colour; told apart by the marker alone too."""


PRINTED_MARKS = {
    outside: {"ls": "", "marker": marker, "ms": size, "mew": width, "color": "black"}
    for outside, marker, size, width in ((False, "|", 8, 1.8), (True, "x", 4.5, 1.2))
}
"""Whether a printed difference lies outside our interval -> its mark."""


HALO = [withStroke(linewidth=3, foreground="0.965")]
"""Round words that cross a line."""
PAPER_TITLE = {"ha": "left", "va": "center", "fontsize": 9, "fontweight": "bold", "color": "0.35"}


def claims(judgements):
    """One row a claim: its verdict, and where it is about a difference the printed one beside ours.

    A printed one outside our interval is a cross; rows without a difference say in words what they rest on.

    Parameters
    ----------
    judgements : list of `verdicts.Judgement`.
    """
    n = len(judgements)
    figure, (left, ax) = plt.subplots(
        1, 2, figsize=(8.4, 0.235 * n + 0.9), sharey=True, width_ratios=[1.5, 9], gridspec_kw={"wspace": 0.02}
    )
    for row, j in enumerate(judgements):
        marker, colour = VERDICT_MARKS[j.verdict]
        edge, short = "#555555" if colour == "white" else colour, j.lacks == SHORT
        hollow = short or j.verdict == NOT_RUN
        left.text(-1.9, row, j.claim.id, fontsize=8, va="center", color="0.35")
        left.plot(0, row, marker, ms=6 if short else 7, mfc="white" if short else colour, mec=edge, mew=1.3)
        deciding = [e for e in j.effects if e.decides]
        for place, e in enumerate(deciding):
            y = row + (place - (len(deciding) - 1) / 2) * 0.26
            width = 0.9 if hollow else 1.6
            ax.plot([e.ours.low, e.ours.high], [y, y], color=edge, lw=width, solid_capstyle="butt")
            ax.plot(e.ours.value, y, "o", ms=4, mfc="white" if hollow else edge, mec=edge)
            if np.isfinite(e.published):
                ax.plot(e.published, y, **PRINTED_MARKS[_outside(e)])
        if not any(np.isfinite([e.published, e.ours.value]).any() for e in deciding):
            words = {"fontsize": 7, "va": "center", "color": "0.35", "path_effects": HALO}
            ax.text(0.03, row, _in_words(j), transform=ax.get_yaxis_transform(), **words)
        if row == 0 or judgements[row - 1].claim.paper != j.claim.paper:
            for panel in (left, ax) if row else ():
                panel.axhline(row - 0.5, color="0.8", lw=0.7)
            ax.text(1.01, row, j.claim.paper, transform=ax.get_yaxis_transform(), **PAPER_TITLE)
    ax.axvline(0, color="0.6", lw=0.8, zorder=0)
    ax.set_xscale("symlog", linthresh=4, linscale=1.2)  # wide intervals of small test sets stay on the paper
    ticks = (-50, -10, -4, -2, 0, 2, 4, 10, 50)
    ax.set_xticks(ticks, [f"{t:+d}".replace("-", "−") if t else "0" for t in ticks])
    ax.set_xlim(min(-10, ax.get_xlim()[0]), max(10, ax.get_xlim()[1]))
    ax.minorticks_off()
    ax.axvspan(-4, 4, fc="0.965", lw=0, zorder=-1)
    ax.set_xlabel(
        "first minus second, percentage points (linear in the grey band, logarithmic outside)", fontsize=8
    )
    left.set(xlim=(-2, 1), ylim=(n - 0.4, -0.6))
    left.set_xticks([])
    left.set_yticks(range(n), [j.claim.text for j in judgements])
    for panel in (left, ax):
        panel.tick_params(axis="y", length=0, labelsize=8)
        panel.spines[["left", "bottom"]].set_visible(panel is ax)
    ax.spines["left"].set_visible(False)
    there = {j.verdict for j in judgements}
    handles = [
        plt.Line2D([], [], ls="", marker=m, ms=7, mfc=c, mec="#555555" if c == "white" else c, label=v)
        for v, (m, c) in VERDICT_MARKS.items()
        if v in there
    ]
    marks = {False: "printed", True: "printed, outside our interval"}
    drawn = {_outside(e) for j in judgements for e in j.effects if e.decides and np.isfinite(e.published)}
    handles += [plt.Line2D([], [], **PRINTED_MARKS[o], label=marks[o]) for o in sorted(drawn)]
    handles.append(plt.Line2D([], [], marker="o", ms=4, color="0.4", label="ours, 95 %"))
    if any(j.lacks == SHORT for j in judgements):
        marker, colour = VERDICT_MARKS["not settled"]
        hollow = {"marker": marker, "ms": 6, "mfc": "white", "mec": colour, "mew": 1.3}
        handles.append(plt.Line2D([], [], ls="", label=f"not settled: {SHORT}", **hollow))
        handles.append(
            plt.Line2D([], [], marker="o", ms=4, mfc="white", color="0.4", lw=0.9, label=f"ours, {SHORT}")
        )
    columns = {"ncols": -(-len(handles) // 3), "columnspacing": 1.5, "handletextpad": 0.4}
    figure.legend(handles=handles, loc="outside upper center", **columns)
    return figure


def _outside(e) -> bool:
    """Whether the printed difference lies outside our interval, if there is one."""
    return e.published < e.ours.low or e.published > e.ours.high


def _in_words(j) -> str:
    """What a judgement rests on that is about no difference."""
    if j.verdict == NOT_RUN or not j.ours:
        return j.verdict
    if j.claim.judge.__module__ == arithmetic.__name__:
        return f"needs no run: {j.test}"
    printed, ours = re.search(r"[0-9.]+", j.published), re.match(r"(.*?)([0-9]+[.][0-9]+)", j.ours)
    if not (printed and ours):
        return ""
    how, more = "implied" if "implied" in j.published else "printed", j.published.count(",")
    return f"{ours[1]}ours {float(ours[2]):.1f}, {how} {printed[0]}{f'; {more} more' * (more > 0)}"  # of several levels the first
