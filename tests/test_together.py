"""Several arms as one network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fercompanion import plans, pooling, tables
from fercompanion.data import DataError
from fercompanion.photo import SHIPPED, load_run
from fercompanion.plans import PROFILES, small_runs
from fercompanion.pooling import averaged
from fercompanion.recipes import MILD
from fercompanion.runs import ROOT, Result, Run
from fercompanion.tables import blank


def arm(logits, seeds=(0,), index=range(4)) -> pooling.Tested:
    """An arm with logits (S, n, K) under both views."""
    n, views = len(index), {"centre": logits, "tencrop": 2 * logits}
    return pooling.Tested(
        np.array(index), np.zeros(n, int), np.ones(n, bool), np.arange(n), views, (len(seeds),), seeds
    )


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def test_the_mean_of_softmaxes_by_a_loop():
    rng = np.random.default_rng(0)
    tested = {name: arm(rng.normal(size=(1, 4, 3))) for name in "abc"}
    found = averaged(tested, "abc")
    for view, scale in (("centre", 1), ("tencrop", 2)):
        by_hand = sum(softmax(scale * t.logits["centre"]) for t in tested.values()) / 3
        np.testing.assert_allclose(np.exp(found.logits[view]), by_hand, rtol=1e-6)


def test_only_common_seeds_count_and_in_the_first_arms_order():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 4, 3)), rng.normal(size=(2, 4, 3))
    found = averaged({"a": arm(a, (2, 0, 1)), "b": arm(b, (1, 2))}, "ab")
    assert found.seeds == (2, 1)
    np.testing.assert_allclose(np.exp(found.logits["centre"][1]), (softmax(a[2]) + softmax(b[0])) / 2)


def test_other_images_are_refused():
    x = np.zeros((1, 4, 3))
    with pytest.raises(DataError, match="different images"):
        averaged({"a": arm(x), "b": arm(x, index=range(1, 5))}, "ab")


def test_the_same_places_with_other_faces_are_refused():
    x = np.zeros((1, 4, 3))
    with pytest.raises(DataError, match="different images"):
        averaged({"a": arm(x), "b": replace(arm(x), labels=np.array([0, 1, 0, 0]))}, "ab")


def test_an_arm_without_logits_is_named():
    x = np.zeros((1, 4, 3))
    with pytest.raises(DataError, match="of b classes alone"):
        averaged({"a": arm(x), "b": replace(arm(x), logits={}, named={"tencrop": np.zeros((1, 4))})}, "ab")


@pytest.mark.parametrize("apart", ["seeds", "folds"])
def test_runs_with_logits_and_with_classes_are_pooled(apart):
    """As where one was archived before classes took the logits' place."""
    rng, results = np.random.default_rng(0), {}
    for k, kept in enumerate(("logits", "predicted")):
        answers = {v: rng.normal(size=(4, 3)) for v in ("centre", "tencrop")}
        arrays = {
            f"test_{kept}_{v}": x if kept == "logits" else x.argmax(1).astype(np.uint8)
            for v, x in answers.items()
        }
        arrays |= {
            "test_index": np.arange(4) + (0 if apart == "seeds" else 4 * k),
            "test_labels": np.zeros(4, int),
        }
        arrays |= {"test_clean": np.ones(4, bool), "test_subject": np.array(list("abcd"))}
        made = Result({"data_sha256": "0"}, Path())
        made.__dict__["predictions"] = arrays
        place = {"seed": k} if apart == "seeds" else {"fold": k, "protocol": "subject", "n_folds": 2}
        results[Run(replace(MILD, name="mild-vgg19"), "demo", **place)] = made
    (t,) = pooling.by_arm(results).values()
    named = np.array([r.predicted("centre") for r in results.values()])
    assert not t.logits
    np.testing.assert_array_equal(t.predicted("centre"), named if apart == "seeds" else named.reshape(1, 8))


def test_no_common_seed_is_refused():
    x = np.zeros((1, 4, 3))
    with pytest.raises(DataError, match="no seed in common"):
        averaged({"a": arm(x, (0,)), "b": arm(x, (1,))}, "ab")


def test_blank_cells_and_whole_numbers():
    frame = pd.DataFrame({"n": [3, None], "x": [0.5, None], "s": ["a", None]})
    assert blank(frame).to_numpy().tolist() == [[3, 0.5, "a"], ["", "", ""]]


def test_the_mean_of_one_network_a_paper_from_the_archive(monkeypatch):
    """Each as long as it was trained, whatever profile holds it; and no set without all of its networks."""
    monkeypatch.delenv("FERCOMPANION_RESULTS")
    names = ("short-lkrnet", "long-dnn", "long-liu-a", "small-kim-softmax")
    arrays = [np.load(ROOT / f"results/paper-cpu/fer2013/{n}/official/seed0/predictions.npz") for n in names]
    mean = sum(softmax(a["test_logits_tencrop"].astype(np.float32)) for a in arrays)
    right = 100 * (mean.argmax(1) == arrays[0]["test_labels"]).mean()
    table = tables.together(PROFILES["paper-cpu"])
    row = table.loc["mean of the 4 papers' networks, those trained longer where there are any"]
    assert row["PrivateTest, %"].startswith(f"{right:.2f} [") and row["epochs"] == "20/36/80/100"
    longer = names[1:3]
    arrays = [np.load(ROOT / f"results/paper-cpu/fer2013/{n}/official/seed0/predictions.npz") for n in longer]
    mean = sum(softmax(a["test_logits_tencrop"].astype(np.float32)) for a in arrays)
    hits, clean = mean.argmax(1) == arrays[0]["test_labels"], arrays[0]["test_clean"]
    row = table.loc["mean of the 2 trained longer"]
    assert row["PrivateTest, %"].startswith(f"{100 * hits.mean():.2f} [")
    assert row["without copies in Training"].startswith(f"{100 * hits[clean].mean():.2f} [")
    assert set(tables.together(PROFILES["paper"])["width"]) >= {"1", "0.375/0.5/1"}
    real, cpu = tables.find_all, plans.long_sibling_runs(PROFILES["paper-cpu"])

    def one_at_full_width(wanted, profile):
        """As if a GPU had trained the first network of that part, and no other yet."""
        found = real(wanted, profile)
        same = [run for run in wanted if run.recipe.name == "long-liu-a"] if profile == "paper" else []
        return found | {run: replace(real(cpu, "paper-cpu")[cpu[0]]) for run in same}

    for module in (plans, tables):
        monkeypatch.setattr(module, "find_all", one_at_full_width)
    assert list(tables.together(PROFILES["paper"]).index).count("DNNRL: DNN, trained longer") == 1
    for module in (plans, tables):
        monkeypatch.setattr(module, "find_all", real)
    monkeypatch.setenv("FERCOMPANION_RESULTS", "/nowhere")
    assert not len(tables.together(PROFILES["paper"]))


def test_the_plan_trains_the_network_of_the_package():
    shipped = load_run(SHIPPED)
    runs = plans.long_sibling_runs(PROFILES["paper-cpu"])
    assert Run(shipped.recipe, shipped.info["dataset"], seed=shipped.info["seed"]) in runs
    assert small_runs(PROFILES["paper-cpu"]) and not small_runs(PROFILES["demo"])
