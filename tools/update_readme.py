"""Write README's findings and results/TABLES.md from the archived runs: python tools/update_readme.py [--check]."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import gallery
import numpy as np
import pandas as pd

from fercompanion import (
    arithmetic,
    claims,
    evaluate,
    kim_tables,
    plans,
    pooling,
    runs,
    siblings,
    tables,
    untrained,
    verdicts,
)
from fercompanion.data import CK_CLASSES, FER_CLASSES
from fercompanion.doctor import EXPECTED_COUNTS
from fercompanion.papers import ACCURACIES, METHODS, TITLES, published_accuracies, published_recalls
from fercompanion.pooling import Tested
from fercompanion.whole import whole

HERE = Path(__file__).resolve().parents[1]
README, TABLES = HERE / "README.md", HERE / "results/TABLES.md"
PROFILE = plans.profile("paper")
"""Whose runs are shown; where it has none yet, those of the profile that it names instead."""
INTERVALS = "95 % intervals [over people](#words)"
BESIDE = (
    "LKRNet's accuracies follow from the recalls that it prints in whole per cent; on CK+ if they are of all 981 frames. Ours: mean over seeds, 95 % interval, the epoch selected on "
    "PublicTest, on CK+ the last; centre crop: by the middle of a face; TenCrop: by the mean of the answers for ten crops of it. [More arms, other views, and what each number rests on](results/TABLES.md) · [what was not done]"
    "(results/README.md#what-was-not-done)"
)


@cache
def judged() -> list[verdicts.Judgement]:
    """All claims, in the papers' order."""
    return claims.judge([archive(p.name) for p in plans.held(PROFILE)])


@cache
def archive(name: str) -> claims.Archive:
    """The finished runs of a profile, read once."""
    return claims.read(plans.profile(name))


def arms_of(part: Callable[[plans.Profile], list[runs.Run]], plan: plans.Profile) -> dict[str, Tested]:
    """The finished arms of a part of the plan in the wild."""
    kept = {
        plans.wild_runs: "wild",
        plans.long_runs: "longer",
        plans.dnnrl_runs: "dnnrl",
        plans.liu_runs: "liu",
    }
    if part in kept:
        return getattr(archive(plan.name), kept[part])
    return pooling.by_arm(runs.find_all(part(plan), plan.name))


def lkrnet_gain(group: str, tested: dict[str, Tested], view: str = "") -> verdicts.Effect:
    """LKRNet minus VGG19 beside the printed difference, in the "wild" or the "lab"."""
    gain = claims.printed(group, "lkrnet", "vgg19")
    return claims.compare(group, tested, ("lkrnet", view), ("vgg19", view), gain, True)


def findings_block(plan: plans.Profile) -> str:
    """A point a paper, how many claims stand, and the papers' main numbers beside ours."""
    papers = [point(plan) for point in (lkrnet_point, dnnrl_point, liu_point, kim_point, together_point)]
    lines = points([*papers, claims_point()])
    picture = f"![One row a claim: its verdict, and the printed difference beside ours](figures/{plan.name}/claims.png)"
    return f"{lines}\n\n{picture}\n\n{beside(plan)}\n\n{trust(plan)}"


def claims_point() -> str:
    """How many claims stand."""
    several = ("hold", "do not", "are not settled", "were not run", "cannot be tested here")
    said, found = dict(zip(verdicts.VERDICTS, several, strict=True)), Counter(j.verdict for j in judged())
    counts = [f"{n} {said[verdict]}" for verdict in verdicts.VERDICTS if (n := found[verdict])]
    unprinted = [j.claim.id for j in judged() if j.claim.text.startswith("(implied)")]
    arithmetic = sum(j.verdict == verdicts.FAILS and not j.profile for j in judged())
    return (
        f"Of **{len(judged())} claims**, all printed but {listed(unprinted)}, which is implied, {', '.join(counts)}. Of those "
        f"that do not hold {arithmetic} fail by arithmetic, without any run ([each claim, and why](results/TABLES.md#claims))."
    )


def crop_said() -> str:
    """Which differences, whose interval by TenCrop excludes 0, change sign by the centre crop."""
    changed = [
        (j.claim.id, e)
        for j in judged()
        for e in j.effects
        if e.decides and e.runs and e.contradicted and (e.ours.low > 0 or e.ours.high < 0)
    ]
    if not changed:
        return ""
    e = changed[0][1]
    few = ", though so few seeds would settle nothing anyway" * all(
        e.runs < pooling.FEWEST for _, e in changed
    )
    named = listed(list(dict.fromkeys(claim for claim, _ in changed)))
    n = "One difference that is" if len(changed) == 1 else f"{len(changed)} differences that are"
    return (
        f" {n} clear by TenCrop change{'s' * (len(changed) == 1)} sign by the centre crop ({named}), such as "
        f"{e.title} from {short(e.ours)} to {short(e.centre)}{few}."
    )


def lkrnet_point(plan: plans.Profile) -> str:
    """What LKRNet adds to VGG19 on FER2013, and on new people of CK+."""
    gain, ours, found, outside = claims.printed("wild", "lkrnet", "vgg19"), [], [], []
    for part in (plans.wild_runs, plans.long_runs, plans.strong_runs):
        tested = arms_of(part, plan)
        if not pooling.lacking(tested, *plans.LONG_ARMS):
            e = lkrnet_gain("wild", tested)
            found.append(f"that it is larger {e.verdict}" if e.verdict != verdicts.OPEN else e.verdict)
            ours.append(
                f"{short(e.ours)} ({tested['lkrnet'].epochs} epochs, {verdicts.count(e.runs, 'seed')})"
            )
            outside.append(not e.ours.low <= gain <= e.ours.high)
    if not ours:
        return ""
    said = ", ".join(dict.fromkeys(found))
    if len(set(outside)) == 1:
        each = "each interval" if outside[1:] else "the interval"
        said += (
            f", though the printed gain lies outside {each}"
            if outside[0]
            else f"; the printed gain lies within {each}"
        )
    by_printed = runs.find_all(plans.literal_runs(plan), plan.name)
    literal = "" if by_printed else " (the printed recipe has not been run there)"
    return (
        f"**LKRNet** prints {gain:+.2f} points over VGG19 on FER2013. In our runs of full width, by our recipe{literal}, "
        f"LKRNet minus VGG19 is {listed(ours)}: {said}.{lab_said(plan)}"
    )


def lab_said(plan: plans.Profile) -> str:
    """A sentence on what LKRNet adds to VGG19 on new people of CK+."""
    found = runs.find_all(plans.lab_runs(plan, ("subject",)), plan.name)
    tested = pooling.same_folds(found, *plans.LONG_ARMS)
    if pooling.lacking(tested, *plans.LONG_ARMS):
        return ""
    gain, t = claims.printed("lab", "lkrnet", "vgg19"), tested["lkrnet"]
    e = lkrnet_gain("lab", tested)
    outside = [f"{g:+.1f}" for g in (gain, table2_gain()) if not e.ours.low <= g <= e.ours.high]
    but = f" but not {gain:+.2f}" * (e.ours.low <= gain <= e.ours.high)
    excludes = f", which excludes {listed(outside)}{but}" if outside else ""
    return (
        f" On CK+ it prints {gain:+.2f} (its Table 2 gives {table2_gain():+.1f}) and no protocol; on new people we get "
        f"{short(e.ours)} ({pooling.folds_run(t)} folds, {len(t.labels)} frames){excludes}."
    )


def dnnrl_point(plan: plans.Profile) -> str:
    """DNNRL's loss alone, and beside cross-entropy."""
    plan = plans.shown(plan, plans.dnnrl_runs)
    tested = arms_of(plans.dnnrl_runs, plan)
    floors = untrained.floors(plan)
    if len(floors) < 2 or pooling.lacking(tested, "dnnrl-joint", "tdnn-joint", "dnnrl"):
        return ""
    gain = claims.printed("dnnrl", "dnnrl", "tdnn")
    neighbours, e = (
        claims.compare("dnnrl", tested, ("dnnrl-joint", view), ("tdnn-joint", view), gain, True)
        for view in ("knn", "")
    )
    alone = 100 * tested["dnnrl"].hits("centre").mean()
    grey, start = (100 * hits.mean() for hits, _, _ in floors.values())
    recipe = tested["dnnrl"].results[0].recipe
    side = "fewer than" if alone < min(grey, start) else "more than" if alone > max(grey, start) else "beside"
    return (
        f"**DNNRL** prints {gain:+.2f} points over the usual triplet loss. By the paper's own gradients (Eqs. 2-4) its loss "
        "learns nothing from a triplet that is in the wrong order, the negative nearer than the positive. Trained by it alone "
        f"({recipe.epochs} epochs, far from the printed schedule), a network's nearest neighbours are right on {alone:.1f} % of the test "
        f"faces, {side} neighbours among raw pixels ({grey:.1f} %) or among its features before training ({start:.1f} %). Added to cross-entropy in "
        f"such short runs, DNNRL's loss minus the triplet loss is {short(neighbours.ours)} points by k-NN and {short(e.ours)} by the networks' "
        f"own softmax ({verdicts.count(e.runs, 'seed')})."
    )


def liu_point(plan: plans.Profile) -> str:
    """Whose parameters, and whose accuracy."""
    j = next(j for j in judged() if j.claim.id == "M2")
    accuracy = published_accuracies("Liu2019", "Table 1", "PrivateTest")["Improved model"]
    share, both = j.published.split(" vs")[0], arithmetic.liu_parameters()
    fused = both["A"] + both["B"]
    return (
        f"**Liu et al.** print {accuracy:.2f} % with {share} of VGG16's parameters. The parameters are those of the small "
        f"model A alone; the accuracy is that of A and the large model B together, which have {100 * fused / both['VGG16']:.0f} % of "
        "VGG16's counted without its fully connected layers, as the paper counts (of the whole VGG16 they have "
        f"{100 * fused / both['whole VGG16']:.0f} %)."
    )


def kim_shown(plan: plans.Profile) -> plans.Profile:
    """The first profile that has Kim et al.'s network on random frames and on new people."""

    def both(p: plans.Profile) -> bool:
        return {"random", "subject"} <= set(claims.proposed(archive(p.name), "random", "subject"))

    return next(filter(both, plans.held(plan)), plan)


def kim_point(plan: plans.Profile) -> str:
    """Random frames, pixels, and new people; and what training on occluded faces gains."""
    plan = kim_shown(plan)
    found = claims.proposed(archive(plan.name), "random", "subject")
    null = archive(plan.name).null
    if null is None or not {"random", "subject"} <= set(found):
        return ""
    at_random, unseen = (
        short(pooling.estimate_of(found[p].hits("centre"), found[p].subject), "")
        for p in ("random", "subject")
    )
    as_printed = found["random"].results[0].recipe == siblings.sibling_arm("kim", "kim")
    recipe = "The printed recipe" if as_printed else "Its network, by a recipe of ours,"
    printed = published_accuracies("Kim2022", "Table 2", "random")
    pixels = null.groupby("protocol")["accuracy"].mean()
    occluded, robust = "", next(j for j in judged() if j.claim.id == "K4")
    if robust.verdict == verdicts.HOLDS:
        more, covered, seen = (short(e.ours, "") for e in robust.effects)
        protocol, every, kept = claims.occlusion_arms(archive(robust.profile or plan.name))
        folds = verdicts.count(len(kept["kim"].folds), "split" if protocol == "random" else "fold")
        occluded = (
            f" Training on occluded faces adds {covered} points on test faces occluded in the same way"
            f"{', of new people,' * (protocol == 'subject')} and {seen} on clean ones: {more} more "
            f"({folds}, {left_out(every, kept)})."
        )
    return (
        f"**Kim et al.** print {max(printed.values()):.2f} % on random frames of CK+. {recipe} gets {at_random} there, and {unseen} "
        f"on new people. Giving each test frame the label of the most similar training frame, without any training, gets "
        f"{pixels['random']:.1f} and {pixels['subject']:.1f}.{occluded}"
    )


def left_out(every: dict[str, Tested], kept: dict[str, Tested]) -> str:
    """How many folds K4 is judged without."""
    lost = len(every["kim"].folds) - len(kept["kim"].folds)
    return f"without {lost} on which a network lost what it had learnt" if lost else "all that were run"


def together_point(plan: plans.Profile) -> str:
    """The papers' networks averaged."""
    accuracy = tables.together(plan).get("PrivateTest, %", {})
    each = [name for name in accuracy.keys() if name.startswith("mean of the") and "papers'" in name]
    if not each or f"the {len(plans.AVERAGED)} papers'" not in each[-1]:
        return ""
    return (
        "**The mean of four networks**, one from each paper (LKRNet; DNNRL's DNN; Liu et al.'s A; a small one of Kim et al.'s; "
        f"all by settings of ours, softmaxes with equal weights), is right on {tenths(accuracy[each[0]])} % of FER2013's PrivateTest, and on "
        f"{tenths(accuracy[each[-1]])} % with those that were trained longest ([other means](figures/{plan.name}/together.csv)). The best mean "
        "without outside data that we know of has 75.2 % (Pramerdorfer and Kampel, December 2016, eight networks)."
    )


def beside(plan: plans.Profile) -> str:
    """The papers' main numbers beside ours: what each prints of its proposal and of what it improves on."""
    rows = []

    def row(name: str, paper: str, e: evaluate.Estimate | None, how: str, sign: str = "") -> None:
        rows.append([name, paper, short(e, sign) if e else tables.NOT_RUN, how])

    wild = arms_of(plans.wild_runs, plan)
    lab = runs.find_all(plans.lab_runs(plan, ("subject",)), plan.name)
    lab = pooling.same_folds(lab, *plans.LONG_ARMS)
    for group, tested, item, where in (("wild", wild, "Table 3", "FER2013"), ("lab", lab, "Table 2", "CK+")):
        paper = implied_said(item)
        for arm in plans.LONG_ARMS:
            t = tested.get(arm)
            row(
                f"{TITLES[arm]}, {where}",
                paper[TITLES[arm]],
                t and pooling.estimate_of(t.hits(), t.subject if group == "lab" else None),
                how(t, "TenCrop, " + "new people, " * (group == "lab")) if t else "",
            )
        if not pooling.lacking(tested, *plans.LONG_ARMS):
            gain = claims.printed(group, "lkrnet", "vgg19")
            e = lkrnet_gain(group, tested)
            printed = (
                f"{gain:+.2f} (text), {table2_gain():+.1f} (Table 2)" if group == "lab" else f"{gain:+.2f}"
            )
            row(f"LKRNet − VGG19, {where}", printed, e.ours, "as above", "+")
            row("the same, centre crop", printed, e.centre, "as above", "+")

    held = plans.shown(plan, plans.dnnrl_runs)
    tested = arms_of(plans.dnnrl_runs, held)
    for method, arm in ACCURACIES["DNNRL"].items():
        if arm in ("tdnn", "dnnrl"):
            t, value = tested.get(arm), published_accuracies("DNNRL", "Table 2")[method]
            row(
                f"{TITLES[arm]}{' (usual triplet loss)' * (arm == 'tdnn')}, FER2013",
                f"{value:.2f}",
                t and pooling.estimate_of(t.hits("centre")),
                how(t, f"k-NN, centre crop, {t.results[0].recipe.size} pixels, ") if t else "",
            )

    held = plans.shown(plan, plans.liu_runs)
    both = arms_of(plans.liu_runs, held).get("liu-ensemble")
    value = published_accuracies("Liu2019", "Table 1", "PrivateTest")["Improved model"]
    row(
        "Liu et al., A + B, FER2013",
        f"{value:.2f}",
        both and pooling.estimate_of(both.hits()),
        how(both, "TenCrop, ") + ", B from random weights" * random_b(both) if both else "",
    )

    held = kim_shown(plan)
    found = claims.proposed(archive(held.name), *kim_tables.PROTOCOLS)
    value = max(published_accuracies("Kim2022", "Table 2", "random").values())
    for protocol in ("random", "subject"):
        t, title = found.get(protocol), kim_tables.PROTOCOLS[protocol]
        paper = f"{value:.2f}" if protocol == "random" else "–"
        own = t and pooling.estimate_of(t.hits("centre"), t.subject)
        row(f"Kim et al., {title} of CK+", paper, own, how(t, "whole face, ", splits=True) if t else "")
    return "\n".join(
        [
            *markdown(["test accuracy, % (differences in points)", "paper", "ours", "our runs"], rows),
            "",
            BESIDE,
        ]
    )


def trust(plan: plans.Profile) -> str:
    """How many seeds there are at full width on FER2013, and how near the best network comes to public ones."""
    parts = (plans.wild_runs, plans.long_runs, plans.strong_runs)
    tested = [t for p in parts for t in arms_of(p, plan).values()]
    if not tested:
        return ""
    most, n = max(len(t.seeds) for t in tested), sum(len(t.results) for t in tested)
    few = f" No network has the {pooling.FEWEST} seeds (repeated trainings) there that our verdicts ask for."
    best = max(100 * t.hits().mean() for t in tested)
    return (
        f"How far to trust this: LKRNet and its baselines were trained on FER2013 at full width, in {n} runs.{few * (most < pooling.FEWEST)} "
        f"The best has {best:.1f} %, where [a public VGG19](results/TABLES.md#lkrnets-printed-numbers) reports 73.1 with its epoch "
        "chosen on the test set, and one of its users about 72.6 with PublicTest. The other three papers' runs on FER2013 are short and narrow (three "
        "networks, by settings of ours, [longer](results/README.md#the-mean-of-all-papers)): their accuracies cannot be compared with the printed ones."
    )


def implied(item: str) -> pd.Series:
    """Network -> the accuracy in per cent that LKRNet's "Table 2" (CK+) or "Table 3" (FER2013) implies."""
    return implied_table(item)["implied accuracy"]


def implied_table(item: str) -> pd.DataFrame:
    """`tables.implied` with the class counts of the data set."""
    counts, classes = EXPECTED_COUNTS["fer2013"]["PrivateTest"], FER_CLASSES
    if item == "Table 2":
        counts = EXPECTED_COUNTS["ckplus"]["all"]
        classes = tuple(counts)
    return tables.implied(item, classes, counts)


def implied_said(item: str) -> dict[str, str]:
    """Network -> what `implied` says, with what rounding leaves open."""
    table = implied_table(item)
    said = {}
    for name, row in table.iterrows():
        value, low, high = (row[k] for k in ("implied accuracy", "lowest", "highest"))
        even = f"{value - low:.1f}" == f"{high - value:.1f}"
        said[name] = f"{value:.1f} ± {high - value:.1f}" if even else f"{value:.1f} ({low:.1f} to {high:.1f})"
    return said


def table2_gain() -> float:
    """What LKRNet's Table 2 implies that it gains on VGG19 on CK+, in points."""
    return implied("Table 2")["LKRNet"] - implied("Table 2")["VGG19"]


def random_b(both: Tested) -> bool:
    """Whether Liu et al.'s model B started from random weights, and not from ImageNet's."""
    return any(r.recipe.model == "liu_b" and r.recipe.weights == "none" for r in both.results)


def how(t: Tested, said: str = "", splits: bool = False) -> str:
    """Width, epochs, seeds or folds of an arm."""
    width = " and ".join(plans.WIDTHS[w] for w in sorted({r.recipe.width for r in t.results}))
    n = verdicts.count(len(t.folds), "split") if splits else f"{pooling.folds_run(t)} folds"
    return f"{said}{width}, {t.epochs} epochs, {n if t.results[0].info['n_folds'] > 1 else verdicts.count(len(t.seeds), 'seed')}"


def tenths(estimate: str) -> str:
    """65.76 [64.19, 67.29] as 65.8 [64.2, 67.3]."""
    return re.sub(r"\d+\.\d\d", lambda number: f"{float(number[0]):.1f}", estimate)


def short(e: evaluate.Estimate, sign: str = "+") -> str:
    """An estimate to a tenth: +0.4 [-0.8, 1.5]."""
    return f"{e.value:{sign}.1f} [{e.low:.1f}, {e.high:.1f}]"


def verdict_block(plan: plans.Profile) -> str:
    """Which claims stand, by verdict, and why the others are open."""
    lines, reading = [], any(j.claim.id == "L11" and j.verdict == verdicts.HOLDS for j in judged())
    for verdict in verdicts.VERDICTS:
        if not (own := [j for j in judged() if j.verdict == verdict]):
            continue
        if verdict != verdicts.OPEN:
            exact = verdict in (verdicts.HOLDS, verdicts.FAILS)
            told = [
                f"{j.claim.text} ({j.claim.id}{', by arithmetic' * (exact and not j.profile)})" for j in own
            ]
            lines.append(f"- *{verdict}*, {len(own)}: {'; '.join(told)}.")
            continue
        why = {j.claim: j.lacks or "runs enough, but their scatter allows no verdict" for j in own}
        reasons = []
        for lacks in dict.fromkeys((verdicts.SHORT, verdicts.FEW, *why.values())):
            if told := [f"{claim.text} ({claim.id})" for claim, w in why.items() if w == lacks]:
                reasons.append(f"  - {lacks}, {len(told)}: {'; '.join(told)}")
        every = ";\n".join(reasons)
        lines.append(f"- *{verdict}*, {len(own)}:\n{every}.")
    return (
        f"## Claims\n\n{len(judged())} claims of the four papers, judged by arithmetic or on the runs below:\n\n"
        + "\n".join(lines)
        + "\n\nThe rules in short (in full: [notebook 10](../notebooks/10_claims.ipynb)):\n\n"
        "- Runs shorter, narrower or on smaller faces than those of the profile `paper` settle nothing: it has full width, on "
        f"FER2013 {plan.recipe.epochs} epochs of LKRNet's arms (by our recipe), {siblings.DNNRL.epochs} of DNNRL's and {siblings.LIU_A.epochs} of Liu et "
        f"al.'s, on CK+ {plan.lab_recipe.epochs} of LKRNet's arms and {siblings.KIM.epochs} of Kim et al.'s.\n"
        "- With fewer than five pairs of runs a difference of accuracies counts only if it is large: two points more than the "
        "smallest that such runs detect with 80 % power (a difference of differences: four points more). Levels, recalls and heat "
        "maps are then not judged at all.\n"
        "- No paper names its test crop. A difference by TenCrop that has the other sign by the centre crop settles nothing."
        f"{crop_said()}\n"
        f"{'- L11 holds by [our reading](../README.md#what-is-assumed) of Baseline 1.' * reading}\n\n"
        f"What was printed, what was measured and how it was tested stands for each in [claims.csv](../figures/{plan.name}/claims.csv), "
        "which notebook 10 shows too (as committed, of runs on synthetic faces)."
    )


def wild_block(plan: plans.Profile) -> str:
    """LKRNet's arms: overall accuracy on PrivateTest, implied by Table 3 and measured; a table a profile."""
    parts = {
        plans.wild_runs: "",
        plans.long_runs: ", longer",
        plans.strong_runs: ", longer, stronger transforms",
    }
    blocks, shown = ["## LKRNet on FER2013\n\nAccuracy on PrivateTest, %."], set()
    for held in plans.held(plan):
        groups = [arms_of(part, held) for part in parts]
        rows = [
            row
            for group, suffix in zip(groups, parts.values(), strict=True)
            for row in arm_rows(held, group, suffix)
        ]
        shown |= {arm for group in groups for arm in group}
        if held is plans.held(plan)[-1]:
            rows += [[TITLES[a], "–", tables.NOT_RUN, *[""] * 5] for a in held.arms if a not in shown]
        if not rows:
            continue
        below = [held.notes["wild"]]
        if t := next((t for group in groups for t in group.values()), None):
            last = " (by stronger transforms: the last)" if groups[-1] else ""
            below += [
                f"n = {len(t.labels):,} and {int(t.clean.sum()):,} without an exact copy in Training; 95 % intervals over "
                f"images, of several seeds over seeds too; the epoch is selected on PublicTest{last}.",
                "Each difference is taken to the VGG19 of the same width and length, over the seeds that both have. ± 0.5: the "
                "paper prints recalls in whole per cent.",
                beside_baselines(held),
                last_epochs(groups),
                single_seeds(groups[0]),
                *(unnamed(group) for group in groups),
            ]
        title = f"### {plans.WIDTHS[held.recipe.width].capitalize()}, {held.recipe.epochs} epochs"
        blocks.append("\n".join([title, "", *markdown(["network", *ARM_HEAD], rows), "", points(below)]))
    held = plans.shown(plan, plans.wild_runs)
    return "\n\n".join(
        [*blocks, recalls(held, "Table 3", FER_CLASSES, arms_of(plans.wild_runs, held), "PrivateTest")]
    )


def recalls(
    plan: plans.Profile, item: str, classes: tuple[str, ...], tested: dict[str, Tested], on: str
) -> str:
    """LKRNet's Table 2 or 3, recalls by class, with ours below each printed row."""
    table = tables.recall_table(tested, classes, item)
    rows = [
        [
            network,
            source,
            *("" if np.isnan(x) else f"{x:g}" if network == "images" else f"{x:.1f}" for x in values),
        ]
        for (network, source), values in zip(table.index, table.to_numpy(), strict=True)
    ]
    return "\n".join(
        [
            f"### {item}: recall by class",
            "",
            f"Recall, %, on {on}; ours by TenCrop, mean over seeds ([as CSV](../figures/{plan.name}/{item.lower().replace(' ', '')}.csv)).",
            "",
            *markdown(["network", "", *table.columns], rows),
        ]
    )


def single_seeds(tested: dict[str, Tested]) -> str:
    """The accuracies of arms with several seeds one by one, which show what a seed may do."""
    each = [
        f"{TITLES[arm]} {', '.join(f'{100 * h:.2f}' for h in t.hits().mean(1))}"
        for arm, t in tested.items()
        if len(t.seeds) > 1
    ]
    return f"Single seeds, TenCrop: {'; '.join(each)}." if each else ""


def last_epochs(groups: list[dict[str, Tested]]) -> str:
    """LKRNet minus VGG19 by the centre crop, in the chosen epoch, whose choice is luck, and in the last."""
    middle, each = [], []
    for tested in groups:
        if not pooling.lacking(tested, *plans.LONG_ARMS):
            for view, said in (("centre", middle), ("last_epoch", each)):
                ours = signed(str(lkrnet_gain("wild", tested, view).ours))
                said.append(f"{ours} ({tested['lkrnet'].epochs} epochs)")
    if not each:
        return ""
    return f"LKRNet minus VGG19 by the centre crop: {listed(middle)}; in the last epoch: {listed(each)}."


def beside_baselines(plan: plans.Profile) -> str:
    """LKRNet minus the two baselines."""
    j = next(j for j in judged() if j.claim.id == "L4")
    each = [
        f"{e.title.replace('−', 'minus')} {signed(str(e.ours))}, by the centre crop {signed(str(e.centre))} "
        f"({verdicts.count(e.runs, 'seed')} of both)"
        for e in j.effects
        if e.title.startswith("LKRNet − Baseline") and j.profile == plan.name
    ]
    return f"{listed(each)}." if each else ""


ARM_HEAD = [
    "paper (implied by Table 3)",
    "ours, centre crop",
    "ours, TenCrop",
    "TenCrop, without copies in Training",
    "minus VGG19, points: paper",
    "minus VGG19: ours, TenCrop",
    "epochs, seeds",
]


def arm_rows(plan: plans.Profile, group: dict[str, Tested], suffix: str) -> list[list[str]]:
    """A row of `ARM_HEAD` for each arm of the plan that was run."""
    pairs = tuple((a, "vgg19") for a in plans.FACTORIAL[1:])
    gains, rows = tables.differences(group, "FER2013", pairs=pairs), []
    for arm in [a for a in plan.arms if a in group]:
        name = f"{TITLES[arm]} − {TITLES['vgg19']}"
        gain = ["", ""]
        if name in gains.index:
            gain = [f"{gains['paper'][name]:+.2f}", signed(gains["ours"][name])]
        t, paper = group[arm], implied_said("Table 3").get(TITLES[arm], "–")
        rows.append([TITLES[arm] + suffix, paper, *accuracies(t), *gain, f"{t.epochs}, {len(t.hits())}"])
    return rows


def unnamed(tested: dict[str, Tested]) -> str:
    """A sentence on the classes that no network ever names, which accuracy does not show."""
    printed = published_recalls("Table 3", FER_CLASSES)
    said = []
    for k, name in enumerate(FER_CLASSES):
        if not tested or any((t.predicted() == k).any() for t in tested.values()):
            continue
        low, high = (f(printed[m][k] for m in printed if m in METHODS) for f in (min, max))
        t = next(iter(tested.values()))
        n, epochs = int((t.labels == k).sum()), t.epochs
        said.append(
            f"No network of {epochs} epochs names *{name}* even once (0 of {n} faces; the paper prints recalls of {low:.0f} "
            f"to {high:.0f} %)."
        )
    return " ".join(said)


LAB_HEAD = [
    "paper (implied by Table 2)",
    "ours, new people",
    "ours, random frames",
    "minus VGG19, points: text / Table 2",
    "minus VGG19: ours, new people",
    "n",
    "epochs, folds",
]


def lab_block(plan: plans.Profile) -> str:
    """LKRNet on CK+: new people and random frames, folds pooled, beside what Table 2 implies; a table a profile."""
    blocks = [f"## LKRNet on CK+\n\nAccuracy, %: TenCrop, last epoch; {INTERVALS}."]
    for held in plans.held(plan):
        found = {
            p: pooling.same_folds(runs.find_all(plans.lab_runs(held, (p,)), held.name))
            for p in ("subject", "frame")
        }
        literal = pooling.same_folds(runs.find_all(plans.literal_lab_runs(held), held.name))
        last = held is plans.held(plan)[-1]
        arms = [a for a in plans.FACTORIAL if last or any(a in t for t in found.values())]
        rows = lab_rows(found, arms)
        rows += lab_rows(
            {"subject": literal, "frame": {}}, [a for a in TITLES if a in literal], tables.PRINTED
        )
        if not rows:
            continue
        head = ["network", *LAB_HEAD]
        if not found["frame"]:  # a column of "not run"
            head, *rows = ([*row[:3], *row[4:]] for row in (head, *rows))
        title = f"### {plans.WIDTHS[held.lab_recipe.width].capitalize()}, {held.lab_recipe.epochs} epochs"
        below = points([held.notes["lab"], literal_said(literal)])
        blocks.append("\n".join([title, "", *markdown(head, rows), "", below]))
    held = plans.shown(plan, lambda p: plans.lab_runs(p, ("subject",)))
    tested = pooling.same_folds(runs.find_all(plans.lab_runs(held, ("subject",)), held.name))
    return "\n\n".join([*blocks, recalls(held, "Table 2", CK_CLASSES, tested, "new people")])


def literal_said(tested: dict[str, Tested]) -> str:
    """How far the printed recipe gets on the images that it learns from, and another reading of its decay beside it."""
    if not tested:
        return ""
    learnt = [
        f"{TITLES[arm]} has {np.mean([r.history['train_accuracy'][-1] for r in t.results]):.0f} %"
        for arm, t in tested.items()
    ]
    said = (
        f"By the printed recipe {listed(learnt)} of the training images right. How often its rate falls is not printed: "
        "here every epoch."
    )
    for trial in map(runs.read, sorted((runs.results_folder("trials") / "decay-5").glob("**/run.json"))):
        if trial.recipe.arm in tested and trial.info["fold"] in tested[trial.recipe.arm].folds:
            said += (
                f" Falling every {trial.recipe.decay_every} epochs instead, {TITLES[trial.recipe.arm]} has "
                f"{trial.history['train_accuracy'][-1]:.0f} % of them, and {trial.info['metrics']['test_tencrop']:.2f} % of the "
                "new people's frames."
            )
    return said


def lab_rows(found: dict[str, dict[str, Tested]], arms: list[str], suffix: str = "") -> list[list[str]]:
    """A row of `LAB_HEAD` for each of the arms; `found`: protocol -> arms that were run."""
    rows, gains = [], tables.differences(found["subject"], "CK+", clusters=True)
    for arm in arms:
        own, name = [found[p].get(arm) for p in found], f"{TITLES[arm]} − {TITLES['vgg19']}"
        cells = [pooling.mean_accuracy(t.hits(), t.subject) if t else tables.NOT_RUN for t in own]
        paper, cells = implied("Table 2").get(TITLES[arm]), [*cells, "", ""]
        if name in gains.index and paper:
            table2 = paper - implied("Table 2")[TITLES["vgg19"]]
            cells[2:] = [f"{gains['paper'][name]:+.2f} / {table2:+.1f}", signed(gains["ours"][name])]
        t = next((t for t in own if t), None)
        size = [f"{len(t.labels):,}", f"{t.epochs}, {pooling.folds_run(t)}"] if t else ["", ""]
        rows.append([TITLES[arm] + suffix, implied_said("Table 2").get(TITLES[arm], "–"), *cells, *size])
    return rows


WILD_HEAD = ["paper", "ours, centre crop", "ours, TenCrop", "{}, without copies in Training", "epochs, seeds"]


def dnnrl_block(plan: plans.Profile) -> str:
    """DNNRL's Table 2, with what k-NN reaches without any training and the softmax network's own features under k-NN."""
    plan = plans.shown(plan, plans.dnnrl_runs)
    tested = arms_of(plans.dnnrl_runs, plan)
    printed, rows = published_accuracies("DNNRL", "Table 2"), []
    for name, (hits, clean, k) in untrained.floors(plan).items():
        own = [pooling.mean_accuracy(hits), "", pooling.mean_accuracy(hits[:, clean])]
        rows.append([f"{name} (k-NN, k = {k})", "–", *own, "0"])
    named = {arm: method for method, arm in ACCURACIES["DNNRL"].items()}
    for arm in siblings.ARMS["dnnrl"]:
        t, method = tested.get(arm), named.get(arm)
        taught = siblings.sibling_arm("dnnrl", arm).cross_entropy
        for view in ("centre", "knn") if taught and arm != "alexnet" else ("centre",):
            neighbours = view == "knn" or not taught
            k = f", k = {spread([r.info['k'] for r in t.results])}" if neighbours and t else ""
            name = TITLES[arm] + f" (k-NN{k})" * bool(neighbours)
            paper = f"{printed[method]:.2f}" if method in printed and view == "centre" else "–"
            rows.append([name, paper, *measured(t, None if neighbours else "tencrop", view)])
    head = ["network", *WILD_HEAD]
    head[4] = head[4].format("centre crop")
    below = [
        plan.notes["dnnrl"],
        "k is chosen on PublicTest; with k = 1 the nearest training face alone answers; for one test face in twelve that is its own exact copy.",
    ]
    title = f"## DNNRL on FER2013\n\nAccuracy on PrivateTest, %{n_said(tested)}.\n"
    return "\n".join([title, *markdown(head, rows), "", points(below)])


def spread(numbers: list[int]) -> str:
    """One number, or from the lowest to the highest."""
    return str(numbers[0]) if len(set(numbers)) == 1 else f"{min(numbers)} to {max(numbers)}"


def n_said(tested: dict[str, Tested]) -> str:
    """On how many faces, all and without copies."""
    t = next(iter(tested.values()), None)
    return (
        f"; n = {len(t.labels):,}, of which {int(t.clean.sum()):,} have no exact copy in Training"
        if t
        else ""
    )


def liu_block(plan: plans.Profile) -> str:
    """Liu et al.'s Table 1: the VGGs, A, B, and A + B, which alone is printed."""
    plan = plans.shown(plan, plans.liu_runs)
    tested, printed = arms_of(plans.liu_runs, plan), published_accuracies("Liu2019", "Table 1", "PrivateTest")
    rows = []
    for method, arm in [*ACCURACIES["Liu2019"].items(), ("Improved model", "liu-ensemble")]:
        paper = f"{printed[method]:.2f}" if method in printed else "–"
        rows.append([TITLES[arm].removesuffix(" (Liu et al.)"), paper, *measured(tested.get(arm))])
    head = ["network", *WILD_HEAD]
    head[4] = head[4].format("TenCrop")
    below = [plan.notes["liu"], "The weight of A in A + B is chosen on PublicTest."]
    title = f"## Liu et al. on FER2013\n\nAccuracy on PrivateTest, %{n_said(tested)}.\n"
    return "\n".join([title, *markdown(head, rows), "", points(below)])


def kim_block(plan: plans.Profile) -> str:
    """Kim et al.'s Table 2 under each protocol, and what no training reaches."""
    plan = kim_shown(plan)
    null, rows = archive(plan.name).null, []
    recipes = ((plans.kim_runs(plan), ""), (plans.kim_printed_runs(plan), tables.PRINTED))
    for protocol, title in kim_tables.PROTOCOLS.items():
        if null is not None:
            a = null.loc[null["protocol"] == protocol, "accuracy"]
            rows.append(
                [title, "nearest pixels, untrained", "–", f"{a.mean():.2f}", "", f"{len(a):,}", "", "0"]
            )
        printed = published_accuracies("Kim2022", "Table 2", protocol)
        for kim_runs, suffix in recipes:
            found = runs.find_all([run for run in kim_runs if run.protocol == protocol], plan.name)
            tested = pooling.by_arm(found, partial=True)
            for method, arm in ACCURACIES["Kim2022"].items():
                if suffix and arm not in tested:
                    continue
                paper = f"{printed[method]:.2f}" if method in printed else "–"
                rows.append([title, TITLES[arm] + suffix, paper, *split_cells(tested.get(arm))])
    head = [
        "tested on",
        "network",
        "paper",
        "ours",
        "ours, with mirror image",
        "splits",
        "n of each",
        "epochs",
    ]
    below = [
        plan.notes["kim"],
        "Some runs computed the transformer's sampling grid in bfloat16, up to a fifth of a pixel off ([which, and what it "
        "changes](README.md#what-lies-here-and-what-wrote-it)).",
        "The networks see the whole face; beside it stands the mean with its mirror image, on which they were not trained.",
        "The interval of claim K1 is another one: it asks how other splits of the same people would come out.",
    ]
    occlusion = kim_tables.occlusion(*(runs.find_all(own, plan.name) for own, _ in recipes)).reset_index()
    occlusion = occlusion[occlusion["protocol"].str.startswith(kim_tables.PROTOCOLS["subject"])]
    hidden = [[str(cell) for cell in row] for row in occlusion.fillna("").to_numpy()]
    picture = f"![Each split under three protocols, beside the nearest pixels](../figures/{plan.name}/kim-protocols.png)"
    title = f"## Kim et al. on CK+\n\nAccuracy, %: last epoch; {INTERVALS}.\n\n{picture}\n"
    block = [title, *markdown(head, rows), "", points(below)]
    if hidden:
        block += [
            "",
            "### Trained with and without occlusion",
            "",
            *markdown(list(occlusion.columns), hidden),
        ]
    return "\n".join(block)


def split_cells(t: Tested | None) -> list[str]:
    """Accuracy by view over people, number of splits, test frames of each, epochs."""
    if t is None:
        return [tables.NOT_RUN, "", "", "", ""]
    cells = [pooling.mean_accuracy(t.hits(view), t.subject) for view in ("centre", "tencrop")]
    return [*cells, str(len(t.folds)), pooling.joined(r.info["n"]["test"] for r in t.results), t.epochs]


def measured(t: Tested | None, other: str | None = "tencrop", view: str = "centre") -> list[str]:
    """Accuracy by one view, by another if given, without copies by the last of them that the column names; epochs, seeds."""
    if t is None:
        return [tables.NOT_RUN, "", "", ""]
    clean = "tencrop" if t.results[0].info["recipe"]["paper"] == "liu" else view
    cells = [pooling.mean_accuracy(t.hits(view)), pooling.mean_accuracy(t.hits(other)) if other else ""]
    return [*cells, pooling.mean_accuracy(t.hits(clean)[:, t.clean]), f"{t.epochs}, {len(t.seeds)}"]


def accuracies(t: Tested) -> list[str]:
    """Centre crop, TenCrop, TenCrop without copies."""
    return [pooling.mean_accuracy(h) for h in (t.hits("centre"), t.hits(), t.hits()[:, t.clean])]


def points(lines: Iterable[str]) -> str:
    """A list of those that say something."""
    return "\n".join(f"- {line}" for line in lines if line)


def signed(estimate: str) -> str:
    return estimate if estimate.startswith(("-", "n")) else f"+{estimate}"


def listed(words: list[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows)]


BLOCKS: dict[Path, dict[str, tuple[Callable[[plans.Profile], str], ...]]] = {
    README: {"findings": (findings_block,)},
    TABLES: {"tables": (verdict_block, wild_block, lab_block, dnnrl_block, liu_block, kim_block)},
}
"""File -> name between its markers -> what is written there."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; status 1 if a block or page is out of date"
    )
    options, stale = parser.parse_args(), []
    pages = {HERE / "figures" / p.name / "README.md": gallery.page(p) for p in plans.held(PROFILE)}
    for path, named in BLOCKS.items():
        new = path.read_text("utf-8")
        for name, blocks in named.items():
            head, rest = new.split(f"<!-- {name}:begin", 1)
            first_line, rest = rest.split("\n", 1)
            end = f"<!-- {name}:end -->"
            body = "\n\n".join(block(PROFILE) for block in blocks)
            new = f"{head}<!-- {name}:begin{first_line}\n{body}\n{end}{rest.split(end, 1)[1]}"
        pages[path] = new
    for path, new in pages.items():
        if not path.is_file() or new != path.read_text("utf-8"):
            stale.append(str(path.relative_to(HERE)))
            if not options.check:
                with whole(path) as file:
                    file.write(new.encode())
    if options.check and stale:
        print(f"{', '.join(stale)}: out of date; run: python tools/update_readme.py", file=sys.stderr)
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
