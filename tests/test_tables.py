"""Tables on arms made by hand: seeds, folds, people and classes each have their place."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fercompanion import claims, embed, evaluate, papers, pooling, tables, train, untrained, verdicts
from fercompanion.data import FER_CLASSES, DataError
from fercompanion.protocols import parts
from fercompanion.recipes import MILD
from fercompanion.runs import Result, Run
from fercompanion.siblings import sibling_arm


def arm(hits, seeds=(0,), clean=None, subject=None, sizes=(1,)):
    """An arm that names the next class where it is wrong, hits bool (S, n)."""
    n = hits.shape[1]
    labels = np.arange(n) % 7
    rows = np.where(hits[..., None], np.eye(7)[labels], np.eye(7)[(labels + 1) % 7])
    ran = tuple(
        Result(
            {
                "dataset": "fer2013",
                "epochs": 3,
                "classes": list(FER_CLASSES),
                "fold": 0,
                "seed": seeds[k % len(seeds)],
                "n": {"test": size},
                "metrics": {"test_last_epoch": 10.0 * k, "test_selected_maximum": 20.0 * k},
            },
            Path(),
        )
        for k, size in enumerate(sizes)
    )
    clean = np.ones(n, bool) if clean is None else clean
    subject = np.arange(n).astype(str) if subject is None else subject
    return pooling.Tested(np.arange(n), labels, clean, subject, {"centre": rows, "tencrop": rows}, ran, seeds)


def test_the_table_of_accuracies():
    """Copies in Training are left out of the second number; folds weigh by their images."""
    hits, clean = np.arange(40)[None] < 30, np.arange(40) < 20
    row = tables.accuracies({"vgg19": arm(hits, clean=clean, sizes=(10, 30))}).loc["VGG19"]
    assert row["TenCrop"].startswith("75.00 [") and row["TenCrop, 20 without a copy in Training"].startswith(
        "100.00 ["
    )
    assert row["centre, last epoch"] == 7.5 and row["centre, best test epoch"] == 15


def test_recalls_and_confusions_by_true_class():
    hits = np.arange(70)[None] % 14 != 0  # half of the class 0 is taken for class 1
    t = arm(hits)
    row = tables.recall_table({"lkrnet": t}, FER_CLASSES, "Table 3").loc[("LKRNet", "ours, 3 epochs")]
    assert row[list(FER_CLASSES)].tolist() == [50] + [100] * 6
    matrix = tables.confusion_mean(t)
    assert matrix[0].tolist() == [5, 5, 0, 0, 0, 0, 0] and matrix[:, 1].tolist() == [5, 10, 0, 0, 0, 0, 0]


def test_differences_of_views_beside_what_a_table_gives():
    right = {"centre": 7, "knn": 5}
    named = {view: (np.arange(10) >= k).astype(int)[None] for view, k in right.items()}
    t = arm(np.ones((1, 10), bool))
    group = {
        "dnn": replace(t, named=named, logits={}, labels=np.zeros(10, int)),
        "tdnn": replace(t, named={"centre": 0 * named["knn"]}, logits={}, labels=np.zeros(10, int)),
    }
    pairs = (("tdnn", "dnn"), (("dnn", "knn"), "dnn"), ("dnnrl", "tdnn"))
    table = tables.differences(group, "DNNRL", pairs=pairs, view="centre", resolved=True)
    assert list(table.index) == ["T-DNN − DNN", "DNN, k-NN − DNN", "DNNRL − T-DNN"]
    assert table["paper"].tolist() == pytest.approx([0.91, np.nan, 0.47], nan_ok=True)
    assert [x.split(" [")[0] for x in table["ours"]] == ["30.00", "-20.00", tables.NOT_RUN]
    assert table["resolved by one pair, points"].iloc[0] == pytest.approx(
        evaluate.resolvable(10, 0.3), abs=0.01
    )


def test_differences_in_the_lab_draw_people():
    people = np.repeat(np.arange(20), 10)
    a, b = np.ones((1, 200), bool), (np.arange(200) >= 50)[None]
    group = {"lkrnet": arm(a, subject=people), "vgg19": arm(b, subject=people)}
    for clusters, units in ((True, people), (False, np.arange(200))):
        shown = tables.differences(group, pairs=(("lkrnet", "vgg19"),), clusters=clusters)["ours"].iloc[0]
        assert shown == str(evaluate.clustered_difference(a, b, units))


def test_folds_are_compared_on_the_seeds_and_folds_that_both_arms_have():
    def tested(accuracies):
        told = [
            {"fold": k, "seed": s, "n": {"train": 80, "test": 20}, "metrics": {"test_centre": a}}
            for s, row in accuracies.items()
            for k, a in enumerate(row)
        ]
        one = arm(np.ones((len(accuracies), 7), bool), seeds=tuple(accuracies))
        return replace(one, results=tuple(SimpleNamespace(info=i) for i in told))

    first = tested({0: [80.0, 81.0, 82.0, 83.0, 84.0], 1: [10.0] * 5})
    other = tested({0: [79.0, 79.0, 81.0, 82.0, 83.0]})
    assert pooling.over_folds(first, other, "centre").difference.value == pytest.approx(1.2)
    with pytest.raises(DataError, match="different folds"):
        pooling.over_folds(first, tested({0: [79.0] * 6}), "centre")


@pytest.mark.parametrize("wrong, wider", [((24, 0, 0, 0, 0), True), ((6, 5, 6, 5, 6), False)])
def test_folds_whose_networks_differ_more_than_their_people_tell(wrong, wider):
    """One network of five fails: drawing people alone would call that certain of all networks."""
    people, fold = np.repeat(np.arange(50), 4), np.repeat(np.arange(5), 40)
    place = np.tile(np.arange(40), 5) * 7 % 40  # errors of many people
    hits = {"lkrnet": np.ones((1, 200), bool), "vgg19": (place >= np.array(wrong)[fold])[None]}
    group = {}
    for name, own in hits.items():
        each = [100 * own[0, fold == k].mean() for k in range(5)]
        told = [
            {
                "fold": k,
                "seed": 0,
                "n": {"train": 160, "test": 40},
                "metrics": dict.fromkeys(("test_tencrop", "test_centre"), x),
            }
            for k, x in enumerate(each)
        ]
        group[name] = replace(arm(own, subject=people), results=tuple(SimpleNamespace(info=i) for i in told))
    t = evaluate.corrected_t(np.array(wrong) / 0.4, 160, 40).difference
    drawn = evaluate.clustered_difference(hits["lkrnet"], hits["vgg19"], people)
    shown = tables.differences(group, pairs=(("lkrnet", "vgg19"),), clusters=True)["ours"].iloc[0]
    assert (t.high - t.low > drawn.high - drawn.low) == wider and drawn.low > 0
    assert shown == str(t if wider else drawn)
    e = claims.compare("lab", group, ("lkrnet", ""), ("vgg19", ""), 1.0, True)
    assert e.ours == (t if wider else drawn) and e.verdict == (verdicts.OPEN if wider else verdicts.HOLDS)


def test_how_many_seeds_is_said_once_where_they_agree():
    group = {
        a: arm(np.ones((n, 7), bool), tuple(range(n))) for a, n in (("dnn", 1), ("tdnn", 1), ("dnnrl", 5))
    }
    assert pooling.seeds_said(group) == "one seed (DNNRL: 5)"
    assert pooling.seeds_said({"dnnrl": group["dnnrl"]}) == "mean of 5 seeds"


def test_seeds_are_paired_by_number():
    right, wrong = np.ones((1, 7), bool), np.zeros((1, 7), bool)
    first, other = arm(np.concatenate([right, wrong]), (0, 1)), arm(np.concatenate([right, wrong]), (1, 2))
    assert [h.tolist() for h in pooling.paired(first, other)] == [wrong.tolist(), right.tolist()]


def folded(name, folds, n_folds):
    """Runs of an arm that is always right; fold -> the images tested in it."""
    labels, results = np.arange(20) % 3, {}
    for fold, index in folds.items():
        index = np.array(index)
        made = Result({"data_sha256": "0", "n_folds": n_folds, "fold": fold}, Path())
        logits = np.eye(3)[labels[index]]
        made.__dict__["predictions"] = {
            "test_index": index,
            "test_labels": labels[index],
            "test_clean": index % 2 == 0,
            "test_subject": index.astype(str),
            "test_logits_centre": logits,
            "test_logits_tencrop": logits,
        }
        results[Run(replace(MILD, name=f"mild-{name}"), "demo-ck", "subject", fold, n_folds)] = made
    return results


def test_folds_are_pooled_in_the_order_of_the_images():
    """Each image keeps its own logits, whichever fold it was tested in."""
    results = folded("vgg19", {0: [1, 4, 6, 7], 1: [0, 2, 3, 5]}, 2)
    (t,) = pooling.by_arm(results).values()
    assert t.hits().all() and t.subject.tolist() == list("01234567")
    assert t.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert pooling.same_folds(results)["vgg19"].index.tolist() == t.index.tolist()
    assert pooling.folds_said({"vgg19": t}) == "2 folds of new people"


def test_unfinished_folds_are_shown_as_far_as_every_arm_has_them():
    first = folded("vgg19", {0: [1, 4], 1: [0, 2], 2: [3, 5]}, 10)
    other = folded("lkrnet", {1: [0, 2], 0: [1, 4]}, 10)
    assert not pooling.by_arm(first | other) and not pooling.same_folds({})
    both = pooling.same_folds(first | other)
    assert list(both) == ["vgg19", "lkrnet"]
    assert all(t.index.tolist() == [0, 1, 2, 4] for t in both.values())
    assert pooling.folds_said(both) == "2 of 10 folds of new people"
    assert pooling.same_folds(first | other, "vgg19")["vgg19"].index.tolist() == [0, 1, 2, 3, 4, 5]
    assert pooling.same_folds(first, "vgg19", "lkrnet") == {}


def test_two_recipes_of_one_arm_are_no_seeds_of_each_other():
    results = folded("vgg19", {0: [1, 4], 1: [0, 2]}, 2)
    other = {replace(run, recipe=replace(run.recipe, epochs=3), seed=1): r for run, r in results.items()}
    with pytest.raises(DataError, match=r"vgg19: runs by two recipes \(epochs differ\)"):
        pooling.by_arm(results | other)
    assert papers.TITLES["mine"] == "mine" and papers.TITLES["vgg19"] == "VGG19"


def test_k_of_the_grey_values_is_chosen_on_public_test(demo, monkeypatch):
    asked = []
    monkeypatch.setattr(evaluate, "best_k", lambda *a: asked.append(a) or 3)
    hits, clean, k = untrained.grey_neighbours("test", "demo")
    valid = demo.where("PublicTest")
    ((bank, bank_labels, queries, labels, _),) = asked
    assert k == 3 and np.array_equal(labels, demo.labels[valid]) and len(bank) == len(demo.where("Training"))
    assert np.array_equal(queries, demo.images[valid].reshape(len(valid), -1)) and hits.shape == (
        1,
        len(clean),
    )


def test_an_untrained_network_is_that_from_which_the_run_starts(demo, monkeypatch, tmp_path):
    run, seen = Run(sibling_arm("dnnrl", "dnnrl", width=0.1), "demo", seed=3), []
    monkeypatch.setattr(
        untrained, "predict", lambda model, *_: (seen.append(model), (None, demo.labels[:, None] + 0.0))[1]
    )
    hits, _, _ = untrained.network_neighbours("test", run)
    assert hits.all()  # the labels themselves as features

    def stopped(model, recipe):  # where the training begins
        assert all(map(torch.equal, model.state_dict().values(), seen[0].state_dict().values()))
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "make_optimizer", stopped)
    with pytest.raises(KeyboardInterrupt):
        train.fit(run.recipe, demo, None, parts(demo, "official"), run.seed, tmp_path)
    assert untrained.network_neighbours("test", run)[0].all() and len(seen) == 1  # kept


def test_distances_in_triplets_are_positive_where_classes_lie_apart(tmp_path):
    labels = np.array([0, 0, 0, 1, 1, 2])  # the sixth has no partner
    result = Result({}, tmp_path)
    result.__dict__["embedding"] = (labels[:, None] * np.array([[3.0, 4.0]])).astype(np.float16)
    result.__dict__["predictions"] = {"test_labels": labels}
    d = embed.triplet_distances(result)
    assert d.shape == (5,) and set(d.tolist()) <= {25.0, 100.0}
