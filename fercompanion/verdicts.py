"""What settles a claim: the rules by which runs or numbers become a verdict.

- A claimed difference holds if its whole 95 % interval lies above 0, and does not hold if it lies below.  Fewer than
  five pairs of runs know little of other seeds: accuracies must differ by what their images can resolve (80 % power) and
  two points more, differences of differences four; other quantities need five pairs.
  Of several differences all must hold.  The p values of a paper's claims are corrected by Holm's method.
- No paper names its test crop: a difference by TenCrop that has the other sign by the centre crop settles nothing.
- A claimed level holds if the interval of the mean over five seeds or splits and more lies within a margin of the
  printed value, and does not hold if it lies outside altogether.
- Longer runs of two arms stand beside; if their whole interval has the other sign, the shorter ones settle nothing.
- Runs on other or smaller faces, with fewer epochs or narrower networks than the profile "paper" settle nothing, nor do runs
  that learnt nothing or lost it again; nor embeddings for which k-NN is hardly better than without any training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy import stats

from . import evaluate, plans, pooling, protocols
from .data import data_title
from .evaluate import CONFIDENCE, POWER, TAILS, Estimate
from .papers import TITLES
from .pooling import FEWEST, Tested
from .recipes import Recipe
from .tables import NOT_RUN

VERDICTS = ("holds", "does not hold", "not settled", NOT_RUN, "not testable here")
HOLDS, FAILS, OPEN, _, UNTESTABLE = VERDICTS
PAPERS = {"L": "LKRNet", "D": "DNNRL", "M": "Liu et al.", "K": "Kim et al."}
SHORT, FEW = "runs too short or narrow", "fewer than five runs or pairs of them"
ANOTHER = "no run by the printed recipe"
LUCK = 2.0
"""Points by which the accuracies of two runs may differ that differ in nothing but their seed."""
NONE = float("nan")
"""A difference that was claimed without a number."""


@dataclass(frozen=True)
class Effect:
    """A difference in percentage points.

    Attributes
    ----------
    published : as printed, nan if claimed without a number.
    p : two-sided.
    runs : pairs of runs behind it: seeds times folds; of Kim et al.'s random splits the splits alone.
    clean : the same on the images without an exact copy in Training, where some have one.
    decides : whether the verdict rests on it, or it is only shown.
    luck : by how much it may differ for other seeds, as `LUCK`; nan if unknown.
    centre : the same by the centre crop, where TenCrop decides: no paper names its test crop.
    kept : share of its variance that no more runs would take away, since their splits overlap.
    """

    title: str
    published: float
    ours: Estimate
    p: float
    runs: int
    decides: bool = True
    clean: Estimate | None = None
    luck: float = LUCK
    centre: Estimate | None = None
    kept: float = 0.0

    @property
    def resolvable(self) -> float:
        """What these images find with a power of 80 %, as in `evaluate.resolvable`."""
        return (self.ours.high - self.ours.low) / 2 * (1 + stats.norm.ppf(POWER) / stats.norm.ppf(TAILS[1]))

    @property
    def contradicted(self) -> bool:
        """Whether the other crop has the other sign."""
        return self.centre is not None and self.centre.value * self.ours.value < 0

    @property
    def _few(self) -> bool:
        """Whether so few runs must differ by more."""
        return self.runs < FEWEST and not abs(self.ours.value) >= self.resolvable + self.luck

    @property
    def verdict(self) -> str:
        """Holds above 0, does not hold below, else not settled."""
        if self._few or self.contradicted:
            return OPEN
        return HOLDS if self.ours.low > 0 else FAILS if self.ours.high < 0 else OPEN

    @property
    def why(self) -> str:
        """What the interval shows."""
        low, high = self.ours.low, self.ours.high
        side = "above 0" if low > 0 else "below 0" if high < 0 else "includes 0"
        if np.isnan(low):
            return f"{self.title}: no scatter to go by (all the same, or nothing left to compare)"
        if low > 0 or high < 0:
            if self.contradicted:
                side += f", but by the centre crop the difference is {self.centre.value:+.2f}"
            if self._few:
                must = f"must differ by {self.resolvable + self.luck:.1f} points"
                if np.isnan(self.luck):
                    must = "cannot tell what other seeds would show"
                side += f", {'and' if self.contradicted else 'but'} so few runs {must}"
        if np.isfinite(self.published):
            where = "inside" if low <= self.published <= high else "outside"
            side += f", the printed {self.published:+.2f} lies {where}"
        return f"{self.title}: {side}"

    @property
    def times(self) -> float:
        """How many times as many images or runs would find an effect of the printed size; nan if none is printed."""
        if not (self.published > 0 and self.resolvable > 0):
            return NONE
        wanted = (self.published / self.resolvable) ** 2  # of the variance
        return (1 - self.kept) / (wanted - self.kept) if wanted > self.kept else np.inf


@dataclass(frozen=True)
class Judgement:
    """What the archive says to a claim.

    Attributes
    ----------
    ours, published, test, protocol : values with intervals, as printed, how tested, on which faces and runs.
    why, needs : the reason for the verdict, and what would settle it.
    effects : differences behind it.
    p : of the claim before Holm's correction, nan if it has none.
    profile : whose runs were judged, of several; empty where none were needed or there are none.
    lacks : of a claim that is not settled, what its runs lack: `SHORT`, `FEW`, `ANOTHER`, or nothing that more seeds would mend.
    """

    verdict: str
    why: str
    ours: str = ""
    published: str = "no number"
    test: str = ""
    protocol: str = ""
    needs: str = ""
    effects: tuple[Effect, ...] = ()
    p: float = NONE
    claim: Claim | None = None
    profile: str = ""
    lacks: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim of one of the papers, and the function that judges it; the id's letter names the paper."""

    id: str
    text: str
    judge: Callable[..., Judgement]

    @property
    def paper(self) -> str:
        return PAPERS[self.id[0]]


def effect(
    title: str,
    hits,
    other,
    units,
    published: float = NONE,
    runs: int = 1,
    decides: bool = True,
    luck: float = LUCK,
    clean: np.ndarray | None = None,
) -> Effect:
    """Difference of hits (S, n), bootstrapped over units and seeds; also on the images that are `clean`, if not all are.

    p: McNemar's exact one where there is one row, and no unit has two images; else by flipping the signs of units, and of
    several rows that of the interval, if it is larger.

    Parameters
    ----------
    hits, other : bool (S, n) of either arm, or int where several are added up; a row a seed.
    units : (n,), what is drawn: the rows of the data set, or people.
    published : the printed difference in points, nan if there is none.
    runs : pairs of runs behind it, seeds or folds.
    decides : whether a verdict counts on it.
    luck : points that luck alone may make where there are few runs.
    clean : bool (n,), images without an exact copy in Training.
    """
    e, own = evaluate.clustered_difference(hits, other, units), None
    if clean is not None and not clean.all():
        own = evaluate.clustered_difference(hits[:, clean], other[:, clean], units[clean])
    if len(hits) == 1 and hits.dtype == bool and len(np.unique(units)) == len(units):
        p = evaluate.mcnemar(hits[0], other[0]).p
    else:
        p = evaluate.sign_flip(hits, other, units)
    if len(hits) > 1:  # flipping knows the units alone; the interval knows the seeds too
        p = float(np.maximum(p, interval_p(e)))  # none where the interval has none
    return Effect(title, published, e, p, runs, decides, own, luck)


def interval_p(e: Estimate, freedom: float = np.inf) -> float:
    """Two-sided p of a value whose 95 % interval is known, a t-interval with so many degrees of freedom; none if it is not."""
    error = (e.high - e.low) / 2 / stats.t.ppf(TAILS[1], freedom)
    if not np.isfinite(error):
        return NONE
    return float(2 * stats.t.sf(abs(e.value) / error, freedom)) if error > 0 else float(e.value == 0)


def minus(first: Estimate, other: Estimate) -> Estimate:
    """Difference of independent estimates, its interval from theirs (Zou and Donner 2008)."""
    value = first.value - other.value
    low = np.hypot(first.value - first.low, other.high - other.value)
    high = np.hypot(first.high - first.value, other.value - other.low)
    return Estimate(value, value - float(low), value + float(high))


def within(e: Estimate, low: float, high: float) -> str:
    """`HOLDS` if the interval lies between the bounds, `FAILS` if it lies outside altogether, else `OPEN`; all in one unit."""
    if low <= e.low and e.high <= high:
        return HOLDS
    return FAILS if e.high < low or e.low > high else OPEN


def within_p(mean: Estimate, low: float, high: float, runs: int) -> float:
    """Two-sided p of a mean over runs against the nearer bound; at 100 % there is none.  Its interval is a t-interval."""
    error = (mean.value - mean.low) / stats.t.ppf(TAILS[1], runs - 1)
    distance = min(mean.value - low, high - mean.value if high < 100 else np.inf)
    return float(2 * stats.t.sf(abs(distance) / error, runs - 1)) if error > 0 else NONE


def conclude(
    effects: list[Effect],
    tested: Sequence[Tested],
    test: str,
    view: str = "tencrop",
    floor: float = 0.0,
    **told,
) -> Judgement:
    """The verdict of differences: all that decide must hold; one that lies below 0 is enough not to; `floor` as in `shortfall`."""
    deciding = [e for e in effects if e.decides]
    signs = [e.verdict for e in deciding]
    verdict = FAILS if FAILS in signs else HOLDS if set(signs) == {HOLDS} else OPEN
    p = float(np.max([e.p for e in deciding]))  # none if one of them has none
    if verdict == FAILS:
        p = min(1.0, len(signs) * min(e.p for e in deciding if e.verdict == FAILS))
    few = verdict == OPEN and min(e.runs for e in deciding) < FEWEST
    power, times = "", max((e.times for e in deciding if e.verdict == OPEN and e.times > 1), default=0)
    if verdict == OPEN and np.isinf(times):
        power = "other images: splits of these overlap too much to show an effect of the printed size"
    elif verdict == OPEN and times:
        many = f"{times:.1f}" if times < 10 else f"{times:.0f}" if times < 100 else "more than a hundred"
        power = f"{many} times as many images or runs, to detect an effect of the printed size"
    official = tested[0].results[0].info["protocol"] == "official"  # there every pair of runs is a seed
    five = "five seeds" if official else "five pairs of runs"
    crop = any(e.contradicted and (e.ours.low > 0 or e.ours.high < 0) for e in deciding)
    needs = [five * few, power, "to know the papers' test crop" * (crop and verdict == OPEN)]
    needs = ", and ".join(filter(None, needs)) or "more runs" * (verdict == OPEN)
    seeds = [e.runs for e in deciding] if official else [len(pooling.common_seeds(*tested))]
    told = {"ours": shown(effects), "protocol": setting(tested[0], view, seeds) + numerics(tested)} | told
    why = "; ".join(e.why for e in deciding)
    return settled(
        Judgement(verdict, why, test=test, needs=needs, effects=tuple(effects), p=p, lacks=FEW * few, **told),
        tested,
        power,
        floor,
    )


def unmeasured(published: float) -> Effect:
    """A printed difference without runs: to be drawn, not to be judged."""
    return Effect("", published, Estimate(NONE, NONE, NONE), NONE, 0)


def shown(effects: Sequence[Effect]) -> str:
    return "; ".join(
        f"{e.title} {e.ours}{f', centre crop {e.centre}' if e.centre else ''}"
        f"{f', without copies in Training {e.clean}' if e.clean else ''}"
        for e in effects
        if e.runs
    )


def settled(judgement: Judgement, tested: Sequence[Tested], power: str = "", floor: float = 0.0) -> Judgement:
    """The judgement as it is, or not settled if the runs fall short of the papers'; `power` is what its interval asks for."""
    if not (lacks := shortfall(tested, floor)):
        return judgement
    needs = "PROFILE=paper" + (" with ImageNet's weights for model B" if "random weights" in lacks else "")
    if power:
        needs += f"; if their interval comes out as wide, {power}"
    return replace(judgement, verdict=OPEN, why=f"{lacks}; {judgement.why}", needs=needs, p=NONE, lacks=SHORT)


def shortfall(tested: Sequence[Tested], floor: float = 0.0) -> str:
    """In what runs fall short of the faces, schedules and networks of the profile "paper"; empty if in nothing.

    Also said: a network that names hardly more than the largest class, and one that lost what it had learnt.

    Parameters
    ----------
    floor : accuracy in per cent of k-NN without any training, which an embedding must beat that is read by k-NN alone.
    """
    found = []
    for t in tested:
        hits, largest = 100 * t.hits("centre").mean(), 100 * np.bincount(t.labels).max() / len(t.labels)
        recipe = t.results[0].recipe
        if hits < largest + LUCK:
            found.append(f"{TITLES[recipe.arm]} has {hits:.0f} %, the largest class {largest:.0f} %")
        elif recipe.cross_entropy == 0 and hits < floor + LUCK:
            found.append(f"{TITLES[recipe.arm]} has {hits:.0f} %, k-NN without any training {floor:.0f} %")
        last = [r for r in t.results if r.info["selection"] == "last epoch"]  # else an earlier one is tested
        fallen = sum(pooling.fell_back(r) is not None for r in last)
        if fallen:
            found.append(
                f"{count(fallen, 'run')} of {len(t.results)} lost what {'they' if fallen > 1 else 'it'} had learnt"
            )
    for result in (r for t in tested for r in t.results):
        recipe = result.recipe
        whole = _whole()[result.info["protocol"] == "official", recipe.arm]
        if result.info["dataset"].startswith("demo"):
            found.append("synthetic faces")
        if recipe.epochs < whole.epochs:
            found.append(f"{recipe.epochs} epochs instead of {whole.epochs}")
        if recipe.width < whole.width:
            found.append(f"networks {recipe.width:g} times as wide")
        if recipe.size < whole.size:
            found.append(f"faces of {recipe.size} instead of {whole.size} pixels")
        if recipe.faces != whole.faces:
            found.append(f"faces enlarged by {recipe.faces}")
        if recipe.model == "liu_b" and recipe.weights == "none":
            found.append("model B from random weights")
    return ", ".join(dict.fromkeys(found))


@cache
def _whole() -> dict[tuple[bool, str], Recipe]:
    """Whether in the wild, and arm -> the recipe of the profile "paper", whose schedules are whole."""
    groups = (plans.wild_runs, plans.lab_runs, plans.dnnrl_runs, plans.liu_runs, plans.kim_runs)
    found = [run for f in groups for run in f(plans.profile("paper"))]
    return {(run.protocol == "official", run.recipe.arm): run.recipe for run in found}


def setting(t: Tested, view: str, seeds: Sequence[int] = ()) -> str:
    """Data, protocol, n, seeds (of several pairs of arms those that each has), epochs and view in one line."""
    i, folds, seeds = t.results[0].info, len(t.folds), sorted(set(seeds)) or [len(t.seeds)]
    several = f"{seeds[0]} to " * (len(seeds) > 1) + count(seeds[-1], "seed")
    kind = "split" if i["protocol"] == "random" else "fold"
    how = (
        f"{count(folds, kind)} of {protocols.TITLES[i['protocol']]}"
        if i["protocol"] in protocols.TITLES
        else "PrivateTest"
    )
    crops = {"centre": "centre crop", "tencrop": "TenCrop"}[view]
    recipe = t.results[0].recipe.name.split("-")[0]
    return f"{data_title(i['dataset'])}, {how}, n = {len(t.labels):,}, {several}, recipe {recipe}, {t.epochs} epochs, {crops}"


def numerics(tested: Sequence[Tested]) -> str:
    """Words such as ", bfloat16 and float32", where runs that are compared did not all compute in the same numbers."""
    each = {r.info["machine"].split(", ")[-1].split()[0] for t in tested for r in t.results}
    return f", {' and '.join(sorted(each))}" if len(each) > 1 else ""


def count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def holm(judgements: list[Judgement]) -> list[Judgement]:
    """Holm's correction over the claims of each paper that have a p; what does not survive it is not settled."""
    done = list(judgements)
    for paper in PAPERS.values():
        own = [i for i, j in enumerate(done) if j.claim.paper == paper and np.isfinite(j.p)]
        adjusted = 0.0
        for rank, i in enumerate(sorted(own, key=lambda i: done[i].p)):
            j = done[i]
            adjusted = min(1.0, max(adjusted, (len(own) - rank) * j.p))
            largest = "largest " * (sum(e.decides for e in j.effects) > 1)
            done[i] = replace(j, test=f"{j.test}; {largest}p = {j.p:.2g}, by Holm {adjusted:.2g}")
            if j.verdict in (HOLDS, FAILS) and adjusted > 1 - CONFIDENCE:
                why = f"{j.why}; but not after Holm's correction of {len(own)} p values"
                done[i] = replace(done[i], verdict=OPEN, why=why, needs="more runs")
    return done
