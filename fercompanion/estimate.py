"""How long runs will take on this machine: a step of each network is timed, the rest is multiplication."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache

import torch

from .predict import Machine, this_machine
from .recipes import Recipe
from .runs import Run
from .train import LAUNCHED, make_step, prepared

SIZES = {
    "demo": (1540, 560),
    "demo-ck": (900, 0),
    "fer2013": (28709, 7178),
    "ckplus": (981, 0),
}
"""Images that train, and that are looked at after every epoch; of the folded data sets all images."""
CPU_BATCH = 32
"""On a CPU a step of this many images is timed, and its time is taken to grow with the batch."""


def seconds(run: Run, machine: Machine | None = None) -> float:
    """Expected seconds of a run, to a few tens of per cent: steps of training, and a third of that for a look.

    Without what is done once for many runs: landmarks, and the training of SRGAN.
    """
    r, (train, looked_at) = run.recipe, SIZES[run.dataset]
    if not looked_at:
        looked_at = train / run.n_folds
        train -= looked_at
    views = 4 * looked_at  # TenCrop and the like at the end, three times as fast as training
    return _image_seconds(_step(r), machine or this_machine()) * (r.epochs * (train + looked_at / 3) + views)


SAME_WORK = (
    "name lr lr_floor margin epochs alpha gamma schedule decay warmup_epochs warmup_lr dropout rollback patience select "
    "mask knn test_occluded label_smoothing"
).split()
"""Fields that hardly change the work of a step."""


def _step(recipe: Recipe) -> Recipe:
    """The recipe with the fields of `SAME_WORK` at their defaults, so that equal steps are timed once."""
    plain = Recipe("")
    return replace(recipe, **{name: getattr(plain, name) for name in SAME_WORK}, weights="none")


@cache
def _image_seconds(recipe: Recipe, machine: Machine) -> float:
    """Seconds of a training step by image, on random grey."""
    device = machine.device
    few = recipe.batch_size if device.type == "cuda" else min(recipe.batch_size, CPU_BATCH)
    train = torch.arange(4 * few, device=device)
    image = torch.randint(256, (len(train), 1, recipe.size, recipe.size), dtype=torch.uint8, device=device)
    mask = torch.rand(image.shape, device=device)
    model, optimizer, criterion = prepared(recipe, 7, 0, image, mask, machine)
    model.train()
    step = make_step(model, optimizer, criterion, recipe, image, mask, train % 7, train, machine)
    times = []
    for _ in range(LAUNCHED + 8 if device.type == "cuda" else 2):
        start = time.perf_counter()
        step(train[:few])
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times) / few


def spoken(duration: float) -> str:
    """Seconds as one would say them: 40 s, 12 min, 3.5 h."""
    if duration < 90:
        return f"{duration:.0f} s"
    return f"{duration / 60:.0f} min" if duration < 5400 else f"{duration / 3600:.1f} h"
