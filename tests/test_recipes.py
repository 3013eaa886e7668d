"""Recipes: the paper's printed numbers, the learning rate over time, sources and arms."""

import json
import re
from dataclasses import asdict, fields, replace

import pytest

from fercompanion.models import MODELS, build_model
from fercompanion.recipes import ARMS, MILD, OURS, PAPER, PAPER_CK, Recipe, arm, sources

ALL = [arm(base, name) for base in (PAPER, PAPER_CK, MILD, OURS) for name in ARMS]
COSINE = replace(OURS, epochs=60, lr=0.05, warmup_epochs=1, warmup_lr=1e-3, schedule="cosine")


@pytest.mark.parametrize(
    "field, value",
    [
        # Table 1
        ("lr", 0.001),
        ("decay", 0.8),
        ("momentum", 0.9),
        ("weight_decay", 0.0005),
        ("batch_size", 128),
        # Sect. 4.2
        ("warmup_lr", 0.0001),
        ("warmup_epochs", 20),
        ("dropout", 0.8),
        ("crop", 44),
        ("flip", 0.5),
        ("block_size", 3),
        ("optimizer", "sgd"),
        ("rotate", 0),
        ("zoom", 0),
        ("shift", 0),
        # Sect. 3
        ("region_alpha", 0.3),
        ("width", 1.0),
        ("model", "lkrnet"),
    ],
)
def test_the_papers_numbers(field, value):
    assert getattr(PAPER, field) == getattr(PAPER_CK, field) == value


def test_ck_trains_60_epochs():
    changed = {f.name for f in fields(Recipe) if getattr(PAPER, f.name) != getattr(PAPER_CK, f.name)}
    assert PAPER_CK.epochs == 60
    assert changed == {"name", "epochs", "decay_from", "decay_every"}


@pytest.mark.parametrize(
    "recipe, epoch, rate",
    [
        (PAPER, 0, 1e-4),
        (PAPER, 19.99, 1e-4),
        (PAPER, 20, 1e-3),
        (PAPER, 84.99, 1e-3),
        (PAPER, 85, 8e-4),
        (PAPER, 89.99, 8e-4),
        (PAPER, 90, 6.4e-4),
        (PAPER, 249.5, 1e-3 * 0.8**33),
        (PAPER_CK, 19.5, 1e-4),
        (PAPER_CK, 20, 1e-3),
        (PAPER_CK, 21, 8e-4),
        (PAPER_CK, 59, 1e-3 * 0.8**39),
        (COSINE, 0, 1e-3),
        (COSINE, 0.5, 0.0255),
        (COSINE, 1, 0.05),
        (COSINE, 1 + 59 / 3, 0.0375),
        (COSINE, 1 + 59 / 2, 0.025),
        (COSINE, 60, 0),
    ],
)
def test_learning_rate(recipe, epoch, rate):
    assert recipe.learning_rate(epoch) == pytest.approx(rate, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("recipe", [PAPER, PAPER_CK, MILD, OURS])
def test_learning_rate_never_rises_after_the_warm_up(recipe):
    rates = [recipe.learning_rate(k / 4) for k in range(4 * recipe.warmup_epochs, 4 * recipe.epochs)]
    assert rates == sorted(rates, reverse=True) and rates[-1] > 0


@pytest.mark.parametrize("recipe", [PAPER, PAPER_CK, MILD, OURS])
def test_every_field_has_a_source(recipe):
    rows = sources(recipe)
    own = [
        f.name
        for f in fields(Recipe)[1:]
        if not f.metadata.get("sibling") or getattr(recipe, f.name) != getattr(PAPER, f.name)
    ]
    assert [name for name, _, _ in rows] == own
    for name, value, source in rows:
        assert value == getattr(recipe, name)
        assert len(source.strip()) > 3 and (
            "Sect." in source
            or "Table" in source
            or "Eq" in source
            or "Fig" in source
            or "assumed" in source
            or "not in" in source
        )


def test_sources_say_what_is_not_the_papers():
    ours = {name: source for name, _, source in sources(OURS)}
    assert ours["lr"].startswith("ours instead of 0.001 (Table 1") and ours["epochs"].startswith("ours")
    assert not ours["crop"].startswith("ours")
    assert not any(source.startswith("ours") for _, _, source in sources(PAPER))


@pytest.mark.parametrize("recipe", ALL, ids=lambda r: r.name)
def test_json_and_back(recipe):
    assert Recipe(**json.loads(json.dumps(asdict(recipe)))) == recipe


@pytest.mark.parametrize("base", [PAPER, OURS])
@pytest.mark.parametrize("name", ARMS)
def test_an_arm_changes_only_what_it_is_about(base, name):
    recipe = arm(base, name)
    assert recipe.name == f"{base.name}-{name}"
    for field in fields(Recipe):
        value = getattr(recipe, field.name)
        if field.name in ARMS[name]:
            assert value == ARMS[name][field.name]
        elif field.name not in ("name", "triplets"):
            assert value == getattr(base, field.name)
    build_model(recipe.model, **recipe.model_options() | {"width": 0.0625})


def test_the_factorial():
    """Key regions and triplets, each with and without the other; a mask only where a branch uses it."""
    found = {
        n: (arm(PAPER, n).mask != "none", arm(PAPER, n).lam > 0)
        for n in ("vgg19", "baseline1", "baseline2", "lkrnet")
    }
    assert found == {
        "vgg19": (False, False),
        "baseline1": (True, False),
        "baseline2": (False, True),
        "lkrnet": (True, True),
    }
    for recipe in ALL:
        assert (recipe.mask != "none") == (recipe.model in ("baseline1", "lkrnet"))


@pytest.mark.parametrize("name", ARMS)
def test_triplets_are_drawn_where_they_are_used(name):
    without = name in ("vgg19", "baseline1")
    assert arm(PAPER, name).triplets == ("none" if without else "epoch")
    assert arm(OURS, name).triplets == "batch"


def test_lambda_0_in_the_batch_is_baseline_1():
    left, right = arm(OURS, "lkrnet-lambda0"), arm(OURS, "baseline1")
    assert replace(left, name="", model="lkrnet") == replace(right, name="", model="lkrnet")


def test_changes_come_last():
    recipe = arm(PAPER, "lkrnet-lambda0.1", epochs=3, lam=0.7)
    assert (recipe.epochs, recipe.lam, recipe.name, recipe.model) == (
        3,
        0.7,
        "paper-lkrnet-lambda0.1",
        "lkrnet",
    )
    assert (PAPER.epochs, PAPER.lam) == (250, 0.2)


def test_unknown_names():
    with pytest.raises(ValueError, match="lkrnet-lambda9.*vgg19, baseline1"):
        arm(PAPER, "lkrnet-lambda9")
    with pytest.raises(TypeError, match="epoch_number"):
        arm(PAPER, "lkrnet", epoch_number=3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schedule": "constnat"}, "schedule='constnat': choose step, cosine, constant"),
        ({"select": "los"}, "choose accuracy, loss"),
        ({"epochs": 0}, "epochs=0: expected 1 or more"),
        ({"width": 0.0}, "width=0.0"),
        ({"width": float("nan")}, "width=nan"),
        ({"width": 0.03}, "width=0.03: expected 1/32 or more"),
        ({"region_alpha": 0.0}, "region_alpha=0.0: expected more than 0"),
        ({"gamma": float("nan")}, "gamma=nan: expected a number"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"lr": float("inf")}, "lr=inf"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"lam": -1.0}, "lam=-1.0: expected 0 or more"),
        ({"rotate": float("nan")}, "rotate=nan: expected 0 or more"),
        ({"lam": float("inf")}, "lam=inf: expected 0 or more"),
        ({"blocks": -1}, "blocks=-1: expected 0 or more"),
        ({"size": 0}, "size=0: expected 1 or more"),
        ({"activation": "gelu"}, "activation='gelu': choose prelu, relu"),
        ({"flip": 1.5}, "flip=1.5: expected 0 to 1"),
        ({"momentum": 1.0}, "momentum=1.0: expected 0 to 1, and less"),
        ({"mask_at": "conv9"}, "mask_at='conv9': choose conv3_4"),
        ({"crop": 60}, "crop=60, size=48: larger than the canvas of 48"),
        ({"triplets": "none"}, "needs batch or epoch"),
        ({"epochs": 2.5}, "epochs=2.5: expected a whole number"),
        ({"block_size": 60}, "block_size=60: larger than the crop of 44"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes, words):
    """A misspelt schedule would silently train by another one."""
    with pytest.raises(ValueError, match=re.escape(words)):
        replace(PAPER, **changes)


@pytest.mark.parametrize("name", MODELS)
def test_the_narrowest_network_has_channels(name):
    assert all(p.numel() for p in build_model(name, width=1 / 32).parameters())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"faces": "bicubic"}, "key regions of mask='regions' are found on original faces"),
        ({"cross_entropy": 0.0, "lam": 0.0}, "nothing would be minimised"),
    ],
)
def test_recipes_that_would_train_something_else_are_refused(changes, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        replace(PAPER, **changes)
    assert replace(PAPER, mask="none", faces="bicubic").faces == "bicubic"
