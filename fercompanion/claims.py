"""The papers' claims, each judged from archived runs, or by arithmetic where no run is needed.

No verdict is written down here: each is computed, by the rules of `verdicts`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy import stats

from . import evaluate, explain, plans, pooling, protocols, tables, untrained
from .arithmetic import champion, disgust, hard_triplets, parameters, same_loss
from .data import FER_CLASSES, JOINED
from .doctor import EXPECTED_COUNTS
from .evaluate import Estimate
from .layouts import SYNONYMS
from .models import build_model
from .papers import (
    ACCURACIES,
    TITLES,
    frames_tested,
    published,
    published_accuracies,
    published_gains,
    published_recalls,
)
from .pooling import FEWEST, Tested
from .runs import Result, Run, find_all
from .siblings import LEFT_OUT, MODEL_A
from .verdicts import (
    ANOTHER,
    FAILS,
    FEW,
    HOLDS,
    LUCK,
    NONE,
    NOT_RUN,
    OPEN,
    SHORT,
    UNTESTABLE,
    Claim,
    Effect,
    Judgement,
    conclude,
    count,
    effect,
    holm,
    interval_p,
    minus,
    setting,
    settled,
    shown,
    unmeasured,
    within,
    within_p,
)

VIEWS = dict.fromkeys(("wild", "lab", "liu"), "tencrop") | dict.fromkeys(("dnnrl", "joined", "kim"), "centre")
"""Field of `Archive` -> the view of the faces that is compared, as in the notebooks."""


@dataclass(frozen=True)
class Archive:
    """Finished runs of a profile.

    Attributes
    ----------
    wild, longer, literal, lab : LKRNet's arms on FER2013, by the profile's recipe, by the same for more epochs and by
        the printed one, and on folds of new people of CK+.
    dnnrl, joined, liu, liu_valid : the siblings' arms; `joined` with SFEW, `liu_valid` on PublicTest.
    kim, kim_printed : protocol -> runs of Kim et al.'s arms, and of those that the profile has by the printed recipe
        beside a shortened one.
    null : `untrained.nearest_pixels`; None where neither it nor the data set is at hand.
    floor : accuracy in per cent of k-NN without any training, on grey values or an untrained network's features, whichever
        is higher; 0 where it is not known.
    """

    plan: plans.Profile
    wild: dict[str, Tested]
    longer: dict[str, Tested]
    literal: dict[str, Tested]
    lab: dict[str, Tested]
    dnnrl: dict[str, Tested]
    joined: dict[str, Tested]
    liu: dict[str, Tested]
    liu_valid: dict[str, Tested]
    kim: dict[str, dict[Run, Result]]
    kim_printed: dict[str, dict[Run, Result]]
    null: pd.DataFrame | None = None
    floor: float = 0.0


def judge_all(plan: plans.Profile, root: str | None = None) -> list[Judgement]:
    """All claims in the papers' order, judged from the plan's finished runs; nothing is trained.

    A claim that the plan's runs do not settle is judged from those of the profile that it names `instead`, if they
    settle it or the plan has none.
    """
    return judge([read(p, root) for p in plans.held(plan)])


def judge(archives: Sequence[Archive]) -> list[Judgement]:
    """`judge_all` from the runs of a plan, and of those that answer where it has none."""
    judged = []
    for claim in CLAIMS:
        each = [replace(claim.judge(a), profile=a.plan.name) for a in archives]
        if len({(j.verdict, j.ours, j.why) for j in each}) == 1:  # by arithmetic, or nothing was run anywhere
            each = [replace(each[0], profile="")]
        best = [j for kind in ((HOLDS, FAILS), (OPEN, UNTESTABLE)) for j in each if j.verdict in kind]
        one = best[0] if best else replace(each[0], profile="")
        judged.append(replace(one, claim=claim))
    return holm(judged)


def sources(judgements: Sequence[Judgement]) -> str:
    """Which claims were judged from which profile's runs, where there are several."""
    own = {
        p: [j.claim.id for j in judgements if j.profile == p] for p in {j.profile for j in judgements} if p
    }
    if len(own) < 2:
        return ""
    return "; ".join(f"from {p} {', '.join(ids)}" for p, ids in sorted(own.items())) + "."


def read(plan: plans.Profile, root: str | None = None) -> Archive:
    """The finished runs of a plan; `root` is where the data sets lie, for what needs no training, if it was not kept."""

    def tested(runs: list[Run]) -> dict[str, Tested]:
        return pooling.by_arm(find_all(runs, plan.name))

    results = find_all(plans.liu_runs(plan), plan.name)
    liu, valid = pooling.by_arm(results), pooling.by_arm(results, "valid")
    if both := pooling.fused(valid, liu, "liu-a", "liu-b"):
        valid["liu-ensemble"], liu["liu-ensemble"], _ = both
    dnnrl, printed = plans.dnnrl_runs(plan), plans.kim_printed_runs(plan)
    alone = tested(dnnrl)
    floors = untrained.floors(plan, root) if alone else {}
    return Archive(
        plan,
        wild=tested(plans.wild_runs(plan)),
        longer=tested(plans.long_runs(plan)),
        literal=tested(plans.literal_runs(plan)),
        lab=pooling.same_folds(find_all(plans.lab_runs(plan, ("subject",)), plan.name)),
        dnnrl=alone,
        joined=tested([replace(run, dataset=JOINED) for run in dnnrl]) if plan.wild == "fer2013" else {},
        liu=liu,
        liu_valid=valid,
        kim={p: find_all(plans.kim_runs(plan, (p,)), plan.name) for p in plans.KIM_PROTOCOLS},
        kim_printed={
            p: find_all([run for run in printed if run.protocol == p], plan.name) for p in plans.KIM_PROTOCOLS
        },
        null=untrained.nearest_pixels(plan.name, plan.lab, plan.siblings.kim_folds, root),
        floor=max((100 * float(hits.mean()) for hits, _, _ in floors.values()), default=0.0),
    )


def table(judgements: list[Judgement]) -> pd.DataFrame:
    """One row a claim."""
    said = ("published", "ours", "test", "protocol", "verdict", "why", "needs")
    rows = [
        {"paper": j.claim.paper, "claim": j.claim.text} | {k: getattr(j, k) for k in said} for j in judgements
    ]
    return pd.DataFrame(rows, index=pd.Index([j.claim.id for j in judgements], name="id"))


def not_run(
    archive: Archive, arms: Sequence[str], why: str = "", effects: Sequence[Effect] = (), lab=False, **told
) -> Judgement:
    """No verdict: the named arms are missing, `lab` says from LKRNet's on CK+, or their runs have no seed in common."""
    planned = (plans.lab_runs if lab else plans.all_runs)(archive.plan)
    both = [a for a in ("liu-a", "liu-b") if a not in archive.liu] or ["liu-a", "liu-b"]
    arms = dict.fromkeys(x for a in arms for x in (both if a == "liu-ensemble" else [a]))
    where = archive.plan.name if set(arms) <= {run.recipe.arm for run in planned} else "paper"
    missing = "; ".join(TITLES[a] for a in arms)
    told = {"ours": shown(effects), "needs": f"PROFILE={where}: {missing}"} | told
    groups = (archive.wild, archive.lab, archive.dnnrl, archive.joined, archive.liu)
    there = any(set(arms) <= set(g) and pooling.lacking(g, *arms) for g in groups)
    why = f"no {'seed in common to' if there else 'run of'} {missing}" + (f". {why}" if why else "")
    return Judgement(NOT_RUN, why, effects=tuple(effects), **told)


# --- differences ----------------------------------------------------------------------------------


def printed(group: str, a: str, b: str) -> float:
    """The difference of two arms as printed, or as printed accuracies give it; nan if there is none."""
    if group in ("wild", "lab"):
        gains = published_gains("FER2013" if group == "wild" else "CK+")
        return gains.get(f"{TITLES[a]} minus {TITLES[b]}", NONE)
    paper, item, protocol = {
        "dnnrl": ("DNNRL", "Table 2", ""),
        "joined": ("DNNRL", "Table 3", ""),
        "liu": ("Liu2019", "Table 1", "PrivateTest"),
        "kim": ("Kim2022", None, "random"),
    }[group]
    arms = {arm: method for method, arm in ACCURACIES[paper].items()} | {"liu-ensemble": "Improved model"}
    value = published_accuracies(paper, item, protocol)
    first, other = (value.get(arms.get(x), NONE) for x in (a, b))
    return round(first - other, 3)


def beats(group: str, *pairs: str, controls: Sequence[str] = ()) -> Callable[[Archive], Judgement]:
    """A judge of claims that one arm beats another; see `difference`."""
    return partial(difference, group=group, pairs=pairs, controls=controls)


def difference(archive: Archive, group: str, pairs: Sequence[str], controls: Sequence[str] = ()) -> Judgement:
    """Arms against others on the same images.

    Parameters
    ----------
    group : field of `Archive`.  Images are drawn, in the lab subjects or folds compared (`pooling.lab_difference`); of
        Kim et al. random splits are compared.
    pairs : "arm > other arm"; "dnn@knn" is an arm's view of its own.
    controls : pairs that are shown and do not decide.
    """
    effects, used, missing, claimed = [], {}, [], []
    for pair in (*pairs, *controls):
        (a, _, view_a), (b, _, view_b) = (x.partition("@") for x in pair.split(" > "))
        value = printed(group, a, b) if pair in pairs else NONE
        claimed += [f"{value:+.2f}"] * bool(np.isfinite(value))
        tested = arms_of(archive, group, a, b)
        if lacks := pooling.lacking(tested, a, b):
            absent = [x for x in (a, b) if x not in arms_of(archive, group, x)]
            missing += (absent or lacks) * (pair in pairs)
            effects += [unmeasured(value)] * (pair in pairs)
            continue
        if pair in pairs:
            used |= {a: tested[a], b: tested[b]}
        effects.append(compare(group, tested, (a, view_a), (b, view_b), value, pair in pairs))
    told = {"published": "; ".join(claimed) or "no number"}
    if missing:
        return not_run(archive, missing, effects=effects, lab=group == "lab", **told)
    test = "paired bootstrap over subjects"
    if group not in ("lab", "kim"):
        test = f"paired bootstrap over {images(max(e.runs for e in effects if e.decides))}"
    elif min(len(t.folds) for t in used.values()) >= FEWEST:  # see `pooling.over_folds`
        t = "corrected resampled t over"
        test = f"{t} splits" if group == "kim" else f"{test}, or where it is wider {t} folds"
    return conclude(effects, list(used.values()), test, VIEWS[group], archive.floor, **told)


def images(seeds: int) -> str:
    """What is drawn anew in the wild."""
    return "seeds and images" if seeds > 1 else "images"


def compare(group: str, tested: dict[str, Tested], a, b, value: float, decides: bool) -> Effect:
    """One arm minus another, each with its view ("" for the group's)."""
    first, other = tested[a[0]], tested[b[0]]
    hits, others = pooling.paired(first, other, view=[view or VIEWS[group] for _, view in (a, b)])
    title = f"{TITLES[a[0]]} − {TITLES[b[0]]}{', k-NN' * (b[1] == 'knn')}"
    units = first.subject if group in ("lab", "kim") else first.index
    runs = len(first.folds) * (1 if group == "kim" else len(hits))
    e = effect(title, hits, others, units, value, runs, decides, clean=first.clean)
    if VIEWS[group] == "tencrop" and not any(view for _, view in (a, b)):
        e = replace(e, centre=by_the_centre(group, first, other))
    if group not in ("lab", "kim") or (t := pooling.over_folds(first, other, VIEWS[group])) is None:
        return e
    if group == "lab" and not pooling.wider(t.difference, e.ours):  # the people differ more
        return e
    n, folds = first.results[0].info["n"], len(first.folds)
    shared = n["test"] / n["train"]
    return replace(e, ours=t.difference, p=t.p, kept=shared / (1 / folds + shared))


def by_the_centre(group: str, first: Tested, other: Tested) -> Estimate:
    """One arm minus another by the centre crop."""
    if group == "lab":
        return pooling.lab_difference(first, other, "centre")
    return evaluate.clustered_difference(*pooling.paired(first, other, view="centre"))


def arms_of(archive: Archive, group: str, *arms: str) -> dict[str, Tested]:
    """The arms of a group; of Kim et al. on the random splits that all of `arms` have."""
    return kim_arms(archive, "random", *arms) if group == "kim" else getattr(archive, group)


def proposed(archive: Archive, *protocols: str) -> dict[str, Tested]:
    """Protocol -> Kim et al.'s network; by the printed recipe where it was run under all of `protocols`.

    Else as the profile trains it, under those protocols that there are.
    """
    for runs in (archive.kim_printed, archive.kim):
        own = {p: pooling.same_folds(runs[p], "kim") for p in plans.KIM_PROTOCOLS}
        found = {p: tested["kim"] for p, tested in own.items() if tested}
        if all(p in found for p in protocols):
            break
    return found


def kim_arms(archive: Archive, protocol: str, *arms: str, sound: bool = False) -> dict[str, Tested]:
    """Arms of Kim et al., by the printed recipe where all of them were run by it, else as the profile trains them.

    Parameters
    ----------
    sound : leave out folds on which one of them lost what it had learnt, if there are others.
    """
    for runs in (archive.kim_printed[protocol], archive.kim[protocol]):
        kept = pooling.sound(runs, *arms) if sound else runs
        if found := pooling.same_folds(kept, *arms) or pooling.same_folds(runs, *arms):
            return found
    return {}


def under_an_image(archive: Archive) -> Judgement:
    """K2: triplet loss against softmax; printed is less than one test frame."""
    j = difference(archive, "kim", ["kim > kim-softmax"])
    n = frames_tested()
    k = printed("kim", "kim", "kim-softmax") * n / 100
    note = f"Printed are {k:.2f} of {n} frames; one split needs {evaluate.fewest_alone()} that only one network gets right. Judged on random frames alone"
    return replace(j, why=f"{j.why}. {note}")


def all_together(archive: Archive) -> Judgement:
    """L4: LKRNet against each of the others; and against VGG19 where both were trained for longer too.

    Longer runs do not decide, but where they say the opposite, shorter ones settle nothing.
    """
    j = difference(archive, "wild", [f"lkrnet > {x}" for x in plans.FACTORIAL[:3]])
    if pooling.lacking(archive.longer, *plans.LONG_ARMS):
        return j
    e = compare("wild", archive.longer, ("lkrnet", ""), ("vgg19", ""), NONE, False)
    # That another arm than VGG19 beats LKRNet, these longer runs can neither confirm nor deny.
    below = [x.title for x in j.effects if x.verdict == FAILS]
    if (j.verdict == HOLDS and e.ours.high < 0) or (below == [e.title] and e.ours.low > 0):
        epochs = archive.longer["lkrnet"].epochs
        j = replace(
            j,
            verdict=OPEN,
            why=f"{j.why}; but {epochs} epochs say the opposite",
            needs="longer runs",
            p=NONE,
            lacks=SHORT,
        )
    return beside(j, archive.longer["lkrnet"], shown([e]))


def beside(j: Judgement, longer: Tested, said: str) -> Judgement:
    """The judgement with what longer runs say, which do not decide."""
    return replace(
        j, ours="; ".join(filter(None, [j.ours, f"longer, not judged ({longer.epochs} epochs): {said}"]))
    )


def interaction(archive: Archive) -> Judgement:
    """L5: what both parts gain together beyond the sum of either alone."""
    both, one, other = (printed("wild", a, "vgg19") for a in ("lkrnet", "baseline1", "baseline2"))
    told = {"published": f"{both - one - other:+.2f}"}
    if missing := pooling.lacking(archive.wild, *plans.FACTORIAL):
        return not_run(archive, missing, effects=[unmeasured(both - one - other)], **told)
    arms, halves = [archive.wild[a] for a in plans.FACTORIAL], pooling.both_and_single(archive.wild)
    e = effect("interaction", *halves, arms[0].index, both - one - other, len(halves[0]), luck=2 * LUCK)
    middle = pooling.both_and_single(archive.wild, "centre")
    e = replace(e, centre=evaluate.clustered_difference(*middle, arms[0].index))
    return conclude([e], arms, f"2 × 2 factorial, paired bootstrap over {images(e.runs)}", **told)


def lambda_sweep(archive: Archive) -> Judgement:
    """L6: accuracy is best at λ = 0.2, and the distance between classes over that within them grows with λ.

    The paper says it of the distance between classes alone; on features of unit length, which any λ may spread or
    gather as a whole, that distance is shown beside the ratio.
    """
    j = difference(archive, "wild", ["lkrnet > baseline1", "lkrnet > lkrnet-lambda0.4"])
    if j.verdict == NOT_RUN:
        return j
    own = {lam: archive.wild[a] for a, lam in plans.LAMBDAS.items() if a in archive.wild}
    if not (seeds := pooling.common_seeds(*own.values())):
        why = f"{j.why}; the ratio's trend: no seed in common to all λ"
        return replace(
            j, verdict=OPEN if j.verdict == HOLDS else j.verdict, why=why, needs=j.needs or "more runs"
        )
    each = [[t.results[t.seeds.index(s)].info["embedding"] for t in own.values()] for s in seeds]
    ratio, between = (np.array([[e[k] for e in row] for row in each]) for k in ("ratio", "inter"))
    columns = np.transpose([ratio.mean(0), between.mean(0)])
    text = ", ".join(f"{r:.2f} ({b:.2f}) at λ = {lam:g}" for (r, b), lam in zip(columns, own, strict=True))
    text = f"distance between classes over that within (between alone) {text}"
    j = replace(j, ours=f"{j.ours}; {text}", test=f"{j.test}; Page's trend test of the ratio")
    if columns[-1, 1] < columns[0, 1]:
        j = replace(
            j, why=f"{j.why}. The distance between classes alone falls with λ; what grows is the ratio"
        )
    if j.verdict != HOLDS:
        return j
    collapsed = not np.isfinite(ratio).all()  # such an embedding has no ratio
    p = NONE if collapsed or len(seeds) < 3 else stats.page_trend_test(ratio).pvalue
    if not p <= 0.05:
        lost = " (an embedding collapsed)" * collapsed
        why = f"{j.why}; no trend of the ratio over {count(len(seeds), 'seed')}{lost}"
        return replace(j, verdict=OPEN, why=why, needs="more runs", p=NONE, lacks=FEW * (len(seeds) < FEWEST))
    return replace(j, p=max(j.p, float(p)))  # both must hold


def ingredients(archive: Archive) -> Judgement:
    """M5: what each of model A's three ingredients brings, over the four settings of the other two."""
    if missing := pooling.lacking(archive.liu, *MODEL_A):
        return not_run(archive, missing)
    hits, one = pooling.model_a_hits(archive.liu), archive.liu["liu-a"]
    index, clean = np.tile(one.index, 4), np.tile(one.clean, 4)
    middle, effects = pooling.model_a_hits(archive.liu, "centre"), []
    for part in LEFT_OUT:
        e = effect(part, *pooling.main_effect(hits, part), index, runs=len(hits["liu-a"]), clean=clean)
        centre = evaluate.clustered_difference(*pooling.main_effect(middle, part), index)
        effects.append(replace(e, centre=centre))
    test = f"2 × 2 × 2 factorial, paired bootstrap over {images(effects[0].runs)}"
    return conclude(effects, [archive.liu[a] for a in MODEL_A], test)


HARD, EASY = ("anger", "fear", "surprise"), ("disgust", "neutral")


def hard_classes(archive: Archive) -> Judgement:
    """L7: mean gain in recall of the difficult classes minus that of the easy ones."""
    share = {c: 1 / len(HARD) for c in HARD} | {c: -1 / len(EASY) for c in EASY}
    recall = published_recalls("Table 3", FER_CLASSES)
    gain = dict(zip(FER_CLASSES, recall["Our method (LKRNet)"] - recall["VGG19"], strict=True))
    claimed = float(sum(share[c] * gain[c] for c in share))
    told = {"published": f"{claimed:+.2f}"}
    if missing := pooling.lacking(archive.wild, "lkrnet", "vgg19"):
        return not_run(archive, missing, effects=[unmeasured(claimed)], **told)
    first, other = archive.wild["lkrnet"], archive.wild["vgg19"]
    classes = first.results[0].info["classes"]

    def contrast(view: str) -> Estimate:
        hits, others = pooling.paired(first, other, view=view)
        gain = hits.astype(int) - others
        groups = [gain[:, first.labels == classes.index(name)] for name in share]
        return evaluate.contrast(groups, list(share.values()))

    e, runs = contrast("tencrop"), len(pooling.common_seeds(first, other))
    title = "gain of the three − gain of the two"
    e = Effect(title, claimed, e, interval_p(e), runs, luck=NONE, centre=contrast("centre"))
    return conclude([e], (first, other), f"bootstrap over {images(e.runs)} of each class", **told)


def wild_against_lab(archive: Archive) -> Judgement:
    """L9: LKRNet's gain on FER2013 minus its gain on CK+."""
    claimed = printed("wild", "lkrnet", "vgg19") - printed("lab", "lkrnet", "vgg19")
    counts = EXPECTED_COUNTS["ckplus"]["all"]
    implied = tables.implied("Table 2", tuple(counts), counts)["implied accuracy"]
    note = f"The paper's own Table 2 implies a gain of {implied['LKRNet'] - implied['VGG19']:.1f} on CK+"
    told = {"published": f"{claimed:+.2f}"}
    lacks = [a for group in (archive.wild, archive.lab) for a in pooling.lacking(group, "lkrnet", "vgg19")]
    if missing := list(dict.fromkeys(lacks)):
        return not_run(archive, missing, note, [unmeasured(claimed)], **told)
    wild, lab = (difference(archive, group, ["lkrnet > vgg19"]) for group in ("wild", "lab"))
    (one,), (other,) = wild.effects, lab.effects
    e, runs = minus(one.ours, other.ours), min(one.runs, other.runs)
    middle, title = minus(one.centre, other.centre), "gain in the wild − gain in the lab"
    folds = len(archive.lab["lkrnet"].folds)  # whose t-interval may be behind the lab's
    p = interval_p(e, folds - 1 if folds >= FEWEST else np.inf)
    e = Effect(title, claimed, e, p, runs, luck=2 * LUCK, centre=middle)
    tested = [group[a] for group in (archive.wild, archive.lab) for a in ("lkrnet", "vgg19")]
    told["protocol"] = f"{wild.protocol}; {lab.protocol}"
    test = "difference of differences; bootstrap over images, and over subjects"
    if folds >= FEWEST:
        test += ", or where it is wider t over folds"
    j = conclude([e], tested, test, **told)
    return replace(j, why=f"{j.why}. {note}")


def mask_controls(archive: Archive) -> Judgement:
    """L12: the face's own mask against another face's and the mean one; and what a mask can do on a 1 × 1 map."""
    j = difference(archive, "wild", [f"lkrnet > {control}" for control in plans.MASK_CONTROLS])
    generator = torch.Generator().manual_seed(0)
    image, mask = torch.rand(2, 4, 1, 44, 44, generator=generator)
    moved = mask.flatten(2)[..., torch.randperm(44 * 44, generator=generator)].view_as(mask)
    torch.manual_seed(0)
    model = build_model("lkrnet", width=0.05, mask_at="pool5").eval()
    with torch.no_grad():
        blind = torch.allclose(model(image, mask).logits, model(image, moved).logits, atol=1e-6)
    says = f"On the last map as printed (1 × 1) moving the regions changes {'nothing' if blind else 'the output'}"
    return replace(j, why=f"{j.why}. {says}")


def heat(archive: Archive) -> Judgement:
    """L13: the share of Grad-CAM inside the key regions, LKRNet minus VGG19."""
    if missing := pooling.lacking(archive.wild, "lkrnet", "vgg19"):
        return not_run(archive, missing)
    arms = [archive.wild[a] for a in ("lkrnet", "vgg19")]
    maps = [
        [explain.cam_summary(t.results[t.seeds.index(s)], None, None) for t in arms]
        for s in pooling.common_seeds(*arms)
    ]
    change = [100 * (x.mass - y.mass) for x, y in maps if x is not None and y is not None]
    if not change:
        return Judgement(
            NOT_RUN, "no heat maps of these runs are kept", needs="notebook 05, where they were trained"
        )
    each = [c[np.isfinite(c)] for c in change]
    mean = np.array([c.mean() for c in each])
    # Of several seeds their own scatter counts, of one that of its images, which knows nothing of other seeds.
    e = evaluate.mean_interval(mean if len(mean) > 1 else each[0])
    p = float((stats.ttest_1samp(mean, 0) if len(mean) > 1 else stats.wilcoxon(each[0])).pvalue)
    e = Effect("share of heat in key regions, LKRNet − VGG19", NONE, e, p, len(mean), luck=NONE)
    pairs, faces = sum(map(len, each)), sum(map(len, change))
    where = f"{setting(arms[0], 'centre')}; {count(len(mean), 'seed')} with maps, {pairs:,} pairs"
    where += f", without {faces - pairs:,} of which a map is zero" * (faces > pairs)
    test = "t-interval over seeds" if len(mean) > 1 else "mean's t-interval and Wilcoxon's p over images"
    return conclude([e], arms, test, protocol=where)


OCCLUSION = ("kim", "kim-no-occlusion")
"""Kim et al.'s network, trained on occluded faces and on clean ones."""


def occlusion_arms(archive: Archive) -> tuple[str, dict[str, Tested], dict[str, Tested]]:
    """The strictest protocol under which `OCCLUSION` were run: all folds, and without those on which one fell back.

    "" and twice nothing where they were not.
    """
    for protocol in reversed(plans.KIM_PROTOCOLS):
        if every := kim_arms(archive, protocol, *OCCLUSION):
            return protocol, every, kim_arms(archive, protocol, *OCCLUSION, sound=True)
    return "", {}, {}


def robust(archive: Archive) -> Judgement:
    """K4: training on occluded faces gains more on occluded test faces than on clean ones.

    Folds on which one of the two lost what it had learnt are left out, if there are others.
    """
    protocol, every, kept = occlusion_arms(archive)
    if not protocol:
        absent = [a for a in OCCLUSION if not any(kim_arms(archive, p, a) for p in plans.KIM_PROTOCOLS)]
        return not_run(archive, absent or OCCLUSION)
    hidden, clean = (kept[a] for a in OCCLUSION)
    (seen, covered), (seen_clean, covered_clean) = (
        [t.hits(view).astype(int) for view in ("centre", "occluded")] for t in (hidden, clean)
    )
    runs, units = len(hidden.folds if protocol == "random" else hidden.results), hidden.subject
    title, sums = "gain on occluded − gain on clean faces", (covered + seen_clean, seen + covered_clean)
    e, test = effect(title, *sums, units, runs=runs, luck=2 * LUCK), "2 × 2, paired bootstrap over subjects"
    gains = [
        effect(f"gain on {which} faces", *both, units, runs=runs, decides=False)
        for which, both in (("occluded", (covered, covered_clean)), ("clean", (seen, seen_clean)))
    ]
    each = [pooling.split_accuracies(t, view) for t in (hidden, clean) for view in ("occluded", "centre")]
    if t := pooling.corrected(each[0] - each[1] - each[2] + each[3], hidden):
        test += f", or where it is wider corrected t over {'splits' if protocol == 'random' else 'folds'}"
        if pooling.wider(t.difference, e.ours):
            e = replace(e, ours=t.difference, p=t.p)
    j = conclude([e, *gains], (hidden, clean), test, "centre")
    j = replace(j, why=f"{j.why}; tested with rectangles of the kind that trained")
    if fallen := len(every["kim"].folds) - len(hidden.folds):
        fold = count(fallen, "fold" if protocol != "random" else "split")
        j = replace(j, why=f"{j.why}; without {fold} on which a network lost what it had learnt")
    return j


def joined(archive: Archive) -> Judgement:
    """D6: the same with SFEW 2.0 among the training faces."""
    j = difference(archive, "joined", ["dnnrl > tdnn"])
    if j.verdict != NOT_RUN:
        return j
    why = "SFEW 2.0 is given on request; no run on it is archived"
    return replace(j, verdict=UNTESTABLE, why=why, needs="SFEW 2.0 beside FER2013 (notebook 07)")


# --- levels ---------------------------------------------------------------------------------------


def level(
    t: Tested, values: np.ndarray, mean: Estimate, low: float, high: float, view="tencrop", **told
) -> Judgement:
    """A mean over runs (J,) with its interval against bounds."""
    verdict, ours, few = within(mean, low, high), str(mean), len(values) < FEWEST
    why = f"mean of {len(values)} runs against {low:.2f} to {high:.2f}"
    needs = "more runs" * (verdict == OPEN)
    if few:
        verdict, ours, needs = OPEN, f"{values.mean():.2f}", "five runs"
        why = f"{count(len(values), 'run')}, too few for an interval over runs"
    told = {"ours": ours, "needs": needs, "protocol": setting(t, view)} | told
    p = NONE if few else within_p(mean, low, high, len(values))
    return settled(Judgement(verdict, why, lacks=FEW * few, p=p, **told), [t])


def seed_level(t: Tested, low: float, high: float, claimed: str, **told) -> Judgement:
    """An accuracy claimed from low to high: the images stay and the seeds vary, as the paper's test set is this one."""
    values = 100 * t.hits().mean(1)
    test = f"mean over seeds, t-interval, within 1 point of {claimed}"
    return level(t, values, evaluate.mean_interval(values), low - 1, high + 1, test=test, **told)


def vgg19_level(archive: Archive) -> Judgement:
    """L1: VGG19's accuracy, as Table 3 implies it; runs by our recipe show theirs, and settle nothing."""
    row = tables.implied("Table 3", FER_CLASSES, EXPECTED_COUNTS["fer2013"]["PrivateTest"]).loc["VGG19"]
    told = {"published": f"{row['implied accuracy']:.2f} implied"}
    own, literal = archive.wild.get("vgg19"), archive.literal.get("vgg19")
    if own is None and literal is None:
        return not_run(archive, ["vgg19"], **told)
    claimed = f"{row['lowest']:.2f} to {row['highest']:.2f}, as the recalls are rounded"
    j = seed_level(literal or own, row["lowest"], row["highest"], claimed, **told)
    ours = f"{j.ours} by {'our' if literal is None else 'the printed'} recipe"
    if literal and own:
        ours += f"; by our recipe {pooling.mean_accuracy(own.hits())}"
    t = literal or own
    ours += f"; centre crop {pooling.mean_accuracy(t.hits('centre'))}"
    j, longer = replace(j, ours=ours), archive.longer.get("vgg19")
    if literal is None:
        why, needs = (
            "a level belongs to a recipe, and this is ours",
            "PROFILE=paper: VGG19 by the printed recipe",
        )
        j = replace(
            j,
            verdict=OPEN,
            why=f"{why}; {j.why}",
            needs=needs,
            p=NONE,
            lacks=j.lacks if j.lacks == SHORT else ANOTHER,
        )
    return beside(j, longer, pooling.mean_accuracy(longer.hits())) if longer else j


def ensemble_level(archive: Archive) -> Judgement:
    """M1: A + B on PrivateTest; and A + B against the better of the two."""
    claimed = published_accuracies("Liu2019", "Table 1", "PrivateTest")["Improved model"]
    told, single = {"published": f"{claimed}"}, ("liu-a", "liu-b")
    if "liu-ensemble" not in archive.liu:
        return not_run(archive, ["liu-ensemble"], **told)
    j = seed_level(archive.liu["liu-ensemble"], claimed, claimed, f"{claimed}", **told)
    best = max(single, key=lambda a: archive.liu_valid[a].hits().mean())
    gain = difference(archive, "liu", [f"liu-ensemble > {best}"])
    alone = "; ".join(f"{TITLES[a]} {pooling.mean_accuracy(archive.liu[a].hits())}" for a in single)
    return replace(j, ours=f"A + B {j.ours}; {alone}; {gain.ours}")


def spoken_recalls(archive: Archive) -> Judgement:
    """M6: recalls and confusions of A + B, on either split, each within 5 points."""
    rows = published("Liu2019", "Sect 4.3 text (Fig 5)")
    said = [r["class"].replace("->", " as ") for r in rows]
    told = {"published": ", ".join(f"{words} {r['value']}" for words, r in zip(said, rows, strict=True))}
    if "liu-ensemble" not in archive.liu:
        return not_run(archive, ["liu-ensemble"], **told)
    signs, ours = {}, []
    for split, tested in (("PublicTest", archive.liu_valid), ("PrivateTest", archive.liu)):
        t = tested["liu-ensemble"]
        classes, each = t.results[0].info["classes"], []
        for r in rows:
            true, _, other = r["class"].partition("->")  # of a recall there is no other
            true, taken = (classes.index(SYNONYMS.get(c, c)) for c in (true, other or true))
            each.append(pooling.estimate_of(t.predicted()[:, t.labels == true] == taken))
        claimed = [float(r["value"]) for r in rows]
        signs[split] = [within(e, x - 5, x + 5) for e, x in zip(each, claimed, strict=True)]
        ours.append(f"{split}: {', '.join(f'{words} {e}' for words, e in zip(said, each, strict=True))}")
    verdict = HOLDS if any(set(s) == {HOLDS} for s in signs.values()) else OPEN
    if all(FAILS in s for s in signs.values()):
        verdict = FAILS
    why = "; ".join(
        f"{split}: {s.count(HOLDS)} of {len(s)} with their interval within 5 points"
        for split, s in signs.items()
    )
    told |= {"ours": "; ".join(ours), "needs": "more runs" * (verdict == OPEN)}
    told |= {"protocol": setting(t, "tencrop"), "test": "Wilson's intervals, of several seeds bootstrap"}
    if few := len(t.seeds) < FEWEST:
        verdict, told["needs"] = OPEN, "five seeds"
        why += f"; {count(len(t.seeds), 'seed')}, too few to know other seeds"
    return settled(Judgement(verdict, why, lacks=FEW * few, **told), [t])


def random_level(archive: Archive) -> Judgement:
    """K1: the mean over random splits; and what nearest pixels reach without any training."""
    claimed, note = max(published_accuracies("Kim2022", "Table 2").values()), ""
    if archive.null is not None:
        null = archive.null.query("protocol == 'random'")["accuracy"]
        reach = 100 * (null >= claimed - 0.01).mean()
        note = f"Nearest pixels, untrained, have {null.mean():.2f} and reach {claimed} in {reach:.0f} % of the splits"
    told, t = {"published": f"{claimed}"}, proposed(archive, "random").get("random")
    if t is None:
        return not_run(archive, ["kim"], note, **told)
    values, n = pooling.split_accuracies(t), t.results[0].info["n"]
    mean = evaluate.corrected_t(values, n["train"], n["test"]).difference
    mean = replace(mean, high=min(mean.high, 100.0))
    told["test"] = "mean over splits, corrected resampled t, within 1 point"
    alike = len(values) >= FEWEST and np.ptp(values) < 1e-9
    if alike:  # no scatter to go by
        worth = int(n["test"] / (1 / len(values) + n["test"] / n["train"]))
        exact = evaluate.exact_accuracy(round(worth * values[0] / 100), worth)
        mean = replace(exact, value=float(values[0]))
        told["test"] = (
            f"all splits alike; Clopper and Pearson's for the {worth} frames that overlapping splits are worth"
        )
    j = level(t, values, mean, claimed - 1, min(claimed + 1, 100.0), "centre", **told)
    if alike:  # `level`'s p asks for a scatter too
        j = replace(j, p=NONE)
    return replace(j, why=f"{j.why}. {note}" if note else j.why)


def lab_level(t: Tested) -> Estimate:
    """Accuracy of an arm in the lab, as `pooling.estimate_of` has it, or by the corrected t over its folds if that is wider."""
    people, folds = pooling.estimate_of(t.hits("centre"), t.subject), None
    if found := pooling.corrected(pooling.split_accuracies(t), t):
        folds = replace(found.difference, high=min(found.difference.high, 100.0))
    return replace(folds, value=people.value) if folds and pooling.wider(folds, people) else people


def unseen_people(archive: Archive) -> Judgement:
    """K5: random frames measure what folds of new people measure, to a point."""
    found = proposed(archive, "random", "subject")
    if absent := [p for p in ("random", "subject") if p not in found]:
        return not_run(archive, ["kim"], f"Missing: {', '.join(protocols.TITLES[p] for p in absent)}")
    seen = {p: lab_level(t) for p, t in found.items()}
    gap = minus(seen["random"], seen["subject"])
    runs = min(len(found[p].folds) for p in ("random", "subject"))
    margin = np.sign(gap.value)  # p, like the verdict, asks whether the gap is larger than a point
    p = interval_p(Estimate(gap.value - margin, gap.low - margin, gap.high - margin), max(1, runs - 1))
    e = Effect("random frames − new people", NONE, gap, p, runs)  # whatever the verdict, p asks the same
    verdict = OPEN if runs < FEWEST and e.verdict == OPEN else within(gap, -1, 1)
    j = Judgement(
        verdict,
        f"{e.why}; within 1 point would be the same",
        ours="; ".join([*(f"{protocols.TITLES[p]} {v}" for p, v in seen.items()), shown([e])]),
        published="no difference named (implied)",
        test="bootstrap over subjects under each protocol, or where it is wider corrected t over its folds",
        protocol="; ".join(setting(t, "centre") for t in found.values()),
        needs="more folds" * (verdict == OPEN),
        effects=(e,),
        p=e.p,
        lacks=FEW * (verdict == OPEN and runs < FEWEST),
    )
    return settled(j, list(found.values()))


CLAIMS = (
    Claim("L1", "VGG19's level on FER2013", vgg19_level),
    Claim("L2", "key regions help: Baseline 1 > VGG19", beats("wild", "baseline1 > vgg19")),
    Claim("L3", "triplet loss helps: Baseline 2 > VGG19", beats("wild", "baseline2 > vgg19")),
    Claim("L4", "LKRNet > VGG19, Baseline 1, Baseline 2", all_together),
    Claim("L5", "the two parts boost each other", interaction),
    Claim("L6", "λ = 0.2 beats 0 and 0.4; classes part with λ", lambda_sweep),
    Claim("L7", "anger, fear, surprise gain more than disgust, neutral", hard_classes),
    Claim("L8", "6 % more on disgust prove the method", disgust),
    Claim("L9", "the gain is larger on FER2013 than on CK+", wild_against_lab),
    Claim("L10", "both baselines and LKRNet > VGG19 on CK+", beats("lab", *(f"{x} > vgg19" for x in plans.FACTORIAL[1:]))),
    Claim("L11", "λ = 0 is Baseline 1", same_loss),
    Claim("L12", "it matters where the mask's regions lie", mask_controls),
    Claim("L13", "LKRNet looks at facial features more than VGG19", heat),
    Claim("D1", "Inception helps: DNN > AlexNet", beats("dnnrl", "dnn > alexnet")),
    Claim("D2", "triplet loss and k-NN help: T-DNN > DNN", beats("dnnrl", "tdnn > dnn", controls=["tdnn > dnn@knn", "tdnn-joint@knn > dnn@knn"])),
    Claim("D3", "relativity helps: DNNRL > T-DNN", beats("dnnrl", "dnnrl > tdnn", controls=["dnnrl-unclamped > tdnn", "dnnrl-joint@knn > tdnn-joint@knn"])),
    Claim("D4", "difficult triplets weigh more", hard_triplets),
    Claim("D5", "DNNRL beats the champion of the challenge", champion),
    Claim("D6", "DNNRL > T-DNN with SFEW 2.0 too", joined),
    Claim("M1", "A + B reach 73.244 % on PrivateTest", ensemble_level),
    Claim("M2", "with 18.5 % of VGG16's parameters", parameters),
    Claim("M3", "A + B > VGG16, VGG19", beats("liu", "liu-ensemble > liu-vgg16", "liu-ensemble > liu-vgg19")),
    Claim("M4", "faces twice as large help ResNet50", beats("liu", "liu-b > liu-b-48", controls=["liu-b-bicubic > liu-b-48"])),
    Claim("M5", "center loss, PReLU, augmentation help", ingredients),
    Claim("M6", "recalls of three classes, confusions of fear", spoken_recalls),
    Claim("K1", "99.44 % on random frames of CK+", random_level),
    Claim("K2", "triplet loss > softmax", under_an_image),
    Claim("K3", "ResNet-10 > ResNet-18", beats("kim", "kim-softmax > kim-resnet18", "kim > kim-resnet18")),
    Claim("K4", "random occlusion makes robust to occlusion", robust),
    Claim("K5", "(implied) random frames score as new people do", unseen_people),
)  # fmt: skip
"""L1-L13, D1-D6, M1-M6, K1-K5, in the papers' order."""
