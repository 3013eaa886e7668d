"""An arm's predictions, its seeds and folds together: accuracies, and what two arms differ by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

from . import evaluate
from .data import DataError
from .papers import TITLES
from .plans import FACTORIAL
from .runs import Result, Run, anew, read
from .siblings import MODEL_A, with_and_without

VIEWS = ("centre", "tencrop", "knn", "occluded", "last_epoch")
"""How faces are looked at: the middle, ten crops, by k-NN on the middle, with a black rectangle in it, by the last epoch."""

FEWEST = 5
"""Runs, or splits, from which on their own scatter is trusted."""
FALLEN = 3.0
"""Points of training accuracy by which a run falls that has lost what it had learnt."""


@dataclass(frozen=True, eq=False)
class Tested:
    """Test predictions of one arm: all its seeds, and folds pooled (of random splits an image may be in several).

    Attributes
    ----------
    index : int (n,), rows of the data set, ascending.
    labels, clean, subject : (n,).
    logits : view (of `VIEWS`, as far as recorded) -> float (S, n, K), where they were kept.
    results : the runs, fold after fold within a seed.
    seeds : the seeds, in the order of the first axis of `logits`.
    named : view -> int (S, n), the classes that were named, where the logits were not kept.
    """

    index: np.ndarray
    labels: np.ndarray
    clean: np.ndarray
    subject: np.ndarray
    logits: dict[str, np.ndarray]
    results: tuple[Result, ...]
    seeds: tuple[int, ...]
    named: dict[str, np.ndarray] = field(default_factory=dict)

    def predicted(self, view: str = "tencrop") -> np.ndarray:
        """int (S, n), the classes that were named: those with the largest logit, where logits were kept."""
        return self.logits[view].argmax(-1) if view in self.logits else self.named[view]

    def hits(self, view: str = "tencrop") -> np.ndarray:
        """bool (S, n)."""
        return self.predicted(view) == self.labels

    def rows(self, seeds: Sequence[int]) -> list[int]:
        """Where seeds stand in the first axis."""
        return [self.seeds.index(seed) for seed in seeds]

    @property
    def folds(self) -> list[int]:
        """The folds, or random splits, that it was tested on."""
        return sorted({r.info["fold"] for r in self.results})

    @property
    def epochs(self) -> str:
        """Number of epochs trained, for the tables."""
        return joined(r.info["epochs"] for r in self.results)


def by_arm(results: dict[Run, Result], part: str = "test", partial: bool = False) -> dict[str, Tested]:
    """Group finished runs of one data set and protocol by arm; folds of a seed are pooled.

    An arm with a fold missing in a seed loses that seed, unless `partial` says to take the folds that are there: then
    of several seeds those that have the same folds as the seed with most.

    Parameters
    ----------
    results : as `runs.find_all` returns them.
    part : "test", or "valid" for the images that select (PublicTest).

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


def below(folder: str | PathLike) -> dict[Run, Result]:
    """All finished runs below a folder: one arm's seeds and folds, or a single run.

    Raises
    ------
    DataError
        There is none; they are runs of several arms, data sets or protocols; or one is there twice.
    """
    results = {}
    for path in sorted(Path(folder).glob("**/run.json")):
        result = read(path)
        run = Run(
            result.recipe, *(result.info[k] for k in ("dataset", "protocol", "fold", "n_folds", "seed"))
        )
        if run in results:
            raise DataError(
                f"{folder}: {run} lies there twice, in {results[run].folder} and {result.folder}; name one"
            )
        results[run] = result
    if not results:
        raise DataError(f"{folder}: no finished run here")
    if len({(run.dataset, run.protocol, run.n_folds, run.recipe.arm) for run in results}) > 1:
        inside = sorted({str(r.folder.relative_to(folder).parent) for r in results.values()})
        raise DataError(
            f"{folder}: runs of several arms, data sets or protocols; name one of {', '.join(inside)}"
        )
    return results


def same_folds(results: dict[Run, Result], *arms: str) -> dict[str, Tested]:
    """`by_arm` of these arms, or of all that were run, on the folds that each of them has: as far as they were run."""
    arms = arms or tuple(dict.fromkeys(run.recipe.arm for run in results))
    each = [{(run.seed, run.fold) for run in results if run.recipe.arm == a} for a in arms]
    both = set.intersection(*each) if each else set()
    own = {x: r for x, r in results.items() if x.recipe.arm in arms and (x.seed, x.fold) in both}
    return by_arm(own, partial=True)


def _pool(seeds: dict[int, list[Result]], part: str) -> Tested:
    results = [r for own in seeds.values() for r in own]

    def ordered(own: list[Result], of: Callable[[Result], np.ndarray]) -> np.ndarray:
        """All folds of a seed in the order of the images."""
        rows = np.concatenate([r.predictions[f"{part}_index"] for r in own])
        return np.concatenate([of(r) for r in own])[np.argsort(rows, kind="stable")]

    def pooled(of: Callable[[Result], np.ndarray]) -> np.ndarray:
        return np.stack([ordered(own, of) for own in seeds.values()])

    first, names = next(iter(seeds.values())), ("index", "labels", "clean", "subject")
    columns = {k: ordered(first, lambda r, k=k: r.predictions[f"{part}_{k}"]) for k in names}
    logits, named = {}, {}
    for view in VIEWS:
        name = f"{part}_logits_{view}"
        if all(name in r.predictions for r in results):
            logits[view] = pooled(lambda r, name=name: r.predictions[name])
        elif all(
            name in r.predictions or name.replace("logits", "predicted") in r.predictions for r in results
        ):
            named[view] = pooled(lambda r, view=view: r.predicted(view, part))
    return Tested(**columns, logits=logits, results=tuple(results), seeds=tuple(seeds), named=named)


def fell_back(result: Result) -> int | None:
    """The epoch in which a run lost what it had learnt, None if it did not.

    Its training accuracy fell by more than `FALLEN` points below its best and did not come back; sound runs end within two.
    Where the last epoch counts, such a run tells of the optimiser and not of the method.
    """
    accuracy = result.history["train_accuracy"]
    low = accuracy < np.maximum.accumulate(accuracy) - FALLEN
    if not low[-1]:
        return None
    return int(result.history["epoch"][np.flatnonzero(~low)[-1] + 1])


def sound(results: dict[Run, Result], *arms: str) -> dict[Run, Result]:
    """The runs without the folds on which one of these arms fell back, in whatever seed: seeds keep the same images."""
    lost = {run.fold for run, r in results.items() if run.recipe.arm in arms and fell_back(r) is not None}
    return {run: r for run, r in results.items() if run.fold not in lost}


def paired(first: Tested, *others: Tested, view: str | Sequence[str] = "tencrop") -> list[np.ndarray]:
    """Hits bool (S, n) of several arms on the same images and the seeds that all of them have.

    Parameters
    ----------
    view : the view, or one for each arm.

    Raises
    ------
    DataError
        The arms were tested on different images, or have no seed in common.
    """
    arms = (first, *others)
    views = [view] * len(arms) if isinstance(view, str) else view
    seeds = _seeds_of_all(arms, "paired")
    _same_images(arms, "paired")
    return [t.hits(v)[t.rows(seeds)] for t, v in zip(arms, views, strict=True)]


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


def _kept_logits(tested: dict[str, Tested], arms: Sequence[str], done: str) -> None:
    """Raise DataError unless the logits (TenCrop) of all arms were kept."""
    if bare := [a for a in arms if "tencrop" not in tested[a].logits]:
        raise DataError(f"of {', '.join(bare)} classes alone are archived, no logits: they cannot be {done}")


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

    Raises
    ------
    DataError
        The arms were tested on different images, or one kept no logits.
    """
    if any(lacking(t, first, second) for t in (valid, test)):
        return None
    seeds, pairs = common_seeds(valid[first], valid[second]), []
    for part in (valid, test):
        _kept_logits(part, (first, second), "fused")
        pairs.append((part[first], part[second]))
        _same_images(pairs[-1], "fused")
    chosen = zip(*(t.logits["tencrop"][t.rows(seeds)] for t in pairs[0]), strict=True)
    weights = [evaluate.ensemble_weight(x, y, valid[first].labels) for x, y in chosen]
    both = []
    for pair in pairs:
        logits = {}
        for view in ("centre", "tencrop"):
            if all(view in t.logits for t in pair):
                each = zip(*(t.logits[view][t.rows(seeds)] for t in pair), weights, strict=True)
                logits[view] = np.stack([evaluate.ensemble((x, y), (w, 1 - w)) for x, y, w in each])
        results = pair[0].results + pair[1].results
        both.append(replace(pair[0], logits=logits, named={}, results=results, seeds=seeds))
    return *both, weights


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
    _kept_logits(tested, arms, "averaged")
    seeds = _seeds_of_all(own, "averaged")
    logits = {
        view: evaluate.ensemble([t.logits[view][t.rows(seeds)] for t in own], [1 / len(own)] * len(own))
        for view in VIEWS
        if all(view in t.logits for t in own)
    }
    return replace(own[0], logits=logits, named={}, results=sum((t.results for t in own), ()), seeds=seeds)


def estimate_of(hits: np.ndarray, clusters: np.ndarray | None = None) -> evaluate.Estimate:
    """Accuracy in per cent with its interval, mean over the seeds of hits, bool (S, n).

    Wilson's interval for one seed; a bootstrap over images, or clusters if given, and seeds for several.  From fewer than
    five of them with an error, or with a hit, it has too little to draw: then Clopper and Pearson's for as many images as
    they are worth, and where all or none are right for as many as clusters.
    """
    if not hits.size:
        return evaluate.accuracy(hits.ravel())
    if clusters is None:
        if len(hits) == 1:
            return evaluate.accuracy(hits[0])
        clusters = np.arange(hits.shape[1])
    wrong, right = (len(np.unique(clusters[some])) for some in (~hits.all(0), hits.any(0)))
    if min(wrong, right) < 5:
        worth = evaluate.effective_images(hits, clusters)
        return evaluate.exact_accuracy(worth * hits.mean(), worth)
    return evaluate.clustered_accuracy(hits, clusters)


def mean_accuracy(hits: np.ndarray, clusters: np.ndarray | None = None) -> str:
    """`estimate_of` as text: 65.76 [64.19, 67.29]."""
    return str(estimate_of(hits, clusters))


def split_accuracies(t: Tested, view: str = "centre", seeds: Sequence[int] | None = None) -> np.ndarray:
    """Accuracy in per cent, one a split, ascending: the mean over its seeds, or these, which are no further splits."""
    own = [r for r in t.results if seeds is None or r.info["seed"] in seeds]
    values = pd.Series([r.info["metrics"][f"test_{view}"] for r in own])
    return values.groupby([r.info["fold"] for r in own]).mean().to_numpy()


def over_folds(first: Tested, other: Tested, view: str) -> evaluate.Corrected | None:
    """One arm minus another in points by the corrected resampled t over folds or splits; None for less than `FEWEST`.

    Raises
    ------
    DataError
        The arms were tested on different folds, or have no seed in common.
    """
    if first.folds != other.folds:
        raise DataError("these arms were tested on different folds and cannot be paired")
    if len(first.folds) < FEWEST:
        return None
    seeds = _seeds_of_all((first, other), "paired")
    return corrected(split_accuracies(first, view, seeds) - split_accuracies(other, view, seeds), first)


def corrected(each: np.ndarray, t: Tested) -> evaluate.Corrected | None:
    """The corrected resampled t of a value a fold or split of an arm; None for less than `FEWEST`."""
    n = t.results[0].info["n"]
    return evaluate.corrected_t(each, n["train"], n["test"]) if len(each) >= FEWEST else None


def lab_difference(first: Tested, other: Tested, view: str = "tencrop") -> evaluate.Estimate:
    """One arm minus another on people of the lab, in points: by a bootstrap over them, or by `over_folds` if that is wider.

    The bootstrap knows the people alone; every fold has networks of its own, and their luck differs more.
    """
    people = evaluate.clustered_difference(*paired(first, other, view=view), first.subject)
    t = over_folds(first, other, view)
    return t.difference if t and wider(t.difference, people) else people


def wider(first: evaluate.Estimate, other: evaluate.Estimate) -> bool:
    """Whether the first's interval is; not where it has none."""
    return first.high - first.low > other.high - other.low


def both_and_single(tested: dict[str, Tested], view: str = "tencrop") -> tuple[np.ndarray, np.ndarray]:
    """Hits int (S, n) of LKRNet and VGG19 together, and of the two baselines.

    Their difference is what key regions and triplet loss gain together beyond the sum of either alone.
    """
    arms = paired(*(tested[a] for a in FACTORIAL), view=view)
    vgg19, baseline1, baseline2, lkrnet = (h.astype(int) for h in arms)
    return lkrnet + vgg19, baseline1 + baseline2


def interaction(tested: dict[str, Tested]) -> evaluate.Estimate | None:
    """The interaction of the 2 x 2 factorial in points, see `both_and_single`; None if an arm is missing."""
    if lacking(tested, *FACTORIAL):
        return None
    return evaluate.clustered_difference(*both_and_single(tested))


def model_a_hits(tested: dict[str, Tested], view: str = "tencrop") -> dict[str, np.ndarray]:
    """Arm -> hits bool (S, n) of Liu et al.'s eight model A, on the seeds that all have; empty if one is missing."""
    if lacking(tested, *MODEL_A):
        return {}
    return dict(zip(MODEL_A, paired(*(tested[a] for a in MODEL_A), view=view), strict=True))


def main_effect(hits: dict[str, np.ndarray], part: str) -> tuple[np.ndarray, np.ndarray]:
    """The four of `model_a_hits` that have an ingredient beside the four that lack it, alike in the other two.

    Returns
    -------
    with it, without it : bool (S, 4 n), one pair of arms after another; each image stands there four times.
    """
    pairs = with_and_without(part).values()
    return np.concatenate([hits[a] for a, _ in pairs], 1), np.concatenate([hits[b] for _, b in pairs], 1)


def seeds_said(tested: dict[str, Tested], titles: dict[str, str] = TITLES) -> str:
    """Over how many seeds these arms are averaged, for the note of a figure that calls them so."""
    counts = {titles[arm]: len(t.seeds) for arm, t in tested.items()}
    usual = max(counts.values(), key=list(counts.values()).count, default=0)
    said = "one seed" if usual == 1 else f"mean of {usual} seeds"
    others = ", ".join(f"{title}: {n}" for title, n in counts.items() if n != usual)
    return f"{said} ({others})" if others else said


def folds_said(tested: dict[str, Tested]) -> str:
    """On how many folds these arms were tested: "3 of 10 folds of new people"."""
    return f"{folds_run(next(iter(tested.values())))} folds of new people"


def folds_run(t: Tested) -> str:
    """How many folds an arm was tested on: "5", or "3 of 10" while others lack."""
    own, n = len(t.folds), t.results[0].info["n_folds"]
    return f"{own}" if own == n else f"{own} of {n}"


def joined(numbers: Iterable[float]) -> str:
    """Different numbers, ascending: 98/99."""
    return "/".join(f"{n:g}" for n in sorted(set(numbers)))
