"""fit(): one training loop for all papers; the same seed gives the same bits, killed in between or not."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from .augment import centre_view, train_transform
from .data import DataError, Faces, first_line
from .evaluate import NEIGHBOURS, best_k, neighbour_logits
from .landmarks import Landmarks, of_the_device
from .losses import TrainingLoss
from .models import build_model
from .predict import CROPS, Machine, forward, gather, make_masks, predict, this_machine, to_stack
from .progress import tqdm
from .protocols import Parts
from .recipes import Recipe
from .runs import HISTORY
from .whole import whole

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 20.0
"""Least time between two checkpoints: on a GPU an epoch takes little longer than to write one (300 MB for VGG19)."""
BAR_LINE = None
"""Line of the progress bar, where several runs train side by side."""
RECORD = "FERCOMPANION_RECORD"
"""Environment variable: 0 launches every step on a GPU anew, see `make_step`."""
LAUNCHED = 3
"""Steps on a GPU before one is recorded."""
BANK = 4096
"""How many training images, up to twice as many, k-NN searches for the accuracies of the history."""


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
    faces : all of the data set, enlarged if the recipe says so (`superres.enlarge`).
    landmarks : of all faces; may be None if the recipe uses no mask.
    parts : who trains, selects and tests.  Without images to select on, or where the recipe says so, the last epoch is
        the result.
    seed : of weights, order, transforms and dropout.
    folder : where ``history.csv`` is written after every epoch, and ``checkpoint.pt`` kept, see `CHECKPOINT_SECONDS`;
        a run that finds one goes on from there, to the same bits as an unbroken run on the same machine and versions.
    machine : device and numbers to compute in, by default this machine's.
    label : name on the progress bar.

    Returns
    -------
    dict
        "history": one dict an epoch (epoch, lr, loss, train/valid/test accuracy in per cent, valid_loss where it
        selects, train_seconds of the steps, seconds).
        "predictions": arrays, see `_final_predictions`.
        "selected", "epochs": the epoch chosen (1-based) and their number.
        "state": the selected epoch's weights, on the CPU.
        "k": of k-NN, where the recipe uses it.
        "machine", "resumed", "parameters", "predict_seconds".

    Raises
    ------
    FloatingPointError
        The loss is not finite.
    DataError
        The checkpoint is damaged, or of another recipe, seed, fold, copy of the data or landmarks; or the recipe's mask
        asks for landmarks, and there are none.

    Notes
    -----
    Seeds torch's generators and sets ``cudnn.deterministic``, for the whole process.
    """
    machine = machine or this_machine()
    checkpoint = Path(folder) / CHECKPOINT
    masks = make_masks(faces, landmarks, recipe.mask, recipe.region_alpha, parts.train)
    image, mask = to_stack(faces.images, masks, machine.device)
    labels = torch.as_tensor(faces.labels, device=machine.device)

    model, optimizer, criterion = prepared(recipe, len(faces.classes), seed, image, mask, machine)
    made_for = {
        "recipe": asdict(recipe),
        "seed": seed,
        "data": faces.sha256,
        "parts": _digest(*asdict(parts).values()),
    }
    if recipe.mask != "none":
        made_for["landmarks"] = _digest(landmarks.points, landmarks.boxes)
    done = _resume(checkpoint, made_for, machine.device, model, optimizer, criterion)
    resumed = done is not None
    history, best, factor = (done[k] for k in ("history", "best", "factor")) if done else ([], None, 1.0)
    if resumed:  # without the epochs after the checkpoint
        with suppress(PermissionError):
            write_history(Path(folder) / HISTORY, history)

    train = torch.as_tensor(parts.train, device=machine.device)
    step = make_step(model, optimizer, criterion, recipe, image, mask, labels, train, machine)
    saved, kept = len(history), time.perf_counter()

    def save() -> None:
        state = {"model": model, "optimizer": optimizer, "criterion": criterion}
        state = {k: v.state_dict() for k, v in state.items()}
        _save(checkpoint, state | {"history": history, "best": best, "factor": factor, "for": made_for})

    select_by_loss = recipe.select == "loss" and len(parts.valid) > 0
    for epoch in range(len(history), recipe.epochs):
        if recipe.patience and best and epoch - best["epoch"] >= recipe.patience:
            break
        # Here and not at the last epoch's end: after the last of all the network stays as it was trained.
        if select_by_loss and recipe.rollback and history and _has_risen(history[-1], best, recipe.rollback):
            model.load_state_dict(best["model"])
            _forget(optimizer)
            factor = max(factor * recipe.decay, recipe.lr_floor / recipe.lr)
        start = time.perf_counter()
        torch.manual_seed(_mix(seed, epoch + 1))
        title = f"{label or recipe.name} epoch {epoch + 1}/{recipe.epochs}"
        model.train()
        criterion.train()
        if history and len(parts.valid):
            title += f" (PublicTest {history[-1]['valid_accuracy']:.1f} %)"
        row = train_epoch(step, optimizer, recipe, epoch, labels, train, title, factor)
        trained = time.perf_counter() - start
        row["valid_accuracy"], row["test_accuracy"] = _accuracies(
            model, image, mask, faces.labels, parts, machine, recipe
        )
        if recipe.select == "loss":
            row["valid_loss"] = _loss(model, criterion, image, mask, labels, parts.valid, machine, recipe)
        row |= {"train_seconds": trained, "seconds": time.perf_counter() - start}
        history.append({"epoch": epoch + 1, **row})
        with suppress(PermissionError):  # open in a program that locks it, as on Windows: next time
            write_history(Path(folder) / HISTORY, history)
        score = -row["valid_loss"] if select_by_loss else row["valid_accuracy"]
        if np.isnan(score) and len(parts.valid):
            score = -np.inf  # else no later epoch would be better
        if not len(parts.valid) or recipe.select == "last" or best is None or score > best["score"]:
            best = {"epoch": epoch + 1, "score": score, "model": _copy(model)}
        if time.perf_counter() - kept >= CHECKPOINT_SECONDS:
            save()
            saved, kept = len(history), time.perf_counter()
    if saved < len(history):
        save()
    write_history(Path(folder) / HISTORY, history)

    start = time.perf_counter()
    state = _copy(model)
    model.load_state_dict(best["model"])
    predictions, k = _final_predictions(model, image, mask, faces, parts, machine, recipe)
    if best["epoch"] == len(history):
        predictions["test_logits_last_epoch"] = predictions["test_logits_centre"]
    else:
        model.load_state_dict(state)
        predictions["test_logits_last_epoch"] = _last_logits(
            model, image, mask, faces, parts, machine, recipe, k
        )
    return {
        "history": history,
        "predictions": predictions,
        "selected": best["epoch"],
        "epochs": len(history),
        "k": k,
        "state": {k: v.cpu() for k, v in best["model"].items()},
        "machine": machine.description,
        "resumed": resumed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "predict_seconds": time.perf_counter() - start,
    }


def untrained_model(recipe: Recipe, num_classes: int, seed: int) -> torch.nn.Module:
    """The network of a recipe with the weights from which a seed starts."""
    torch.manual_seed(_mix(seed, 0))
    return build_model(recipe.model, num_classes, **recipe.model_options())


def prepared(recipe: Recipe, num_classes: int, seed: int, image, mask, machine: Machine):
    """The network of a recipe on the machine, before its first step, with its optimiser and its loss.

    Parameters
    ----------
    image, mask : of `predict.to_stack`; two of them are looked at, to know how long the embedding is.
    """
    torch.backends.cudnn.deterministic = True
    model = untrained_model(recipe, num_classes, seed)
    model = model.to(machine.device, memory_format=torch.channels_last)
    width = _look(model, image, mask, slice(2), machine, recipe)[1].shape[1]
    criterion = TrainingLoss(recipe, num_classes, width).to(machine.device)
    return model, make_optimizer(model, recipe), criterion


def train_epoch(
    step: Callable,
    optimizer,
    recipe: Recipe,
    epoch: int,
    labels: torch.Tensor,
    train: torch.Tensor,
    label: str,
    factor: float = 1.0,
) -> dict:
    """One pass over the training images, without the last batch if it is not full, unless there is no other.

    Returns
    -------
    dict
        lr, mean loss and accuracy on the transformed images.

    Raises
    ------
    FloatingPointError
        The loss is not finite.
    """
    if recipe.balanced:  # as many anchors as images, every class equally often
        weight = 1 / torch.bincount(labels[train]).clamp(min=1)[labels[train]].double()
        anchors = train[torch.multinomial(weight, len(train), replacement=True)]
    else:
        anchors = train[torch.randperm(len(train), device=train.device)]
    size = min(recipe.batch_size, len(anchors))
    batches = anchors[: len(anchors) - len(anchors) % size].split(size)
    total, hits, seen = 0.0, 0, 0
    with tqdm(batches, label, unit="batch", leave=False, mininterval=2.0, position=BAR_LINE) as bar:
        for number, rows in enumerate(bar):
            lr = recipe.learning_rate(epoch + number / len(batches)) * factor
            _set_rate(optimizer, lr)
            loss, hit = step(rows)
            total = total + loss
            hits = hits + hit.sum()
            seen += len(hit)
            if number % 20 == 0:
                bar.set_postfix(loss=f"{float(loss):.3f}", lr=f"{lr:.2g}", refresh=False)
    loss = float(total) / len(batches)
    if not np.isfinite(loss):
        raise FloatingPointError(f"{label}: the loss is {loss}; lower lr ({recipe.lr}) or set clip")
    # Without cross-entropy the classifier is not trained, and its accuracy would mean nothing.
    accuracy = 100 * float(hits) / seen if recipe.cross_entropy else float("nan")
    return {"lr": lr, "loss": loss, "train_accuracy": accuracy}


def make_step(
    model, optimizer, criterion, recipe: Recipe, image, mask, labels, train, machine: Machine
) -> Callable:
    """`train_step` as a function of its anchors, int64 (B,); on a GPU recorded once, then replayed.

    VGG19 has 570 kernels a step, which a processor takes longer to launch than a GPU to run: on an H200 a step of 256
    images took 12.3 ms launched and 6.9 ms replayed, to the same bits.  A record (a CUDA graph) reads and writes fixed
    places: weights, gradients and what the optimiser keeps stay where they are, the learning rate lies on the device,
    and all batches have one size.  The loss and hits it returns are overwritten by the next step.
    """
    step = partial(train_step, model, optimizer, criterion, recipe, image, mask, labels, train, machine)
    if machine.device.type != "cuda" or os.environ.get(RECORD) == "0":
        return step
    stream = torch.cuda.Stream()
    graph, still, found, launched = torch.cuda.CUDAGraph(), None, None, 0

    def replayed(rows: torch.Tensor):
        nonlocal still, found, launched
        # The first are steps like all others, in which libraries choose algorithms and the optimiser its places.
        if launched < LAUNCHED:
            launched += 1
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                made = step(rows)
            torch.cuda.current_stream().wait_stream(stream)
            return made
        if still is None:
            still = rows.clone()
            try:
                with torch.cuda.graph(graph, stream=stream):
                    found = step(still)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise RuntimeError(f"this step cannot be recorded ({error}); set {RECORD}=0") from error
        still.copy_(rows)
        graph.replay()
        return found

    replayed.kept = _by_class(labels, train)  # what a record reads must not be freed before it
    return replayed


def train_step(
    model, optimizer, criterion, recipe: Recipe, image, mask, labels, train, machine: Machine, rows
):
    """One step with the anchors `rows` of the training images `train`; returns the loss and hits bool (B,) or (3B,)."""
    rows, triplets = draw_triplets(rows, labels, train, recipe.triplets)
    stack = train_transform(gather(image, mask, rows), recipe)
    with machine.autocast():
        output = forward(model, stack)
    target = labels[rows]
    loss = criterion(output, target, triplets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if recipe.clip:
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    optimizer.step()
    return loss.detach(), output.logits.argmax(1) == target


def draw_triplets(rows: torch.Tensor, labels: torch.Tensor, train: torch.Tensor, how: str):
    """The images of a step and its triplets.

    Parameters
    ----------
    rows : int64 (B,), the step's anchors as indices of images.
    how : "none": just the anchors.  "batch": each anchor with a random positive and negative of the same
        batch, where there are any.  "epoch": with ones drawn from all training images, where there are any; 3B images.

    Returns
    -------
    rows : int64 (B,) or (3B,)
    triplets : three int64 (B,) tensors of positions in `rows` (anchors, positives, negatives) and bool (B,), which
        of them are triplets: an anchor without a partner makes none.  Or None

    Raises
    ------
    ValueError
        Another way.
    """
    if how == "none":
        return rows, None
    if how == "epoch":
        *partners, real = _partners(rows, labels, train)
        rows = torch.cat([rows, *partners])
        return rows, (*torch.arange(len(rows), device=rows.device).chunk(3), real)
    if how != "batch":
        raise ValueError(f"triplets={how!r}: choose none, batch or epoch")
    same = labels[rows, None] == labels[None, rows]
    lot = torch.rand(same.shape, device=rows.device)
    positive = (lot * same.fill_diagonal_(False)).max(1)
    negative = (lot * (labels[rows, None] != labels[None, rows])).max(1)
    anchor, real = torch.arange(len(rows), device=rows.device), (positive.values > 0) & (negative.values > 0)
    return rows, (anchor, positive.indices, negative.indices, real)


def _partners(rows: torch.Tensor, labels: torch.Tensor, train: torch.Tensor):
    """A random other training image of the same class and one of another class for each anchor, and whether there are."""
    ordered, counts, place = _by_class(labels, train)
    first, count = (counts.cumsum(0) - counts)[labels[rows]], counts[labels[rows]]
    lot = torch.rand(2, len(rows), device=rows.device, dtype=torch.float64)
    # Its own place in the class, moved on by 1 to count - 1 places: every other image, equally likely.
    step = 1 + (lot[0] * (count - 1)).long()
    positive = ordered[first + (place[rows] - first + step) % count]
    other = (lot[1] * (len(train) - count)).long()
    negative = ordered[torch.where(other < first, other, other + count) % len(train)]
    return positive, negative, (count > 1) & (count < len(train))


@lru_cache(maxsize=2)
def _by_class(labels: torch.Tensor, train: torch.Tensor):
    """The training images ordered by class, images a class, and each image's place in that order.

    The same tensors are asked for at every step: sorted once, a GPU need not wait for them.
    """
    ordered = train[torch.argsort(labels[train], stable=True)]  # classes in contiguous blocks
    counts = torch.bincount(labels[train], minlength=int(labels.max()) + 1)
    place = torch.zeros_like(labels)
    place[ordered] = torch.arange(len(ordered), device=train.device)
    return ordered, counts, place


def make_optimizer(model, recipe: Recipe):
    """The recipe's optimiser over all parameters; on a GPU one whose step can be recorded, see `make_step`."""
    gpu = next(model.parameters()).is_cuda
    rate = torch.tensor(recipe.lr, device="cuda") if gpu else recipe.lr
    common = {"lr": rate, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "sgd":
        momentum = {"momentum": recipe.momentum, "nesterov": recipe.nesterov}
        return torch.optim.SGD(model.parameters(), **common, **momentum, fused=True)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), **common, fused=True, capturable=gpu)
    return torch.optim.Adamax(model.parameters(), **common, capturable=gpu)


def _forget(optimizer) -> None:
    """As if it had made no step yet; its tensors stay in their places, see `make_step`."""
    for state in optimizer.state.values():
        for kept in state.values():
            if kept is not None:
                kept.zero_()


def _set_rate(optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)  # in its place, where a recorded step reads it
        else:
            group["lr"] = lr


def _look(model, image, mask, rows, machine: Machine, recipe: Recipe, view: str = "centre"):
    """`predict` on some rows of the stack: logits (n, K) and embeddings (n, D)."""
    return predict(model, image[rows], None if mask is None else mask[rows], machine, recipe, view)


def _final_predictions(model, image, mask, faces: Faces, parts: Parts, machine: Machine, recipe: Recipe):
    """Arrays of predictions.npz, and the k of k-NN.

    For valid and test: ``{part}_index`` (rows of the data set), ``{part}_logits_centre`` and
    ``{part}_logits_tencrop`` float32 (n, K), and what the recipe adds: ``_occluded`` (test only), ``_knn``; for test
    also ``test_embedding`` float16 (n, D).  Without cross-entropy all logits are those of k-NN.
    """
    found = {}
    for name, rows in (("valid", parts.valid), ("test", parts.test)):
        views = [*CROPS, *(["occluded"] if recipe.test_occluded and name == "test" else [])]
        for view in views if len(rows) else ():
            found[name, view] = _look(model, image, mask, rows, machine, recipe, view)
    bank = k = None
    if recipe.knn or not recipe.cross_entropy:
        bank = _look(model, image, mask, parts.train, machine, recipe)[1], faces.labels[parts.train]
        k = NEIGHBOURS[len(NEIGHBOURS) // 2]
        if len(parts.valid):
            k = best_k(*bank, found["valid", "centre"][1], faces.labels[parts.valid], len(faces.classes))

    arrays = {}
    for (name, view), (logits, embedding) in found.items():
        rows = getattr(parts, name)
        arrays[f"{name}_index"] = rows.astype(np.int32)
        if not recipe.cross_entropy:
            logits = neighbour_logits(*bank, embedding, k, len(faces.classes))
        elif bank and view == "centre":
            arrays[f"{name}_logits_knn"] = neighbour_logits(*bank, embedding, k, len(faces.classes))
        arrays[f"{name}_logits_{view}"] = logits
        if (name, view) == ("test", "centre"):
            arrays["test_embedding"] = embedding.astype(np.float16)
    return arrays, k


def _last_logits(model, image, mask, faces, parts: Parts, machine, recipe: Recipe, k: int | None):
    """Centre-crop logits of the test images by the network as it is now."""
    logits, embedding = _look(model, image, mask, parts.test, machine, recipe)
    if recipe.cross_entropy:
        return logits
    bank = _look(model, image, mask, parts.train, machine, recipe)[1]
    return neighbour_logits(bank, faces.labels[parts.train], embedding, k, len(faces.classes))


def _accuracies(model, image, mask, labels, parts: Parts, machine, recipe) -> list[float]:
    """Centre-crop accuracy in per cent on the images that select and on those that test; nan for no images.

    Without cross-entropy by k-NN among `BANK` training images, evenly spaced, with a fixed k: for the history.
    """
    if not recipe.cross_entropy:
        some = parts.train[:: max(1, len(parts.train) // BANK)]
        bank = _look(model, image, mask, some, machine, recipe)[1]
    found = []
    for rows in (parts.valid, parts.test):
        if not len(rows):
            found.append(float("nan"))
            continue
        logits, embedding = _look(model, image, mask, rows, machine, recipe)
        if not recipe.cross_entropy:
            logits = neighbour_logits(bank, labels[some], embedding, 15, int(labels.max()) + 1)
        found.append(100 * float((logits.argmax(1) == labels[rows]).mean()))
    return found


@torch.no_grad()
def _loss(model, criterion, image, mask, labels, rows, machine: Machine, recipe: Recipe) -> float:
    """Mean loss on the untransformed images `rows`, with the same triplets each time; nan for no images."""
    if not len(rows):
        return float("nan")
    model.eval()
    criterion.eval()
    rows = torch.as_tensor(rows, device=machine.device)
    torch.manual_seed(0)
    losses, parts = [], rows[torch.randperm(len(rows), device=rows.device)].split(recipe.batch_size)
    for part in parts:
        part, triplets = draw_triplets(part, labels, rows, recipe.triplets)
        with machine.autocast():
            output = forward(model, centre_view(gather(image, mask, part), recipe))
        losses.append(float(criterion(output, labels[part], triplets)))
    return float(np.average(losses, weights=[len(part) for part in parts]))  # the last may be a few images


def write_history(path: Path, history: list[dict]) -> None:
    """A line an epoch, numbers of six digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0])
    writer.writeheader()
    for row in history:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    with whole(path, one_writer=True) as file:
        file.write(text.getvalue().encode())


def _mix(seed: int, epoch: int) -> int:
    """One seed for each (seed, epoch): all randomness of an epoch follows from it, so resuming is exact."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)


def _digest(*arrays: np.ndarray) -> str:
    """SHA-256 of some arrays, their shapes and their numbers' kinds."""
    digest = sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _has_risen(row: dict, best: dict, by: float) -> bool:
    """Whether an epoch's loss on PublicTest is larger than the best epoch's by that share of it, or no number."""
    return row["epoch"] != best["epoch"] and not row["valid_loss"] <= -best["score"] * (1 + by)


def _copy(model) -> dict:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def _resume(path: Path, made_for: dict, device, model, optimizer, criterion) -> dict | None:
    """What an interrupted run has kept, its networks' state put back in place; None where nothing was.

    Raises
    ------
    DataError
        The checkpoint is damaged, or of another run than `made_for` says.
    """
    if (done := _load(path, device)) is None:
        return None
    if lacks := sorted(made_for.keys() - done.get("for", {}).keys()):
        raise DataError(
            f"{path}: by an older version, which did not note {', '.join(lacks)}; delete it to start anew"
        )
    if done["for"] != made_for:
        was, now = (flat["recipe"] | flat for flat in (done["for"], made_for))
        other = [k for k in now | was if k != "recipe" and was.get(k) != now.get(k)]
        raise DataError(f"{path}: of another run ({', '.join(other)} differ); delete it to start anew")
    model.load_state_dict(done["model"])
    rates = optimizer.state_dict()["param_groups"]  # what they hold, the recipe says
    optimizer.load_state_dict(done["optimizer"] | {"param_groups": rates})
    criterion.load_state_dict(done["criterion"])
    return done


def _save(path: Path, state: dict) -> None:
    with whole(path, one_writer=True) as file:
        torch.save(state, file)


def _load(path: Path, device) -> dict | None:
    if not path.is_file():
        return None
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # unpickling damaged bytes raises whatever they happen to ask for
        if of_the_device(error):
            raise
        raise DataError(
            f"{path}: damaged ({first_line(error)}); delete it, and the run starts anew"
        ) from None
