"""Write README's blocks of findings and results from the archived runs: python tools/update_readme.py [--check]."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np

from fercompanion import claims, plans, pooling, runs, siblings, tables, untrained, verdicts
from fercompanion.data import FER_CLASSES
from fercompanion.doctor import EXPECTED_COUNTS
from fercompanion.papers import ACCURACIES, TITLES, published_accuracies, published_recalls
from fercompanion.pooling import Tested

README = Path(__file__).resolve().parents[1] / "README.md"
PROFILE = plans.profile("paper")
"""Whose runs are shown; where it has none yet, those of the profile that it names instead."""
FEW_WRONG = (
    "(where fewer than five people have a frame wrong Clopper and Pearson's instead, for as many independent frames as "
    "these are worth, and where nobody has for one frame a person)"
)
"""How `pooling.estimate_of` makes the intervals of frames, after "from a bootstrap over people"."""


@cache
def judged() -> list[verdicts.Judgement]:
    """All claims, in the papers' order."""
    return claims.judge_all(PROFILE)


def findings_block(plan: plans.Profile) -> str:
    """A line a paper, and how many claims stand."""
    lines = [line(plan) for line in (lkrnet_line, dnnrl_line, liu_line, kim_line, together_line)]
    found = Counter(j.verdict for j in judged())
    several = dict(
        zip(
            verdicts.VERDICTS,
            ("hold", "do not hold", "are not settled", "were not run", "cannot be tested here"),
            strict=True,
        )
    )
    counts = ", ".join(f"{n} {several[verdict]}" for verdict in verdicts.VERDICTS if (n := found[verdict]))
    every = f"Of {len(judged())} **claims** of the four papers {counts} ([which, and why](#the-papers-beside-ours))."
    return "\n".join(f"- {line}" for line in [*filter(None, lines), every])


def lkrnet_line(plan: plans.Profile) -> str:
    """What LKRNet adds to VGG19 on FER2013, and on new people of CK+."""
    gain, ours, found, outside = claims.printed("wild", "lkrnet", "vgg19"), [], [], []
    for part in (plans.wild_runs, plans.long_runs, plans.strong_runs):
        tested = pooling.by_arm(runs.find_all(part(plan), plan.name))
        if not pooling.lacking(tested, *plans.LONG_ARMS):
            e = claims.compare("wild", tested, ("lkrnet", ""), ("vgg19", ""), gain, True)
            found.append(f"that it is larger {e.verdict}" if e.verdict != verdicts.OPEN else e.verdict)
            ours.append(
                f"{signed(str(e.ours))} ({tested['lkrnet'].epochs} epochs, {verdicts.count(e.runs, 'seed')})"
            )
            outside.append(not e.ours.low <= gain <= e.ours.high)
    if not ours:
        return ""
    said = ", ".join(dict.fromkeys(found))
    if len(set(outside)) == 1:
        said += f"; the printed gain lies {'outside' if outside[0] else 'within'} {'each interval' if outside[1:] else 'the interval'}"
    by_printed = runs.find_all(plans.literal_runs(plan), plan.name)
    literal = "" if by_printed else "; the printed one has not been run on FER2013"
    return (
        f"**LKRNet**: the paper prints {gain:+.2f} points over VGG19 on FER2013. In our runs of full width (by our recipe"
        f"{literal}) the two differ by {listed(ours)}: {said}.{lab(plan)}{literal_lab(plan)}"
    )


def lab(plan: plans.Profile) -> str:
    """A sentence on what LKRNet adds to VGG19 on new people of CK+."""
    tested = pooling.same_folds(runs.find_all(plans.lab_runs(plan, ("subject",)), plan.name))
    if pooling.lacking(tested, *plans.LONG_ARMS):
        return ""
    gain, t = claims.printed("lab", "lkrnet", "vgg19"), tested["lkrnet"]
    e = claims.compare("lab", tested, ("lkrnet", ""), ("vgg19", ""), gain, True)
    return (
        f" On CK+ it prints {gain:+.2f}, under a protocol it does not name; on new people, by our recipe, the two differ by "
        f"{signed(str(e.ours))} ({t.epochs} epochs, {pooling.folds_run(t)} folds, n = {len(t.labels)})."
    )


def literal_lab(plan: plans.Profile) -> str:
    """A sentence on how far the printed recipe gets on CK+."""
    tested = pooling.same_folds(runs.find_all(plans.literal_lab_runs(plan), plan.name))
    if not tested:
        return ""
    each = [f"{TITLES[arm]} to {pooling.mean_accuracy(t.hits(), t.subject)} %" for arm, t in tested.items()]
    t = next(iter(tested.values()))
    trials = map(runs.read, (runs.results_folder("trials") / "decay-5").glob("**/run.json"))
    more = [
        trial
        for trial in trials
        if trial.recipe.arm in tested
        for r in tested[trial.recipe.arm].results
        if trial.info["fold"] == r.info["fold"]
        and trial.info["metrics"]["test_tencrop"] > r.info["metrics"]["test_tencrop"]
    ]
    another = " ([another one](results/README.md) learns more)" * bool(more)
    return f" The printed recipe for CK+, by our reading of it{another}, gets {listed(each)}; {pooling.folds_run(t)} folds, n = {len(t.labels)}."


def dnnrl_line(plan: plans.Profile) -> str:
    """DNNRL's loss alone, and beside cross-entropy."""
    plan = plans.shown(plan, plans.dnnrl_runs)
    tested = pooling.by_arm(runs.find_all(plans.dnnrl_runs(plan), plan.name))
    floor = untrained.grey_neighbours(plan.name, plan.wild)
    if floor is None or pooling.lacking(tested, "dnnrl-joint", "tdnn-joint", "dnnrl"):
        return ""
    gain = claims.printed("dnnrl", "dnnrl", "tdnn")
    e = claims.compare("dnnrl", tested, ("dnnrl-joint", "knn"), ("tdnn-joint", "knn"), gain, True)
    alone, grey = 100 * tested["dnnrl"].hits("centre").mean(), 100 * floor[0].mean()
    side, width = "fewer than" if alone < grey else "more than", tested["dnnrl"].results[0].recipe.width
    return (
        f"**DNNRL**: the paper prints {gain:+.2f} points over the usual triplet loss. By the paper's own gradients (Eqs. 2-4) its "
        "loss learns nothing from a triplet of faces whose negative lies nearer than its positive. In runs of "
        f"{plans.WIDTHS[width]} and {tested['dnnrl'].epochs} epochs ({verdicts.count(e.runs, 'seed')}), trained by it alone from random weights, the "
        f"network's nearest neighbours are right on {alone:.1f} % of the test faces, {side} neighbours among the raw pixels ({grey:.1f} %); with "
        f"cross-entropy added, the two losses differ by {signed(str(e.ours))}."
    )


def liu_line(plan: plans.Profile) -> str:
    """Whose parameters, and whose accuracy."""
    j = next(j for j in judged() if j.claim.id == "M2")
    accuracy = published_accuracies("Liu2019", "Table 1", "PrivateTest")["Improved model"]
    share, both = j.published.split(" vs")[0], re.search(r"= (\d+ %) vs VGG16", j.ours)[1]
    return (
        f"**Liu et al.** print {accuracy:.2f} % with {share} of VGG16's parameters. The parameters are those of the small model A alone, the "
        f"accuracy is that of A and the large model B together, which have {both} of VGG16's."
    )


def kim_line(plan: plans.Profile) -> str:
    """Random frames, pixels, and new people; and what training on occluded faces gains."""
    plan = plans.shown(plan, plans.kim_runs)
    found = claims.proposed(claims.read(plan), "random", "subject")
    null = untrained.nearest_pixels(plan.name, plan.lab, plan.siblings.kim_folds)
    if null is None or not {"random", "subject"} <= set(found):
        return ""
    at_random, unseen = (
        pooling.mean_accuracy(found[p].hits("centre"), found[p].subject) for p in ("random", "subject")
    )
    value = max(published_accuracies("Kim2022", "Table 2", "random").values())
    pixels = null.loc[null["protocol"] == "random", "accuracy"].mean()
    occluded, robust = "", next(j for j in judged() if j.claim.id == "K4")
    if robust.verdict == verdicts.HOLDS:
        e = robust.effects[0]
        seen, covered, seen_clean, covered_clean = re.findall(r"([\d.]+) (?:clean|occluded)", robust.ours)
        occluded = (
            f" Training on occluded faces gains {float(covered) - float(covered_clean):.1f} points on occluded test faces"
            f"{' of new people' * ('subject' in robust.protocol)} and {float(seen) - float(seen_clean):.1f} on clean ones, {e.ours} apart "
            f"({verdicts.count(e.runs, 'fold')} on which both networks kept what they had learnt)."
        )
    return (
        f"**Kim et al.** print {value:.2f} % on random frames of CK+. The printed recipe gets {at_random} there, and {unseen} "
        f"where it trains and tests on different people; nearest pixels, untrained, get {pixels:.1f} on the random frames."
        + occluded
    )


def together_line(plan: plans.Profile) -> str:
    """The papers' networks averaged."""
    accuracy = tables.together(plan).get("PrivateTest, %", {})
    each = [name for name in accuracy.keys() if name.startswith("mean of the") and "papers'" in name]
    if not each or f"the {len(runs.AVERAGED)} papers'" not in each[-1]:
        return ""
    return (
        f"**All four** averaged (one network a paper: LKRNet, DNN, Liu et al.'s A, a small one of Kim et al.'s; softmaxes, equal weights) are right on {accuracy[each[0]]} % of FER2013's "
        f"test set, PrivateTest; those that were trained longest, by recipes of ours, on {accuracy[each[-1]]} %. The best that was published without outside "
        "data when these papers were written is 75.2 % ([other means](figures/paper/together.csv), [recipes](results/README.md))."
    )


def verdict_block(plan: plans.Profile) -> str:
    """Which claims stand, by verdict, why the others are open, and their picture."""
    lines = []
    for verdict in verdicts.VERDICTS:
        own = [j for j in judged() if j.verdict == verdict]
        if verdict == verdicts.OPEN:
            why = {j.claim.id: j.lacks or "runs enough, but their scatter allows no verdict" for j in own}
            told = [
                f"{lacks} {len(ids)} ({', '.join(ids)})"
                for lacks in dict.fromkeys((verdicts.SHORT, verdicts.FEW, *why.values()))
                if (ids := [i for i, w in why.items() if w == lacks])
            ]
        else:
            told = [
                f"{j.claim.text} ({j.claim.id}{', by arithmetic' * (not j.profile and j.verdict in (verdicts.HOLDS, verdicts.FAILS))})"
                for j in own
            ]
        if own:
            lines.append(f"- *{verdict}* {len(own)}: {'; '.join(told)}.")
    return (
        f"**{len(judged())} claims of the four papers**, judged by arithmetic or on the runs below:\n\n"
        + "\n".join(lines)
        + "\n\nRuns that are shorter or narrower than those of the profile `paper` (on FER2013 full width and 40 epochs, by our recipe) "
        "settle nothing, by rule. With fewer than five pairs of runs a difference of accuracies counts only if it is at least two points (a difference of "
        "differences: four) larger than the smallest that such runs can detect with 80 % power; nothing else is judged from them. What was printed and measured, and how each was "
        f"tested, stands in [its table](figures/{plan.name}/claims.csv); the rules in [notebook 10](notebooks/10_claims.ipynb), whose own numbers, as it comes, are those of synthetic faces.\n\n"
        f"![One row a claim: its verdict, and the printed difference beside ours](figures/{plan.name}/claims.png)"
    )


def wild_block(plan: plans.Profile) -> str:
    """LKRNet's arms: overall accuracy on PrivateTest, implied by Table 3 and measured; a table a profile."""
    parts = {
        plans.wild_runs: "",
        plans.long_runs: ", longer",
        plans.strong_runs: ", longer, stronger transforms",
    }
    blocks, shown = [], set()
    for held in plans.held(plan):
        groups = [pooling.by_arm(runs.find_all(part(held), held.name)) for part in parts]
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
        width = plans.WIDTHS[held.recipe.width]
        below = [held.notes["wild"], *(unnamed(group) for group in groups)]
        if t := next((t for group in groups for t in group.values()), None):
            last = " (by stronger transforms: the last)" if groups[-1] else ""
            copies = f"n = {len(t.labels):,} and {int(t.clean.sum()):,} without an exact copy in Training; 95 % intervals over images, of several seeds over seeds too;"
            below.insert(
                0,
                f"{copies} the epoch is selected on PublicTest{last}. Each difference is taken to the VGG19 of the same width "
                f"and length, over the seeds that both have.{single_seeds(groups[0])}{last_epochs(groups)}{beside_baselines(held)} "
                "± 0.5: the paper prints recalls in whole per cent.",
            )
        head = [f"FER2013, PrivateTest, {width}, accuracy %", *ARM_HEAD]
        block = "\n".join([*markdown(head, rows), "", " ".join(filter(None, below))])
        if held is not plan:
            said = (
                f"The same at {width}, {held.recipe.epochs} epochs, with all λ and the controls of the mask"
            )
            block = f"<details><summary>{said}</summary>\n\n{block}\n\n</details>"
        blocks.append(block)
    return "\n\n".join(blocks)


def single_seeds(tested: dict[str, Tested]) -> str:
    """The accuracies of arms with several seeds one by one, which show what a seed may do."""
    each = [
        f"{TITLES[arm]} {', '.join(f'{100 * h:.2f}' for h in t.hits().mean(1))}"
        for arm, t in tested.items()
        if len(t.seeds) > 1
    ]
    return f" Single seeds: {'; '.join(each)}." if each else ""


def last_epochs(groups: list[dict[str, Tested]]) -> str:
    """LKRNet minus VGG19 where no epoch is chosen, which is luck."""
    ends, each = [(a, "last_epoch") for a in ("lkrnet", "vgg19")], []
    for tested in groups:
        if not pooling.lacking(tested, *plans.LONG_ARMS):
            gain = claims.printed("wild", "lkrnet", "vgg19")
            ours = signed(str(claims.compare("wild", tested, *ends, gain, True).ours))
            each.append(f"{ours} ({tested['lkrnet'].epochs} epochs)")
    return f" LKRNet minus VGG19 in the last epoch, centre crop: {listed(each)}." if each else ""


def beside_baselines(plan: plans.Profile) -> str:
    """LKRNet minus the two baselines."""
    j = next(j for j in judged() if j.claim.id == "L4")
    each = [
        f"minus {e.title.split(' − ')[1]} {signed(str(e.ours))} ({verdicts.count(e.runs, 'seed')} of both)"
        for e in j.effects
        if e.title.startswith("LKRNet − Baseline") and j.profile == plan.name
    ]
    return f" LKRNet {', '.join(each)}." if each else ""


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
    implied = tables.implied("Table 3", FER_CLASSES, EXPECTED_COUNTS["fer2013"]["PrivateTest"])
    gains, rows = tables.differences(group, "FER2013"), []
    for arm in [a for a in plan.arms if a in group]:
        name, value = f"{TITLES[arm]} − {TITLES['vgg19']}", implied["implied accuracy"].get(TITLES[arm])
        gain = ["", ""]
        if name in gains.index:
            gain = [f"{gains['paper'][name]:+.2f}", signed(gains["ours"][name])]
        t, paper = group[arm], f"{value:.1f} ± 0.5" if value else "–"
        rows.append([TITLES[arm] + suffix, paper, *accuracies(t), *gain, f"{t.epochs}, {len(t.hits())}"])
    return rows


def unnamed(tested: dict[str, Tested]) -> str:
    """A sentence on the classes that no network ever names, which accuracy does not show."""
    printed = published_recalls("Table 3", FER_CLASSES)
    said = ""
    for k, name in enumerate(FER_CLASSES):
        if not tested or any((t.predicted() == k).any() for t in tested.values()):
            continue
        low, high = (f(printed[m][k] for m in printed if m in tables.METHODS) for f in (min, max))
        t = next(iter(tested.values()))
        n, epochs = int((t.labels == k).sum()), t.epochs
        said += (
            f"No network of {epochs} epochs names *{name}* even once (0 of {n} faces; the paper prints recalls of {low:.0f} "
            f"to {high:.0f} %)."
        )
    return said


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
    """LKRNet on CK+: subject-grouped folds and random frames, pooled, beside what Table 2 implies; a table a profile."""
    blocks = []
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
        width = plans.WIDTHS[held.lab_recipe.width]
        learnt = [
            f"{TITLES[arm]} {np.mean([r.history['train_accuracy'][-1] for r in t.results]):.0f} %"
            for arm, t in literal.items()
        ]
        below = f"TenCrop, last epoch; 95 % intervals from a bootstrap over people {FEW_WRONG}"
        if any(len(t.folds) >= pooling.FEWEST for t in found["subject"].values()):
            below += "; of the differences from a t-test over folds that allows for their overlap, where that is wider"
        below += f". {held.notes['lab']}"
        below += f" Right of the training images by the printed recipe: {listed(learnt)}." if learnt else ""
        block = "\n".join([*markdown([f"CK+, {width}, accuracy %", *LAB_HEAD], rows), "", below])
        blocks.append(block)
    return "\n\n".join(blocks)


def lab_rows(found: dict[str, dict[str, Tested]], arms: list[str], suffix: str = "") -> list[list[str]]:
    """A row of `LAB_HEAD` for each of the arms; `found`: protocol -> arms that were run."""
    counts = EXPECTED_COUNTS["ckplus"]["all"]
    implied = tables.implied("Table 2", tuple(counts), counts)["implied accuracy"]
    rows, gains = [], tables.differences(found["subject"], "CK+", clusters=True)
    for arm in arms:
        own, name = [found[p].get(arm) for p in found], f"{TITLES[arm]} − {TITLES['vgg19']}"
        cells = [pooling.mean_accuracy(t.hits(), t.subject) if t else tables.NOT_RUN for t in own]
        paper, cells = implied.get(TITLES[arm]), [*cells, "", ""]
        if name in gains.index and paper:
            table2 = paper - implied[TITLES["vgg19"]]
            cells[2:] = [f"{gains['paper'][name]:+.2f} / {table2:+.1f}", signed(gains["ours"][name])]
        t = next((t for t in own if t), None)
        size = [f"{len(t.labels):,}", f"{t.epochs}, {pooling.folds_run(t)}"] if t else ["", ""]
        rows.append([TITLES[arm] + suffix, f"{paper:.1f}" if paper else "–", *cells, *size])
    return rows


WILD_HEAD = ["paper", "ours, centre crop", "ours, TenCrop", "{}, without copies in Training", "n", "epochs"]


def dnnrl_block(plan: plans.Profile) -> str:
    """DNNRL's Table 2, with the floor of grey values and the softmax network's own features under k-NN."""
    plan = plans.shown(plan, plans.dnnrl_runs)
    tested = pooling.by_arm(runs.find_all(plans.dnnrl_runs(plan), plan.name))
    printed, rows = published_accuracies("DNNRL", "Table 2"), []
    if floor := untrained.grey_neighbours(plan.name, plan.wild):
        hits, clean, k = floor
        own = [pooling.mean_accuracy(hits), "", pooling.mean_accuracy(hits[:, clean])]
        rows.append([f"grey values (k-NN, k = {k})", "–", *own, f"{hits.size:,}", "0"])
    named = {arm: method for method, arm in ACCURACIES["DNNRL"].items()}
    for arm in siblings.ARMS["dnnrl"]:
        t, method = tested.get(arm), named.get(arm)
        taught = siblings.sibling_arm("dnnrl", arm).cross_entropy
        for view in ("centre", "knn") if taught and arm != "alexnet" else ("centre",):
            neighbours = view == "knn" or not taught
            k = f", k = {t.results[0].info['k']}" if t else ""
            name = TITLES[arm] + f" (k-NN{k})" * bool(neighbours)
            paper = f"{printed[method]:.2f}" if method in printed and view == "centre" else "–"
            rows.append([name, paper, *measured(t, None if neighbours else "tencrop", view)])
    head = ["DNNRL on FER2013, PrivateTest, accuracy %", *WILD_HEAD]
    head[4] = head[4].format("centre crop")
    below = (
        f"{plan.notes['dnnrl']} k is chosen on PublicTest; with k = 1 the nearest training face answers, of one test "
        "face in twelve an exact copy."
    )
    return "\n".join([*markdown(head, rows), "", below])


def liu_block(plan: plans.Profile) -> str:
    """Liu et al.'s Table 1: the VGGs, A, B, and A + B, which alone is printed."""
    plan = plans.shown(plan, plans.liu_runs)
    found = runs.find_all(plans.liu_runs(plan), plan.name)
    tested, printed = pooling.by_arm(found), published_accuracies("Liu2019", "Table 1", "PrivateTest")
    if both := pooling.fused(pooling.by_arm(found, "valid"), tested, "liu-a", "liu-b"):
        tested["liu-ensemble"] = both[1]
    rows = []
    for method, arm in [*ACCURACIES["Liu2019"].items(), ("Improved model", "liu-ensemble")]:
        paper = f"{printed[method]:.2f}" if method in printed else "–"
        rows.append([TITLES[arm].removesuffix(" (Liu et al.)"), paper, *measured(tested.get(arm))])
    head = ["Liu et al. on FER2013, PrivateTest, accuracy %", *WILD_HEAD]
    head[4] = head[4].format("TenCrop")
    below = plan.notes["liu"] + " The weight of A in A + B is chosen on PublicTest."
    return "\n".join([*markdown(head, rows), "", below])


def kim_block(plan: plans.Profile) -> str:
    """Kim et al.'s Table 2 under each protocol, and what no training reaches."""
    plan = plans.shown(plan, plans.kim_runs)
    null, rows = untrained.nearest_pixels(plan.name, plan.lab, plan.siblings.kim_folds), []
    for kim_runs, suffix in ((plans.kim_runs(plan), ""), (plans.kim_printed_runs(plan), tables.PRINTED)):
        for protocol, title in tables.PROTOCOL_TITLES.items():
            if not suffix and null is not None:
                a = null.loc[null["protocol"] == protocol, "accuracy"]
                own = [f"{a.mean():.2f}", "", f"{len(a):,}", "", "0"]
                rows.append([f"nearest pixels, untrained, {title}", "–", *own])
            found = runs.find_all([run for run in kim_runs if run.protocol == protocol], plan.name)
            tested = pooling.by_arm(found, partial=True)
            printed = published_accuracies("Kim2022", "Table 2", protocol)
            for method, arm in ACCURACIES["Kim2022"].items():
                if suffix and arm not in tested:
                    continue
                paper = f"{printed[method]:.2f}" if method in printed else "–"
                rows.append([f"{TITLES[arm]}, {title}{suffix}", paper, *split_cells(tested.get(arm))])
    head = ["Kim et al. on CK+, accuracy %", "paper", "ours", "ours, with mirror image"]
    below = (
        "The networks see the whole face; beside it stands the mean with its mirror image, on which they were not trained. "
        f"95 % intervals from a bootstrap over people {FEW_WRONG}; that of claim K1 "
        f"asks how other splits of the same people would come out; last epoch. {plan.notes['kim']}"
    )
    picture = f"![Each split under three protocols, beside the nearest pixels](figures/{plan.name}/kim-protocols.png)"
    picture += "\n\nHollow: shortened recipes, of arms that were trained by the printed one too (full width, 100 epochs)."
    return "\n".join([picture, "", *markdown([*head, "splits", "n of each", "epochs"], rows), "", below])


def split_cells(t: Tested | None) -> list[str]:
    """Accuracy by view over people, number of splits, test frames of each, epochs."""
    if t is None:
        return [tables.NOT_RUN, "", "", "", ""]
    cells = [pooling.mean_accuracy(t.hits(view), t.subject) for view in ("centre", "tencrop")]
    return [*cells, str(len(set(t.folds))), joined(r.info["n"]["test"] for r in t.results), t.epochs]


def measured(t: Tested | None, other: str | None = "tencrop", view: str = "centre") -> list[str]:
    """Accuracy by one view, by another if given, without copies by the last of them that the column names; n; epochs."""
    if t is None:
        return [tables.NOT_RUN, "", "", "", ""]
    clean = "tencrop" if t.results[0].info["recipe"]["paper"] == "liu" else view
    cells = [pooling.mean_accuracy(t.hits(view)), pooling.mean_accuracy(t.hits(other)) if other else ""]
    return [*cells, pooling.mean_accuracy(t.hits(clean)[:, t.clean]), f"{len(t.labels):,}", t.epochs]


def accuracies(t: Tested) -> list[str]:
    """Centre crop, TenCrop, TenCrop without copies."""
    return [pooling.mean_accuracy(h) for h in (t.hits("centre"), t.hits(), t.hits()[:, t.clean])]


def joined(numbers: Iterable[int]) -> str:
    """Different numbers, ascending: 98/99."""
    return "/".join(str(n) for n in np.unique(list(numbers)))


def signed(estimate: str) -> str:
    return estimate if estimate.startswith(("-", "n")) else f"+{estimate}"


def listed(words: list[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows)]


BLOCKS: dict[str, tuple[Callable[[plans.Profile], str], ...]] = {
    "findings": (findings_block,),
    "results": (verdict_block, wild_block, lab_block, dnnrl_block, liu_block, kim_block),
}
"""Name between README's markers -> what is written there."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; status 1 if the block is out of date"
    )
    options = parser.parse_args()
    new = old = README.read_text("utf-8")
    for name, blocks in BLOCKS.items():
        head, rest = new.split(f"<!-- {name}:begin", 1)
        first_line, rest = rest.split("\n", 1)
        end = f"<!-- {name}:end -->"
        body = "\n\n".join(block(PROFILE) for block in blocks)
        new = f"{head}<!-- {name}:begin{first_line}\n{body}\n{end}{rest.split(end, 1)[1]}"
    if options.check:
        if new != old:
            print(
                "README.md: findings or results are out of date; run: python tools/update_readme.py",
                file=sys.stderr,
            )
        return int(new != old)
    README.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
