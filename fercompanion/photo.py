"""Expressions in photos: MTCNN finds the faces, a trained run's network reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from scipy.special import softmax
from torch import nn

from .data import DataError
from .explain import trained_model
from .landmarks import find_in_photo
from .predict import predict, this_machine, to_stack
from .recipes import Recipe
from .regions import key_region_mask
from .runs import Result, read

LARGEST = 1600
"""Photos are reduced to this many pixels on the longer side before detection."""
ROOM = 0.1
"""Round a face on each side, as a share of its box."""

SHIPPED = Path(__file__).parent / "trained"
"""A small network trained on FER2013 comes with the package; MODEL_CARD.md there tells what it can and cannot."""


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a photo and what the network says of it.

    Attributes
    ----------
    box : x1 y1 x2 y2 in pixels of the photo, turned upright.
    image : uint8 (48, 48), what the network saw.
    points : float32 (5, 2), landmarks in pixels of `image`.
    probabilities : class -> probability, most likely first.
    """

    box: tuple[float, float, float, float]
    image: np.ndarray
    points: np.ndarray
    probabilities: dict[str, float]

    def __str__(self) -> str:
        best = ", ".join(f"{name} {100 * p:.0f} %" for name, p in list(self.probabilities.items())[:3])
        x1, y1, x2, y2 = self.box
        return f"face at {x1:.0f},{y1:.0f} to {x2:.0f},{y2:.0f}: {best}"


def load_run(folder: str | Path) -> Result:
    """A finished run from its folder.

    Raises
    ------
    DataError
        There is none.
    """
    path = Path(folder) / "run.json"
    if not path.is_file():
        remedy = "train one: python -m fercompanion sweep --profile demo"
        if below := next(Path(folder).glob("**/run.json"), None):
            remedy = f"did you mean {below.parent}?"
        elif Path(folder).is_file():
            remedy = f"did you mean {Path(folder).parent}?"
        raise DataError(f"{folder}: no finished run here; {remedy}")
    return read(path)


def reader(folder: str | Path) -> tuple[Recipe, list[str], nn.Module]:
    """Recipe, classes and network of a finished run that can be asked about a new photo.

    Raises
    ------
    DataError
        There is none, its weights were not kept, or it answers by what a new photo does not have.
    """
    result = load_run(folder)
    recipe, classes = result.recipe, result.info["classes"]
    if by := _unaskable(recipe):
        raise DataError(f"{folder}: {recipe.name} answers by {by}; choose the run of another arm")
    return recipe, classes, trained_model(recipe, result.weights(), len(classes))


def read_photo(path: str | Path) -> Image.Image:
    """A photo, turned upright, RGB.

    Raises
    ------
    DataError
        It is no file that can be read as an image.
    """
    try:
        with Image.open(path) as opened:
            photo = ImageOps.exif_transpose(opened)
            if photo.mode.startswith("I;16"):  # 16 bits a pixel, of which convert() keeps the wrong 8
                photo = Image.fromarray((np.asarray(photo) >> 8).astype(np.uint8))
            if photo.mode in ("I", "F"):  # of which convert() makes white
                raise ValueError("more than 8 bits a pixel")
            photo = photo.convert("RGB")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: this is a folder; name the images in it") from None
    except PermissionError:
        raise DataError(f"{path}: it may not be read; change its permissions, or copy it") from None
    except Exception as error:  # damaged bytes make Pillow's readers raise whatever they stumble over
        raise DataError(f"{path}: not a readable image ({error}); save it as JPEG or PNG") from None
    return photo


def read_expressions(path: str | Path, folder: str | Path = SHIPPED) -> list[Face]:
    """Find the faces of a photo and read their expressions with the run in `folder` (TenCrop).

    Parameters
    ----------
    path : image file.
    folder : a finished run's folder with its weights; by default the network that comes with the package.

    Returns
    -------
    list of Face
        Largest first.

    Raises
    ------
    DataError
        The file is no image, no face is found in it, or the run is missing or cannot be asked.
    """
    return read_faces(path, *reader(folder))


def read_faces(path: str | Path, recipe: Recipe, classes: list[str], model: nn.Module) -> list[Face]:
    """`read_expressions` by what `reader` returned, so that many photos need not load it many times.

    Raises
    ------
    DataError
        The file is no image, or no face is found in it.
    """
    photo = read_photo(path)
    reduced = photo.copy()
    reduced.thumbnail((LARGEST, LARGEST))
    found = find_in_photo(np.asarray(reduced))
    if not found:
        raise DataError(f"{path}: MTCNN finds no face; try a larger or brighter picture")
    faces, machine = [], this_machine("cpu", bf16=False)
    for box, points in sorted(found, key=lambda f: -(f[0][2] - f[0][0]) * (f[0][3] - f[0][1])):
        image, corner, scale = cut_out(reduced, box)
        points, inner = ((x - corner) * scale - 0.5 for x in (points + 0.5, box.reshape(2, 2) + 0.5))
        mask = key_region_mask(points[None], inner.reshape(1, 4), 48, recipe.region_alpha)
        logits, _ = predict(model, *to_stack(image[None], mask, "cpu"), machine, recipe, "tencrop")
        p = softmax(logits[0])
        order = np.argsort(-p)
        faces.append(
            Face(
                tuple((box * photo.width / reduced.width).tolist()),
                image,
                points.astype(np.float32),
                {classes[k]: float(p[k]) for k in order},
            )
        )
    return faces


def _unaskable(recipe: Recipe) -> str:
    """By what a network answers that a new photo does not have; empty if by nothing."""
    if not recipe.cross_entropy:
        return "its nearest training faces, which are not kept"
    if recipe.faces != "original":
        return "enlarged faces"
    if recipe.mask not in ("none", "regions"):
        return "the masks of the faces it was trained on"
    return ""


def cut_out(photo: Image.Image, box: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The square round a face with `ROOM` on each side, as the data sets frame theirs.

    Returns
    -------
    image : uint8 (48, 48), grey.
    corner : float (2,), x and y of its top-left corner in the photo, whose own top-left corner is 0, 0.
    scale : pixels of the cut-out per pixel of the photo.
    """
    centre, side = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max()) * (1 + 2 * ROOM)
    corner = centre + 0.5 - side / 2  # of coordinates whose whole numbers are pixels' centres
    square = photo.convert("L").transform(
        (192, 192), Image.Transform.EXTENT, (*corner, *(corner + side)), Image.Resampling.BICUBIC
    )
    return np.array(square.resize((48, 48), Image.Resampling.BOX)), corner, 48 / side
