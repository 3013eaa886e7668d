"""Face alignment (DNNRL Sect. 4, Fig. 4): turn, scale and shift each face so that its eyes come to lie at fixed places.

The paper aligns SFEW 2.0 by SDM (Xiong and De la Torre 2013).  Here MTCNN's points do it.  The eyes alone decide: a
similarity transform has four degrees of freedom, two points fix it, and unlike the corners of the mouth the eyes
stay where they are when the expression changes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from .data import Faces
from .landmarks import Landmarks

EYES = ((14.5, 18.0), (32.5, 18.0))
"""Canonical x and y of the eyes (left in the image first), in pixels of a 48 x 48 face.

The median of FER2013's faces, rounded and made symmetrical: aligned faces look like those that the networks know.
"""


def canonical_eyes(size: int = 48) -> np.ndarray:
    """`EYES` in pixels of a `size` x `size` image, float (2, 2); (0, 0) is the centre of the top-left pixel."""
    return (np.array(EYES) + 0.5) * size / 48 - 0.5


def roll(points: np.ndarray) -> np.ndarray:
    """Degrees by which the line of the eyes leans, (N,); points are landmarks (N, 5, 2)."""
    x, y = (points[:, 1] - points[:, 0]).T
    return np.degrees(np.arctan2(y, x))


def align(faces: Faces, landmarks: Landmarks, size: int = 48) -> np.ndarray:
    """All faces with level eyes at `canonical_eyes`.

    Parameters
    ----------
    faces : images of any size.
    landmarks : of all faces, in pixels of their images.
    size : side of the aligned faces.

    Returns
    -------
    uint8 (N, size, size)
        Bilinear interpolation; where a face is reduced, the mean over the area of each pixel.  Beyond the image's
        border its edge is repeated.
    """
    parts = np.array_split(np.arange(len(faces)), -(-len(faces) // 2048) or 1)
    return np.concatenate([_align(faces.images[p], landmarks.points[p], size) for p in parts])


def _align(images: np.ndarray, points: np.ndarray, size: int) -> np.ndarray:
    left, turn, goal = _transform(points, size)
    finer = np.maximum(1, np.ceil(np.abs(turn[:, 0]) - 0.01)).astype(int)
    aligned = np.empty((len(images), size, size), np.uint8)
    for n in np.unique(finer):
        own = finer == n
        aligned[own] = _sampled(images[own], left[own], turn[own], goal, size, n)
    return aligned


def _sampled(images: np.ndarray, left, turn, goal: complex, size: int, finer: int) -> np.ndarray:
    """Images under the similarity of `_transform`, each output pixel the mean of finer x finer samples."""
    side = (np.arange(size * finer) + 0.5) / finer - 0.5
    out = side + 1j * side[:, None]
    source = (out - goal) * turn[..., None] + left[..., None]  # (N, S, S): where each output pixel comes from
    height, width = images.shape[1:]
    grid = np.stack([2 * source.real / (width - 1) - 1, 2 * source.imag / (height - 1) - 1], -1)
    moved = F.grid_sample(
        torch.as_tensor(images)[:, None].float(),
        torch.as_tensor(grid, dtype=torch.float32),
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return F.avg_pool2d(moved, finer)[:, 0].round().to(torch.uint8).numpy()


def _transform(points: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, complex]:
    """The similarity, with x + iy for a point: input = (output - goal) * turn + left eye; left and turn are (N, 1)."""
    left, right = _complex(points[:, :1]), _complex(points[:, 1:2])
    goal, goal_right = _complex(canonical_eyes(size))
    return left, (right - left) / (goal_right - goal), goal


def _complex(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, np.float64)
    return points[..., 0] + 1j * points[..., 1]
