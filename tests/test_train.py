"""Training: triplets, the same bits from the same seed, killed or not, and the folder of a run."""

import csv
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import few, settled, true_landmarks
from scipy.stats import chisquare
from torchvision.transforms.functional import ten_crop

from fercompanion import __main__ as command_line
from fercompanion import augment, pooling, sweeps, train
from fercompanion.data import DataError, load_faces
from fercompanion.evaluate import distances
from fercompanion.losses import TrainingLoss
from fercompanion.models import MODELS, build_model
from fercompanion.predict import CROPS, Machine, make_masks, predict, this_machine, to_stack
from fercompanion.protocols import parts
from fercompanion.recipes import MILD, OURS, PAPER, Recipe, arm
from fercompanion.runs import HISTORY, Run, find, find_all
from fercompanion.siblings import sibling_arm
from fercompanion.sweeps import complete, train_run

FLOAT32 = Machine(torch.device("cpu"), bf16=False)
SIZES = {"Training": 35, "PublicTest": 7, "PrivateTest": 14}


def tiny(base: Recipe, name: str, **changes) -> Recipe:
    """A recipe that trains in a second."""
    return arm(base, name, **{"width": 0.03125, "epochs": 2, "batch_size": 16, "lr": 0.02} | changes)


def tiny_fit(recipe, folder, seed=0, machine=FLOAT32, faces=None):
    faces = few(load_faces("demo"), **SIZES) if faces is None else faces
    return train.fit(recipe, faces, true_landmarks(faces), parts(faces, "official"), seed, folder, machine)


def bits(fitted) -> str:
    """Digest of weights, predictions and losses."""
    digest = hashlib.sha256()
    for name, value in sorted(fitted["state"].items()):
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    for name, value in sorted(fitted["predictions"].items()):
        digest.update(name.encode() + value.tobytes())
    history = [{k: v for k, v in row.items() if "seconds" not in k} for row in fitted["history"]]
    digest.update(json.dumps([fitted["selected"], history]).encode())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def faces(demo):
    return few(demo, **SIZES)


# --- triplets -------------------------------------------------------------------------------------


@pytest.fixture
def crowd():
    """Labels of 60 images in classes of 24, 18, 12 and 6, and the 40 of them that train."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat_interleave(torch.tensor([24, 18, 12, 6]))[torch.randperm(60, generator=g)]
    return labels, torch.randperm(60, generator=g)[:40]


@pytest.mark.parametrize("how", ["batch", "epoch"])
def test_triplets_are_triplets(crowd, how):
    labels, training = crowd
    torch.manual_seed(0)
    for _ in range(200):
        chosen = training[torch.randperm(40)[:16]]
        rows, triplets = train.draw_triplets(chosen, labels, training, how)
        assert torch.equal(rows[:16], chosen) and len(rows) == (16 if how == "batch" else 48)
        *triplets, real = triplets
        anchor, positive, negative = (rows[t[real]] for t in triplets)
        assert (labels[anchor] == labels[positive]).all() and (anchor != positive).all()
        assert (labels[anchor] != labels[negative]).all()
        assert set(rows.tolist()) <= set(training.tolist())
        assert len(set(anchor.tolist())) == len(anchor)
        label = labels[chosen]
        partners = (label[:, None] == label).sum(1) - 1
        able = (partners > 0) & (partners < 15) if how == "batch" else torch.ones(16, dtype=torch.bool)
        assert torch.equal(anchor, chosen[able])


def test_no_triplets(crowd):
    labels, training = crowd
    rows, triplets = train.draw_triplets(training[:7], labels, training, "none")
    assert torch.equal(rows, training[:7]) and triplets is None
    with pytest.raises(ValueError, match="'hard'.*none, batch or epoch"):
        train.draw_triplets(training[:7], labels, training, "hard")


@pytest.mark.parametrize("chosen", [[0, 1, 2], [3]])
def test_batch_without_a_partner_has_no_triplets(chosen):
    """All of one class, or one of each: nothing to compare, and that is no error."""
    labels = torch.tensor([0, 0, 0, 1])
    rows, triplets = train.draw_triplets(torch.tensor(chosen), labels, torch.arange(4), "batch")
    assert not triplets[3].any()


@pytest.mark.parametrize(("of", "real"), [([0, 0, 1], [True, True, False]), ([0, 0, 0], [False] * 3)])
def test_an_image_alone_in_its_class_makes_no_triplet(of, real):
    """Nor does any where there is one class alone."""
    rows, triplets = train.draw_triplets(torch.arange(3), torch.tensor(of), torch.arange(3), "epoch")
    assert len(rows) == 9 and triplets[3].tolist() == real


@pytest.mark.parametrize("how", ["batch", "epoch"])
def test_partners_are_drawn_evenly(crowd, how):
    """Every possible positive and negative of every anchor comes up, about equally often."""
    labels, training = crowd
    torch.manual_seed(1)
    positives, negatives = (torch.zeros(60, 60, dtype=torch.long) for _ in range(2))
    draws = 2000
    for _ in range(draws):
        rows, triplets = train.draw_triplets(training, labels, training, how)
        *triplets, real = triplets
        assert real.all()
        anchor, positive, negative = (rows[t] for t in triplets)
        positives[anchor, positive] += 1
        negatives[anchor, negative] += 1
    for anchor in training.tolist():
        others = training[training != anchor]
        same = others[labels[others] == labels[anchor]]
        different = others[labels[others] != labels[anchor]]
        assert positives[anchor].sum() == positives[anchor, same].sum() == draws
        assert negatives[anchor].sum() == negatives[anchor, different].sum() == draws
        assert chisquare(negatives[anchor, different].numpy()).pvalue > 1e-5
        # An anchor that draws itself may hand its share to one neighbour, but not more.
        share = positives[anchor, same] / draws * (len(same) + 1)
        assert 0.5 < share.min() and share.sort().values[-2] < 1.6 and share.max() < 2.6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="steps are recorded on a GPU alone")
@pytest.mark.parametrize("triplets, optimizer", [("batch", "sgd"), ("epoch", "adam"), ("epoch", "adamax")])
def test_recorded_steps_are_launched_ones(triplets, optimizer, monkeypatch):
    """To the bit, with seeds and learning rates set between them."""
    monkeypatch.delenv(train.RECORD, raising=False)
    recipe = arm(OURS, "lkrnet", triplets=triplets, optimizer=optimizer, width=0.25, batch_size=32)
    machine, rows = this_machine(), torch.arange(96, device="cuda")
    torch.backends.cudnn.deterministic = True
    ends = []
    for record in (False, True):
        torch.manual_seed(0)
        model = build_model(recipe.model, 7, **recipe.model_options()).cuda().train()
        optimizer = train.make_optimizer(model, recipe)
        image = torch.randint(256, (96, 1, 48, 48), dtype=torch.uint8, device="cuda")
        mask, criterion = torch.rand(image.shape, device="cuda"), TrainingLoss(recipe, 7, 256).cuda()
        setting = (model, optimizer, criterion, recipe, image, mask, rows % 7, rows, machine)
        step = train.make_step(*setting) if record else partial(train.train_step, *setting)
        losses = []
        torch.manual_seed(1)  # once, as in an epoch: both take as much of the random stream
        for number in range(8):
            train._set_rate(optimizer, 1e-3 * (number + 1))
            losses.append(step(torch.randperm(96, device="cuda")[:32])[0].clone())
        ends.append([*losses, *model.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


# --- the same bits --------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [OURS, PAPER])
def test_seed_decides_the_bits(faces, tmp_path, base):
    recipe = tiny(base, "lkrnet")
    one, two, other = (
        tiny_fit(recipe, tmp_path / name, seed, faces=faces) for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    assert bits(one) == bits(two)
    assert bits(one) != bits(other)
    assert any(not torch.equal(one["state"][k], other["state"][k]) for k in one["state"])
    assert one["machine"].endswith("float32") and not one["resumed"]


def test_seed_decides_the_bits_in_bfloat16(faces, tmp_path):
    machine = this_machine("cpu")
    if not machine.bf16:
        pytest.skip("this CPU does not multiply in bfloat16")
    recipe = tiny(OURS, "lkrnet")
    one, two = (tiny_fit(recipe, tmp_path / name, 7, machine, faces) for name in "ab")
    assert bits(one) == bits(two) != bits(tiny_fit(recipe, tmp_path / "c", 7, faces=faces))
    assert {v.dtype for k, v in one["state"].items() if k.endswith("weight")} == {torch.float32}
    assert one["predictions"]["test_logits_centre"].dtype == np.float32


def test_lambda_0_is_baseline_1_to_the_bit(faces, tmp_path):
    """In the in-batch recipe; with lambda > 0 the weights differ."""
    found = [
        bits(tiny_fit(tiny(OURS, name), tmp_path / name, 3, faces=faces))
        for name in ("lkrnet-lambda0", "baseline1", "lkrnet")
    ]
    assert found[0] == found[1] != found[2]


def test_masks_matter(faces, tmp_path):
    found = {
        bits(tiny_fit(tiny(OURS, name, epochs=1), tmp_path / name, faces=faces))
        for name in ("lkrnet", "lkrnet-shuffled-mask", "lkrnet-mean-mask")
    }
    assert len(found) == 3


def test_training_learns(demo, tmp_path):
    """Faces lit from above are told from faces lit from below; the rate is the recipe's at each last step."""
    lit = few(demo.subset(np.isin(demo.labels, [3, 5])), Training=32, PublicTest=2, PrivateTest=2)
    images = lit.images // 4
    images[lit.labels == 3, :24] += 180
    images[lit.labels == 5, 24:] += 180
    recipe = tiny(
        MILD, "lkrnet", width=0.0625, epochs=6, batch_size=8, lr=0.05, dropout=0.0, label_smoothing=0.0
    )
    history = tiny_fit(recipe, tmp_path, faces=replace(lit, images=images))["history"]
    assert history[0]["train_accuracy"] < 50 and history[-1]["train_accuracy"] == 100
    assert history[-1]["loss"] < history[0]["loss"] / 2
    assert [row["lr"] for row in history] == [recipe.learning_rate(k + 3 / 4) for k in range(6)]


def test_the_rate_of_the_recipe_is_the_rate_of_the_steps(faces, tmp_path):
    """During a constant warm-up the later rate has no say, and the warm-up's has."""
    slow, same, fast = (
        tiny_fit(tiny(PAPER, "vgg19", epochs=1, lr=lr, warmup_lr=warm), tmp_path / str(lr), faces=faces)
        for lr, warm in ((0.1, 1e-4), (0.2, 1e-4), (0.3, 1e-2))
    )
    assert bits(slow) == bits(same) != bits(fast)


def test_accuracies_of_an_epoch(faces, tmp_path):
    """Those in the history are the archived logits', by the selected and by the last epoch."""
    fitted = tiny_fit(tiny(OURS, "vgg19", epochs=3), tmp_path, faces=faces)
    arrays, history = fitted["predictions"], fitted["history"]
    for part, logits, epoch in (
        ("valid", "valid_logits_centre", fitted["selected"]),
        ("test", "test_logits_centre", fitted["selected"]),
        ("test", "test_logits_last_epoch", 3),
    ):
        hit = arrays[logits].argmax(1) == faces.labels[arrays[f"{part}_index"]]
        assert history[epoch - 1][f"{part}_accuracy"] == pytest.approx(100 * hit.mean())


def test_selection_takes_the_first_best_epoch_of_public_test(faces, tmp_path, monkeypatch):
    """Weights and predictions are that epoch's, whatever the test images say; the last are kept beside."""
    recipe = tiny(OURS, "vgg19", schedule="step", decay_from=9, warmup_epochs=0)
    short = tiny_fit(replace(recipe, epochs=2), tmp_path / "short", faces=faces)
    scripted = {"PublicTest": iter([10, 30, 30, 20]), "PrivateTest": iter([40, 20, 90, 50])}
    monkeypatch.setattr(
        train,
        "_accuracies",
        lambda model, image, mask, labels, parts, *_: [
            next(scripted[faces.split[p[0]]]) for p in (parts.valid, parts.test)
        ],
    )
    fitted = tiny_fit(replace(recipe, epochs=4), tmp_path / "long", faces=faces)
    assert fitted["selected"] == 2 and fitted["epochs"] == 4
    end = torch.load(tmp_path / "short" / train.CHECKPOINT, weights_only=True)["model"]
    assert all(torch.equal(fitted["state"][k], end[k]) for k in end)
    np.testing.assert_array_equal(
        fitted["predictions"]["test_logits_centre"], short["predictions"]["test_logits_last_epoch"]
    )
    assert not np.array_equal(
        fitted["predictions"]["test_logits_centre"], fitted["predictions"]["test_logits_last_epoch"]
    )


def test_a_recipe_may_take_the_last_epoch_whatever_public_test_says(faces, tmp_path):
    best = tiny_fit(tiny(OURS, "vgg19", epochs=4), tmp_path / "best", faces=faces)
    last = tiny_fit(tiny(OURS, "vgg19", epochs=4, select="last"), tmp_path / "last", faces=faces)
    assert best["selected"] < last["selected"] == 4
    assert [row["loss"] for row in best["history"]] == [row["loss"] for row in last["history"]]
    # PublicTest's are kept, to choose recipes by.
    assert last["predictions"].keys() == best["predictions"].keys()
    np.testing.assert_array_equal(
        last["predictions"]["test_logits_centre"], best["predictions"]["test_logits_last_epoch"]
    )


def test_without_images_to_select_on_the_last_epoch_counts(faces, tmp_path):
    who = replace(parts(faces, "official"), valid=np.zeros(0, np.int64))
    fitted = train.fit(tiny(OURS, "vgg19"), faces, None, who, 0, tmp_path, FLOAT32)
    assert fitted["selected"] == fitted["epochs"] == 2
    assert all(np.isnan(row["valid_accuracy"]) for row in fitted["history"])
    assert not any(name.startswith("valid") for name in fitted["predictions"])
    np.testing.assert_array_equal(
        fitted["predictions"]["test_logits_centre"], fitted["predictions"]["test_logits_last_epoch"]
    )


def test_test_images_do_not_train(faces, tmp_path):
    """Other pictures and labels in PublicTest and PrivateTest leave the last epoch's weights as they are."""
    held_out = faces.split != "Training"
    images, labels = faces.images.copy(), faces.labels.copy()
    images[held_out], labels[held_out] = 255 - images[held_out], (labels[held_out] + 1) % 7
    who = replace(parts(faces, "official"), valid=np.zeros(0, np.int64))
    states = [
        train.fit(tiny(PAPER, "baseline2"), f, None, who, 0, tmp_path / name, FLOAT32)["state"]
        for name, f in (("a", faces), ("b", replace(faces, images=images, labels=labels)))
    ]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_a_loss_that_is_not_finite_stops_the_run(faces, tmp_path):
    with pytest.raises(FloatingPointError, match="lower lr"):
        tiny_fit(tiny(OURS, "vgg19", lr=1e30, warmup_lr=1e30, clip=0.0), tmp_path, faces=faces)
    assert not (tmp_path / train.CHECKPOINT).exists()


# --- killed and started again ---------------------------------------------------------------------

KILLED = tiny(OURS, "lkrnet", epochs=7)


def resumable_run(folder: str) -> None:
    """What the process that is killed does."""
    torch.set_num_threads(1)
    train.CHECKPOINT_SECONDS = 0
    tiny_fit(KILLED, folder, seed=11)


def wait_for_checkpoints(process, path: Path, number: int, deadline: float) -> None:
    seen = set()
    while len(seen) < number:
        assert process.poll() is None, f"ended with {process.returncode} before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint in time"
        if path.exists():
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.002)


def lines(folder: Path) -> list[str]:
    """Of history.csv."""
    return (folder / HISTORY).read_text().splitlines()


def test_an_epoch_is_told_as_soon_as_it_is_over(faces, tmp_path, monkeypatch):
    """One looks at the curve while a network trains, not only when it has finished."""
    told, one_epoch = [], train.train_epoch

    def looked(*args, **kwargs):
        told.append(lines(tmp_path) if (tmp_path / HISTORY).exists() else [])
        return one_epoch(*args, **kwargs)

    monkeypatch.setattr(train, "train_epoch", looked)
    tiny_fit(tiny(OURS, "vgg19", epochs=3), tmp_path, faces=faces)
    assert [len(seen) for seen in told] == [0, 2, 3]
    assert lines(tmp_path)[:3] == told[2] and told[2][2].startswith("2,")


def test_killed_at_a_random_moment_and_started_again(tmp_path):
    """The weights, predictions and losses are those of an unbroken run, to the bit."""
    folder = tmp_path / "killed"
    code = "import sys; sys.path.insert(0, sys.argv[1]); from test_train import *; resumable_run(sys.argv[2])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    moment = random.SystemRandom().randint(1, 3), random.SystemRandom().uniform(0, 0.1)
    try:
        wait_for_checkpoints(process, folder / train.CHECKPOINT, moment[0], time.monotonic() + 60)
        time.sleep(moment[1])
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    done = torch.load(folder / train.CHECKPOINT, weights_only=True)["history"]
    assert moment[0] <= len(done) < KILLED.epochs
    told = lines(folder)
    assert len(told) - 1 in (len(done), len(done) + 1)  # the epoch after the checkpoint may be told already
    resumed = tiny_fit(KILLED, folder, seed=11)
    unbroken = tiny_fit(KILLED, tmp_path / "unbroken", seed=11)
    assert len(lines(folder)) == KILLED.epochs + 1
    assert lines(folder)[: len(done) + 1] == told[: len(done) + 1]
    assert resumed["resumed"] and not unbroken["resumed"]
    assert bits(resumed) == bits(unbroken), f"killed {moment[1]:.3f} s after checkpoint {moment[0]}"


@pytest.mark.parametrize(("seconds", "written"), [(0, [1, 2, 3]), (1e9, [3])])
def test_checkpoints_are_as_rare_as_said_and_never_miss_the_end(
    tmp_path, faces, monkeypatch, seconds, written
):
    epochs = []
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", seconds)
    monkeypatch.setattr(train, "_save", lambda path, state: epochs.append(len(state["history"])))
    tiny_fit(tiny(OURS, "vgg19", epochs=3), tmp_path, faces=faces)
    assert epochs == written


def test_a_checkpoint_of_another_recipe_is_not_gone_on_with(faces, tmp_path):
    """A mixture of two recipes must not come out."""
    tiny_fit(tiny(OURS, "vgg19", epochs=1, lr=0.5), tmp_path, faces=faces)
    with pytest.raises(DataError, match=r"checkpoint\.pt: of another run \(epochs, lr differ\); delete it"):
        tiny_fit(tiny(OURS, "vgg19"), tmp_path, faces=faces)


def test_a_checkpoint_by_an_older_version_is_told_as_such(faces, tmp_path):
    tiny_fit(tiny(OURS, "vgg19", epochs=1), tmp_path, faces=faces)
    path = tmp_path / train.CHECKPOINT
    kept = torch.load(path, weights_only=True)
    for old in (
        kept | {"for": {k: v for k, v in kept["for"].items() if k != "parts"}},
        {k: v for k, v in kept.items() if k != "for"},
    ):
        torch.save(old, path)
        with pytest.raises(DataError, match="by an older version, which did not note .*parts.*; delete it"):
            tiny_fit(tiny(OURS, "vgg19", epochs=1), tmp_path, faces=faces)


def test_a_checkpoint_of_another_fold_or_other_landmarks_is_not_gone_on_with(faces, tmp_path):
    """Else images that test the second would have trained it."""
    recipe, marks, own = tiny(OURS, "lkrnet", epochs=1), true_landmarks(faces), parts(faces, "official")
    train.fit(recipe, faces, marks, own, 0, tmp_path, FLOAT32)
    turned = replace(own, train=np.concatenate([own.train[1:], own.test[:1]]))
    with pytest.raises(DataError, match=r"of another run \(parts differ\)"):
        train.fit(recipe, faces, marks, turned, 0, tmp_path, FLOAT32)
    with pytest.raises(DataError, match=r"of another run \(landmarks differ\)"):
        train.fit(recipe, faces, replace(marks, points=marks.points + 1), own, 0, tmp_path, FLOAT32)


def test_a_mask_without_landmarks_is_told(faces, tmp_path):
    with pytest.raises(DataError, match="mask=regions: needs the faces' landmarks"):
        train.fit(tiny(OURS, "lkrnet"), faces, None, parts(faces, "official"), 0, tmp_path)


def test_a_history_that_another_program_locks_does_not_end_the_run(faces, tmp_path, monkeypatch):
    write, calls = train.write_history, []

    def locked_in_training(*given):
        calls.append(given)
        if len(calls) <= 2:
            raise PermissionError("in use by another program")
        write(*given)

    monkeypatch.setattr(train, "write_history", locked_in_training)
    tiny_fit(tiny(OURS, "vgg19", epochs=2), tmp_path, faces=faces)
    assert len(calls) == 3 and len((tmp_path / "history.csv").read_text().splitlines()) == 3


# --- the folder of a run --------------------------------------------------------------------------

RUN = Run(tiny(OURS, "lkrnet"), "demo", seed=5)
FILES = {"run.json", "history.csv", "predictions.npz", "embedding.npy", "weights.safetensors"}


@pytest.fixture
def small_demo(faces, monkeypatch):
    """Runs see 56 of the demo faces, with their true landmarks."""
    monkeypatch.setattr(sweeps, "_faces", lambda name, root: faces)
    monkeypatch.setattr(sweeps, "_landmarks", lambda name, root: true_landmarks(faces))


@pytest.fixture(scope="module")
def trained(faces, tmp_path_factory):
    """What `train_run` returned, and the results folder that it filled."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FERCOMPANION_RESULTS", str(folder))
        patch.setattr(sweeps, "_faces", lambda name, root: faces)
        patch.setattr(sweeps, "_landmarks", lambda name, root: true_landmarks(faces))
        return train_run(RUN, "test", machine=FLOAT32), folder


@pytest.fixture
def result(trained):
    """The finished run, in a results folder of the test's own."""
    shutil.copytree(trained[1], os.environ["FERCOMPANION_RESULTS"])
    return find(RUN, "test")


def folder_of(run=RUN, profile="test"):
    return Path(os.environ["FERCOMPANION_RESULTS"], profile, run.where)


def test_folder_of_a_run(trained, faces):
    result, folder = trained
    assert result.folder == folder / "test/demo/ours-lkrnet/official/seed5"
    assert {p.name for p in result.folder.iterdir()} == FILES
    assert max(result.folder.iterdir(), key=lambda p: p.stat().st_mtime_ns).name == "run.json"
    info = json.loads((result.folder / "run.json").read_text())
    assert info == json.loads(json.dumps(result.info))
    assert Recipe(**info["recipe"]) == RUN.recipe
    assert (info["dataset"], info["protocol"], info["seed"], info["epochs"]) == ("demo", "official", 5, 2)
    assert info["n"] == {"train": 35, "valid": 7, "test": 14}
    assert info["data_sha256"] == faces.sha256 and info["classes"] == list(faces.classes)
    assert info["versions"]["torch"] == torch.__version__ and info["machine"].endswith("float32")


def test_history_columns(result):
    with open(result.folder / "history.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert list(rows[0]) == [
        "epoch",
        "lr",
        "loss",
        "train_accuracy",
        "valid_accuracy",
        "test_accuracy",
        "train_seconds",
        "seconds",
    ]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert result.history["loss"].shape == (2,) and np.isfinite(result.history["loss"]).all()


def test_metrics_follow_from_the_predictions(result, faces):
    """All of run.json's accuracies, recomputed image by image."""
    arrays, metrics = result.predictions, dict(result.info["metrics"])
    for part, split in (("valid", "PublicTest"), ("test", "PrivateTest")):
        index = arrays[f"{part}_index"]
        np.testing.assert_array_equal(index, faces.where(split))
        np.testing.assert_array_equal(arrays[f"{part}_labels"], faces.labels[index])
        np.testing.assert_array_equal(arrays[f"{part}_subject"], faces.subject[index])
        assert arrays[f"{part}_clean"].all()
        for crops in CROPS if part == "test" else ("tencrop",):
            predicted = arrays[f"{part}_predicted_{crops}"]
            assert result.predicted(crops, part).tolist() == list(predicted)
            hits = sum(int(p == faces.labels[i]) for p, i in zip(predicted, index, strict=True))
            assert metrics.pop(f"{part}_{crops}") == pytest.approx(100 * hits / len(index))
            assert metrics.pop(f"{part}_{crops}_clean") == pytest.approx(100 * hits / len(index))
    last = arrays["test_predicted_last_epoch"] == arrays["test_labels"]
    assert metrics.pop("test_last_epoch") == pytest.approx(100 * last.mean())
    assert result.history["test_accuracy"][-1] == pytest.approx(100 * last.mean(), rel=1e-5)
    assert metrics.pop("test_selected_maximum") == pytest.approx(
        result.history["test_accuracy"].max(), rel=1e-5
    )
    assert not metrics


def test_clean_accuracy_leaves_copies_out(faces, small_demo, monkeypatch):
    """Test images that are copies of training images count in one number and not in the other."""
    images = faces.images.copy()
    test = faces.where("PrivateTest")
    images[test[:6]] = images[faces.where("Training")[:6]]
    copied = replace(faces, images=images)
    monkeypatch.setattr(sweeps, "_faces", lambda name, root: copied)
    result = train_run(RUN, "test", machine=FLOAT32)
    arrays = result.predictions
    assert arrays["test_clean"].tolist() == [False] * 6 + [True] * 8
    hit = (result.predicted("centre") == arrays["test_labels"])[6:]
    assert result.info["metrics"]["test_centre_clean"] == pytest.approx(100 * hit.mean())


def test_weights_give_the_predictions(result, faces):
    """The archived weights, loaded into a new network, make the archived logits and embedding."""
    model = build_model(RUN.recipe.model, 7, **RUN.recipe.model_options())
    model.load_state_dict(result.weights())
    model = model.to(memory_format=torch.channels_last)
    rows = faces.where("PrivateTest")
    masks = make_masks(faces, true_landmarks(faces), "regions", 0.3, faces.where("Training"))
    stack = to_stack(faces.images[rows], masks[rows], "cpu")
    for crops in CROPS:
        logits, embedding = predict(model, *stack, FLOAT32, OURS, crops)
        kept = logits.astype(np.float16)
        np.testing.assert_array_equal(kept.argmax(1), result.predicted(crops))
        assert f"test_logits_{crops}" not in result.predictions  # kept of the first seed alone
    np.testing.assert_allclose(embedding, result.embedding, atol=1e-3)
    assert result.embedding.dtype == np.float16


def test_ten_crops_are_averaged(faces):
    """Logits are the mean over torchvision's ten crops one by one, in batches of any size."""
    torch.manual_seed(0)
    masks = make_masks(faces, true_landmarks(faces), "regions", 0.3, faces.where("Training"))
    image, mask = to_stack(faces.images[:9], masks[:9], "cpu")
    model = settled(build_model("lkrnet", 7, width=0.0625), image / 255, mask)
    logits, embedding = predict(model, image, mask, FLOAT32, OURS, "tencrop", batch_size=40)
    with torch.no_grad():
        out = [
            model(a, b)
            for a, b in zip(ten_crop(image / 255, [44, 44]), ten_crop(mask, [44, 44]), strict=True)
        ]
    expected = torch.stack([o.logits for o in out])
    assert expected.std(0).max() > 1e-3
    np.testing.assert_allclose(logits, expected.mean(0), rtol=0, atol=1e-5)
    np.testing.assert_allclose(embedding, torch.stack([o.embedding for o in out]).mean(0), rtol=0, atol=1e-5)


def test_finished_runs_are_found_and_not_trained_again(result, monkeypatch):
    assert result.folder == folder_of()
    other = replace(RUN, seed=6)
    assert find(other, "test") is None and find(RUN, "elsewhere") is None
    assert list(find_all([other, RUN], "test")) == [RUN]
    monkeypatch.setattr(sweeps, "_faces", None)
    assert list(complete([RUN], "test")) == [RUN]


def test_complete_trains_what_is_missing(result, small_demo):
    before = (result.folder / "run.json").stat().st_mtime_ns
    plan = [replace(RUN, seed=6, recipe=tiny(OURS, "vgg19", epochs=1)), RUN]
    trained = []
    done = complete(plan, "test", None, trained.append)
    assert list(done) == plan and [r.info["seed"] for r in done.values()] == [6, 5]
    assert trained == plan[:1]
    assert (result.folder / "run.json").stat().st_mtime_ns == before


def test_runs_on_another_copy_stop_the_training_before_it_starts(result, faces, small_demo, monkeypatch):
    """Else the tables would refuse to compare them, days later."""
    darker = replace(faces, images=faces.images // 2)
    monkeypatch.setattr(sweeps, "_faces", lambda name, root: darker)
    for plan in ([replace(RUN, seed=7), RUN], [replace(RUN, recipe=tiny(OURS, "vgg19", lr=0.03), seed=7)]):
        with pytest.raises(DataError, match=f"demo: .*another copy .{faces.sha256[:12]}.*RETRAIN=1"):
            complete(plan, "test")
    assert list(complete([RUN], "test")) == [RUN]  # what is archived can be looked at


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_that_fails_is_named_and_the_others_go_on(small_demo, capsys, monkeypatch, threads):
    """One after the other and side by side; the sweep ends as one that lacks a run."""
    # Workers know nothing of small_demo: a large batch spares them steps.
    bad = Run(tiny(OURS, "vgg19", lr=1e30, warmup_lr=1e30, clip=0.0, batch_size=220), "demo")
    good = replace(RUN, recipe=tiny(OURS, "vgg19", epochs=1, lr=0.02, batch_size=220))
    good = replace(good, recipe=replace(good.recipe, name="other-vgg19"))
    assert list(complete([bad, good], "test", workers=threads)) == [good]
    said = [line for line in capsys.readouterr().err.splitlines() if "failed" in line]
    assert len(said) == 1 and str(bad) in said[0] and "lower lr" in said[0]
    monkeypatch.setenv("FERCOMPANION_DEBUG", "1")
    with pytest.raises(FloatingPointError):
        complete([bad], "debug", workers=threads)


def test_train_too_refuses_another_copy(result, faces, monkeypatch, capsys):
    """Archived or not: its numbers would be another copy's."""
    told = ["train", "--arm", "lkrnet", "--profile", "test", "--seed", "5"]
    monkeypatch.setattr(command_line, "chosen_recipe", lambda options: RUN.recipe)
    monkeypatch.setattr(sweeps, "_faces", lambda name, root: replace(faces, images=faces.images // 2))
    assert command_line.main(told) == 1 and "another copy" in capsys.readouterr().err
    monkeypatch.setattr(sweeps, "_faces", lambda name, root: faces)
    assert command_line.main(told) == 0 and "archived already" in capsys.readouterr().out


@pytest.mark.parametrize("guard", ["", "if __name__ == '__main__': pass\n"])
def test_a_script_without_a_guard_trains_one_at_a_time(small_demo, tmp_path, monkeypatch, capsys, guard):
    """Processes of its own would run the script once more."""
    (tmp_path / "mine.py").write_text(f"complete(plan)\n{guard}")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "mine.py"), raising=False)
    asked = []
    monkeypatch.setattr(sweeps, "_train", lambda *given: asked.append(given[-1]))
    complete([replace(RUN, seed=6), replace(RUN, seed=7)], "test", workers=2)
    assert set(asked) == {2 if guard else 1}
    assert ("one at a time" in capsys.readouterr().err) != bool(guard)


def test_a_network_that_a_notebook_added_is_trained_there(small_demo, monkeypatch, capsys):
    """Processes of its own do not know it."""
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    monkeypatch.setitem(MODELS, "mine", MODELS["vgg19"])
    own = replace(RUN, recipe=replace(RUN.recipe, name="test-mine", model="mine", mask="none"))
    asked = []
    monkeypatch.setattr(sweeps, "_train", lambda *given: asked.append(given[-1]))
    complete([own, replace(own, seed=6)], "test", workers=2)
    assert set(asked) == {1} and "mine is known in this notebook alone" in capsys.readouterr().err
    asked.clear()
    complete([replace(RUN, seed=6), replace(RUN, seed=7)], "test", workers=2)
    assert set(asked) == {2}


def test_others_may_read_what_is_archived(result):
    masked = os.umask(0o022)
    os.umask(masked)
    assert {path.stat().st_mode & 0o777 for path in result.folder.iterdir()} == {0o666 & ~masked}


def test_complete_says_what_it_leaves_out(result, small_demo, monkeypatch, capsys):
    """Not allowed to train, or without the data set: what is archived is returned, and one line printed."""
    plan = [RUN, replace(RUN, seed=6), replace(RUN, seed=7)]
    monkeypatch.setenv("FERCOMPANION_NO_TRAINING", "1")
    assert list(complete(plan, "test")) == [RUN]
    assert capsys.readouterr().out.startswith("2 of 3 runs are not archived")
    monkeypatch.delenv("FERCOMPANION_NO_TRAINING")

    def missing(*_):
        raise DataError("not on this machine")

    monkeypatch.setattr(sweeps, "_faces", missing)
    assert list(complete(plan, "test")) == [RUN]
    said = capsys.readouterr().out
    assert said.startswith("2 runs on demo") and "not on this machine" in said and said.count("\n") == 1


def test_another_recipe_under_the_same_name_is_refused(result):
    changed = replace(RUN, recipe=replace(RUN.recipe, lr=0.123))
    with pytest.raises(DataError, match=r"run\.json: made with another recipe \(lr differ\)"):
        find(changed, "test")
    changed = replace(RUN, recipe=replace(RUN.recipe, margin=0.5, epochs=9))
    with pytest.raises(DataError, match=r"\((epochs, margin|margin, epochs) differ\)"):
        complete([changed], "test")


def test_runs_made_before_a_field_was_added_are_still_found(result):
    """The field counts as at its default then, and as different otherwise."""
    path = result.folder / "run.json"
    info = json.loads(path.read_text())
    del info["recipe"]["margin"]
    path.write_text(json.dumps(info))
    assert find(RUN, "test").folder == result.folder
    with pytest.raises(DataError, match=r"\(margin differ"):
        find(replace(RUN, recipe=replace(RUN.recipe, margin=0.9)), "test")


def test_retrain_leaves_the_archive_alone(result, small_demo, monkeypatch):
    before = {p.name: p.read_bytes() for p in result.folder.iterdir()}
    monkeypatch.setenv("RETRAIN", "1")
    assert find(RUN, "test") is None
    again = train_run(RUN, "test", machine=FLOAT32)
    assert again.folder == folder_of(profile="test-retrain")
    assert {p.name: p.read_bytes() for p in result.folder.iterdir()} == before
    assert (again.folder / "weights.safetensors").read_bytes() == before["weights.safetensors"]
    monkeypatch.setenv("RETRAIN", "0")
    assert find(RUN, "test").folder == result.folder


def test_a_run_broken_off_while_it_is_archived_is_finished_later(small_demo, monkeypatch):
    """Without run.json a folder is no run; the checkpoint stays, and the second try trains nothing."""

    def fail(*_, **__):
        raise OSError("disk full")

    with monkeypatch.context() as broken:
        broken.setattr(sweeps, "save_arrays", fail)
        with pytest.raises(OSError, match="disk full"):
            train_run(RUN, "test", machine=FLOAT32)
    assert find(RUN, "test") is None and (folder_of() / train.CHECKPOINT).exists()
    monkeypatch.setattr(train, "train_epoch", None)
    result = train_run(RUN, "test", machine=FLOAT32)
    assert result.info["resumed"] and {p.name for p in folder_of().iterdir()} == FILES


def test_a_network_that_collapsed_is_archived_too(small_demo, monkeypatch):
    """All embeddings equal: the distances between them have no ratio, but the run is worth keeping."""
    normalize = torch.nn.functional.normalize
    monkeypatch.setattr(
        "fercompanion.models.lkrnet.F.normalize", lambda f, dim: 0 * normalize(f, dim=dim) + 1
    )
    recipe = tiny(OURS, "vgg19", epochs=1)
    result = train_run(replace(RUN, recipe=recipe), "test", machine=FLOAT32)
    assert len(np.unique(result.embedding, axis=0)) == 1
    assert np.isnan(find(replace(RUN, recipe=recipe), "test").info["embedding"]["ratio"])
    assert '"ratio": null' in (result.folder / "run.json").read_text()  # JSON has no nan


def test_archives_hold_no_weights(result):
    (result.folder / "weights.safetensors").unlink()
    with pytest.raises(DataError, match="RETRAIN=1"):
        find(RUN, "test").weights()
    (result.folder / "embedding.npy").unlink()
    assert find(RUN, "test").embedding is None


def test_fold_of_a_cross_validation(demo_ck, monkeypatch):
    """Subject folds select nothing: the last epoch is the result, and no person is on both sides."""
    ck = demo_ck.subset(np.isin(demo_ck.subject, np.unique(demo_ck.subject)[:4]))
    who = parts(ck, "subject", 1, 4)
    ck.images[who.test[0]] = ck.images[who.train[0]]  # subset() copied them
    monkeypatch.setattr(sweeps, "_faces", lambda name, root: ck)
    run = Run(tiny(OURS, "vgg19"), "demo-ck", "subject", fold=1, n_folds=4)
    result = train_run(run, "test", machine=FLOAT32)
    assert result.folder == Path(
        os.environ["FERCOMPANION_RESULTS"], "test/demo-ck/ours-vgg19/subject/fold2of4-seed0"
    )
    assert result.info["n"] == {"train": 45, "valid": 0, "test": 15}
    assert result.info["selected_epoch"] == 2 and result.info["selection"] == "last epoch"
    assert len(set(result.predictions["test_subject"])) == 1
    assert result.predictions["test_clean"].tolist() == [False] + [True] * 14
    assert find(run, "test").info["fold"] == 1 and find(replace(run, fold=0), "test") is None
    assert not any(key.startswith("valid") for key in result.info["metrics"])
    assert np.isnan(result.history["valid_accuracy"]).all()


def test_logits_of_public_test_are_kept_where_an_ensemble_chooses_its_weight(faces, small_demo, monkeypatch):
    monkeypatch.setattr(sweeps, "_shown", lambda name, root, how: faces)
    for paper, name, base in (("liu", "liu-a", "test"), ("liu", "liu-a", "long"), ("dnnrl", "dnn", "test")):
        recipe = sibling_arm(
            paper, name, base, width=0.125, epochs=1, batch_size=7, size=48, canvas=60, crop=54
        )
        run = Run(recipe, "demo")
        arrays = train_run(run, "test", machine=FLOAT32).predictions
        kept = {k.removeprefix("valid_") for k in arrays if "logits" in k or "predicted" in k if k[0] == "v"}
        tested = partial(pooling.by_arm, {run: find(run, "test")}, "valid")
        if base == "long":  # averaged with other papers' networks, not fused with model B
            assert kept == {"predicted_tencrop"}
            assert arrays["test_logits_tencrop"].shape == (14, 7)
            assert arrays["test_logits_tencrop"].dtype == np.float32
            again = train_run(replace(run, seed=1), "test", machine=FLOAT32).predictions
            assert "test_predicted_tencrop" in again and "test_logits_tencrop" not in again
        elif paper == "liu":
            assert kept == {"logits_tencrop"} and tested()["liu-a"].logits["tencrop"].shape == (1, 7, 7)
        else:
            assert kept == {"predicted_tencrop", "predicted_knn"}
            assert arrays["valid_predicted_tencrop"].dtype == np.uint8
            assert not tested()["dnn"].logits and tested()["dnn"].hits().shape == (1, 7)


def test_a_damaged_checkpoint_is_named(faces, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"half a")
    with pytest.raises(DataError, match="checkpoint.pt: damaged .*delete it"):
        tiny_fit(tiny(OURS, "vgg19"), tmp_path, faces=faces)


DAMAGED = {
    "an empty run.json": ("run.json", b"{}", "damaged .no classes, .*delete it"),
    "a list in run.json": ("run.json", b"[]", "damaged .*delete it"),
    "half a run.json": ("run.json", b'{"recipe": {', "damaged .*delete it"),
    "half the predictions": ("predictions.npz", 0.5, "damaged .*delete .*run.json"),
    "no bytes of the predictions": ("predictions.npz", b"", "damaged .*delete .*run.json"),
    "no predictions": ("predictions.npz", None, "missing; .*delete .*run.json"),
    "an empty history": ("history.csv", b"", "damaged .*delete .*run.json"),
    "no history": ("history.csv", None, "missing; .*delete .*run.json"),
    "half the embedding": ("embedding.npy", 0.5, "damaged .*delete .*run.json"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_archive_is_told_in_one_line(result, case):
    name, content, words = DAMAGED[case]
    path = result.folder / name
    if content is None:
        path.unlink()
    else:
        whole = path.read_bytes()
        path.write_bytes(content if isinstance(content, bytes) else whole[: int(content * len(whole))])
    with pytest.raises(DataError, match=f"{name}: {words}") as told:
        found = find(RUN, "test")
        _ = found.predictions, found.history, found.embedding
    assert "\n" not in str(told.value)


def test_a_recipe_that_this_version_does_not_know_is_no_damage(result):
    path = result.folder / "run.json"
    info = json.loads(path.read_text())
    for field, why in (({"optimizer": "lion"}, "optimizer='lion': "), ({"averaged": True}, ".*'averaged'")):
        path.write_text(json.dumps(info | {"recipe": info["recipe"] | field}))
        said = f"made by another version of fercompanion .{why}.*; update, or move it away"
        with pytest.raises(DataError, match=f"run.json: {said}"):
            find(RUN, "test")


def test_a_run_of_a_network_that_another_process_added_is_read(result):
    """Only whoever builds the network must know it."""
    path = result.folder / "run.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"recipe": info["recipe"] | {"model": "small", "mask": "none"}}))
    read = find(replace(RUN, recipe=replace(RUN.recipe, model="small", mask="none")), "test")
    assert read.predicted("centre").shape == read.predictions["test_labels"].shape
    with pytest.raises(ValueError, match="unknown model 'small'"):
        read.recipe.model_options()


@pytest.mark.parametrize("name", ["run.json", "predictions.npz", "history.csv"])
def test_a_file_that_may_not_be_read_is_not_damaged(result, monkeypatch, name):
    """Its remedy must not be to delete the run."""
    opened = open

    def refuse(path, *args, **kwargs):
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **kwargs)

    for module in ("builtins", "io"):
        monkeypatch.setattr(f"{module}.open", refuse)
    with pytest.raises(
        DataError, match=f"{name}: cannot be read .Permission denied.; look at its permissions"
    ):
        found = find(RUN, "test")
        _ = found.predictions, found.history


def test_two_processes_do_not_train_one_run(small_demo, monkeypatch):
    """The second leaves it to the first; whoever was killed does not stand in the way."""
    folder_of().mkdir(parents=True)
    hold = "import sys, filelock as f; l = f.FileLock(sys.argv[1]); l.acquire(); print('held', flush=True); input()"
    command = [sys.executable, "-c", hold, folder_of() / ".running"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with monkeypatch.context() as refused:
            refused.setattr(train, "fit", lambda *_, **__: pytest.fail("it was trained"))
            with pytest.raises(DataError, match="another process trains this run"):
                train_run(RUN, "test", machine=FLOAT32)
        other.kill()
    assert train_run(RUN, "test", machine=FLOAT32).info["n"]
    assert {p.name for p in folder_of().iterdir()} == FILES


def test_where_there_are_no_locks_runs_are_trained_all_the_same(small_demo, monkeypatch, capsys):
    def refuse(self):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.BaseFileLock.acquire", refuse)
    assert train_run(RUN, "test", machine=FLOAT32).info["n"]
    said = capsys.readouterr().err
    assert "has no locks (No locks available); let no other process train this run" in said
    assert {p.name for p in folder_of().iterdir()} == FILES


def test_a_folder_that_cannot_be_written_stops_the_run_before_it_starts(small_demo, monkeypatch, tmp_path):
    monkeypatch.setattr(train, "fit", lambda *_, **__: pytest.fail("it was trained"))

    def refuse(self):
        raise PermissionError(errno.EACCES, "Permission denied", ".running")

    with (
        monkeypatch.context() as there,
        pytest.raises(DataError, match="Permission denied; set FERCOMPANION_RES"),
    ):
        there.setattr("filelock.BaseFileLock.acquire", refuse)  # the folder is there, and only to be read
        sweeps.train_run(RUN, "test")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FERCOMPANION_RESULTS", str(tmp_path / "file"))
    with pytest.raises(DataError, match="file.*set FERCOMPANION_RESULTS"):
        sweeps.train_run(RUN, "test")


def test_a_run_that_takes_its_process_along_does_not_end_the_sweep(tmp_path, monkeypatch, capsys):
    """The others are trained one at a time, and the culprit is named."""
    monkeypatch.setattr(sweeps, "train_run", die_of_seed_1)
    monkeypatch.setattr(sweeps, "_shown", lambda *_: None)
    todo = [replace(RUN, recipe=replace(RUN.recipe, mask="none"), seed=seed) for seed in range(3)]
    finished = []
    sweeps._train(todo, str(tmp_path), None, finished.append, 2)
    assert sorted(run.seed for run in finished) == [0, 2]
    assert f"{todo[1]}: failed (its process died)" in capsys.readouterr().err


def die_of_seed_1(run, folder, root):
    """Stands for `sweeps.train_run` in a process of its own."""
    if run.seed == 1:
        os._exit(9)


@pytest.mark.parametrize("error", [MemoryError(), PermissionError("no"), RuntimeError("CUDA error: busy")])
def test_what_is_no_damage_is_not_called_so(error, faces, tmp_path, monkeypatch):
    """Its remedy would be to delete hours of training."""
    (tmp_path / "checkpoint.pt").write_bytes(b"whole")

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(torch, "load", fails)
    with pytest.raises(type(error)):
        tiny_fit(tiny(OURS, "vgg19"), tmp_path, faces=faces)


@pytest.fixture
def steps(monkeypatch):
    """What `train_step` was given: whether network and loss were in training mode, and the anchors."""
    given, step = [], train.train_step

    def noted(model, optimizer, criterion, *others):
        given.append((model.training and criterion.training, others[-1].tolist()))
        return step(model, optimizer, criterion, *others)

    monkeypatch.setattr(train, "train_step", noted)
    return given


def test_the_seed_decides_the_weights_and_the_order_of_every_epoch(faces, tmp_path, steps):
    """Each by itself: at a rate of next to nothing the weights stay those of the start."""
    still = tiny(OURS, "vgg19", lr=1e-30, warmup_lr=1e-30)
    first, other = (tiny_fit(still, tmp_path / str(seed), seed, faces=faces)["state"] for seed in (7, 8))
    assert not torch.equal(first["heads.global.0.weight"], other["heads.global.0.weight"])
    orders = [rows for _, rows in steps]
    assert len(orders) == 8 and len({tuple(rows) for rows in orders}) == 8


def test_every_step_is_one_of_training_with_a_whole_batch(faces, tmp_path, steps):
    """Also after the first epoch's validation; 35 images are two batches of 16, and three are left out."""
    tiny_fit(tiny(OURS, "vgg19"), tmp_path, faces=faces)
    assert [(mode, len(rows)) for mode, rows in steps] == [(True, 16)] * 4


def test_the_optimiser_is_the_recipes():
    model = build_model("vgg19", 7, width=0.03125)
    (group,) = train.make_optimizer(model, replace(OURS, momentum=0.7, weight_decay=0.01)).param_groups
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (
        OURS.lr,
        0.7,
        True,
        0.01,
    )
    for name in ("adam", "adamax"):
        (group,) = train.make_optimizer(model, replace(OURS, optimizer=name, weight_decay=0.01)).param_groups
        assert (group["lr"], group["weight_decay"]) == (OURS.lr, 0.01)


def test_gradients_are_clipped(faces):
    recipe = tiny(OURS, "vgg19", clip=1e-3)
    model = build_model(recipe.model, 7, **recipe.model_options()).train()
    image, _ = to_stack(faces.images, None, "cpu")
    rows, labels = torch.arange(35), torch.as_tensor(faces.labels)
    setting = model, train.make_optimizer(model, recipe), TrainingLoss(recipe, 7, 256), recipe
    train.train_step(*setting, image, None, labels, rows, FLOAT32, rows[:16])
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


def test_the_validation_loss_is_the_mean_over_centre_views_without_dropout(faces):
    """Of seven images in batches of four and three; another state of the random numbers changes nothing."""
    recipe = tiny(OURS, "vgg19", batch_size=4)
    image, _ = to_stack(faces.images, None, "cpu")
    model = settled(build_model(recipe.model, 7, **recipe.model_options()), image / 255)
    for classifier in model.classifiers.values():
        torch.nn.init.normal_(classifier.weight, std=3)
    rows, labels = faces.where("PublicTest"), torch.as_tensor(faces.labels)
    with torch.no_grad():
        logits = model(augment.centre_view(image[rows].float() / 255, recipe)).logits
    expected = F.cross_entropy(logits, labels[rows], label_smoothing=recipe.label_smoothing)
    found = train._loss(
        model.train(), TrainingLoss(recipe, 7, 256), image, None, labels, rows, FLOAT32, recipe
    )
    assert found == pytest.approx(expected.item(), rel=1e-4)


def test_the_validation_loss_has_the_same_triplets_each_time(faces):
    recipe = tiny(OURS, "baseline2", lam=5.0)
    image, _ = to_stack(faces.images, None, "cpu")
    model = settled(build_model(recipe.model, 7, **recipe.model_options()), image / 255)
    rows, labels = np.arange(30), torch.as_tensor(faces.labels)
    found = set()
    for seed in range(4):
        torch.manual_seed(seed)
        found.add(
            train._loss(model, TrainingLoss(recipe, 7, 256), image, None, labels, rows, FLOAT32, recipe)
        )
    assert len(found) == 1


def test_a_run_trains_its_own_fold_seed_and_enlarged_faces(demo_ck, monkeypatch):
    class Enough(Exception):
        pass

    def fit(*given):
        asked.extend(given)
        raise Enough

    asked, ck, large = [], demo_ck.subset(np.arange(60)), demo_ck.subset(np.arange(60)[::-1])
    monkeypatch.setattr(sweeps, "_faces", lambda name, root: ck)
    monkeypatch.setattr(sweeps, "_shown", lambda name, root, how: large if how == "bicubic" else ck)
    monkeypatch.setattr(train, "fit", fit)
    recipe = sibling_arm("liu", "liu-b-bicubic", "test")
    with pytest.raises(Enough):
        train_run(Run(recipe, "demo-ck", "frame", 1, 3, seed=5), "test", machine=FLOAT32)
    _, shown, _, who, seed, *_ = asked
    assert shown is large and seed == 5
    np.testing.assert_array_equal(who.test, parts(ck, "frame", 1, 3).test)


def test_masks_of_the_controls(faces):
    """The mean is over the training images; shuffled masks stay within their split, and each is there once."""
    marks, training = true_landmarks(faces), faces.where("Training")
    own = make_masks(faces, marks, "regions", 0.3, training)
    mean, shuffled = (make_masks(faces, marks, kind, 0.3, training) for kind in ("mean", "shuffled"))
    np.testing.assert_allclose(mean, np.broadcast_to(own[training].mean(0), own.shape), rtol=1e-6)
    for split in ("Training", "PublicTest", "PrivateTest"):
        rows = faces.where(split)
        assert sorted(m.tobytes() for m in shuffled[rows]) == sorted(m.tobytes() for m in own[rows])
    assert not np.array_equal(own, shuffled)


def test_the_distances_of_run_json_are_those_of_the_embedding(faces, monkeypatch):
    monkeypatch.setattr(sweeps, "_faces", lambda name, root: faces)
    recipe = sibling_arm(
        "dnnrl", "tdnn", "test", width=0.25, epochs=1, batch_size=7, size=48, canvas=60, crop=54
    )
    result = train_run(Run(recipe, "demo"), "test", machine=FLOAT32)
    assert result.info["embedding"] == distances(result.embedding, result.predictions["test_labels"])
