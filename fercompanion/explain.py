"""Where a network looks: Grad-CAM, through the grad-cam package, and guided backpropagation."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torchvision.transforms.functional import center_crop

from .augment import centre_view
from .data import DataError, Faces
from .landmarks import Landmarks
from .models import build_model, options
from .predict import forward, gather, make_masks, this_machine, to_stack
from .progress import tqdm
from .recipes import Recipe
from .regions import key_region_mask
from .runs import Result, kept_arrays

BLOCK = 4
"""The block of VGG19 whose last map is weighted: 5 x 5 on 44 x 44 crops; block 5's 2 x 2 cannot tell an eye from a mouth."""


class OneInput(nn.Module):
    """A network seen as a function of one stack (B, 1 or 2, H, W), as grad-cam wants it, returning log-probabilities."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, stack: torch.Tensor) -> torch.Tensor:
        # Two branches return log-probabilities already; for one branch it must be said.
        return forward(self.model, stack).logits.log_softmax(1)


def trained_model(recipe: Recipe, weights: dict, num_classes: int) -> nn.Module:
    """The recipe's network with given weights, on the CPU in evaluation mode.

    Parameters
    ----------
    weights : name -> tensor, as `runs.Result.weights` reads them.
    num_classes : length of the logits.

    Raises
    ------
    DataError
        The weights are another network's.
    """
    recipe = replace(recipe, weights="none")  # pretrained ones need not be at hand: these replace them
    model = build_model(recipe.model, num_classes, **recipe.model_options())
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = " ".join(str(error).split("\n")[1:2]).strip()
        raise DataError(f"{recipe.name}: weights and recipe are of different networks ({first})") from None
    return model.eval()


def grad_cam(
    model: nn.Module,
    recipe: Recipe,
    faces: Faces,
    landmarks: Landmarks | None,
    rows: np.ndarray,
    batch_size: int = 64,
) -> tuple[np.ndarray, np.ndarray]:
    """Grad-CAM of the predicted class's log-probability.  The model itself is not changed.

    Parameters
    ----------
    rows : int (n,), images of `faces`.

    Returns
    -------
    cams : float32 (n, s, s) in 0-1, one heat map a centre crop of side s = ``recipe.crop``.
    predicted : int64 (n,)

    Raises
    ------
    DataError
        The recipe enlarges or pads the faces, so that the maps would not lie on them; the network has no blocks of VGG19;
        its key regions are missing; or their mean over Training is asked for where there are no official splits.
    """
    from pytorch_grad_cam import GradCAM

    if "mask_at" not in options(recipe.model):
        raise DataError(
            f"{recipe.model}: heat maps are of LKRNet's networks, whose blocks lie on the face as it is"
        )
    training = faces.where("Training")
    if recipe.mask == "mean" and not len(training):
        raise DataError(
            f"{faces.name}: mask='mean' is the mean over Training, and there are no official splits; choose another arm"
        )
    if {recipe.size, recipe.canvas} != {side := faces.images.shape[-1]}:
        raise DataError(
            f"size={recipe.size}, canvas={recipe.canvas}: heat maps need faces as they are, {side} pixels"
        )

    device = this_machine().device
    masks = make_masks(faces, landmarks, recipe.mask, recipe.region_alpha, training)
    image, mask = to_stack(faces.images[rows], None if masks is None else masks[rows], device)
    seen = copy.deepcopy(model).float().to(device).eval().requires_grad_(False)
    layer = seen.trunk[BLOCK - 1]
    # No `with`: on leaving, the package's context manager swallows IndexError.
    cam = GradCAM(model=OneInput(seen), target_layers=[layer])
    list(layer.parameters())[-1].requires_grad_(True)  # gradients end in the map, not in the image
    cams, predicted = [], []
    try:
        batches = torch.arange(len(rows), device=device).split(batch_size)
        for part in tqdm(batches, "Grad-CAM", unit="batch", leave=False, delay=2.0):
            stack = centre_view(gather(image, mask, part), recipe)
            cams.append(cam(stack, targets=None))  # of the winning class
            predicted.append(cam.outputs.argmax(1))
    finally:
        cam.activations_and_grads.release()
    return np.concatenate(cams).astype(np.float32), torch.cat(predicted).cpu().numpy()


def mass_in_regions(
    cams: np.ndarray, landmarks: Landmarks, rows: np.ndarray, alpha: float = 0.3
) -> np.ndarray:
    """Share of each heat map's mass that lies in the face's key regions, float (n,); claim of Sect. 4.3.3.

    A map that is zero everywhere has no share: nan.
    """
    crop = cams.shape[-1]
    masks = key_region_mask(landmarks.points[rows], landmarks.boxes[rows], 48, alpha)
    inside = center_crop(torch.as_tensor(masks)[:, None], [crop])[:, 0].numpy() > 0
    total = cams.sum((1, 2), dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, (cams * inside).sum((1, 2)) / total, np.nan)


@dataclass(frozen=True, eq=False)
class CamSummary:
    """Grad-CAM over all test images of a run, without the faces.

    Attributes
    ----------
    means : float32 (K, s, s), mean heat map of each true class, over those that are not zero everywhere.
    mass : float (n,), share of each heat map inside the face's key regions, in the order of the predictions; nan for
        one that is zero everywhere.
    uniform : what the mean share would be if the heat knew nothing of the face.
    points : float32 (5, 2), median landmarks on the maps: x, y in pixels.
    """

    means: np.ndarray
    mass: np.ndarray
    uniform: float
    points: np.ndarray


def cam_summary(result: Result, faces: Faces | None, landmarks: Landmarks | None) -> CamSummary | None:
    """The summary kept in the run's folder as ``cam.npz``; made from its weights if it is not there yet.

    None where neither the summary nor weights and faces are at hand.
    """

    def made() -> dict[str, np.ndarray] | None:
        if faces is None or faces.sha256 != result.info["data_sha256"]:
            return None
        if not (result.folder / "weights.safetensors").is_file():
            return None
        recipe, rows = result.recipe, result.predictions["test_index"]
        model = trained_model(recipe, result.weights(), len(faces.classes))
        cams, _ = grad_cam(model, recipe, faces, landmarks, rows)
        even = np.ones_like(cams[:1]).repeat(len(cams), 0)
        return {
            "means": class_means(cams, faces.labels[rows], len(faces.classes)).astype(np.float16),
            "mass": mass_in_regions(cams, landmarks, rows, alpha=recipe.region_alpha).astype(np.float32),
            "uniform": mass_in_regions(even, landmarks, rows, alpha=recipe.region_alpha).mean(),
            "points": np.median(landmarks.points[rows], 0) - (faces.images.shape[-1] - cams.shape[-1]) // 2,
        }

    if (kept := kept_arrays(result.folder / "cam.npz", made)) is None:
        return None
    means, mass = kept["means"].astype(np.float32), kept["mass"].astype(np.float64)
    return CamSummary(means, mass, float(kept["uniform"]), kept["points"])


def class_means(cams: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Mean heat map of each class, float32 (K, s, s): shows no face, so that it may be published.

    Maps that are zero everywhere say nothing and are left out; a class without others is zero.
    """
    some = cams.any((1, 2))
    return np.stack([cams[some & (labels == k)].sum(0) for k in range(n_classes)]) / np.maximum(
        np.bincount(labels[some], minlength=n_classes), 1
    )[:, None, None].astype(np.float32)


class _Guide(torch.autograd.Function):
    """y, an activation of x, whose gradient passes only where both x and the gradient itself are positive."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x > 0)
        return y.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.clamp(min=0) * ctx.saved_tensors[0], None


class _Guided(nn.Module):
    """An activation with the same values and a guided gradient."""

    def __init__(self, activation: nn.Module):
        super().__init__()
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _Guide.apply(x, self.activation(x.detach().clone()))


def guided_backprop(
    model: nn.Module, recipe: Recipe, faces: Faces, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Guided backpropagation of the winning class's logit to the image (Springenberg et al. 2015; Liu et al. Fig. 4).

    grad-cam's own version knows ReLU alone; this one takes every module of ReLU and PReLU, for which "positive"
    is the sign of what goes in.  The model itself is not changed.

    Parameters
    ----------
    model : network that takes no mask and whose activations are modules.
    faces : as the network sees them: enlarged by `superres.enlarge` if the recipe says so.
    rows : int (n,), images of `faces`.

    Returns
    -------
    gradients : float32 (n, s, s) of the centre views, s = ``recipe.crop``; signed.
    predicted : int64 (n,)

    Raises
    ------
    DataError
        The network takes a mask.
    """
    if recipe.mask != "none":
        raise DataError(f"{recipe.model}: guided backpropagation is of networks without a mask")
    guided = copy.deepcopy(model).float().cpu().eval()
    for parent in list(guided.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU | nn.PReLU):
                setattr(parent, name, _Guided(child))
    image, _ = to_stack(faces.images[rows], None, "cpu")
    view = centre_view(gather(image, None, torch.arange(len(image))), recipe).requires_grad_()
    logits = guided(view).logits
    logits.max(1).values.sum().backward()
    return view.grad[:, 0].numpy(), logits.argmax(1).numpy()
