"""Tables from archived runs, as pandas frames: accuracies, recalls, paired differences; ours beside the papers'."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product

import numpy as np
import pandas as pd

from . import evaluate, plans, protocols
from .data import DataError, clean_mask, load_faces
from .papers import ACCURACIES, METHODS, published, published_gains, published_recalls
from .plans import FACTORIAL
from .runs import AVERAGED, Result, Run, anew, find_all, kept_arrays, results_folder, whole_or_told
from .siblings import LEFT_OUT, MODEL_A, sibling_arm, with_and_without
from .whole import kept_if_possible, whole


class Titles(dict):
    """Arm -> its name in tables and figures; arms of one's own have their own."""

    def __missing__(self, arm: str) -> str:
        return arm


TITLES = Titles(
    {
        "vgg19": "VGG19",
        "baseline1": "Baseline 1",
        "baseline2": "Baseline 2",
        "lkrnet": "LKRNet",
        "lkrnet-lambda0": "LKRNet, λ = 0",
        "lkrnet-lambda0.1": "LKRNet, λ = 0.1",
        "lkrnet-lambda0.4": "LKRNet, λ = 0.4",
        "lkrnet-shuffled-mask": "LKRNet, shuffled masks",
        "lkrnet-mean-mask": "LKRNet, mean mask",
        "alexnet": "AlexNet",
        "dnn": "DNN",
        "tdnn": "T-DNN",
        "dnnrl": "DNNRL",
        "dnnrl-unclamped": "DNNRL, unclamped",
        "tdnn-joint": "T-DNN with softmax",
        "dnnrl-joint": "DNNRL with softmax",
        "liu-a": "Model A",
        "liu-a-no-center": "A, no center loss",
        "liu-a-relu": "A, ReLU",
        "liu-a-no-augmentation": "A, crops alone",
        "liu-b": "Model B, SRGAN",
        "liu-b-bicubic": "Model B, bicubic",
        "liu-b-48": "Model B, 48 pixels",
        "liu-ensemble": "A + B",
        "liu-vgg16": "VGG16",
        "liu-vgg19": "VGG19 (Liu et al.)",
        "liu-a-no-center-relu": "A, no center loss, ReLU",
        "liu-a-no-center-no-augmentation": "A, no center loss, crops alone",
        "liu-a-relu-no-augmentation": "A, ReLU, crops alone",
        "liu-a-no-center-relu-no-augmentation": "A, none of the three",
        "kim": "STN + ResNet-10, triplet",
        "kim-softmax": "STN + ResNet-10, softmax",
        "kim-resnet18": "STN + ResNet-18, softmax",
        "kim-no-occlusion": "STN + ResNet-10, triplet, trained clean",
    }
)

PAIRS = (
    ("baseline1", "vgg19"),
    ("baseline2", "vgg19"),
    ("lkrnet", "vgg19"),
    ("lkrnet", "baseline1"),
    ("lkrnet", "baseline2"),
    ("lkrnet", "lkrnet-lambda0.4"),
    ("lkrnet", "lkrnet-shuffled-mask"),
    ("lkrnet", "lkrnet-mean-mask"),
)
"""Comparisons of Sect. 4.3.4, and those of the controls."""

NOT_RUN = "not run"
PRINTED = ", printed recipe"
"""After the name of an arm whose runs by the paper's own recipe stand beside shortened ones."""
VIEWS = ("centre", "tencrop", "knn", "occluded", "last_epoch")
"""How faces are looked at: the middle, ten crops, by k-NN on the middle, with a black rectangle in it, by the last epoch."""
FEWEST = 5
"""Runs, or splits, from which on their own scatter is trusted."""


@dataclass(frozen=True, eq=False)
class Tested:
    """Test predictions of one arm: all its seeds, and folds pooled (of random splits an image may be in several).

    Attributes
    ----------
    index : int (n,), rows of the data set, ascending.
    labels, clean, subject : (n,).
    logits : view ("centre", "tencrop", and where recorded "knn", "occluded") -> float (S, n, K), where they were kept.
    results : the runs, fold after fold within a seed.
    seeds : the seeds, in the order of the first axis of `logits`.
    classes : view -> int (S, n), the classes that were named, where the logits were not kept.
    """

    index: np.ndarray
    labels: np.ndarray
    clean: np.ndarray
    subject: np.ndarray
    logits: dict[str, np.ndarray]
    results: tuple[Result, ...]
    seeds: tuple[int, ...]
    classes: dict[str, np.ndarray] = field(default_factory=dict)

    def predicted(self, crops: str = "tencrop") -> np.ndarray:
        """int (S, n), the class with the largest logit."""
        return self.logits[crops].argmax(-1) if crops in self.logits else self.classes[crops]

    def hits(self, crops: str = "tencrop") -> np.ndarray:
        """bool (S, n)."""
        return self.predicted(crops) == self.labels

    @property
    def folds(self) -> list[int]:
        """The fold, or random split, of each run."""
        return [r.info["fold"] for r in self.results]

    @property
    def epochs(self) -> str:
        """Number of epochs trained, for the tables."""
        return "/".join(str(e) for e in sorted({r.info["epochs"] for r in self.results}))


def by_arm(results: dict[Run, Result], part: str = "test", partial: bool = False) -> dict[str, Tested]:
    """Group finished runs of one data set and protocol by arm; folds of a seed are pooled.

    An arm with a fold missing in a seed loses that seed, unless `partial` says to take the folds that are there: then
    of several seeds those that have the same folds as the seed with most.

    Raises
    ------
    DataError
        The runs were made on different copies of the data set, or those of an arm by different recipes.
    """
    copies = {result.info["data_sha256"] for result in results.values()}
    if len(copies) > 1:
        raise DataError(
            f"runs on {len(copies)} copies of the data ({', '.join(sorted(c[:12] for c in copies))}) cannot be "
            f"compared; {anew('those of one copy')}"
        )
    groups: dict[str, dict[int, list]] = {}
    recipes = {}
    for run, result in results.items():
        if (first := recipes.setdefault(run.recipe.arm, run.recipe)) != run.recipe:
            other = [k for k, v in asdict(first).items() if getattr(run.recipe, k) != v]
            raise DataError(
                f"{run.recipe.arm}: runs by two recipes ({', '.join(other)} differ) are no seeds of each other; take them "
                "one by one"
            )
        groups.setdefault(run.recipe.arm, {}).setdefault(run.seed, []).append((run, result))
    tested = {}
    for arm, seeds in groups.items():
        folds = {seed: {run.fold for run, _ in own} for seed, own in seeds.items()}
        most = max(folds.values(), key=len)
        whole = {
            seed: [result for _, result in own]
            for seed, own in sorted(seeds.items())
            if (folds[seed] == most if partial else len(own) == own[0][0].n_folds)
        }
        if whole:
            tested[arm] = _pool(whole, part)
    return tested


def same_folds(results: dict[Run, Result], *arms: str) -> dict[str, Tested]:
    """`by_arm` of these arms, or of all that were run, on the folds that each of them has: as far as they were run."""
    arms = arms or tuple(dict.fromkeys(run.recipe.arm for run in results))
    each = [{(run.seed, run.fold) for run in results if run.recipe.arm == a} for a in arms]
    both = set.intersection(*each) if each else set()
    own = {x: r for x, r in results.items() if x.recipe.arm in arms and (x.seed, x.fold) in both}
    return by_arm(own, partial=True)


def sound(results: dict[Run, Result], *arms: str) -> dict[Run, Result]:
    """The runs without the folds on which one of these arms fell back, in whatever seed: seeds keep the same images."""
    lost = {run.fold for run, r in results.items() if run.recipe.arm in arms and fell_back(r) is not None}
    return {run: r for run, r in results.items() if run.fold not in lost}


def folds_said(tested: dict[str, Tested]) -> str:
    """On how many folds these arms were tested: "3 of 10 subject-grouped folds"."""
    return f"{folds_run(next(iter(tested.values())))} subject-grouped folds"


def folds_run(t: Tested) -> str:
    """How many folds an arm was tested on: "5", or "3 of 10" while others lack."""
    own, n = len(set(t.folds)), t.results[0].info["n_folds"]
    return f"{own}" if own == n else f"{own} of {n}"


def _pool(seeds: dict[int, list[Result]], part: str) -> Tested:
    results = [r for fold in seeds.values() for r in fold]
    orders, columns = [], {}
    for own in seeds.values():
        found = {
            k: np.concatenate([r.predictions[f"{part}_{k}"] for r in own])
            for k in ("index", "labels", "clean", "subject")
        }
        orders.append(np.argsort(found["index"], kind="stable"))
        columns = {k: v[orders[-1]] for k, v in found.items()}

    def pooled(of: Callable[[Result], np.ndarray]) -> np.ndarray:
        return np.stack(
            [
                np.concatenate([of(r) for r in own])[order]
                for own, order in zip(seeds.values(), orders, strict=True)
            ]
        )

    logits, classes = {}, {}
    for view in VIEWS:
        name = f"{part}_logits_{view}"
        if all(name in r.predictions for r in results):
            logits[view] = pooled(lambda r, name=name: r.predictions[name])
        elif all(
            name in r.predictions or name.replace("logits", "predicted") in r.predictions for r in results
        ):
            classes[view] = pooled(lambda r, view=view: r.classes(view, part))
    return Tested(**columns, logits=logits, results=tuple(results), seeds=tuple(seeds), classes=classes)


def fused(
    valid: dict[str, Tested], test: dict[str, Tested], first: str, second: str
) -> tuple[Tested, Tested, list[float]] | None:
    """Two arms as one network, as Liu et al. fuse A and B: a weighted mean of the softmaxes.

    Parameters
    ----------
    valid, test : `by_arm` of the same runs, for the images that choose the weight and for those that do not.
    first, second : two arms.

    Returns
    -------
    The pair on `valid` and on `test`, and for each seed that both have the weight of `first` that is best on `valid`
    (TenCrop); None if an arm is missing, or they have no seed in common.
    """
    if any(lacking(t, first, second) for t in (valid, test)):
        return None
    for part in (valid, test):
        _same_images((part[first], part[second]), "fused")
    seeds = common_seeds(valid[first], valid[second])
    rows = [[valid[a].seeds.index(s) for s in seeds] for a in (first, second)]
    chosen = zip(
        *(valid[a].logits["tencrop"][r] for a, r in zip((first, second), rows, strict=True)), strict=True
    )
    weights = [evaluate.ensemble_weight(x, y, valid[first].labels) for x, y in chosen]
    pair = []
    for part in (valid, test):
        logits = {
            view: np.stack(
                [
                    evaluate.ensemble((part[first].logits[view][i], part[second].logits[view][j]), (w, 1 - w))
                    for i, j, w in zip(*rows, weights, strict=True)
                ]
            )
            for view in ("centre", "tencrop")
            if view in part[first].logits
        }
        results = part[first].results + part[second].results
        pair.append(replace(part[first], logits=logits, classes={}, results=results, seeds=seeds))
    return *pair, weights


def averaged(tested: dict[str, Tested], arms: Sequence[str]) -> Tested:
    """Several arms as one network: the mean of their softmaxes, each with the same weight, so that nothing is chosen.

    Seeds are those that all arms have, and views those of which all kept their logits.

    Raises
    ------
    DataError
        The arms were tested on different images, have no seed in common, or one kept no logits.
    """
    own = [tested[a] for a in arms]
    _same_images(own, "averaged")
    if lacking := [a for a in arms if "tencrop" not in tested[a].logits]:
        raise DataError(
            f"of {', '.join(lacking)} classes alone are archived, no logits: they cannot be averaged"
        )
    seeds = _seeds_of_all(own, "averaged")
    logits = {
        view: evaluate.ensemble(
            [t.logits[view][[t.seeds.index(s) for s in seeds]] for t in own], [1 / len(own)] * len(own)
        )
        for view in VIEWS
        if all(view in t.logits for t in own)
    }
    return replace(own[0], logits=logits, classes={}, results=sum((t.results for t in own), ()), seeds=seeds)


def together(plan: plans.Profile) -> pd.DataFrame:
    """The four papers' networks in the wild, one by one and as means of their softmaxes (TenCrop).

    Averaged are one network a paper, the same where it was trained longer, LKRNet's arms, those trained longer, and all
    of them: these sets stand here, whatever comes out.  LKRNet's arms are those of the first profile that has any, the
    other papers' one by one.  No rows where nothing was run.
    """

    def held(part) -> dict[str, Tested]:
        ours = part in (plans.wild_runs, plans.long_runs, plans.strong_runs)
        profiles = [plans.shown(plan, part)] if ours else reversed(plans.held(plan))
        return {arm: t for p in profiles for arm, t in by_arm(find_all(part(p), p.name)).items()}

    tested = {}
    for part in (plans.wild_runs, plans.dnnrl_runs, plans.liu_runs, plans.small_runs):
        tested |= held(part)
    one_each = {p: a for p, a in AVERAGED.items() if a in tested}
    titles = {a: f"{p}: {TITLES[a]}" if TITLES[a] != p else p for p, a in one_each.items()}
    rows, longer = {titles[a]: tested[a] for a in one_each.values()}, []
    for part, how in (
        (plans.long_runs, "longer"),
        (plans.long_sibling_runs, "longer"),
        (plans.strong_runs, "longer, by stronger transforms"),
    ):
        for arm, t in held(part).items():
            longer.append(f"{arm}, {how}")
            tested[longer[-1]] = rows[f"{titles.get(arm, TITLES[arm])}, trained {how}"] = t
    longest = [f"{a}, longer" if f"{a}, longer" in tested else a for a in one_each.values()]
    own, small = [a for a in plan.arms if a in tested], AVERAGED["Kim et al."]
    papers, arms = f"mean of the {len(one_each)} papers' networks", f"mean of LKRNet's {len(own)} arms"
    sets = {papers: list(one_each.values()), arms: own, f"{arms} and Kim et al.'s": [*own, small]}
    if longer:
        sets[f"{papers}, those trained longer where there are any"] = longest
        sets[f"mean of the {len(longer)} trained longer"] = longer
        sets[f"{arms}, Kim et al.'s and the longer ones"] = [*own, small, *longer]
    for name, some in sets.items():
        if len(some) > 1 and all(a in tested for a in some):
            rows[name] = averaged(tested, some)
    table = []
    for name, t in rows.items():
        row = {"network": name, "PrivateTest, %": mean_accuracy(t.hits()), "n": f"{len(t.labels):,}"}
        if not t.clean.all():
            row["without copies in Training"] = mean_accuracy(t.hits()[:, t.clean])
        width = "/".join(f"{w:g}" for w in sorted({r.recipe.width for r in t.results}))
        table.append(row | {"width": width, "epochs": t.epochs, "seeds": len(t.seeds)})
    return _frame(table, "network")


def paired(first: Tested, *others: Tested, crops: str | Sequence[str] = "tencrop") -> list[np.ndarray]:
    """Hits bool (S, n) of several arms on the same images and the seeds that all of them have.

    Parameters
    ----------
    crops : the view, or one for each arm.

    Raises
    ------
    DataError
        The arms were tested on different images, or have no seed in common.
    """
    arms = (first, *others)
    crops = [crops] * len(arms) if isinstance(crops, str) else crops
    seeds = _seeds_of_all(arms, "paired")
    _same_images(arms, "paired")
    return [t.hits(c)[[t.seeds.index(seed) for seed in seeds]] for t, c in zip(arms, crops, strict=True)]


def common_seeds(*tested: Tested) -> tuple[int, ...]:
    """The seeds that all of these arms have."""
    return tuple(s for s in tested[0].seeds if all(s in t.seeds for t in tested))


def lacking(tested: dict[str, Tested], *arms: str) -> list[str]:
    """Those of the arms that were not run; all of them, if what was run has no seed in common."""
    absent = [a for a in arms if a not in tested]
    return absent or (list(arms) if not common_seeds(*(tested[a] for a in arms)) else [])


def _seeds_of_all(tested: Sequence[Tested], done: str) -> tuple[int, ...]:
    if not (seeds := common_seeds(*tested)):
        raise DataError(f"these arms have no seed in common and cannot be {done}")
    return seeds


def _same_images(tested: Sequence[Tested], done: str) -> None:
    """Raise DataError unless all arms were tested on the same images in the same order, as far as labels tell."""
    for name in ("index", "labels"):
        if not all(np.array_equal(getattr(t, name), getattr(tested[0], name)) for t in tested):
            raise DataError(f"these arms were tested on different images and cannot be {done}")


def accuracies(tested: dict[str, Tested], clusters: bool = False) -> pd.DataFrame:
    """Accuracy of each arm in per cent, mean over seeds, by crop and by set of images, with 95 % intervals.

    Parameters
    ----------
    clusters : bootstrap subjects instead of assuming independent images (CK+).
    """
    rows = []
    for arm, t in tested.items():
        metrics = [r.info["metrics"] for r in t.results]
        row = {"arm": TITLES[arm], "epochs": t.epochs, "seeds": len(t.seeds), "n": len(t.labels)}
        for title, crops in (("centre crop", "centre"), ("TenCrop", "tencrop")):
            row[title] = mean_accuracy(t.hits(crops), t.subject if clusters else None)
            if not t.clean.all():
                row[f"{title}, {int(t.clean.sum()):,} without a copy in Training"] = mean_accuracy(
                    t.hits(crops)[:, t.clean], t.subject[t.clean] if clusters else None
                )
        size = np.array([r.info["n"]["test"] for r in t.results], float)
        for title, key in (("last epoch", "test_last_epoch"), ("best test epoch", "test_selected_maximum")):
            row[f"centre, {title}"] = round(float(np.average([m[key] for m in metrics], weights=size)), 2)
        rows.append(row)
    return _frame(rows, "arm")


def seeds_said(tested: dict[str, Tested]) -> str:
    """Over how many seeds these arms are averaged, for the note of a figure."""
    counts = {TITLES[arm]: len(t.seeds) for arm, t in tested.items()}
    if len(set(counts.values())) > 1:
        return f"mean over seeds ({', '.join(f'{title}: {n}' for title, n in counts.items())})"
    n = max(counts.values(), default=0)
    return "one seed" if n == 1 else f"mean of {n} seeds"


def mean_accuracy(hits: np.ndarray, clusters: np.ndarray | None = None) -> str:
    """`estimate_of` as text: 65.76 [64.19, 67.29]."""
    return str(estimate_of(hits, clusters))


def estimate_of(hits: np.ndarray, clusters: np.ndarray | None = None) -> evaluate.Estimate:
    """Accuracy in per cent with its interval, mean over the seeds of hits, bool (S, n).

    Wilson's interval for one seed; a bootstrap over images and seeds for several, over clusters if given.  From fewer than
    five clusters with an error, or with a hit, it has too little to draw: then Clopper and Pearson's for as many images as
    they are worth, and where all or none are right for as many as clusters.
    """
    if not hits.size:
        return evaluate.accuracy(hits.ravel())
    if clusters is not None:
        wrong, right = (len(np.unique(clusters[some])) for some in (~hits.all(0), hits.any(0)))
        if min(wrong, right) < 5:
            worth = evaluate.effective_images(hits, clusters)
            return evaluate.exact_accuracy(worth * hits.mean(), worth)
        return evaluate.clustered_accuracy(hits, clusters)
    if len(hits) == 1:
        return evaluate.accuracy(hits[0])
    return evaluate.clustered_accuracy(hits)


def confusion_mean(tested: Tested, crops: str = "tencrop") -> np.ndarray:
    """Confusion matrix (K, K) of an arm, mean over seeds."""
    k = len(tested.results[0].info["classes"])
    return np.mean([evaluate.confusion(tested.labels, p, k) for p in tested.predicted(crops)], axis=0)


def recall_table(tested: dict[str, Tested], classes: tuple[str, ...], item: str) -> pd.DataFrame:
    """LKRNet's Table 2 or 3: recall in per cent by class, the printed row above ours (TenCrop, mean over seeds).

    The last row counts the images; it is empty where no network was run.

    Parameters
    ----------
    item : "Table 2" (CK+) or "Table 3" (FER2013).
    """
    counts = [np.nan] * len(classes)
    rows = []
    for method, values in published_recalls(item, classes).items():
        arm = METHODS.get(method)
        rows.append(
            {"method": TITLES.get(arm, method), "source": "paper", **dict(zip(classes, values, strict=True))}
        )
        if arm in tested:
            t = tested[arm]
            ours = [100 * t.hits()[:, t.labels == k].mean() for k in range(len(classes))]
            counts = np.bincount(t.labels, minlength=len(classes))
            rows.append(
                {
                    "method": TITLES[arm],
                    "source": f"ours, {t.epochs} epochs",
                    **dict(zip(classes, np.round(ours, 1), strict=True)),
                    "mean recall": np.mean(ours),
                    "accuracy": 100 * t.hits().mean(),
                }
            )
        elif arm:
            rows.append({"method": TITLES[arm], "source": NOT_RUN})
    frame = pd.DataFrame(rows)
    printed = frame["source"] == "paper"
    frame.loc[printed, "mean recall"] = frame.loc[printed, list(classes)].mean(axis=1, skipna=False)
    frame.loc[len(frame)] = {"method": "images", "source": "n", **dict(zip(classes, counts, strict=True))}
    return frame.set_index(["method", "source"]).astype(float).round(1)


def differences(
    tested: dict[str, Tested],
    dataset: str | None = None,
    clusters: bool = False,
    pairs: tuple[tuple[str, str], ...] = PAIRS,
    crops: str = "tencrop",
) -> pd.DataFrame:
    """Paired differences between arms in percentage points, TenCrop: bootstrap interval and McNemar.

    Parameters
    ----------
    dataset : "FER2013" or "CK+": adds what Sect. 4.3.4 printed.
    clusters : of the lab, see `lab_difference`, instead of a bootstrap over images.
    pairs : arms (a, b); a minus b.
    crops : view of the faces, "tencrop" or "centre".
    """
    gains = published_gains(dataset) if dataset else {}
    rows = []
    for a, b in pairs:
        name = f"{TITLES[a]} − {TITLES[b]}"
        row = {
            "comparison": name,
            "paper": gains.get(f"{TITLES[a]} minus {TITLES[b]}", np.nan),
            "ours": NOT_RUN,
        }
        if not lacking(tested, a, b):
            first = tested[a]
            hits, other = paired(first, tested[b], crops=crops)
            units = first.subject if clusters else first.index
            tests = [evaluate.mcnemar(x, y) for x, y in zip(hits, other, strict=True)]
            difference = (
                lab_difference(first, tested[b], crops)
                if clusters
                else evaluate.clustered_difference(hits, other)
            )
            row |= {
                "ours": str(difference),
                "seeds": len(hits),
                "only first / only second right": "; ".join(f"{m.only_first}/{m.only_second}" for m in tests),
            }
            if not first.clean.all():
                row["ours, without copies in Training"] = str(
                    evaluate.clustered_difference(
                        hits[:, first.clean], other[:, first.clean], units[first.clean]
                    )
                )
            if not clusters:
                row["McNemar p by seed"] = "; ".join(f"{m.p:.2g}" for m in tests)
        rows.append(row)
    return pd.DataFrame(rows).set_index("comparison")


def _frame(rows: list[dict], index: str) -> pd.DataFrame:
    """A frame with the named index, also for no rows."""
    return pd.DataFrame(rows).set_index(index) if rows else pd.DataFrame(index=pd.Index([], name=index))


def both_and_single(tested: dict[str, Tested]) -> tuple[np.ndarray, np.ndarray]:
    """Hits int (S, n) of LKRNet and VGG19 together, and of the two baselines (TenCrop).

    Their difference is what key regions and triplet loss gain together beyond the sum of either alone.
    """
    vgg19, baseline1, baseline2, lkrnet = (h.astype(int) for h in paired(*(tested[a] for a in FACTORIAL)))
    return lkrnet + vgg19, baseline1 + baseline2


def model_a_hits(tested: dict[str, Tested]) -> dict[str, np.ndarray]:
    """Arm -> hits bool (S, n) of Liu et al.'s eight model A, on the seeds that all have (TenCrop); empty if one is missing."""
    if lacking(tested, *MODEL_A):
        return {}
    return dict(zip(MODEL_A, paired(*(tested[a] for a in MODEL_A)), strict=True))


def main_effect(hits: dict[str, np.ndarray], part: str) -> tuple[np.ndarray, np.ndarray]:
    """The four of `model_a_hits` that have an ingredient beside the four that lack it, alike in the other two.

    Returns
    -------
    with it, without it : bool (S, 4 n), one pair of arms after another; each image stands there four times.
    """
    pairs = with_and_without(part).values()
    return np.concatenate([hits[a] for a, _ in pairs], 1), np.concatenate([hits[b] for _, b in pairs], 1)


def ingredients(tested: dict[str, Tested]) -> pd.DataFrame:
    """What center loss, PReLU and augmentation bring Liu et al.'s model A, each over the settings of the other two.

    Points on the test images (TenCrop) with bootstrap intervals over images and seeds; no rows if one of the eight
    networks is missing.
    """
    rows, hits = [], model_a_hits(tested)
    for part in LEFT_OUT if hits else ():
        own, other = main_effect(hits, part)
        index, clean = (np.tile(x, 4) for x in (tested["liu-a"].index, tested["liu-a"].clean))
        row = {
            "ingredient": part,
            "with it, %": 100 * own.mean(),
            "without, %": 100 * other.mean(),
            "difference": str(evaluate.clustered_difference(own, other, index)),
        }
        if not clean.all():
            row["difference, without copies in Training"] = str(
                evaluate.clustered_difference(own[:, clean], other[:, clean], index[clean])
            )
        for there, (a, b) in with_and_without(part).items():
            name = f"beside {' and '.join(there) or 'neither of the others'}"
            row[name] = str(evaluate.clustered_difference(hits[a], hits[b]))
        rows.append(row)
    return _frame(rows, "ingredient")


def interaction(tested: dict[str, Tested]) -> evaluate.Estimate | None:
    """The interaction of the 2 x 2 factorial in points, see `both_and_single`; None if an arm is missing."""
    if lacking(tested, *FACTORIAL):
        return None
    return evaluate.clustered_difference(*both_and_single(tested))


def implied(item: str, classes: tuple[str, ...], counts: dict[str, int]) -> pd.DataFrame:
    """The overall accuracy that each printed row of recalls implies on the data set's class counts."""
    n = np.array([counts[c] for c in classes])
    rows = {}
    for method, values in published_recalls(item, classes).items():
        if not np.isnan(values).any():
            e = evaluate.implied_accuracy(values, n)
            rows[TITLES.get(METHODS.get(method), method)] = {
                "implied accuracy": round(e.value, 2),
                "lowest": round(e.low, 2),
                "highest": round(e.high, 2),
            }
    return pd.DataFrame(rows).T


def provenance(results: dict[Run, Result]) -> pd.DataFrame:
    """One line a recipe and protocol: data hash, versions, machine, commit ("+changes": of files not committed), time."""
    rows = []
    for run, result in results.items():
        i = result.info
        rows.append(
            {
                "run": f"{run.dataset}/{run.recipe.name}/{run.protocol}",
                "runs": 1,
                "data": i["data_sha256"][:12],
                "torch": i["versions"]["torch"],
                "machine": i["machine"],
                "commit": i["commit"],
                "minutes": (i["train_seconds"] + i["predict_seconds"]) / 60,
            }
        )
    keys = ["run", "data", "torch", "machine", "commit"]
    if not rows:
        return _frame(rows, "run")
    frame = pd.DataFrame(rows).groupby(keys, sort=False, as_index=False).sum()
    return frame.set_index("run").round({"minutes": 1})


def text_against_itself(dataset: str) -> pd.DataFrame:
    """Sect. 4.3.4 prints each baseline's gain over VGG19, and enough other gains to compute it: both, in points."""
    g = published_gains(dataset)
    rows = []
    for baseline in ("Baseline 1", "Baseline 2"):
        follows = g["LKRNet minus VGG19"] - g[f"LKRNet minus {baseline}"]
        printed = g[f"{baseline} minus VGG19"]
        rows.append(
            {
                "data": dataset,
                "difference": f"{baseline} minus VGG19",
                "printed": printed,
                "follows": round(follows, 3),
            }
        )
    return pd.DataFrame(rows).set_index(["data", "difference"])


def resolvable(n: int, discordant: float, power: float = 0.8, level: float = 0.05) -> float:
    """Smallest difference in points that a paired test on n images finds with the given power.

    Parameters
    ----------
    discordant : share of the images on which the two networks differ; 0.12 to 0.20 for two good ones.
    """
    from scipy.stats import norm

    return float((norm.ppf(1 - level / 2) + norm.ppf(power)) * 100 * np.sqrt(discordant / n))


def grey_neighbours(
    profile: str, dataset: str, root: str | None = None
) -> tuple[np.ndarray, np.ndarray, int] | None:
    """k-NN on the grey values themselves, k chosen on PublicTest: the floor of DNNRL's Table 2.

    Kept as ``grey-neighbours.npz`` beside the data set's runs, so that it can be printed without the images.

    Returns
    -------
    hits, clean, k or None
        bool (1, n) hits on PrivateTest, bool (n,) whether an image has no exact copy in Training, and k.  None where
        they were not kept and the data set is not on this machine.
    """

    def made() -> dict[str, np.ndarray] | None:
        try:
            faces = load_faces(dataset, root)
        except DataError:
            return None
        rows = [faces.where(split) for split in ("Training", "PublicTest", "PrivateTest")]
        grey = [faces.images[r].reshape(len(r), -1).astype(np.float32) for r in rows]
        labels, classes = [faces.labels[r] for r in rows], len(faces.classes)
        k = evaluate.best_k(grey[0], labels[0], grey[1], labels[1], classes)
        predicted = evaluate.neighbour_logits(grey[0], labels[0], grey[2], k, classes).argmax(1)
        return {"hits": predicted == labels[2], "clean": clean_mask(faces)[rows[2]], "k": np.array(k)}

    kept = kept_arrays(results_folder(profile) / dataset / "grey-neighbours.npz", made)
    return None if kept is None else (kept["hits"][None], kept["clean"], int(kept["k"]))


KIM_METHODS = ACCURACIES["Kim2022"]
"""Kim et al.'s own methods and the arms; the second is missing from their Table 2, its value follows from the text."""

PROTOCOL_TITLES = {"random": "random frames", "sequence": "new sequences", "subject": "new people"}
"""Protocol -> what is new about a test frame."""


def nearest_pixels(
    profile: str, dataset: str, n_folds: int, root: str | None = None, draws: int = 1000
) -> pd.DataFrame | None:
    """Accuracy of the nearest training image under Kim et al.'s three protocols, a row a split: the null model.

    Kept as ``nearest-pixels.csv`` beside the data set's runs, so that it can be drawn without the images.

    Parameters
    ----------
    n_folds : of the folded protocols, of which 20 different foldings are taken.
    draws : random splits.

    Returns
    -------
    DataFrame or None
        protocol, n_test, accuracy, and the shares of test frames with a frame of the same sequence and of the same
        subject in training, all in per cent.  None where it was not kept and the data set is not on this machine.
    """
    path = results_folder(profile) / dataset / "nearest-pixels.csv"
    if path.is_file():
        with whole_or_told(path):
            kept = pd.read_csv(path)
            if (kept["n_folds"] == n_folds).all():
                return kept.drop(columns="n_folds")
    try:
        faces = load_faces(dataset, root)
    except DataError:
        return None
    splits = {"random": protocols.random_splits(faces, draws), "sequence": [], "subject": []}
    for seed in range(20):
        splits["sequence"] += protocols.sequence_folds(faces, n_folds, seed)
        splits["subject"] += protocols.subject_folds(faces, n_folds, seed)
    rows = []
    for protocol, some in splits.items():
        predicted = evaluate.pixel_nearest(faces, some)
        frame = pd.DataFrame({"n_test": [len(test) for _, test in some]})
        frame["accuracy"] = [
            100 * (p == faces.labels[test]).mean() for p, (_, test) in zip(predicted, some, strict=True)
        ]
        for what in ("sequence", "subject"):
            frame[f"same {what}"] = 100 * evaluate.siblings_in_training(getattr(faces, what), some)
        frame.insert(0, "protocol", protocol)
        rows.append(frame)
    found = pd.concat(rows, ignore_index=True).round(4)
    with kept_if_possible(path), whole(path) as f:
        found.assign(n_folds=n_folds).to_csv(f, index=False)
    return found


def fell_back(result: Result, points: float = 3.0) -> int | None:
    """The epoch in which a run lost what it had learnt, None if it did not.

    Its training accuracy fell by more than so many points below its best and did not come back; sound runs end within two.
    Where the last epoch counts, such a run tells of the optimiser and not of the method.
    """
    accuracy = result.history["train_accuracy"]
    low = accuracy < np.maximum.accumulate(accuracy) - points
    if not low[-1]:
        return None
    return int(result.history["epoch"][np.flatnonzero(~low)[-1] + 1])


def by_split(results: dict[Run, Result]) -> pd.DataFrame:
    """One row a finished run of Kim et al.'s: network, protocol, seed, fold, sizes, epochs, accuracy clean and occluded.

    And the epoch in which it fell back, if it did.
    """
    rows = [
        {
            "network": kim_title(run),
            "protocol": run.protocol,
            "seed": run.seed,
            "fold": run.fold,
            "n_train": r.info["n"]["train"],
            "n_test": r.info["n"]["test"],
            "epochs": r.info["epochs"],
            "clean": r.info["metrics"]["test_centre"],
            "occluded": r.info["metrics"]["test_occluded"],
            "fell back": fell_back(r),
        }
        for run, r in results.items()
    ]
    columns = ["network", "protocol", "seed", "fold", "n_train", "n_test", "epochs", "clean", "occluded"]
    return pd.DataFrame(rows, columns=[*columns, "fell back"]).astype({"fell back": "Int64"})


def kim_title(run: Run) -> str:
    """The arm of a run of Kim et al.'s, and whether it is the printed recipe unchanged."""
    arm = run.recipe.arm
    return TITLES[arm] + PRINTED * (run.recipe == sibling_arm("kim", arm))


def blank(frame: pd.DataFrame) -> pd.DataFrame:
    """For the eye: missing cells empty, and columns of whole numbers without decimals."""
    return frame.convert_dtypes().astype(object).fillna("")


def kim_table2(
    results: dict[Run, Result], null: pd.DataFrame | None = None, whole: dict[Run, Result] | None = None
) -> pd.DataFrame:
    """Kim et al.'s Table 2 beside ours under each protocol, in per cent.

    Ours: test frames of all finished splits pooled, centre view, with intervals from a bootstrap over subjects.

    Parameters
    ----------
    null : `nearest_pixels`, for the last row: mean over splits, and the range of 95 % of them.
    whole : runs by the printed recipe, for rows of their own below those of the same network.
    """
    printed = {r["method"]: r["value"] for r in published("Kim2022") if r["metric"] == "accuracy_percent"}
    in_table = {r["method"] for r in published("Kim2022", "Table 2")}
    methods = [*(m for m in printed if m not in KIM_METHODS), *KIM_METHODS]
    lead = next(r["value"] for r in published("Kim2022") if r["method"].startswith("ViT+SE"))
    value = f"({float(printed[methods[-1]]) + float(lead):.2f}, from {lead})"
    rows = [{"method": "ViT+SE [12]", "paper": value}]
    for method, of in product(methods, (results, whole or {})):
        arm = KIM_METHODS.get(method)
        row = {"method": TITLES.get(arm, method) + PRINTED * (of is not results)}
        row["paper"] = printed[method] if method in in_table else f"({printed[method]}, from 0.48)"
        own = {p: same_folds(_under(of, p), arm).get(arm) for p in PROTOCOL_TITLES}
        there = [t for t in own.values() if t]
        if of is not results and not there:
            continue
        for protocol, title in PROTOCOL_TITLES.items():
            t = own[protocol]
            row[title] = mean_accuracy(t.hits("centre"), t.subject) if t else NOT_RUN if arm else ""
        if there:
            row["splits"] = ", ".join(str(len(set(t.folds)) if t else 0) for t in own.values())
            row["epochs"] = "/".join(map(str, sorted({r.info["epochs"] for t in there for r in t.results})))
        rows.append(row)
    if null is not None:
        values = {p: null.loc[null["protocol"] == p, "accuracy"] for p in PROTOCOL_TITLES}
        row = {"method": "nearest pixels, untrained", "paper": ""}
        for protocol, title in PROTOCOL_TITLES.items():
            a = values[protocol]
            row[title] = str(evaluate.Estimate(a.mean(), *a.quantile([0.025, 0.975])))
        rows.append(row | {"splits": ", ".join(str(len(a)) for a in values.values()), "epochs": "0"})
    return pd.DataFrame(rows).set_index("method").fillna("")


def kim_differences(results: dict[Run, Result]) -> pd.DataFrame:
    """Differences between Kim et al.'s arms on the same test frames (centre view), in points, under each protocol.

    Two ways: the corrected resampled t over splits, of `FEWEST` and more, and a bootstrap over subjects of the pooled
    frames.
    """
    gains, rows = _kim_gains(), []
    for (a, b), protocol in product(gains, PROTOCOL_TITLES):
        row = {
            "comparison": f"{TITLES[a]} − {TITLES[b]}",
            "protocol": PROTOCOL_TITLES[protocol],
            "paper": gains[a, b] if protocol == "random" else "",
            "ours, bootstrap over subjects": NOT_RUN,
        }
        if tested := same_folds(_under(results, protocol), a, b):
            one, other = tested[a], tested[b]
            t = over_folds(one, other, "centre")
            difference = evaluate.clustered_difference(*paired(one, other, crops="centre"), one.subject)
            row |= {
                "ours, bootstrap over subjects": str(difference),
                "splits": len(set(one.folds)),
                "ours, corrected t": str(t.difference) if t else "too few splits",
                "p": f"{t.p:.2g}" if t else "",
            }
        rows.append(row)
    return pd.DataFrame(rows).set_index(["comparison", "protocol"])


def split_accuracies(t: Tested, crops: str = "centre") -> np.ndarray:
    """Accuracy in per cent, one a split, ascending: the mean over its seeds, which are no further splits."""
    values = pd.Series([r.info["metrics"][f"test_{crops}"] for r in t.results])
    return values.groupby(t.folds).mean().to_numpy()


def over_folds(first: Tested, other: Tested, crops: str) -> evaluate.Corrected | None:
    """One arm minus another in points by the corrected resampled t over folds or splits; None for less than `FEWEST`."""
    if len(set(first.folds)) < FEWEST:
        return None
    each, n = split_accuracies(first, crops) - split_accuracies(other, crops), first.results[0].info["n"]
    return evaluate.corrected_t(each, n["train"], n["test"])


def lab_difference(first: Tested, other: Tested, crops: str = "tencrop") -> evaluate.Estimate:
    """One arm minus another on people of the lab, in points: by a bootstrap over them, or by `over_folds` if that is wider.

    The bootstrap knows the people alone; every fold has networks of its own, and their luck differs more.
    """
    people = evaluate.clustered_difference(*paired(first, other, crops=crops), first.subject)
    t = over_folds(first, other, crops)
    return t.difference if t and wider(t.difference, people) else people


def wider(first: evaluate.Estimate, other: evaluate.Estimate) -> bool:
    """Whether the first's interval is; not where it has none."""
    return first.high - first.low > other.high - other.low


def kim_occlusion(results: dict[Run, Result], printed: dict[Run, Result] | None = None) -> pd.DataFrame:
    """Trained with and without occlusion, tested on clean and on occluded faces: `Estimate`s in per cent.

    The columns "occlusion costs" and the rows "gain" are paired differences in points; all intervals come from a
    bootstrap over subjects.  Splits on which a run of either kind fell back are left out in rows of their own.

    Parameters
    ----------
    printed : runs of the same arms by the printed recipe, for rows of their own.
    """
    rows = []
    for (protocol, title), (own, recipe) in product(
        PROTOCOL_TITLES.items(), ((results, ""), (printed or {}, PRINTED))
    ):
        title += recipe
        arms, runs = ("kim", "kim-no-occlusion"), _under(own, protocol)
        if both := same_folds(runs, *arms):
            rows += _two_by_two(title, both)
            whole = same_folds(sound(runs, *arms), *arms)
            if whole and (lost := len(set(both["kim"].folds)) - len(set(whole["kim"].folds))):
                rows += _two_by_two(f"{title}, without {lost} that fell back", whole)
    columns = ["protocol", "trained on", "tested on clean faces", "tested on occluded faces"]
    frame = pd.DataFrame(rows, columns=[*columns, "occlusion costs", "splits"])
    return frame.set_index(["protocol", "trained on"])


def _two_by_two(title: str, tested: dict[str, Tested]) -> list[dict]:
    """Rows of `kim_occlusion` for runs trained on occluded and on clean faces, on the same splits."""
    rows, views = [], ("centre", "occluded")
    hits = {a: [t.hits(view) for view in views] for a, t in tested.items()}
    for name, arm in (("clean faces", "kim-no-occlusion"), ("occluded faces", "kim")):
        (seen, covered), subject = hits[arm], tested[arm].subject
        rows.append(
            {
                "protocol": title,
                "trained on": name,
                "tested on clean faces": estimate_of(seen, subject),
                "tested on occluded faces": estimate_of(covered, subject),
                "occlusion costs": evaluate.clustered_difference(seen, covered, subject),
                "splits": len(set(tested[arm].folds)),
            }
        )
    gains = [
        evaluate.clustered_difference(x, y, subject)
        for x, y in zip(hits["kim"], hits["kim-no-occlusion"], strict=True)
    ]
    row = {"protocol": title, "trained on": "gain by training on occluded ones", "splits": rows[0]["splits"]}
    return [*rows, row | {"tested on clean faces": gains[0], "tested on occluded faces": gains[1]}]


def kim_arithmetic(n: int = 181) -> pd.DataFrame:
    """Kim et al.'s own accuracies and differences as numbers of their `n` test images."""
    value = {
        r["method"]: float(r["value"])
        for r in published("Kim2022")
        if r["metric"] in ("accuracy_percent", "accuracy_delta_points")
    }
    rows = []
    for method in KIM_METHODS:
        k = round(value[method] * n / 100)
        rows.append(
            {
                "printed": TITLES[KIM_METHODS[method]],
                "value": value[method],
                "images": k,
                f"of {n}, %": 100 * k / n,
                "possible": bool(abs(100 * k / n - value[method]) < 0.01),
                "Clopper-Pearson": str(evaluate.exact_accuracy(k, n)),
            }
        )
    resnet18, softmax, triplet = (value[m] for m in KIM_METHODS)
    for name, points in (
        ("triplet − softmax, text", value["Triplet minus Softmax (both modified ResNet)"]),
        ("ResNet-10 − ResNet-18, text", value["STN+modified ResNet minus STN+ResNet18"]),
        ("the same from Table 2 (triplet − softmax of ResNet-18)", triplet - resnet18),
        ("ResNet-10 softmax − ResNet-18 softmax, from 0.48", softmax - resnet18),
    ):
        images = points * n / 100
        rows.append(
            {
                "printed": name,
                "value": round(points, 2),
                "images": round(images, 2),
                f"of {n}, %": 100 * round(images) / n,
                "possible": bool(abs(100 * round(images) / n - points) < 0.01),
                "Clopper-Pearson": "",
            }
        )
    return pd.DataFrame(rows).set_index("printed").round(3)


def _kim_gains() -> dict[tuple[str, str], str]:
    """Pairs of arms -> difference as the text prints it or Table 2 gives it."""
    text = {r["method"]: r["value"] for r in published("Kim2022") if r["metric"] == "accuracy_delta_points"}
    table = {r["method"]: float(r["value"]) for r in published("Kim2022", "Table 2")}
    first, last = list(KIM_METHODS)[0], list(KIM_METHODS)[-1]
    return {
        ("kim", "kim-softmax"): text["Triplet minus Softmax (both modified ResNet)"],
        ("kim-softmax", "kim-resnet18"): text["STN+modified ResNet minus STN+ResNet18"],
        ("kim", "kim-resnet18"): f"{table[last] - table[first]:.2f}",
    }


def _under(results: dict[Run, Result], protocol: str) -> dict[Run, Result]:
    """Those of the runs that were tested under the protocol."""
    return {run: r for run, r in results.items() if run.protocol == protocol}
