"""Shared by all tests: one thread, nobody's caches or results, and the demo faces with true landmarks."""

import numpy as np
import pytest
import torch

from fercompanion.data import Faces, load_faces
from fercompanion.landmarks import Landmarks

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    """No test reads or writes the user's landmark caches and results, or obeys the user's switches."""
    monkeypatch.setenv("FERCOMPANION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FERCOMPANION_RESULTS", str(tmp_path / "results"))
    for name in ("RETRAIN", "FERCOMPANION_NO_TRAINING", "FERCOMPANION_DEBUG", "FERCOMPANION_RECORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def demo() -> Faces:
    return load_faces("demo")


@pytest.fixture(scope="session")
def demo_ck() -> Faces:
    return load_faces("demo-ck")


def few(faces: Faces, **wanted: int) -> Faces:
    """The first images of some splits, such as Training=28, spread over the classes."""
    rows = []
    for split, number in wanted.items():
        inside = faces.where(split)
        rank = np.empty(len(inside), np.int64)
        for k in range(len(faces.classes)):
            own = np.flatnonzero(faces.labels[inside] == k)
            rank[own] = np.arange(len(own))
        rows.append(inside[np.argsort(rank, kind="stable")][:number])
    return faces.subset(np.concatenate(rows))


def true_landmarks(faces: Faces) -> Landmarks:
    """The landmarks the demo faces were drawn with, in a box around them."""
    low, high = faces.truth.min(1) - 8, faces.truth.max(1) + 8
    return Landmarks(faces.truth, np.concatenate([low, high], 1), np.zeros(len(faces), np.uint8))


def settled(model, *inputs):
    """The network in evaluation mode, its batch norms set by one batch: untrained, its signal would fade."""
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        model.train()(*inputs)
    return model.eval()
