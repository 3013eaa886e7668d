"""Write README's block "the paper beside ours" from the archived runs: python tools/update_readme.py [--check]."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fercompanion import plans, runs, tables
from fercompanion.data import FER_CLASSES
from fercompanion.doctor import EXPECTED_COUNTS
from fercompanion.papers import ACCURACIES, published_accuracies

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- results:begin", "<!-- results:end -->"
PROFILE = "paper-cpu"


def block() -> str:
    """The block's text: overall accuracy on PrivateTest, implied by Table 3 and measured."""
    plan = plans.profile(PROFILE)
    tested = tables.by_arm(runs.find_all(plans.wild_runs(plan), PROFILE))
    implied = tables.implied("Table 3", FER_CLASSES, EXPECTED_COUNTS["fer2013"]["PrivateTest"])
    lines = [
        "| FER2013, PrivateTest, accuracy % | paper (implied by Table 3) | ours, centre crop | ours, TenCrop "
        "| TenCrop, without copies in Training | more than VGG19, paper | ours, TenCrop | epochs, seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    gains = tables.differences(tested, "FER2013")
    for arm in plans.FACTORIAL:
        row = implied.loc[tables.TITLES[arm]]
        paper = f"{row['implied accuracy']:.1f} ± 0.5"
        if arm not in tested:
            lines.append(f"| {tables.TITLES[arm]} | {paper} | {tables.NOT_RUN} | | | | | |")
            continue
        t = tested[arm]
        cells = " | ".join(map(tables.mean_accuracy, (t.hits("centre"), t.hits(), t.hits()[:, t.clean])))
        name = f"{tables.TITLES[arm]} − {tables.TITLES['vgg19']}"
        gain = f"{gains['paper'][name]:+.2f} | {gains['ours'][name]}" if name in gains.index else " | "
        lines.append(f"| {tables.TITLES[arm]} | {paper} | {cells} | {gain} | {t.epochs}, {len(t.hits())} |")
    n, clean = len(FER_CLASSES), ""
    if tested:
        t = next(iter(tested.values()))
        n, clean = len(t.labels), f" and {int(t.clean.sum()):,} without an exact copy in Training"
        lines += [
            "",
            f"n = {n:,}{clean}; 95 % intervals; the epoch is selected on PublicTest. {plan.notes['wild']}",
        ]
    return "\n".join(lines)


def lab_block() -> str:
    """LKRNet on CK+: subject-grouped folds and random frames, pooled, beside what Table 2 implies."""
    plan = plans.profile(PROFILE)
    counts = EXPECTED_COUNTS["ckplus"]["all"]
    implied = tables.implied("Table 2", tuple(counts), counts)["implied accuracy"]
    lines = [
        "| CK+, accuracy % | paper (implied by Table 2) | ours, new people | ours, random frames | n | epochs, folds |",
        "|---|---|---|---|---|---|",
    ]
    found = {
        p: tables.by_arm(runs.find_all(plans.lab_runs(plan, (p,)), PROFILE)) for p in ("subject", "frame")
    }
    for arm in plans.FACTORIAL:
        own = [found[p].get(arm) for p in found]
        cells = [tables.mean_accuracy(t.hits(), t.subject) if t else tables.NOT_RUN for t in own]
        t = next((t for t in own if t), None)
        size = f"{len(t.labels):,} | {t.epochs}, {plan.lab_folds}" if t else " | "
        lines.append(
            f"| {tables.TITLES[arm]} | {implied[tables.TITLES[arm]]:.1f} | {' | '.join(cells)} | {size} |"
        )
    lines += ["", "TenCrop, last epoch; 95 % intervals from a bootstrap over people. " + plan.notes["lab"]]
    return "\n".join(lines)


def siblings_block() -> str:
    """The siblings' accuracies, printed and measured: DNNRL's Table 2, Liu et al.'s Table 1, Kim et al.'s Table 2."""
    plan, lines = plans.profile(PROFILE), []
    for key, paper, title, item, protocol, own in (
        ("dnnrl", "DNNRL", "DNNRL", "Table 2", "", plans.dnnrl_runs(plan)),
        ("liu", "Liu2019", "Liu et al.", "Table 1", "PrivateTest", plans.liu_runs(plan)),
    ):
        tested = tables.by_arm(runs.find_all(own, PROFILE))
        lines += _head(f"{title} on FER2013, PrivateTest", wild=True)
        lines += _sibling_rows(paper, published_accuracies(paper, item, protocol), tested, wild=True)
        lines += ["", plan.notes[key], ""]
    lines += _head("Kim et al. on CK+")
    for kim_runs, suffix in ((plans.kim_runs(plan), ""), (plans.kim_printed_runs(plan), ", printed recipe")):
        for protocol in plans.KIM_PROTOCOLS:
            found = runs.find_all([run for run in kim_runs if run.protocol == protocol], PROFILE)
            tested = tables.by_arm(found, partial=True)
            printed = published_accuracies("Kim2022", "Table 2", protocol)
            about = f", {tables.KIM_PROTOCOLS[protocol]}{suffix}"
            lines += _sibling_rows("Kim2022", printed, tested, about, not suffix)
    return "\n".join([*lines, "", "95 % intervals from a bootstrap over people. " + plan.notes["kim"]])


def _head(title: str, wild: bool = False) -> list[str]:
    columns = [f"{title}, accuracy %", "paper", "ours, centre crop", "ours, TenCrop"]
    columns += ["centre crop, without copies in Training"] * wild + ["n", "epochs"]
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def _sibling_rows(
    paper: str, printed: dict, tested: dict, about: str = "", not_run: bool = True, wild: bool = False
) -> list[str]:
    rows = []
    for method, arm in ACCURACIES[paper].items():
        value = f"{printed[method]:.2f}" if method in printed else "–"
        name = tables.TITLES[arm].removesuffix(" (Liu et al.)") + about
        if arm not in tested:
            rows += [f"| {name} | {value} | {tables.NOT_RUN} |{' |' * (3 + wild)}"] * not_run
            continue
        t = tested[arm]
        if not t.results[0].info["recipe"]["cross_entropy"]:
            name += f" (k-NN, k = {t.results[0].info['k']})"
        people = None if wild else t.subject
        cells = [name, value, *(tables.mean_accuracy(t.hits(view), people) for view in ("centre", "tencrop"))]
        cells += [tables.mean_accuracy(t.hits("centre")[:, t.clean])] * wild
        rows.append(f"| {' | '.join(cells)} | {len(t.labels):,} | {t.epochs} |")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; status 1 if the block is out of date"
    )
    options = parser.parse_args()
    old = README.read_text()
    head, rest = old.split(BEGIN, 1)
    first_line, rest = rest.split("\n", 1)
    new = f"{head}{BEGIN}{first_line}\n{block()}\n\n{lab_block()}\n\n{siblings_block()}\n{END}{rest.split(END, 1)[1]}"
    if options.check:
        if new != old:
            print(
                "README.md: the results block is out of date; run: python tools/update_readme.py",
                file=sys.stderr,
            )
        return int(new != old)
    README.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
