"""From a data set and a trained network to logits and embeddings: device, precision, masks, test crops."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from . import augment
from .data import DataError, Faces
from .landmarks import Landmarks
from .regions import key_region_mask

CROPS = ("centre", "tencrop")


@dataclass(frozen=True)
class Machine:
    """Where and in which precision the networks run.

    bf16 where the hardware multiplies in it (CUDA from Ampere on, CPUs with AMX or AVX512_BF16), float32
    elsewhere; weights stay float32.
    """

    device: torch.device
    bf16: bool

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    @property
    def description(self) -> str:
        name = (
            torch.cuda.get_device_name()
            if self.device.type == "cuda"
            else f"CPU, {torch.get_num_threads()} threads"
        )
        return f"{name}, {'bfloat16 autocast' if self.bf16 else 'float32'}"


def this_machine(device: str | None = None, bf16: bool | None = None) -> Machine:
    """The GPU if there is one that CUDA knows, else the CPU (a Mac's GPU is not used); both arguments overrule."""
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if bf16 is None:
        bf16 = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if device.type == "cuda"
            else cpu_multiplies_bf16()
        )
    return Machine(device, bool(bf16))


def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has instructions for bf16 (AMX or AVX512_BF16: there VGG19 trains twice as fast in it)."""
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, test, bool)() for test in tests)


def make_masks(
    faces: Faces, landmarks: Landmarks | None, kind: str, alpha: float, train: np.ndarray
) -> np.ndarray | None:
    """float32 (N, 48, 48) masks of a recipe: the faces' own, or one of the two controls.

    Parameters
    ----------
    kind : "regions": each face's own key regions.  "shuffled": another face's, by one fixed permutation within
        the images of each official split (of the whole set on CK+), so that only the pairing is lost.  "mean": the mean over `train`, for all.
    train : indices of the training images.

    Raises
    ------
    ValueError
        Another kind.
    DataError
        Masks without landmarks.
    """
    if kind == "none":
        return None
    if landmarks is None:
        raise DataError(f"mask={kind}: needs the faces' landmarks; landmarks.find_landmarks finds them")
    masks = _own_masks(landmarks, faces.images.shape[-1], alpha)
    if kind == "regions":
        return masks
    if kind == "mean":
        return np.broadcast_to(masks[train].mean(0), masks.shape)
    if kind == "shuffled":
        rng, order = np.random.default_rng(0), np.arange(len(faces))
        for split in np.unique(faces.split):
            rows = np.flatnonzero(faces.split == split)
            order[rows] = rng.permutation(rows)
        return masks[order]
    raise ValueError(f"unknown mask {kind!r}; choose from regions, shuffled, mean, none")


@lru_cache(maxsize=1)
def _own_masks(landmarks: Landmarks, size: int, alpha: float) -> np.ndarray:
    """Kept from one run to the next: FER2013's take a CPU ten seconds."""
    return key_region_mask(landmarks.points, landmarks.boxes, size, alpha)


def to_stack(
    images: np.ndarray, masks: np.ndarray | None, device
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The whole data set on the device: uint8 (N, 1, 48, 48) images and float32 (N, 1, 48, 48) masks or None."""
    image = torch.as_tensor(np.ascontiguousarray(images), device=device)[:, None]
    mask = None if masks is None else torch.as_tensor(np.ascontiguousarray(masks), device=device)[:, None]
    return image, mask


def gather(image: torch.Tensor, mask: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor:
    """A batch as float32 (B, 1 or 2, 48, 48): image in 0-1, then the mask."""
    batch = image[rows].float() / 255
    return batch if mask is None else torch.cat([batch, mask[rows]], 1)


def forward(model, stack: torch.Tensor):
    """Run the network on a stack whose second channel, if any, is the mask."""
    return model(stack[:, :1], stack[:, 1:] if stack.shape[1] > 1 else None)


@torch.no_grad()
def predict(
    model,
    image: torch.Tensor,
    mask: torch.Tensor | None,
    machine: Machine,
    recipe,
    view: str = "centre",
    batch_size: int = 512,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 (N, K) and embeddings float32 (N, D) of all images of a stack; the network is left in evaluation mode.

    Parameters
    ----------
    image, mask : of `to_stack`; the mask None for a network that needs none.
    machine : `this_machine()`.
    recipe : gives size, canvas and crop.
    view : "centre"; "tencrop": logits and embeddings are means over ten crops; "occluded": the centre with one
        random black rectangle in each face, always the same.

    Raises
    ------
    ValueError
        Unknown view.
    """
    if view not in ("centre", "tencrop", "occluded"):
        raise ValueError(f"view={view!r}: choose centre, tencrop or occluded")
    model.eval()
    logits, embeddings = [], []
    step = max(1, batch_size * 44**2 // recipe.crop**2 // (10 if view == "tencrop" else 1))
    lots = torch.Generator(image.device).manual_seed(0)
    for rows in torch.arange(len(image), device=image.device).split(step):
        stack = gather(image, mask, rows)
        crops = (
            augment.ten_views(stack, recipe)
            if view == "tencrop"
            else augment.centre_view(stack, recipe)[None]
        )
        if view == "occluded":
            crops = augment.occlude(crops[0], 1.0, lots)[None]
        with machine.autocast():
            out = forward(model, crops.flatten(0, 1))
        logits.append(out.logits.float().unflatten(0, crops.shape[:2]).mean(0).cpu())
        embeddings.append(out.embedding.float().unflatten(0, crops.shape[:2]).mean(0).cpu())
    return torch.cat(logits).numpy(), torch.cat(embeddings).numpy()
