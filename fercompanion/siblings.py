"""Recipes of LKRNet's three siblings: what each paper prints, its arms, and where every value comes from."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

from .recipes import Recipe

NAMES = {"dnnrl": "DNNRL", "liu": "Liu et al.", "kim": "Kim et al."}
"""Field `paper` of a recipe -> the paper, as people write it."""

DNNRL = Recipe(
    name="paper",
    paper="dnnrl",
    model="dnnrl",
    mask="none",
    dropout=0.2,
    cross_entropy=0.0,
    metric="exponential",
    lam=1.0,
    alpha=0.2,
    gamma=0.0,
    clamp=True,
    triplets="batch",
    balanced=True,
    knn=True,
    epochs=200,
    batch_size=128,
    lr=0.01,
    lr_floor=1e-4,
    warmup_epochs=0,
    schedule="constant",
    decay=0.1,
    rollback=0.1,
    patience=20,
    select="loss",
    weight_decay=0.0,
    size=96,
    canvas=120,
    crop=108,
    rotate=15.0,
    zoom=10 / 96,
    flip=0.0,
    blocks=0,
)
"""DNNRL as printed: Sects. 3.1 to 4."""

LIU_A = Recipe(
    name="paper",
    paper="liu",
    model="liu_a",
    mask="none",
    dropout=0.5,
    metric="center",
    lam=0.003,
    triplets="none",
    optimizer="adamax",
    epochs=250,
    batch_size=64,
    lr=0.01,
    warmup_epochs=0,
    schedule="constant",
    weight_decay=0.0,
    blocks=0,
    rotate=10.0,
    zoom=0.1,
    shift=2.0,
)
"""Liu et al.'s model A as printed: Sects. 2 and 4.2."""

KIM = Recipe(
    name="paper",
    paper="kim",
    model="kim",
    mask="none",
    lam=1.0,
    margin=0.2,
    triplets="epoch",
    optimizer="adam",
    epochs=100,
    batch_size=8,
    lr=1e-3,
    warmup_epochs=0,
    schedule="constant",
    weight_decay=0.0,
    crop=48,
    flip=0.0,
    blocks=0,
    occlusion=0.5,
    test_occluded=True,
)
"""Kim et al. as printed: Sects. 2 and 3."""

PRINTED = {"dnnrl": DNNRL, "liu": LIU_A, "kim": KIM}

SOFTMAX = {"cross_entropy": 1.0, "lam": 0.0, "triplets": "none"}
IMAGENET_WEIGHTS = "ResNet50_Weights.IMAGENET1K_V1"
MODEL_B = {
    "model": "liu_b",
    "metric": "triplet",
    "lam": 0.0,
    "lr": 1e-3,
    "faces": "srgan",
    "size": 96,
    "canvas": 96,
    "crop": 88,
    "shift": 4.0,
}

LEFT_OUT = {
    "center loss": ("no-center", {"metric": "triplet", "lam": 0.0}),
    "PReLU": ("relu", {"activation": "relu"}),
    "augmentation": ("no-augmentation", {"flip": 0.0, "rotate": 0.0, "zoom": 0.0, "shift": 0.0}),
}
"""Ingredient of Liu et al.'s model A -> how arms without it are called, and what they change."""


def model_a(*left_out: str) -> str:
    """The arm of model A without some ingredients of `LEFT_OUT`: ``model_a("PReLU")`` is "liu-a-relu"."""
    return "-".join(["liu-a", *(name for part, (name, _) in LEFT_OUT.items() if part in left_out)])


def with_and_without(part: str) -> dict[tuple[str, ...], tuple[str, str]]:
    """The other two ingredients as far as they are there -> the arm of model A with `part`, and that without."""
    others = [x for x in LEFT_OUT if x != part]
    gone = [some for n in range(3) for some in combinations(others, n)]
    return {
        tuple(x for x in others if x not in some): (model_a(*some), model_a(part, *some)) for some in gone
    }


def _without(*how_many: int) -> dict[str, dict]:
    every = [some for n in how_many for some in combinations(LEFT_OUT, n)]
    return {model_a(*some): {k: v for x in some for k, v in LEFT_OUT[x][1].items()} for some in every}


ARMS = {
    "dnnrl": {
        # with SGD at 0.01 it rests on a plateau
        "alexnet": SOFTMAX | {"model": "alexnet", "dropout": 0.5, "optimizer": "adam", "lr": 3e-4},
        "dnn": SOFTMAX,
        "tdnn": {"metric": "triplet"},
        "dnnrl": {},
        "dnnrl-unclamped": {"clamp": False},
        # not in the paper: the metric terms beside cross-entropy, since alone they learn little from random weights
        "tdnn-joint": {"metric": "triplet", "cross_entropy": 1.0},
        "dnnrl-joint": {"cross_entropy": 1.0},
    },
    "liu": {
        **_without(0, 1),
        "liu-b": MODEL_B,
        "liu-b-bicubic": MODEL_B | {"faces": "bicubic"},
        "liu-b-48": MODEL_B | {"faces": "original", "size": 48, "canvas": 48, "crop": 44, "shift": 2.0},
        "liu-vgg16": {"model": "vgg16", "metric": "triplet", "lam": 0.0, "lr": 1e-3},
        "liu-vgg19": {"model": "liu_vgg19", "metric": "triplet", "lam": 0.0, "lr": 1e-3},
        **_without(2, 3),
    },
    "kim": {
        "kim": {},
        # the same images in the same order as with the triplet loss
        "kim-softmax": {"lam": 0.0},
        "kim-resnet18": {"model": "kim_resnet18", "lam": 0.0},
        "kim-no-occlusion": {"occlusion": 0.0},
    },
}
"""Paper -> arm -> what it changes in the paper's recipe."""
MODEL_A = tuple(_without(0, 1, 2, 3))
"""Liu et al.'s model A with all of its ingredients, without one, two and all three: eight arms."""

SOURCES = {
    "dnnrl": {
        "model": "Table 1",
        "dropout": "Table 1, before the linear layer",
        "cross_entropy": "Sect. 4.1: 1 for DNN and AlexNet (softmax), 0 for T-DNN and DNNRL; 1 in the joint arms, which are ours",
        "metric": "Eq. 1 with the sign of Eqs. 2-4; triplet for T-DNN",
        "lam": "Eq. 1: the only term",
        "alpha": "Sect. 4",
        "gamma": "Sect. 4",
        "clamp": "Eq. 1",
        "margin": "T-DNN's is not printed; 0.2 on squared distances of unit vectors is assumed",
        "triplets": "Sect. 4 has 'randomly selected'; within the batch is assumed",
        "balanced": "Sect. 4 has 'randomly selected'; classes drawn equally often is assumed, for softmax too",
        "knn": "Sect. 4, k chosen on the validation images",
        "optimizer": "assumed; Adam for AlexNet, which with SGD rests on a plateau",
        "momentum": "assumed",
        "weight_decay": "assumed",
        "epochs": "assumed upper bound; Sect. 4 stops by `patience`",
        "patience": "Sect. 4: 20 iterations, read as epochs",
        "batch_size": "Sect. 4: floor(N / 128) batches an epoch",
        "lr": "Sect. 4",
        "lr_floor": "Sect. 4",
        "schedule": "Sect. 4: constant between roll-backs",
        "decay": "Sect. 4: 'reduced by one-tenth', read as times 0.1",
        "rollback": "Sect. 4: validation loss up by more than 10 %",
        "select": "Sect. 4: best validation loss",
        "size": "Sect. 3.1",
        "canvas": "Sect. 3.1",
        "crop": "Sect. 3.1",
        "rotate": "Sect. 3.1",
        "zoom": "Sect. 3.1: [-10, 10], read as pixels of 96",
        "flip": "not named",
    },
    "liu": {
        "model": "Fig. 1 and Sect. 2.2; model B: Sect. 3.1",
        "activation": "Sect. 2.3",
        "dropout": "abstract, of model A; the rate is not printed, and that B and the VGGs have it is assumed",
        "weights": "Sect. 3.1: ImageNet for model B; 'none' where they are not at hand",
        "faces": "Sect. 3.2: model B sees faces enlarged twice by SRGAN",
        "metric": "Eq. 4 (model A)",
        "lam": "Eq. 4; its value is not printed, and none was tried",
        "center_rate": "not printed; Wen et al.'s 0.5",
        "optimizer": "Sects. 2.2 and 4.2",
        "epochs": "Sect. 4.2: 250 iterations, read as epochs",
        "batch_size": "Sect. 4.2",
        "lr": "Sect. 4.2; 0.001 for model B and the VGGs is assumed",
        "schedule": "assumed",
        "weight_decay": "not named",
        "select": "not named; the best epoch on PublicTest",
        "size": "Sects. 2.2 and 3.2",
        "canvas": "no padding",
        "crop": "Sect. 4.2: 44 of 48; 88 of 96 is assumed",
        "flip": "Sect. 4.2",
        "rotate": "Sect. 4.2 has random rotation; its range is assumed",
        "zoom": "Sect. 4.2 has random scaling; its range is assumed",
        "shift": "Sect. 4.2 has random offsets; their range is assumed",
    },
    "kim": {
        "model": "Figs. 1 and 2, Table 1; Sect. 2.3 has 'the generated data and input data', the transformer's output alone is assumed",
        "localisation_rate": "assumed; at 1 the transformer lost the face within some epochs in two of nine short runs, at 0.1 in none",
        "lam": "assumed: cross-entropy + triplet with equal weights; how the triplet arm classifies is not said",
        "margin": "not printed; 0.2 on squared distances of unit vectors is assumed",
        "triplets": "Fig. 1: anchor, positive and negative through one network",
        "optimizer": "assumed: with SGD (0.001, momentum 0.9) the spatial transformer leaves the face within an epoch",
        "epochs": "Sect. 2.3",
        "batch_size": "Sect. 2.3, read as triplets",
        "lr": "Sect. 2.3",
        "schedule": "assumed",
        "weight_decay": "not named",
        "crop": "Table 1: 48 gives its 24, 12, 6, 3, 2",
        "flip": "not named",
        "occlusion": "Sect. 3 has random occlusion; one rectangle of 2-20 % with probability 0.5 is assumed",
        "test_occluded": "Sect. 3 announces a comparison with and without occlusion and prints none",
    },
}
"""Paper -> field -> where its value comes from; fields that are not listed do not concern the paper."""


def sibling_arm(paper: str, name: str, base: str = "paper", **changes) -> Recipe:
    """The recipe of a sibling's arm: ``sibling_arm("kim", "kim-softmax", "short", epochs=5)``.

    Parameters
    ----------
    paper, name : a paper of `ARMS` and one of its arms.
    base : first part of the recipe's name.
    changes : fields to set after the arm's own, such as the epochs of a profile.

    Raises
    ------
    ValueError
        There is no such paper or arm, or a field would be what a `Recipe` refuses.
    """
    if name not in ARMS.get(paper, ()):
        raise ValueError(f"unknown arm {name!r} of {paper!r}")
    recipe = replace(PRINTED[paper], name=f"{base}-{name}", **ARMS[paper][name])
    return replace(recipe, **changes)
