"""fit(): one training loop for all papers; the same seed gives the same bits, killed in between or not."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from . import losses
from .augment import train_transform
from .data import DataError, Faces
from .landmarks import Landmarks
from .models import build_model
from .predict import CROPS, Machine, forward, gather, make_masks, predict, this_machine, to_stack
from .protocols import Parts
from .recipes import Recipe

CHECKPOINT = "checkpoint.pt"


def fit(
    recipe: Recipe,
    faces: Faces,
    landmarks: Landmarks | None,
    parts: Parts,
    seed: int,
    folder: str | os.PathLike,
    machine: Machine | None = None,
    label: str = "",
) -> dict:
    """Train one network, select its epoch, and predict.

    Parameters
    ----------
    recipe : what to train and how.
    landmarks : of all faces; may be None if the recipe uses no mask.
    parts : who trains, selects and tests.  Without images to select on, the last epoch is the result.
    seed : of weights, order, transforms and dropout.
    folder : where ``checkpoint.pt`` is kept after each epoch; a run that finds one goes on from there, to the
        same bits as an unbroken run on the same machine and versions.
    label : name on the progress bar.

    Returns
    -------
    dict
        "history": one dict an epoch (epoch, lr, loss, train/valid/test accuracy in per cent, seconds).
        "predictions": arrays, see `_final_predictions`.
        "selected", "epochs": the epoch chosen (1-based) and their number.
        "state": the selected epoch's weights, on the CPU.
        "machine", "resumed", "parameters".
    """
    machine = machine or this_machine()
    torch.backends.cudnn.deterministic = True
    checkpoint = Path(folder) / CHECKPOINT
    masks = (
        None
        if recipe.mask == "none"
        else make_masks(faces, landmarks, recipe.mask, recipe.region_alpha, parts.train)
    )
    image, mask = to_stack(faces.images, masks, machine.device)
    labels = torch.as_tensor(faces.labels, device=machine.device)

    torch.manual_seed(_mix(seed, 0))
    model = build_model(recipe.model, len(faces.classes), **recipe.model_options())
    model = model.to(machine.device, memory_format=torch.channels_last)
    optimizer = make_optimizer(model, recipe)
    made_for = {"recipe": asdict(recipe), "seed": seed, "data": faces.sha256}
    done = _load(checkpoint, machine.device)
    if done and done.get("for", made_for) != made_for:
        was, now = (flat["recipe"] | flat for flat in (done["for"], made_for))
        other = [k for k in now if k != "recipe" and was.get(k) != now[k]]
        raise DataError(f"{checkpoint}: of another run ({', '.join(other)} differ); delete it to start anew")
    history, best, resumed = [], None, done is not None
    if done:
        model.load_state_dict(done["model"])
        optimizer.load_state_dict(done["optimizer"])
        history, best = done["history"], done["best"]

    train = torch.as_tensor(parts.train, device=machine.device)
    for epoch in range(len(history), recipe.epochs):
        start = time.perf_counter()
        torch.manual_seed(_mix(seed, epoch + 1))
        row = train_epoch(
            model,
            optimizer,
            recipe,
            epoch,
            image,
            mask,
            labels,
            train,
            machine,
            f"{label or recipe.name} epoch {epoch + 1}/{recipe.epochs}",
        )
        trained = time.perf_counter() - start
        for name, rows in (("valid", parts.valid), ("test", parts.test)):
            row[f"{name}_accuracy"] = _accuracy(model, image, mask, faces.labels, rows, machine, recipe.crop)
        row |= {"train_seconds": trained, "seconds": time.perf_counter() - start}
        history.append({"epoch": epoch + 1, **row})
        if not len(parts.valid) or best is None or row["valid_accuracy"] > best["accuracy"]:
            best = {"epoch": epoch + 1, "accuracy": row["valid_accuracy"], "model": _copy(model)}
        _save(
            checkpoint,
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "history": history,
                "best": best,
                "for": made_for,
            },
        )

    start = time.perf_counter()
    last = predict(
        model, image[parts.test], None if mask is None else mask[parts.test], machine, recipe.crop
    )[0]
    model.load_state_dict(best["model"])
    predictions = _final_predictions(model, image, mask, parts, machine, recipe.crop)
    predictions["test_logits_last_epoch"] = last
    return {
        "history": history,
        "predictions": predictions,
        "selected": best["epoch"],
        "epochs": len(history),
        "state": {k: v.cpu() for k, v in best["model"].items()},
        "machine": machine.description,
        "resumed": resumed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "predict_seconds": time.perf_counter() - start,
    }


def train_epoch(
    model, optimizer, recipe: Recipe, epoch: int, image, mask, labels, train, machine: Machine, label: str
) -> dict:
    """One pass over the training images; returns lr, mean loss and accuracy on the transformed images."""
    model.train()
    anchors = train[torch.randperm(len(train), device=train.device)]
    size = min(recipe.batch_size, len(anchors))
    batches = anchors[: len(anchors) - len(anchors) % size].split(size)
    total, hits, seen = 0.0, 0, 0
    loss_of = losses.cross_entropy_and_triplet
    with tqdm(batches, desc=label, unit="batch", leave=False, mininterval=2.0) as bar:
        for number, rows in enumerate(bar):
            lr = recipe.learning_rate(epoch + number / len(batches))
            for group in optimizer.param_groups:
                group["lr"] = lr
            rows, triplets = draw_triplets(rows, labels, train, recipe.triplets)
            stack = train_transform(gather(image, mask, rows), recipe)
            with machine.autocast():
                output = forward(model, stack)
            target = labels[rows]
            loss = loss_of(output, target, triplets, recipe)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if recipe.clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            total = total + loss.detach()
            hits = hits + (output.logits.argmax(1) == target).sum()
            seen += len(rows)
            if number % 20 == 0:
                bar.set_postfix(loss=f"{float(loss.detach()):.3f}", lr=f"{lr:.2g}", refresh=False)
    loss = float(total) / len(batches)
    if not np.isfinite(loss):
        raise FloatingPointError(f"{label}: the loss is {loss}; lower lr ({recipe.lr}) or set clip")
    return {"lr": lr, "loss": loss, "train_accuracy": 100 * float(hits) / seen}


def draw_triplets(rows: torch.Tensor, labels: torch.Tensor, train: torch.Tensor, how: str):
    """The images of a step and its triplets.

    Parameters
    ----------
    rows : int64 (B,), the step's anchors as indices of images.
    how : "none": just the anchors.  "batch": each anchor with a random positive and negative of the same
        batch, where there are any.  "epoch": with ones drawn from all training images; 3B images.

    Returns
    -------
    rows : int64 (B,) or (3B,)
    triplets : three int64 (T,) tensors of positions in `rows` (anchors, positives, negatives), or None
    """
    if how == "none":
        return rows, None
    if how == "epoch":
        rows = torch.cat([rows, *_partners(rows, labels, train)])
        return rows, torch.arange(len(rows), device=rows.device).chunk(3)
    if how != "batch":
        raise ValueError(f"triplets={how!r}: choose none, batch or epoch")
    same = labels[rows, None] == labels[None, rows]
    lot = torch.rand(same.shape, device=rows.device)
    positive = (lot * same.fill_diagonal_(False)).max(1)
    negative = (lot * (labels[rows, None] != labels[None, rows])).max(1)
    anchor = torch.nonzero((positive.values > 0) & (negative.values > 0))[:, 0]
    return rows, (anchor, positive.indices[anchor], negative.indices[anchor])


def _partners(rows: torch.Tensor, labels: torch.Tensor, train: torch.Tensor):
    """A random other training image of the same class and one of another class for each anchor."""
    ordered = train[torch.argsort(labels[train], stable=True)]  # classes in contiguous blocks
    counts = torch.bincount(labels[train], minlength=int(labels.max()) + 1)
    first, count = (counts.cumsum(0) - counts)[labels[rows]], counts[labels[rows]]
    lot = torch.rand(2, len(rows), device=rows.device, dtype=torch.float64)
    # Its own place in the class, moved on by 1 to count - 1 places: every other image, equally likely.
    place = torch.zeros_like(labels)
    place[ordered] = torch.arange(len(ordered), device=rows.device)
    step = 1 + (lot[0] * (count - 1)).long()
    positive = ordered[first + (place[rows] - first + step) % count]
    other = (lot[1] * (len(train) - count)).long()
    negative = ordered[torch.where(other < first, other, other + count)]
    return positive, negative


def make_optimizer(model, recipe: Recipe):
    """The recipe's optimiser over all parameters."""
    if recipe.optimizer != "sgd":
        raise ValueError(f"optimizer={recipe.optimizer!r}: choose sgd")
    return torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )


def _final_predictions(model, image, mask, parts: Parts, machine: Machine, crop: int) -> dict:
    """Arrays of predictions.npz.

    For valid and test: ``{part}_index`` (rows of the data set), ``{part}_logits_centre`` and
    ``{part}_logits_tencrop`` float32 (n, K); for test also ``test_embedding`` float16 (n, D).
    """
    arrays = {}
    for name, rows in (("valid", parts.valid), ("test", parts.test)):
        if not len(rows):
            continue
        some = (image[rows], None if mask is None else mask[rows])
        arrays[f"{name}_index"] = rows.astype(np.int32)
        for crops in CROPS:
            logits, embedding = predict(model, *some, machine, crop, crops)
            arrays[f"{name}_logits_{crops}"] = logits
            if name == "test" and crops == "centre":
                arrays["test_embedding"] = embedding.astype(np.float16)
    return arrays


def _accuracy(model, image, mask, labels, rows, machine, crop) -> float:
    """Centre-crop accuracy in per cent; nan for no images."""
    if not len(rows):
        return float("nan")
    logits, _ = predict(model, image[rows], None if mask is None else mask[rows], machine, crop)
    return 100 * float((logits.argmax(1) == labels[rows]).mean())


def _mix(seed: int, epoch: int) -> int:
    """One seed for each (seed, epoch): all randomness of an epoch follows from it, so resuming is exact."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)


def _copy(model) -> dict:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def _save(path: Path, state: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    os.replace(temporary, path)


def _load(path: Path, device) -> dict | None:
    return torch.load(path, map_location=device, weights_only=True) if path.is_file() else None
