"""Recipes of the siblings: the papers' numbers, a source for every field, arms that differ in what they name."""

from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch
from conftest import few

from fercompanion import augment, plans, siblings, train
from fercompanion.data import load_faces
from fercompanion.evaluate import NEIGHBOURS, best_k, neighbour_logits
from fercompanion.models import build_model
from fercompanion.predict import Machine
from fercompanion.protocols import parts
from fercompanion.recipes import Recipe, sources
from fercompanion.siblings import ARMS, DNNRL, KIM, LIU_A, PRINTED, SOURCES, sibling_arm

FLOAT32 = Machine(torch.device("cpu"), bf16=False)
ALL = [(paper, name) for paper in ARMS for name in ARMS[paper]]


@pytest.mark.parametrize(
    "recipe, printed",
    [
        (DNNRL, {"lr": 0.01, "lr_floor": 1e-4, "batch_size": 128, "alpha": 0.2, "gamma": 0, "dropout": 0.2}),
        (DNNRL, {"size": 96, "canvas": 120, "crop": 108, "rotate": 15, "rollback": 0.1, "patience": 20}),
        (
            LIU_A,
            {
                "lr": 0.01,
                "batch_size": 64,
                "epochs": 250,
                "optimizer": "adamax",
                "crop": 44,
                "metric": "center",
            },
        ),
        (KIM, {"lr": 0.001, "batch_size": 8, "epochs": 100, "metric": "triplet", "crop": 48}),
    ],
)
def test_the_papers_numbers(recipe, printed):
    assert {k: getattr(recipe, k) for k in printed} == printed


@pytest.mark.parametrize("paper", ARMS)
def test_every_field_of_a_paper_has_a_source(paper):
    """Whatever a paper's recipe sets beside LKRNet's defaults is explained, and the rest is not listed."""
    plain = Recipe("paper", mask="none")
    own = {f.name for f in fields(Recipe)[1:] if getattr(PRINTED[paper], f.name) != getattr(plain, f.name)}
    switched_off = {"paper", "blocks", "warmup_epochs", "weight_decay", "mask", "cross_entropy", "triplets"}
    assert own - switched_off <= set(SOURCES[paper])
    assert set(SOURCES[paper]) <= {f.name for f in fields(Recipe)}
    listed = {name for name, _, _ in sources(PRINTED[paper], PRINTED[paper], SOURCES[paper])}
    assert listed == set(SOURCES[paper])


def test_ingredients_of_model_a_in_all_combinations():
    """Each is left out in four networks; of a pair one recipe differs in what leaves it out, and in nothing else."""
    every = {a for a in ARMS["liu"] if a == "liu-a" or a.startswith("liu-a-")}
    assert len(every) == 8 and every == set(siblings.MODEL_A)
    for part, (_, changes) in siblings.LEFT_OUT.items():
        pairs = siblings.with_and_without(part)
        assert {a for pair in pairs.values() for a in pair} == every and len(pairs) == 4
        for there, (a, b) in pairs.items():
            first, other = (asdict(sibling_arm("liu", x)) for x in (a, b))
            assert {k: v for k, v in other.items() if first[k] != v and k != "name"} == changes
            for x in set(siblings.LEFT_OUT) - {part}:
                gone = siblings.LEFT_OUT[x][1].items() <= first.items()
                assert gone == (x not in there)


def test_longer_networks_are_in_the_plan():
    for name in ("paper", "paper-cpu"):
        assert set(plans.long_sibling_runs(plans.profile(name))) < set(plans.all_runs(plans.profile(name)))
    whole = {(r.recipe.name, r.recipe.width) for r in plans.long_sibling_runs(plans.profile("paper"))}
    assert whole == {("long-dnn", 1.0), ("long-liu-a", 1.0), ("long-kim-softmax", 1.0)}


def test_sources_say_what_a_profile_changes():
    recipe = sibling_arm("kim", "kim", "demo", epochs=4, standardise=True)
    rows = {name: source for name, _, source in sources(recipe, KIM, SOURCES["kim"])}
    assert (
        rows["epochs"].startswith("ours instead of 100 (Sect. 2.3")
        and "not in the paper" in rows["standardise"]
    )
    assert not rows["crop"].startswith("ours")


@pytest.mark.parametrize("paper, name", ALL)
def test_an_arm_changes_what_it_names_and_its_network_can_be_built(paper, name):
    recipe = sibling_arm(paper, name)
    changed = {k for k, v in asdict(recipe).items() if v != asdict(PRINTED[paper])[k]}
    assert changed <= {"name", *ARMS[paper][name]}
    small = recipe.model_options() | ({"width": 0.25} if "width" in recipe.model_options() else {})
    out = build_model(recipe.model, 5, **small)(torch.rand(2, 1, recipe.crop, recipe.crop))
    assert out.logits.shape == (2, 5) and len(out.branches) == 1


def test_unknown_arms_and_options():
    with pytest.raises(ValueError, match="unknown arm 'kim'"):
        sibling_arm("liu", "kim")
    with pytest.raises(ValueError, match="kim has no option 'mask_at'"):
        build_model("kim", mask_at="pool5")


@pytest.mark.parametrize("profile", plans.PROFILES)
def test_every_run_of_a_plan_has_a_place_of_its_own(profile):
    plan = plans.profile(profile)
    runs = plans.all_runs(plan)
    assert len({run.where for run in runs}) == len(runs)
    assert {run.recipe.paper for run in runs} == {"lkrnet", "dnnrl", "liu", "kim"}
    seeds = [
        run.seed
        for run in runs
        if run.protocol == "official" and run.recipe.name.startswith(("short", "ours"))
    ]
    assert seeds == sorted(seeds)  # the first seed of every arm before the second of any


def test_an_arm_may_have_more_seeds_than_the_others():
    plan = plans.profile("paper-cpu")
    own = replace(plan.siblings, more_seeds={"dnnrl-joint": 3})
    found = [(r.recipe.arm, r.seed) for r in plans.dnnrl_runs(replace(plan, siblings=own))]
    assert found[-2:] == [("dnnrl-joint", 1), ("dnnrl-joint", 2)]
    assert {arm for arm, seed in found[:-2]} == set(ARMS["dnnrl"]) and not any(seed for _, seed in found[:-2])


# --- transforms and views -------------------------------------------------------------------------


def test_dnnrls_face_lies_in_the_middle_of_a_black_canvas():
    stack = torch.rand(3, 1, 48, 48) + 0.1
    whole = augment.place(stack, 96, 120)
    assert whole.shape == (3, 1, 120, 120)
    assert not whole[..., :12, :].any() and not whole[..., 108:].any()
    torch.testing.assert_close(
        whole[..., 12:108, 12:108], torch.nn.functional.interpolate(stack, scale_factor=2, mode="bilinear")
    )
    still = augment.random_affine(stack, 0.0, 0.0, 0.0, 96, 120)
    inner = (..., slice(14, 106), slice(14, 106))  # the sampler fades the face's rim into the black
    torch.testing.assert_close(still[inner], whole[inner], atol=1e-5, rtol=0)


def test_dnnrls_face_is_86_to_106_pixels_wide_and_turned_by_up_to_15_degrees():
    torch.manual_seed(0)
    white = torch.ones(400, 1, 48, 48)
    area = augment.random_affine(white, 0.0, DNNRL.zoom, 0.0, 96, 120).sum((1, 2, 3)).sqrt()
    assert 86 <= area.min() < 88 and 104 < area.max() <= 106.5
    bar = torch.zeros(400, 1, 48, 48)
    bar[:, :, 22:26, 8:40] = 1
    turned = augment.random_affine(bar, 15.0, 0.0, 0.0, 96, 120)[:, 0]
    y, x = torch.meshgrid(torch.arange(120.0), torch.arange(120.0), indexing="ij")
    mean = lambda v: (turned * v).sum((1, 2)) / turned.sum((1, 2))  # noqa: E731
    cov = mean(x * y) - mean(x) * mean(y)
    angle = 0.5 * torch.atan2(2 * cov, mean(x * x) - mean(x) ** 2 - mean(y * y) + mean(y) ** 2)
    assert 13 < torch.rad2deg(angle).max() <= 15.2 and -15.2 <= torch.rad2deg(angle).min() < -13


@pytest.mark.parametrize("paper", ARMS)
def test_training_and_test_views_have_the_networks_size(paper):
    recipe, stack = PRINTED[paper], torch.rand(4, 1, 48, 48)
    assert augment.train_transform(stack, recipe).shape == (4, 1, recipe.crop, recipe.crop)
    assert augment.centre_view(stack, recipe).shape == (4, 1, recipe.crop, recipe.crop)
    assert augment.ten_views(stack, recipe).shape == (10, 4, 1, recipe.crop, recipe.crop)


# --- k-NN -----------------------------------------------------------------------------------------


def test_neighbours_vote():
    bank, labels = np.array([[0.0], [0.1], [0.2], [5.0], [5.1]]), np.array([0, 0, 2, 1, 1])
    logits = neighbour_logits(bank, labels, np.array([[0.0], [5.2], [0.3]]), 3, 3)
    assert logits.argmax(1).tolist() == [0, 1, 0]
    np.testing.assert_allclose(np.exp(logits).sum(1), 1, rtol=1e-6)
    assert neighbour_logits(bank, labels, np.array([[0.3]]), 1, 3).argmax(1).tolist() == [2]


def test_best_k_is_the_best_on_the_validation_images():
    """One wrong label among many: a single neighbour is misled, a vote is not."""
    rng = np.random.default_rng(0)
    bank = np.concatenate([rng.normal(0, 1, (60, 2)), rng.normal(3, 1, (60, 2))])
    labels = np.repeat([0, 1], 60)
    noisy = np.where(rng.random(120) < 0.25, 1 - labels, labels)
    queries = np.concatenate([rng.normal(0, 1, (200, 2)), rng.normal(3, 1, (200, 2))])
    truth = np.repeat([0, 1], 200)
    hits = [(neighbour_logits(bank, noisy, queries, k, 2).argmax(1) == truth).mean() for k in NEIGHBOURS]
    k = best_k(bank, noisy, queries, truth, 2)
    assert k == NEIGHBOURS[int(np.argmax(hits))] and max(hits) > hits[0] + 0.1


# --- training -------------------------------------------------------------------------------------


def small_fit(paper, name, folder, **changes):
    faces = few(load_faces("demo"), Training=35, PublicTest=14, PrivateTest=14)
    small = (
        {"epochs": 2, "batch_size": 7} | ({"width": 0.25} if paper != "liu" else {"width": 0.125}) | changes
    )
    recipe = sibling_arm(paper, name, "test", **small)
    return faces, recipe, train.fit(recipe, faces, None, parts(faces, "official"), 0, folder, FLOAT32)


@pytest.mark.parametrize("paper, name", [("dnnrl", "dnnrl"), ("liu", "liu-a"), ("kim", "kim")])
def test_a_killed_run_goes_on_to_the_same_bits(paper, name, tmp_path, monkeypatch):
    """Centres, roll-backs and the optimiser's state are in the checkpoint."""
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0)
    *_, whole = small_fit(paper, name, tmp_path / "whole", epochs=3, rollback=1e-9)
    calls, save = [], train._save

    def stop(path, state):
        save(path, state)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    train._save = stop
    try:
        with pytest.raises(KeyboardInterrupt):
            small_fit(paper, name, tmp_path / "cut", epochs=3, rollback=1e-9)
    finally:
        train._save = save
    *_, resumed = small_fit(paper, name, tmp_path / "cut", epochs=3, rollback=1e-9)
    assert resumed["resumed"] and not whole["resumed"]
    assert all(torch.equal(whole["state"][k], resumed["state"][k]) for k in whole["state"])
    for k, v in whole["predictions"].items():
        np.testing.assert_array_equal(v, resumed["predictions"][k])


def test_without_cross_entropy_k_neighbours_classify(tmp_path):
    faces, recipe, fitted = small_fit("dnnrl", "tdnn", tmp_path)
    arrays = fitted["predictions"]
    assert fitted["k"] in NEIGHBOURS and "test_logits_knn" not in arrays
    np.testing.assert_allclose(np.exp(arrays["test_logits_centre"]).sum(1), 1, rtol=1e-5)
    assert all(np.isnan(row["train_accuracy"]) for row in fitted["history"])
    best = int(np.argmin([row["valid_loss"] for row in fitted["history"]]))
    assert fitted["selected"] == best + 1


def test_softmax_and_k_neighbours_stand_side_by_side(tmp_path):
    *_, fitted = small_fit("dnnrl", "dnn", tmp_path)
    arrays = fitted["predictions"]
    assert {"test_logits_centre", "test_logits_tencrop", "test_logits_knn", "valid_logits_knn"} <= set(arrays)
    np.testing.assert_allclose(np.exp(arrays["test_logits_knn"]).sum(1), 1, rtol=1e-5)


def test_a_rising_validation_loss_reloads_the_best_weights_and_cuts_the_rate(tmp_path, monkeypatch):
    scripted, started, epoch = iter([1.0, 1.05, 1.2, 0.9, 2.0, 2.0]), [], train.train_epoch
    monkeypatch.setattr(train, "_loss", lambda *_: next(scripted))

    def watched(step, *rest):
        started.append({k: v.clone() for k, v in step.args[0].state_dict().items()})
        return epoch(step, *rest)

    monkeypatch.setattr(train, "train_epoch", watched)
    *_, fitted = small_fit("dnnrl", "dnnrl", tmp_path, epochs=6, lr=0.01, lr_floor=0.0005)
    assert [round(row["lr"], 6) for row in fitted["history"]] == [0.01, 0.01, 0.01, 0.001, 0.001, 0.0005]
    assert fitted["selected"] == 4
    for back, best in ((3, 1), (5, 4)):  # started from what the first, the fourth epoch had left
        assert all(torch.equal(started[back][k], started[best][k]) for k in started[back])


@pytest.mark.parametrize("name", plans.PROFILES)
def test_alexnet_keeps_its_own_rate_in_every_profile(name):
    """Adam at the rate of the other arms' SGD drives it to one class for all."""
    (recipe,) = [r for r in plans.PROFILES[name].siblings.recipes("dnnrl") if r.model == "alexnet"]
    assert (recipe.optimizer, recipe.lr) == ("adam", 3e-4)


def test_patience_ends_the_training(tmp_path, monkeypatch):
    scripted = iter([3.0, 2.0, 2.1, 2.1, 2.1, 2.1])
    monkeypatch.setattr(train, "_loss", lambda *_: next(scripted))
    *_, fitted = small_fit("dnnrl", "dnnrl", tmp_path, epochs=6, patience=2)
    assert fitted["epochs"] == 4 and fitted["selected"] == 2


def test_balanced_batches_draw_rare_classes_as_often(tmp_path, monkeypatch):
    faces = load_faces("demo")
    rows = np.concatenate(
        [
            faces.where("Training")[faces.labels[faces.where("Training")] == k][:n]
            for k, n in enumerate([60, 3, 3])
        ]
    )
    seen = []
    draw = train.draw_triplets
    monkeypatch.setattr(
        train, "draw_triplets", lambda r, labels, *a: seen.append(labels[r]) or draw(r, labels, *a)
    )
    who = replace(parts(faces, "official"), train=rows, valid=np.zeros(0, np.int64), test=rows[:5])
    recipe = sibling_arm("dnnrl", "dnnrl", "test", width=0.25, epochs=4, batch_size=33)
    train.fit(recipe, faces, None, who, 0, tmp_path, FLOAT32)
    share = torch.bincount(torch.cat(seen), minlength=3)[:3] / len(torch.cat(seen))
    assert (share - 1 / 3).abs().max() < 0.1


def test_occluded_test_faces_are_always_the_same(tmp_path):
    faces, recipe, fitted = small_fit("kim", "kim-softmax", tmp_path)
    arrays = fitted["predictions"]
    assert not np.array_equal(arrays["test_logits_occluded"], arrays["test_logits_centre"])
    from fercompanion.predict import predict, to_stack

    model = build_model(recipe.model, 7, **recipe.model_options())
    model.load_state_dict(fitted["state"])
    image, _ = to_stack(faces.images[parts(faces, "official").test], None, "cpu")
    for size in (3, 512):
        logits, _ = predict(model, image, None, FLOAT32, recipe, "occluded", size)
        np.testing.assert_allclose(logits, arrays["test_logits_occluded"], atol=1e-4)


def test_the_centres_move_only_in_training(tmp_path):
    *_, fitted = small_fit("liu", "liu-a", tmp_path)
    state = torch.load(tmp_path / train.CHECKPOINT, weights_only=True)["criterion"]
    assert state["center.centers"].shape[0] == 7 and state["center.centers"].abs().sum() > 0
    assert siblings.LIU_A.lam > 0


def test_after_a_roll_back_the_optimiser_starts_anew(tmp_path, monkeypatch):
    scripted, moved, epoch = iter([1.0, 2.0, 3.0]), [], train.train_epoch
    monkeypatch.setattr(train, "_loss", lambda *_: next(scripted))

    def watched(step, optimizer, *rest):
        moved.append([bool(s["momentum_buffer"].any()) for s in optimizer.state.values()])
        return epoch(step, optimizer, *rest)

    monkeypatch.setattr(train, "train_epoch", watched)
    small_fit("dnnrl", "dnnrl", tmp_path, epochs=3)
    assert all(moved[1]) and moved[1] and moved[2] and not any(moved[2])


def test_a_last_epoch_whose_loss_has_risen_is_tested_as_it_was_trained(tmp_path, monkeypatch):
    scripted = iter([1.0, 2.0])
    monkeypatch.setattr(train, "_loss", lambda *_: next(scripted))
    faces, _, fitted = small_fit("dnnrl", "dnnrl-joint", tmp_path, epochs=2)
    last, selected = (fitted["predictions"][f"test_logits_{x}"] for x in ("last_epoch", "centre"))
    assert fitted["selected"] == 1 and not np.allclose(last, selected)
    hits = last.argmax(1) == faces.labels[faces.where("PrivateTest")]
    assert 100 * hits.mean() == pytest.approx(fitted["history"][-1]["test_accuracy"])


def test_an_epoch_whose_validation_loss_is_not_a_number_is_not_the_best(tmp_path, monkeypatch):
    scripted = iter([float("nan"), 2.0, 3.0])
    monkeypatch.setattr(train, "_loss", lambda *_: next(scripted))
    *_, fitted = small_fit("dnnrl", "dnnrl", tmp_path, epochs=3)
    assert fitted["selected"] == 2


def test_k_is_chosen_on_public_test(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(train, "best_k", lambda *given: asked.append(given) or 3)
    faces, _, fitted = small_fit("dnnrl", "dnn", tmp_path, epochs=1)
    ((bank, bank_labels, queries, labels, _),) = asked
    assert fitted["k"] == 3
    np.testing.assert_array_equal(bank_labels, faces.labels[faces.where("Training")])
    np.testing.assert_array_equal(labels, faces.labels[faces.where("PublicTest")])
    found = neighbour_logits(bank, bank_labels, queries, 3, 7)
    np.testing.assert_allclose(found, fitted["predictions"]["valid_logits_knn"], atol=1e-6)
