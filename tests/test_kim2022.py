"""Kim et al. 2022: sizes of Table 1, torchvision's ResNets, and a transformer that starts as the identity and learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from conftest import settled
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock

from fercompanion import evaluate, figures, kim_tables, papers, pooling, tables, untrained
from fercompanion.data import DataError
from fercompanion.models import Output
from fercompanion.models.kim2022 import IDENTITY, kim, kim_resnet18, layer_sizes, sample
from fercompanion.papers import published
from fercompanion.runs import Result, Run
from fercompanion.siblings import sibling_arm

NETWORKS = ((kim, (1, 1, 1, 1)), (kim_resnet18, (2, 2, 2, 2)))


def batch(n=4, seed=0):
    return torch.rand(n, 1, 48, 48, generator=torch.Generator().manual_seed(seed))


def small(network=kim, seed=0, **options):
    torch.manual_seed(seed)
    return settled(network(**{"width": 0.125} | options), batch(8, seed=1))


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("network", "_"), NETWORKS)
def test_maps_have_the_sizes_of_table_1(network, _):
    """The printed rows: 24x24 after 7x7, 64, stride 2 and so on to 2x2 with 512 channels."""
    printed = [r for r in published("Kim2022", "Table 1") if r["class"].startswith("Convolution")]
    sizes = list(layer_sizes(network()).values())
    assert len(printed) == 5
    for row, size in zip(printed, sizes, strict=False):
        side, channels = size.split("×")[0], size.split("×")[2]
        assert f"output {side}x{side}" in row["value"] and f", {channels}" in row["value"]
    assert sizes[-1] == "1×1×512"


@pytest.mark.parametrize(("network", "blocks"), NETWORKS)
def test_the_trunk_is_torchvisions_resnet(network, blocks):
    """With one grey channel; the same weights in the same order give the same logits."""
    torch.manual_seed(0)
    ours, theirs = network(num_classes=7), ResNet(BasicBlock, list(blocks), num_classes=7)
    theirs.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    weights = [*ours.trunk.state_dict().values(), *ours.classifier.state_dict().values()]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), weights, strict=True)))
    image = batch(2)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(image).logits, theirs.eval()(image), rtol=1e-3, atol=1e-4)
    assert count(ours.trunk) + count(ours.classifier) == count(theirs)


def test_parameters():
    """torchvision's ResNet-18 has 11,176,512 without its head; the network of Table 1 not half of them."""
    colours, head = 2 * 64 * 7 * 7, 513 * 7
    transformer = 8 * 50 + 10 * (8 * 25 + 1) + 641 * 6
    assert count(kim_resnet18()) == 11_176_512 - colours + head + transformer
    stem, first = 64 * 49 + 2 * 64, 2 * 9 * 64**2 + 4 * 64
    # a block that halves: 3 x 3 from c to 2c, 3 x 3, 1 x 1 shortcut, three batch norms
    halving = sum(18 * c**2 + 36 * c**2 + 2 * c**2 + 12 * c for c in (64, 128, 256))
    assert count(kim()) == stem + first + halving + head + transformer
    assert count(kim().transformer) == transformer


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize(("network", "_"), NETWORKS)
def test_output(network, _, standardise):
    model = small(network, num_classes=5, standardise=standardise)
    out = model(batch())
    assert isinstance(out, Output) and out.logits.shape == (4, 5)
    assert len(out.branches) == 1 and out.branches[0] is out.logits
    assert out.embedding.shape == (4, 64) and out.embedding.dtype == torch.float32
    torch.testing.assert_close(out.embedding.norm(dim=1), torch.ones(4))
    assert out.logits.std(0).max() > 1e-3
    torch.testing.assert_close(model(batch(), torch.ones(4, 1, 48, 48)).logits, out.logits)


def test_logits_come_from_features_that_keep_their_length():
    model = small()
    with torch.no_grad():
        out = model(batch())
        unit = model.classifier(out.embedding)
        maps = model.trunk(model.transform(batch()))
        torch.testing.assert_close(out.logits, model.classifier(maps.mean((2, 3))))
        torch.testing.assert_close(out.embedding, F.normalize(maps.mean((2, 3)), dim=1))
    assert (out.logits - unit).abs().max() > 1e-3


def test_standardised_networks_do_not_see_brightness_and_contrast():
    image = batch()
    other = 0.3 + 0.4 * image
    for standardise in (True, False):
        model = small(standardise=standardise)
        with torch.no_grad():
            same = torch.allclose(model(image).logits, model(other).logits, atol=1e-4)
        assert same == standardise


@pytest.mark.parametrize("standardise", [False, True])
def test_the_transformer_starts_as_the_identity(standardise):
    model = kim(width=0.125, standardise=standardise)
    image = batch()
    torch.testing.assert_close(model.theta(image).flatten(1), torch.tensor(IDENTITY).expand(4, 6))
    torch.testing.assert_close(model.transform(image), image)


def test_one_fully_connected_layer_and_two_convolutions_each_with_pool_and_relu():
    kinds = [type(m).__name__ for m in kim().transformer.localisation]
    assert kinds == ["Conv2d", "MaxPool2d", "ReLU"] * 2 + ["Flatten", "Linear"]


def test_sampler_looks_where_theta_says():
    image = batch()
    half = torch.tensor([[0.5, 0, 0.5], [0, 0.5, -0.5]]).expand(4, 2, 3)
    # the upper right quarter, twice as large
    quarter = F.interpolate(image[:, :, :24, 24:], size=48, mode="bilinear", align_corners=False)
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(sample(image, half)[inner], quarter[inner])
    mirror = torch.tensor([[-1.0, 0, 0], [0, 1, 0]]).expand(4, 2, 3)
    torch.testing.assert_close(sample(image, mirror), image.flip(-1))
    away = torch.tensor([[1.0, 0, 3], [0, 1, 0]]).expand(4, 2, 3)
    assert sample(image, away).abs().max() == 0  # black outside


def test_the_transformer_learns():
    """The loss reaches the last layer at once, and the convolutions before it from the second step on."""
    torch.manual_seed(0)
    model = kim(width=0.125).train()
    image, labels = batch(16), torch.arange(16) % 7
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    first, last = model.transformer.localisation[0], model.transformer.localisation[-1]
    for step in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(image).logits, labels).backward()
        assert last.weight.grad.abs().max() > 1e-6 and last.bias.grad.abs().max() > 1e-6
        assert (first.weight.grad.abs().max() > 0) == (step > 0)
        optimizer.step()
    assert model.theta(image).var(0).max() > 0  # each image its own map


def test_width_narrows_the_resnet_alone():
    narrow, whole = kim(width=0.25), kim()
    assert layer_sizes(narrow)["conv5"] == "2×2×128"
    assert count(narrow.transformer) == count(whole.transformer)
    assert 14 < count(whole.trunk) / count(narrow.trunk) < 17


def test_a_slow_transformer_moves_less():
    """Same start, same weights after a step: theta's way from the identity is `localisation_rate` as long."""
    fast, slow = kim(width=0.125), kim(width=0.125, localisation_rate=0.1)
    torch.manual_seed(0)
    torch.nn.init.normal_(fast.transformer.localisation[-1].weight, std=0.05)
    slow.load_state_dict(fast.state_dict())
    way = fast.theta(batch()).flatten(1) - torch.tensor(IDENTITY)
    assert way.abs().max() > 0.01
    torch.testing.assert_close(slow.theta(batch()).flatten(1) - torch.tensor(IDENTITY), 0.1 * way)
    torch.testing.assert_close(kim(width=0.125, localisation_rate=0.1).transform(batch()), batch())


def finished(arm, protocol, fold, wrong, n=20, subjects=4, occluded_wrong=None, trained=(40, 90, 95)):
    """A run whose first `wrong` test frames are wrong, and its result, without a folder.

    `trained` is its training accuracy by epoch.
    """
    labels = np.arange(n) % 7
    logits = np.eye(7)[labels]
    arrays = {"test_labels": labels, "test_subject": np.array([f"S{k % subjects}" for k in range(n)])}
    arrays |= {"test_index": np.arange(n) + n * fold, "test_clean": np.ones(n, bool)}
    for view, number in (
        ("centre", wrong),
        ("occluded", wrong if occluded_wrong is None else occluded_wrong),
    ):
        arrays[f"test_logits_{view}"] = np.roll(logits, 1, axis=1)
        arrays[f"test_logits_{view}"][number:] = logits[number:]
    info = {
        "data_sha256": "0",
        "fold": fold,
        "seed": 0,
        "n": {"train": 80, "test": n},
        "epochs": 3,
        "metrics": {
            f"test_{v}": 100 * (arrays[f"test_logits_{v}"].argmax(1) == labels).mean()
            for v in ("centre", "occluded")
        },
    }
    result = Result(info, Path())
    result.__dict__["predictions"] = arrays
    epochs = np.arange(1.0, len(trained) + 1)
    result.__dict__["history"] = {"epoch": epochs, "train_accuracy": np.array(trained, float)}
    return Run(sibling_arm("kim", arm), "ckplus", protocol, fold, 3), result


def test_the_papers_arithmetic():
    """99.44 is one error in 181; 96.87 and 98.96 are no number of images; 0.48 is less than one; 2.57 is not 2.09."""
    table = kim_tables.arithmetic()
    assert table.loc[papers.TITLES["kim"], "images"] == 180 and table.loc[papers.TITLES["kim"], "possible"]
    for arm in ("kim-resnet18", "kim-softmax"):
        assert not table.loc[papers.TITLES[arm], "possible"]
    assert list(table["value"]) == [96.87, 98.96, 99.44, 0.48, 2.09, 2.57, 2.09]
    assert table.loc["triplet − softmax, text", "images"] == pytest.approx(0.87, abs=0.01)


def test_table_2_beside_ours():
    results = dict(
        [
            finished("kim", "random", 0, 1),
            finished("kim", "random", 1, 3),
            finished("kim", "subject", 0, 10),
            finished("kim-softmax", "sequence", 0, 0),
        ]
    )
    null = pd.DataFrame(
        {
            "protocol": np.repeat(list(kim_tables.PROTOCOLS), 3),
            "accuracy": [95, 97, 99, 20, 20, 20, 1, 2, 3],
        }
    )
    table = kim_tables.table2(results, null)
    triplet, softmax = papers.TITLES["kim"], papers.TITLES["kim-softmax"]
    assert table.loc[triplet, "paper"] == "99.44" and table.loc[softmax, "paper"].startswith("(98.96")
    assert table.loc[triplet, "random frames"].startswith("90.00 [")  # 36 of 40
    assert table.loc[triplet, "new people"].startswith("50.00 [")
    assert table.loc[triplet, "splits"] == "2, 0, 1" and table.loc[triplet, "epochs"] == "3"
    assert table.loc[triplet, "new sequences"] == table.loc[softmax, "random frames"] == tables.NOT_RUN
    low = 100 * 0.025 ** (1 / 4)  # four people, all right: Clopper and Pearson's
    assert table.loc[softmax, "new sequences"] == f"100.00 [{low:.2f}, 100.00]"
    assert table.loc["nearest pixels, untrained", "random frames"].startswith("97.00 [95.10")
    assert list(table.index).index(softmax) < list(table.index).index(triplet)
    assert "not run" in kim_tables.table2({}).to_string()


def test_differences_are_paired_by_split():
    """Only the splits that both arms have count; means, not sums; the corrected t of the splits' differences."""
    results = dict(
        [finished("kim", "random", k, w) for k, w in ((0, 1), (1, 3), (2, 0))]
        + [finished("kim-softmax", "random", k, w) for k, w in ((0, 4), (1, 4))]
    )
    table = kim_tables.differences(results)
    row = table.loc[(f"{papers.TITLES['kim']} − {papers.TITLES['kim-softmax']}", "random frames")]
    assert row["paper"] == "0.48" and row["splits"] == 2
    assert row["ours, bootstrap over subjects"].startswith("10.00 [")
    assert row["ours, corrected t"] == "too few splits" and row["p"] == ""
    more = [finished(arm, "random", k, w) for k in (2, 3, 4) for arm, w in (("kim", k), ("kim-softmax", 4))]
    row = kim_tables.differences(results | dict(more)).iloc[0]
    expected = evaluate.corrected_t(np.array([15.0, 5.0, 10.0, 5.0, 0.0]), 80, 20)
    assert row["ours, corrected t"] == str(expected.difference) and row["p"] == f"{expected.p:.2g}"
    other = table.drop(index=[row.name])["ours, bootstrap over subjects"]
    assert set(other) == {tables.NOT_RUN}
    assert set(table["paper"]) == {"0.48", "2.09", "2.57", ""}


def test_occlusion_two_by_two():
    results = dict(
        [finished("kim", "subject", 0, 4, occluded_wrong=5)]
        + [finished("kim-no-occlusion", "subject", 0, 2, occluded_wrong=10)]
    )
    clean, hidden, gain = kim_tables.occlusion(results).loc["new people"].iloc
    seen, covered, costs = "tested on clean faces", "tested on occluded faces", "occlusion costs"
    assert [x.value for x in (clean[seen], clean[covered], clean[costs])] == pytest.approx([90, 50, 40])
    assert [x.value for x in (hidden[seen], hidden[covered], hidden[costs])] == pytest.approx([80, 75, 5])
    assert [x.value for x in (gain[seen], gain[covered])] == pytest.approx([-10, 25])
    assert not len(kim_tables.occlusion({}))
    table = kim_tables.occlusion(results, dict(list(results.items())[:1]))  # one arm alone makes no 2 x 2
    assert table.index.unique(0).tolist() == ["new people"]
    table = kim_tables.occlusion(results, results)
    assert table.index.unique(0).tolist() == ["new people", "new people, printed recipe"]
    axes = figures.occlusion(table).axes
    assert [ax.get_title().replace("\n", " ") for ax in axes] == ["new people", "new people, printed recipe"]
    drawn = {c.get_label(): c.lines[0].get_ydata().tolist() for c in axes[1].containers}
    assert drawn == {"trained on clean faces": [90, 50], "trained on occluded faces": [80, 75]}


@pytest.mark.parametrize(
    ("trained", "epoch"),
    [
        ((20, 60, 90), None),
        ((90, 75, 88), None),  # not far enough
        ((99, 40, 97), None),  # it came back
        ((100, 86, 83, 94, 96), 2),  # not all the way
        ((50, 99, 98, 45, 60), 4),
        ((99, 40, 99, 30), 4),  # the last time counts
    ],
)
def test_a_run_that_fell_back_is_known(trained, epoch):
    _, result = finished("kim", "random", 0, 1, trained=trained)
    assert pooling.fell_back(result) == epoch


def test_occlusion_without_a_run_that_fell_back():
    """The diverged run makes the gain on clean faces; without its split there is none."""
    results = dict(
        [finished("kim", "random", k, 1) for k in (0, 1)]
        + [finished("kim-no-occlusion", "random", 0, 1)]
        + [finished("kim-no-occlusion", "random", 1, 15, trained=(99, 99, 20))]
    )
    table = kim_tables.occlusion(results)
    gain = "gain by training on occluded ones"
    assert table.loc[("random frames", gain), "tested on clean faces"].value == pytest.approx(35)
    left = table.loc[("random frames, without 1 that fell back", gain)]
    assert left["tested on clean faces"].value == 0 and left["splits"] == 1
    assert kim_tables.by_split(results)["fell back"].dropna().tolist() == [3]


def test_nearest_pixels_are_kept_beside_the_runs(monkeypatch):
    """Computed once, and read without the images afterwards; another number of folds is another table."""
    monkeypatch.setattr(untrained, "DRAWS", 30)
    found = untrained.nearest_pixels("demo", "demo-ck", 3)
    assert dict(found["protocol"].value_counts()) == {"random": 30, "sequence": 60, "subject": 60}
    mean = found.groupby("protocol").mean()
    assert mean.loc["random", "accuracy"] > 95 > 35 > mean.loc["sequence", "accuracy"]
    assert mean.loc["sequence", "same sequence"] == mean.loc["subject", "same subject"] == 0
    assert mean.loc["random", "same sequence"] == pytest.approx(96.65, abs=1)

    def absent(name, root=None):
        raise DataError("no images here")

    monkeypatch.setattr(untrained, "load_faces", absent)
    pd.testing.assert_frame_equal(untrained.nearest_pixels("demo", "demo-ck", 3), found)
    assert untrained.nearest_pixels("demo", "demo-ck", 5) is None


def test_splits_as_rows():
    run, result = finished("kim", "random", 1, 1, occluded_wrong=2)
    short = replace(run, recipe=replace(run.recipe, epochs=3))
    row, other = kim_tables.by_split({run: result, short: result}).iloc
    name = papers.TITLES["kim"]
    assert (row.network, other.network) == (f"{name}, printed recipe", name)
    assert (row.protocol, row.fold, row.n_test) == ("random", 1, 20)
    assert (row.clean, row.occluded) == pytest.approx((95, 90))
    assert len(kim_tables.by_split({})) == 0


def test_the_grid_is_exact_whatever_the_network_computes_in():
    """In bfloat16 the identity would move pixels by a thirtieth of one, and a small zoom not at all."""
    x = batch()
    with torch.autocast("cpu", torch.bfloat16):
        seen = sample(x, torch.tensor(IDENTITY).view(1, 2, 3).expand(len(x), -1, -1))
    torch.testing.assert_close(seen, x, rtol=0, atol=1e-4)
