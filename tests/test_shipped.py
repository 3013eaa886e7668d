"""The network that comes with the package: safe to load, small, and its card says what its predictions say."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fercompanion.explain import recipe_of, trained_model
from fercompanion.photo import SHIPPED, load_run, read_expressions
from fercompanion.runs import ROOT


def test_it_is_small_and_loads():
    result = load_run(SHIPPED)
    assert (SHIPPED / "weights.safetensors").stat().st_size <= 8e6
    assert result.info["dataset"] == "fer2013" and result.info["n"]["test"] == 3589
    model = trained_model(recipe_of(result), result.weights(), 7)
    assert sum(p.numel() for p in model.parameters()) == result.info["parameters"]


def test_the_card_follows_from_the_archived_predictions(monkeypatch):
    monkeypatch.delenv("FERCOMPANION_RESULTS")
    command = [sys.executable, ROOT / "tools/ship_model.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_weights_are_those_of_the_run():
    """The packaged run.json is the archived one, to the byte."""
    info = json.loads((SHIPPED / "run.json").read_text())
    archived = ROOT / "results/paper-cpu/fer2013" / info["recipe"]["name"] / "official" / "seed0/run.json"
    assert json.loads(archived.read_text()) == info


def test_it_reads_a_photo(demo, tmp_path):
    pytest.importorskip("facenet_pytorch")
    face = demo.images[demo.where("PrivateTest")[3]]
    Image.fromarray(face).resize((288, 288), Image.Resampling.BICUBIC).save(tmp_path / "face.png")
    (found,) = read_expressions(tmp_path / "face.png")
    assert sum(found.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert list(found.probabilities.values()) == sorted(found.probabilities.values(), reverse=True)
    assert found.image.shape == (48, 48) and found.points.shape == (5, 2)


def test_a_smile_is_read_as_happiness_more_often_than_not(demo):
    """On rendered faces, which it has never seen, only the plainest expression is asked for."""
    import torch

    result = load_run(SHIPPED)
    model = trained_model(recipe_of(result), result.weights(), 7)
    rows = demo.where("PrivateTest")
    rows = rows[demo.labels[rows] == demo.classes.index("happiness")]
    with torch.no_grad():
        logits = model(torch.as_tensor(demo.images[rows][:, None]).float() / 255).logits
    read = np.array(result.info["classes"])[logits.argmax(1).numpy()]
    assert (read == "happiness").mean() > 0.3
