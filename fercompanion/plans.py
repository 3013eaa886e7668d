"""The runs of each profile as data: which arms, data sets, protocols and seeds `demo`, `paper-cpu`, `paper` hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from .data import DataError, data_title, whose
from .papers import TITLES
from .recipes import MILD, OURS, PAPER, PAPER_CK, STRONG, Recipe, arm
from .runs import Result, Run, find_all
from .siblings import ARMS as SIBLING_ARMS
from .siblings import DNNRL, IMAGENET_WEIGHTS, KIM, MODEL_A, sibling_arm

FACTORIAL = ("vgg19", "baseline1", "baseline2", "lkrnet")
"""The 2 x 2 of LKRNet's ablation: local branch (no/yes) x triplet loss (no/yes)."""
LAMBDAS = {"baseline1": 0.0, "lkrnet-lambda0.1": 0.1, "lkrnet": 0.2, "lkrnet-lambda0.4": 0.4}
"""Arms of the lambda sweep (Fig. 6) and their lambda."""
MASK_CONTROLS = ("lkrnet-shuffled-mask", "lkrnet-mean-mask")
LONG_ARMS = ("vgg19", "lkrnet")
"""Without and with all that LKRNet adds: what a short profile trains for longer too."""
AVERAGED = {"LKRNet": "lkrnet", "DNNRL": "dnn", "Liu et al.": "liu-a", "Kim et al.": "kim-softmax"}
"""Paper -> the arm that notebook 10 averages with the other papers'."""

KIM_PROTOCOLS = ("random", "sequence", "subject")


@dataclass(frozen=True)
class Siblings:
    """The runs of DNNRL, Liu et al. and Kim et al. in a profile.

    Attributes
    ----------
    base : first part of their recipes' names.
    papers : paper -> fields that differ from what it prints, in all its arms, and where it has one a `base` of its own.
    arms : arm -> fields that differ in it alone; they come last.
    leave_out : arms that the profile cannot afford.
    seeds, kim_seeds : of DNNRL and Liu et al., and of Kim et al.
    more_seeds : arm of DNNRL or Liu et al. -> seeds, where they are not `seeds`.
    kim_folds : folds, or random splits, of each protocol of Kim et al.
    kim_first : protocol -> how many of them are run, where that is not all.
    kim_printed : arm -> protocol -> of ten such, how many it is also trained on by the printed recipe, beside a
        shortened one.
    longer : networks trained in the wild for longer, one a paper, for the mean of all papers' networks.
    """

    base: str = "paper"
    papers: dict[str, dict] = field(default_factory=dict)
    arms: dict[str, dict] = field(default_factory=dict)
    leave_out: tuple[str, ...] = ()
    seeds: int = 1
    kim_seeds: int = 1
    more_seeds: dict[str, int] = field(default_factory=dict)
    kim_folds: int = 10
    kim_first: dict[str, int] = field(default_factory=dict)
    kim_printed: dict[str, dict[str, int]] = field(default_factory=dict)
    longer: tuple[Recipe, ...] = ()

    def recipes(self, paper: str) -> list[Recipe]:
        """The arms of a paper, as the profile trains them."""
        return [
            sibling_arm(
                paper, name, **{"base": self.base} | self.papers.get(paper, {}) | self.arms.get(name, {})
            )
            for name in SIBLING_ARMS[paper]
            if name not in self.leave_out
        ]


@dataclass(frozen=True)
class Profile:
    """What one ``make reproduce PROFILE=name`` holds.

    Attributes
    ----------
    name : of the profile, and of its folders below results/ and figures/.
    notes : what stands under tables and figures drawn from the runs in the wild, in the lab, and of each sibling.
    wild, lab : data sets in the wild (FER2013) and in the lab (CK+).
    recipe, lab_recipe : recipes whose arms are trained on them.
    arms, lab_arms : names in `recipes.ARMS`.
    seeds, lab_seeds, lab_folds, lab_protocols : how often, and under which protocols of `protocols`.
    literal, literal_seeds : arms trained by the paper's literal recipe beside them, and how often in the wild.
    long : by what recipe `LONG_ARMS` are trained in the wild for longer; None = they are not.
    strong_seeds : how often `LONG_ARMS` are trained by the recipe `STRONG` beside them.
    small : whether `SMALL` is trained too.
    instead : a profile whose runs answer where this one has none yet.
    siblings : how the other three papers' runs differ from what those papers print.
    """

    name: str
    notes: dict[str, str]
    wild: str
    lab: str
    recipe: Recipe
    lab_recipe: Recipe
    arms: tuple[str, ...] = (*FACTORIAL, "lkrnet-lambda0.1", "lkrnet-lambda0.4", *MASK_CONTROLS)
    lab_arms: tuple[str, ...] = FACTORIAL
    seeds: int = 1
    lab_seeds: int = 1
    lab_folds: int = 10
    lab_protocols: tuple[str, ...] = ("subject", "frame")
    literal: tuple[str, ...] = ()
    literal_seeds: int = 1
    long: Recipe | None = None
    strong_seeds: int = 0
    small: bool = False
    instead: str = ""
    siblings: Siblings = field(default_factory=Siblings)

    @property
    def wild_title(self) -> str:
        """The data set in the wild, as people write it."""
        return data_title(self.wild)

    @property
    def lab_title(self) -> str:
        """The data set in the lab, as people write it."""
        return data_title(self.lab)

    @property
    def ours(self) -> str:
        """What numbers on the data set in the wild are called beside the paper's."""
        return whose(self.wild)

    @property
    def note(self) -> str:
        """Of LKRNet's runs, in the wild and in the lab."""
        return " ".join(dict.fromkeys((self.notes["wild"], self.notes["lab"])))


_SYNTHETIC = (
    "Synthetic demo faces, {}-width networks, {} epochs, one seed: shows that everything works, says nothing about "
    "real faces."
)
WIDTHS = {0.125: "an eighth of the width", 0.25: "quarter width", 0.5: "half width", 1.0: "full width"}
"""Factor on the channels of the convolutions, as captions say it."""

# A network that is a quarter as wide has a sixteenth of the multiplications; standardised images help it.
_NARROW = replace(
    MILD, name="narrow", width=0.25, standardise=True, epochs=30, batch_size=32, lr=0.01, dropout=0.2
)

# Too few epochs for strong regularisation: the transforms are the paper's crop, flip and black block alone.
_DEMO_LAB = replace(
    _NARROW,
    name="demo",
    width=0.125,
    epochs=6,
    batch_size=16,
    warmup_epochs=0,
    rotate=0.0,
    zoom=0.0,
    shift=0.0,
    label_smoothing=0.0,
)

# On 1,540 images in the wild, SGD left some arms on their first plateau for good, at every rate tried (0.001 to
# 0.02); Adam with this one took all arms off it by the fifth epoch, VGG19 and Baseline 2 with six seeds.
_DEMO = replace(
    _DEMO_LAB,
    epochs=8,
    batch_size=32,
    optimizer="adam",
    lr=3e-4,
    dropout=0.0,
    weight_decay=0.0,
)

SMALL = replace(
    KIM,
    name="small-kim-softmax",
    width=0.375,
    standardise=True,
    localisation_rate=0.1,
    lam=0.0,
    triplets="none",
    label_smoothing=0.1,
    epochs=80,
    batch_size=64,
    lr=2e-3,
    schedule="cosine",
    flip=0.5,
    rotate=10.0,
    zoom=0.1,
    shift=3.0,
    occlusion=0.25,
    test_occluded=False,
)
"""Kim et al.'s network on faces in the wild, for a mean with the other papers'."""

# In the half hour and core that half the width takes for 12 epochs (64.3 % of PublicTest by TenCrop), a quarter has 36
# (68.2 %, in a trial with VGG19): a narrower network learns more in the same time, with transforms as mild as it needs.
_SHORT = replace(
    OURS,
    name="short",
    width=0.25,
    epochs=36,
    batch_size=128,
    warmup_epochs=2,
    dropout=0.3,
    rotate=6.0,
    zoom=0.08,
    shift=1.5,
    occlusion=0.1,
)

# Few epochs end better on a learning rate that falls to 0.
_SHORTER = {"standardise": True, "schedule": "cosine"}

# DNNRL's sizes halved: a quarter of the pixels, and faces of 48 need not be enlarged.
_SMALLER = {"size": 48, "canvas": 60, "crop": 54, "zoom": 5 / 48, "lr": 0.05}
# AlexNet's pools need all of 108, and its optimiser a small rate.
_ALEXNET = {name: getattr(DNNRL, name) for name in ("size", "canvas", "crop", "zoom")} | {"lr": 3e-4}

# What a network of another paper gets for a mean with LKRNet's: its own loss, and all that helps it in the wild.  DNN is
# also the small network that comes with the package.
_LONG_DNN = replace(
    sibling_arm("dnnrl", "dnn", "long"),
    **_SHORTER | _SMALLER,
    width=0.5,
    epochs=100,
    label_smoothing=0.1,
    weight_decay=5e-4,
    flip=0.5,
    balanced=False,
    select="accuracy",
    rollback=0.0,
    patience=0,
)
_LONG_A = replace(
    sibling_arm("liu", "liu-a", "long"), **_SHORTER, width=0.5, epochs=20, dropout=0.3, label_smoothing=0.1
)

PROFILES = {
    p.name: p
    for p in (
        Profile(
            "demo",
            {
                "wild": _SYNTHETIC.format("eighth", "8 (demo-ck: 6)"),
                "lab": _SYNTHETIC.format("eighth", "8 (demo-ck: 6)"),
                "dnnrl": _SYNTHETIC.format("quarter", 6),
                "liu": _SYNTHETIC.format("quarter", "4 (model B: 3)"),
                "kim": _SYNTHETIC.format("quarter", 4),
            },
            "demo",
            "demo-ck",
            _DEMO,
            _DEMO_LAB,
            arms=(*FACTORIAL, "lkrnet-lambda0.4"),
            lab_arms=("vgg19", "lkrnet"),
            lab_folds=2,
            siblings=Siblings(
                "demo",
                {
                    "dnnrl": {"width": 0.25, "epochs": 6, "standardise": True} | _SMALLER,
                    "liu": {"width": 0.25, "epochs": 4, "standardise": True},
                    "kim": {"width": 0.25, "epochs": 4, "batch_size": 16, "localisation_rate": 0.1},
                },
                {
                    "liu-b": {"faces": "srgan-small", "epochs": 3, "batch_size": 32, "lr": 0.005},
                    "alexnet": _ALEXNET | {"batch_size": 32, "dropout": 0.0},
                },
                leave_out=(
                    "tdnn-joint",
                    "dnnrl-joint",
                    "liu-b-bicubic",
                    "liu-b-48",
                    "liu-vgg19",
                    *MODEL_A[2:],  # all but the whole one, and that without center loss
                ),
                kim_folds=2,
                kim_first={"sequence": 1, "subject": 1},
            ),
        ),
        Profile(
            "paper-cpu",
            {
                "wild": "FER2013 with quarter-width networks, 36 epochs, one seed: what a CPU affords.",
                "lab": "CK+ with quarter-width networks, 30 epochs and 5 folds: what a CPU affords.",
                "dnnrl": "FER2013 with half-width networks on faces of 48 instead of 96 pixels (AlexNet: quarter-width, "
                "96 pixels), 10 epochs, one seed (T-DNN and DNNRL with softmax: five): what a CPU affords. Not converged.",
                "liu": "FER2013 with quarter-width networks and 6 epochs (model B: 3, from random weights, small SRGAN): "
                "what a CPU affords. Far from converged.",
                "kim": "CK+ with quarter-width networks and 30 epochs (printed recipe: full width, 100 epochs), on the "
                "first few of ten splits or folds: what a CPU affords.",
            },
            "fer2013",
            "ckplus",
            _SHORT,
            _NARROW,
            lab_folds=5,
            small=True,
            siblings=Siblings(
                "short",
                {
                    "dnnrl": _SHORTER | {"width": 0.5, "epochs": 10} | _SMALLER,
                    "liu": _SHORTER | {"width": 0.25, "epochs": 6},
                    "kim": {"width": 0.25, "epochs": 30, "localisation_rate": 0.1},
                },
                {
                    "alexnet": _ALEXNET | {"width": 0.25, "select": "accuracy"},
                    **dict.fromkeys(("dnn", "tdnn-joint", "dnnrl-joint"), {"select": "accuracy"}),
                    "liu-b": {"faces": "srgan-small", "epochs": 3},
                    "liu-b-bicubic": {"epochs": 3},
                    "liu-b-48": {"epochs": 3},
                },
                more_seeds={"tdnn-joint": 5, "dnnrl-joint": 5},
                kim_first={"random": 5, "sequence": 2, "subject": 2},
                kim_printed={
                    "kim": {"random": 5, "sequence": 1, "subject": 5},
                    "kim-no-occlusion": {"subject": 5},
                    "kim-softmax": {"random": 5},
                    "kim-resnet18": {"random": 5},
                },
                longer=(_LONG_A, _LONG_DNN),
            ),
        ),
        Profile(
            "paper",
            {
                "wild": "FER2013 with full-width networks and 40 epochs (VGG19 and LKRNet also 150, one seed).",
                "lab": "CK+ with full-width networks, 60 epochs and ten folds, as far as they were run.",
            }
            | dict.fromkeys(
                ("dnnrl", "liu"),
                "The paper's printed recipe at full width and length, as far as it was run.",
            )
            | {
                "kim": "CK+ by the printed recipe at full width and length, as far as it was run, but for the localisation "
                "network, which learns at a tenth of the rate."
            },
            "fer2013",
            "ckplus",
            OURS,
            MILD,
            seeds=5,
            lab_seeds=5,
            literal=("vgg19", "lkrnet", "lkrnet-lambda0"),
            literal_seeds=5,
            long=replace(OURS, name="long", epochs=150),
            strong_seeds=2,
            small=True,
            instead="paper-cpu",
            siblings=Siblings(
                # At the full rate the spatial transformer lost the face in two of nine short runs.
                papers={"kim": {"base": "ours", "localisation_rate": 0.1}},
                arms=dict.fromkeys(("liu-b", "liu-b-bicubic", "liu-b-48"), {"weights": IMAGENET_WEIGHTS}),
                seeds=5,
                kim_seeds=5,
                kim_printed={"kim": {"random": 5, "sequence": 1, "subject": 5}},
                longer=tuple(
                    replace(r, width=1.0, epochs=100)
                    for r in (_LONG_A, _LONG_DNN, replace(SMALL, name="long-kim-softmax"))
                ),
            ),
        ),
    )
}


def profile(name: str) -> Profile:
    """A profile by name.

    Raises
    ------
    DataError
        Unknown name.
    """
    if name not in PROFILES:
        raise DataError(f"there is no profile {name!r}; the profiles are {', '.join(PROFILES)}")
    return PROFILES[name]


def held(plan: Profile) -> list[Profile]:
    """The profile, and the one that answers where it has no runs yet."""
    return [plan, *held(profile(plan.instead))] if plan.instead else [plan]


def shown(plan: Profile, part: Callable[[Profile], list[Run]]) -> Profile:
    """The first of `held` with a finished run of a part such as `lab_runs`; the profile itself if none has."""
    return next((p for p in held(plan) if find_all(part(p), p.name)), plan)


def wild_runs(plan: Profile, arms: tuple[str, ...] | None = None) -> list[Run]:
    """Runs in the wild, the first seed of every arm before the second of any; arms not in the plan are left out."""
    chosen = [a for a in plan.arms if arms is None or a in arms]
    return [Run(arm(plan.recipe, a), plan.wild, seed=seed) for seed in range(plan.seeds) for a in chosen]


def literal_runs(plan: Profile) -> list[Run]:
    """Runs by the paper's literal recipe, in the wild."""
    seeds = range(plan.literal_seeds)
    return [Run(arm(PAPER, a), plan.wild, seed=seed) for seed in seeds for a in plan.literal]


def long_runs(plan: Profile) -> list[Run]:
    """Runs in the wild for longer, where the plan has them."""
    return [Run(arm(plan.long, a), plan.wild) for a in LONG_ARMS if plan.long]


def long_sibling_runs(plan: Profile) -> list[Run]:
    """Runs in the wild of the other papers' networks, for the mean of all."""
    return [Run(recipe, plan.wild) for recipe in plan.siblings.longer]


def strong_runs(plan: Profile) -> list[Run]:
    """Runs in the wild for longer still, by stronger transforms."""
    return [Run(arm(STRONG, a), plan.wild, seed=seed) for seed in range(plan.strong_seeds) for a in LONG_ARMS]


def lab_runs(plan: Profile, protocols: tuple[str, ...] | None = None) -> list[Run]:
    """Runs in the lab, the first fold of every arm and protocol before the second of any."""
    return [
        Run(arm(plan.lab_recipe, a), plan.lab, protocol, fold, plan.lab_folds, seed)
        for seed in range(plan.lab_seeds)
        for fold in range(plan.lab_folds)
        for protocol in plan.lab_protocols
        if protocols is None or protocol in protocols
        for a in plan.lab_arms
    ]


def literal_lab_runs(plan: Profile) -> list[Run]:
    """Runs by the paper's literal recipe in the lab, by subjects, the first fold of every arm before the second of any."""
    return [
        Run(arm(PAPER_CK, a), plan.lab, "subject", fold, plan.lab_folds)
        for fold in range(plan.lab_folds)
        for a in plan.literal
    ]


def dnnrl_runs(plan: Profile) -> list[Run]:
    """DNNRL's arms in the wild."""
    return _sibling_runs(plan, "dnnrl")


def liu_runs(plan: Profile) -> list[Run]:
    """Liu et al.'s arms in the wild."""
    return _sibling_runs(plan, "liu")


def _sibling_runs(plan: Profile, paper: str) -> list[Run]:
    own = plan.siblings
    recipes = {r: own.more_seeds.get(r.arm, own.seeds) for r in own.recipes(paper)}
    return [
        Run(r, plan.wild, seed=seed)
        for seed in range(max(recipes.values()))
        for r, seeds in recipes.items()
        if seed < seeds
    ]


def kim_runs(plan: Profile, protocols: tuple[str, ...] | None = None) -> list[Run]:
    """Kim et al.'s arms in the lab, the first fold of every arm and protocol before the second of any."""
    seeds, n, first = range(plan.siblings.kim_seeds), plan.siblings.kim_folds, plan.siblings.kim_first
    return [
        Run(recipe, plan.lab, protocol, fold, n, seed)
        for seed in seeds
        for fold in range(n)
        for protocol in protocols or KIM_PROTOCOLS
        if fold < first.get(protocol, n)
        for recipe in plan.siblings.recipes("kim")
    ]


def kim_printed_runs(plan: Profile) -> list[Run]:
    """Arms of Kim et al. by the printed recipe, full width and length: the first folds of each protocol."""
    runs = [
        Run(sibling_arm("kim", a), plan.lab, protocol, fold, 10)
        for a, wanted in plan.siblings.kim_printed.items()
        for protocol, n in wanted.items()
        for fold in range(n)
    ]
    return sorted(runs, key=lambda run: run.fold)


def small_runs(plan: Profile) -> list[Run]:
    """Kim et al.'s small network in the wild, where the plan has it."""
    return [Run(SMALL, plan.wild)] * plan.small


def all_runs(plan: Profile) -> list[Run]:
    """The whole plan, most informative first: one seed of every arm before the second of any."""
    wild, lab, dnnrl, liu = wild_runs(plan), lab_runs(plan), dnnrl_runs(plan), liu_runs(plan)
    kim, literal, strong = kim_runs(plan), literal_runs(plan), strong_runs(plan)
    first = [run for group in (wild, lab, dnnrl, liu, kim) for run in group if run.seed == 0]
    first += (
        small_runs(plan)
        + long_runs(plan)
        + long_sibling_runs(plan)
        + [run for run in strong if run.seed == 0]
        + kim_printed_runs(plan)
        + [run for run in literal if run.seed == 0]
    )
    later = [run for group in (strong, wild, dnnrl, liu, lab, kim, literal) for run in group if run.seed > 0]
    return first + later + literal_lab_runs(plan)


def trained(plan: Profile, results: Iterable[Result]) -> str:
    """How the networks of a figure were trained, for its caption: "Half width, 12 epochs."."""
    lengths: dict[float, set[int]] = {}
    arms: dict[float, dict[str, None]] = {}
    for r in results:
        lengths.setdefault(r.recipe.width, set()).add(r.recipe.epochs)
        arms.setdefault(r.recipe.width, {})[r.recipe.arm] = None
    most = max(arms, key=lambda width: len(arms[width]), default=None)
    said = []
    for width, epochs in sorted(lengths.items()):
        whose = "the others" if width == most else ", ".join(TITLES[a] for a in arms[width])
        how = (
            f"{WIDTHS.get(width, f'{width:g} of the width')}, {' and '.join(map(str, sorted(epochs)))} epochs"
        )
        said.append(f"{whose}: {how}" if len(lengths) > 1 else how.capitalize())
    synthetic = " Synthetic faces: says nothing about real ones." * plan.wild.startswith("demo")
    return "; ".join(said) + "." + synthetic


def drawn(run: Run) -> bool:
    """Whether a figure shows the run's embedding: LKRNet's lambdas, DNNRL's arms, two of Kim et al.'s; first of each."""
    arm = run.recipe.arm
    if run.seed or run.fold:
        return False
    if run.recipe.paper == "kim":
        return run.protocol in ("random", "subject") and arm in ("kim", "kim-softmax")
    if run.recipe.paper == "lkrnet" and arm not in LAMBDAS:
        return False
    return any(run in (*wild_runs(p), *dnnrl_runs(p)) for p in PROFILES.values())  # not the longer ones


def keeps_logits(run: Run, logits: str) -> bool:
    """Whether an ensemble asks for logits; elsewhere the classes tell all that is asked, in a fourteenth of the room.

    The four papers' networks, of each the first seed, are averaged over TenCrop in the wild; Liu et al.'s pair chooses its
    weight on PublicTest, too.
    """
    if run.protocol != "official" or "last_epoch" in logits:
        return False
    if run.recipe.arm in ("liu-a", "liu-b") and not run.recipe.name.startswith("long-"):
        return True
    averaged = run.recipe.paper == "lkrnet" or run.recipe.arm in AVERAGED.values()
    return averaged and run.seed == 0 and logits == "test_logits_tencrop"
