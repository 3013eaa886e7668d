"""Command line: python -m fercompanion doctor | landmarks | train | sweep | compare | predict."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from dataclasses import asdict, replace
from tarfile import TarError
from textwrap import fill

from . import models, packs, plans, runs, siblings, sweeps
from .data import NAMES, DataError, first_line, load_faces
from .recipes import ARMS, CHOICES, MILD, OURS, PAPER, PAPER_CK, STRONG, arm, sources

EXAMPLES = """examples:
  python -m fercompanion doctor                     what data is here, and is it sound?
  python -m fercompanion landmarks --data fer2013   find the faces' landmarks once, for all later runs
  python -m fercompanion train --arm lkrnet         train LKRNet on the demo faces
  python -m fercompanion train --arm lkrnet --data fer2013 --recipe ours --set epochs=10 --profile mine
  python -m fercompanion sweep --profile paper --dry-run
  python -m fercompanion compare results/mine/fer2013/ours_epochs=10-lkrnet results/paper/fer2013/ours-lkrnet
  python -m fercompanion predict photo.jpg

environment:
  FERCOMPANION_DATA     folder of the licensed data sets
  FERCOMPANION_RESULTS  where runs are kept (default: results/ in the repository)
  FERCOMPANION_CACHE    where landmarks and the like are kept
  RETRAIN=1             train anew, into a folder of its own
  FERCOMPANION_NO_TRAINING=1  read what is archived, train nothing
  FERCOMPANION_DEBUG=1  whole tracebacks instead of one line
"""


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
        return 0
    except (DataError, ValueError, FloatingPointError, OSError, TarError, RuntimeError) as error:
        if runs.is_set("FERCOMPANION_DEBUG"):
            raise
        said = first_line(error) if isinstance(error, RuntimeError) else error
        print(f"fercompanion {options.command}: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        goes_on = "; the same command goes on from the last checkpoint, or anew where none was written yet"
        print(f"\nstopped{goes_on * (options.run in (train, sweep))}", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        "python -m fercompanion",
        description="Companion to four facial-expression-recognition papers.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--root", help="folder that holds the licensed data sets (default: $FERCOMPANION_DATA)")

    def command(name, run, help, parents=(data,)):
        sub = commands.add_parser(name, help=help, description=help, parents=list(parents))
        sub.set_defaults(run=run)
        return sub

    sub = command("doctor", doctor, "say which data sets are here, their counts, copies and faults")
    sub.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)} (default: all)")

    sub = command("landmarks", landmarks, "find MTCNN boxes and landmarks and keep them in the cache")
    sub.add_argument("--data", default="demo", help=f"data set: {', '.join(NAMES)} (default: demo)")
    sub.add_argument("--batch-size", type=int, default=128, help="images at once; changes the speed alone")

    sub = command("train", train, "train one network and archive the run")
    sub.epilog, sub.formatter_class = arms_said(), argparse.RawDescriptionHelpFormatter
    sub.add_argument("--arm", default="lkrnet", metavar="ARM", help="one of those below (default: lkrnet)")
    sub.add_argument(
        "--recipe",
        default="demo",
        metavar="R",
        help="demo: for the synthetic faces; short: what a CPU affords; ours, mild: our settings for FER2013, for CK+; strong: ours for "
        "200 epochs, with stronger transforms; paper, paper_ck: the printed settings, for FER2013, for CK+ (default: demo)",
    )
    sub.add_argument("--data", default="demo", help=f"data set: {', '.join(NAMES)} (default: demo)")
    sub.add_argument(
        "--protocol",
        help="official (FER2013); on CK+ subject (new people), sequence (new sequences), frame (random frames, in folds) or random "
        "(random frames, in Kim et al.'s independent splits); default: official, on CK+ subject",
    )
    sub.add_argument("--fold", type=int, default=1, help="which fold, from 1 (default: 1)")
    sub.add_argument("--folds", type=int, default=10, help="of how many (default: 10)")
    sub.add_argument(
        "--seed", type=int, default=0, help="what draws weights, order and transforms (default: 0)"
    )
    sub.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of the recipe"
    )
    sub.add_argument("--name", help="name of a recipe changed by --set (default: made of the changes)")
    sub.add_argument(
        "--profile",
        default="mine",
        help="folder below results/ (default: mine); a plan's takes the plan's runs alone",
    )
    sub.add_argument("--show", action="store_true", help="print the recipe with its sources and stop")

    sub = command("sweep", sweep, "train all runs of a profile that are not archived yet")
    sub.add_argument("--profile", default="demo", help=f"one of {', '.join(plans.PROFILES)} (default: demo)")
    sub.add_argument(
        "--only",
        default="",
        metavar="TEXT",
        help="just the runs whose folder holds this text, such as fer2013/ours, lkrnet or seed0",
    )
    sub.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    sub.add_argument(
        "--estimate",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="time a step of each network first, and say how long all will take (default: yes)",
    )
    sub.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="train N runs at a time (default: one a core on a CPU, of at most four, and one on each GPU; a large GPU is busier with 2 "
        "to 4)",
    )
    sub.add_argument(
        "--pack",
        metavar="FOLDER",
        help="also put each finished run, without weights, into tar files of at most 16 MB there; "
        "tar xf in the repository's root unpacks them (heat maps need weights: run notebook 05 first, where they are)",
    )

    sub = command("compare", compare, "compare two networks on the images that tested both", parents=())
    for name in ("first", "other"):
        sub.add_argument(
            name,
            help="folder of a finished run, or of all seeds and folds of an arm (below results/ or anywhere)",
        )

    sub = command("predict", predict, "tell the expression of the faces in photos", parents=())
    sub.add_argument("images", nargs="+", help="image files")
    sub.add_argument(
        "--run",
        dest="folder",
        help="folder of a finished run with weights (default: the small network in the package, see its model card)",
    )
    return top


RECIPES = {
    "demo": plans.PROFILES["demo"].recipe,
    "short": plans.PROFILES["paper-cpu"].recipe,
    "mild": MILD,
    "ours": OURS,
    "strong": STRONG,
    "paper": PAPER,
    "paper_ck": PAPER_CK,
}
SIBLING_PLANS = {p.siblings.base: p.siblings for p in plans.PROFILES.values()}
# As printed, which the profile of that name is not.
SIBLING_PLANS["paper"] = replace(SIBLING_PLANS["paper"], papers={})
LAB = ("demo-ck", "ckplus")
"""Data sets with people and sequences instead of official splits."""
LACKING = 3
"""Exit status of a sweep after which runs are still missing; 1 is an error that comes before any training."""


def doctor(options) -> int:
    from .doctor import doctor as examine

    return examine(options.names, options.root)


def landmarks(options) -> int:
    from .landmarks import STAGES, find_landmarks

    if options.batch_size < 1:
        raise DataError(f"--batch-size {options.batch_size}: expected 1 or more")
    faces = load_faces(options.data, options.root)
    found = find_landmarks(faces, batch_size=options.batch_size)
    print(f"{faces.name}: {len(found)} faces, {100 * found.detected.mean():.1f} % found by MTCNN")
    for number, stage in enumerate(STAGES):
        print(f"  {stage:26}{(found.stage == number).sum():7d}")
    return 0


def train(options) -> int:
    recipe = chosen_recipe(options)
    if options.show:
        own = PAPER_CK if options.recipe == PAPER_CK.name or options.data in LAB else PAPER
        printed, where = siblings.PRINTED.get(recipe.paper, own), siblings.SOURCES.get(recipe.paper)
        rows = sources(recipe, printed, where, all_arms()[options.arm])
        for field, value, source in rows:
            print(f"{field:16} {value!s:12} {source}")
        refused = {"name", "paper", *all_arms()[options.arm], *unread(recipe)}
        print("\nwhat --set may choose:")
        for field, choices in CHOICES.items():
            if field not in refused:
                print(f"{field:16} {', '.join(choices)}")
        rest = {k: v for k, v in asdict(recipe).items() if k not in refused | {row[0] for row in rows}}
        said = "fields that other papers' recipes use: " + ", ".join(f"{k}={v}" for k, v in rest.items())
        print(f"\n{fill(said, 100)}")
        return 0
    protocol = options.protocol or ("subject" if options.data in LAB else "official")
    if options.folds < 1:
        raise DataError(f"--folds {options.folds}: expected 1 or more")
    if not 1 <= options.fold <= options.folds:
        raise DataError(f"--fold {options.fold}: expected 1 to {options.folds}")
    if protocol == "official" and options.fold > 1:
        raise DataError(
            f"--fold {options.fold}: protocol official has no folds; leave it out, or set --protocol"
        )
    folds = (options.fold - 1, options.folds) if protocol != "official" else (0, 1)
    if options.name and not options.set:
        raise DataError(f"--name {options.name}: names a recipe that --set changes, and nothing is set")
    if options.seed < 0:
        raise DataError(f"--seed {options.seed}: expected 0 or more")
    run = runs.Run(recipe, options.data, protocol, *folds, options.seed)
    own = options.profile in plans.PROFILES and not runs.is_set("RETRAIN")
    if own and run not in plans.all_runs(plans.profile(options.profile)):
        raise DataError(
            f"--profile {options.profile}: its plan has no run {run}; keep your own in another, such as mine"
        )
    result = runs.find(run, options.profile)
    if result is None and runs.is_set("FERCOMPANION_NO_TRAINING"):
        raise DataError(f"{run} is not archived, and FERCOMPANION_NO_TRAINING forbids training; unset it")
    if result is None or sweeps.is_here(options.data, options.root):  # what is archived can be read without
        sweeps.same_copy(options.data, options.profile, options.root)
    if result is None:
        if options.recipe == "demo" and not options.data.startswith("demo"):
            print(
                f"--recipe demo: width {recipe.width:g}, {recipe.epochs} epochs; for real faces choose short, ours or paper"
            )
        result = sweeps.train_run(run, options.profile, options.root, recipe.name)
    else:
        print(f"archived already; {runs.anew('the folder')}")
    for name, value in result.info["metrics"].items():
        print(f"{name:24}{value:7.2f} %")
    print(f"epoch {result.info['selected_epoch']} of {result.info['epochs']}: {result.info['selection']}")
    print(f"written to {result.folder}")
    return 0


def arms_said() -> str:
    """The arms, a paper a paragraph."""
    papers = {"LKRNet": ARMS} | {siblings.NAMES[paper]: arms for paper, arms in siblings.ARMS.items()}
    lists = (
        fill(" ".join(arms), 78, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
        for arms in papers.values()
    )
    return "arms:\n" + "\n".join(f" {paper}\n{names}" for paper, names in zip(papers, lists, strict=True))


def all_arms() -> dict[str, dict]:
    """Arm -> the fields that it fixes, for all four papers."""
    return ARMS | {name: fixed for arms in siblings.ARMS.values() for name, fixed in arms.items()}


def chosen_recipe(options):
    """The recipe of --recipe, --arm and --set."""
    arms = all_arms()
    if options.arm not in arms:
        raise DataError(f"there is no arm {options.arm!r}; the arms are {', '.join(arms)}")
    if options.recipe not in RECIPES:
        raise DataError(f"there is no recipe {options.recipe!r}; the recipes are {', '.join(RECIPES)}")
    fixed = [text for text in options.set if text.partition("=")[0] in arms[options.arm]]
    if fixed:
        raise DataError(f"--set {fixed[0]}: the arm {options.arm} fixes this field; choose another arm")
    # An arm's name begins after the first "-" of its recipe's.
    named = re.sub(r"[^\w.=+]|\.\.", "_", options.name or "_".join([options.recipe, *options.set]))
    if options.arm in ARMS:
        recipe = arm(RECIPES[options.recipe], options.arm)
    elif options.recipe in SIBLING_PLANS:
        paper = next(paper for paper in siblings.ARMS if options.arm in siblings.ARMS[paper])
        plan = replace(SIBLING_PLANS[options.recipe], leave_out=())
        recipe = next(r for r in plan.recipes(paper) if r.arm == options.arm)
    else:
        raise DataError(
            f"there is no recipe {options.recipe!r} for {options.arm}; the recipes are {', '.join(SIBLING_PLANS)}, and "
            f"sweep --profile paper --only {options.arm} trains what that profile holds (with --dry-run: lists it)"
        )
    return changed(recipe, options.set, f"{named}-{options.arm}") if options.set else recipe


def changed(recipe, assignments: list[str], name: str):
    """The recipe with fields set from FIELD=VALUE texts, read as the type of the field."""
    new = {"name": name}
    for text in assignments:
        field, _, value = text.partition("=")
        if field not in recipe.__dataclass_fields__ or field in ("name", "paper"):
            raise DataError(f"--set {text}: there is no field {field!r}; train --show lists them")
        old = getattr(recipe, field)
        try:
            if isinstance(old, bool):
                new[field] = {"true": True, "false": False, "1": True, "0": False}[value.lower()]
            else:
                new[field] = type(old)(value)
        except (KeyError, ValueError):
            raise DataError(f"--set {text}: expected a value like {old!r}") from None
    recipe = replace(recipe, **new)  # all at once: one may ask for another
    if found := sorted(unread(recipe) & set(new)):
        raise DataError(
            f"--set {', '.join(found)}: {recipe.model} with metric={recipe.metric} does not read it"
        )
    return recipe


def unread(recipe) -> set[str]:
    """Fields that neither the recipe's network nor its loss reads."""
    names = {name for model in models.MODELS for name in models.options(model)}
    names -= set(models.options(recipe.model))
    for metric, own in {"exponential": {"alpha", "gamma", "clamp"}, "center": {"center_rate"}}.items():
        names |= own if metric != recipe.metric else set()
    return names


def sweep(options) -> int:
    from .estimate import spoken

    plan = plans.profile(options.profile)
    if options.workers is not None and options.workers < 1:
        raise DataError(f"--workers {options.workers}: expected 1 or more")
    wanted = [run for run in plans.all_runs(plan) if options.only in run.where.as_posix()]
    if not wanted:
        raise DataError(
            f"--only {options.only}: no run of {plan.name} lies in such a folder; --dry-run lists them"
        )
    missing = [run for run in wanted if runs.find(run, plan.name) is None]
    archived = set(wanted) - set(missing)
    print(f"{plan.name}: {plan.note}\n{len(wanted)} runs, {len(archived)} archived")
    forbidden = runs.is_set("FERCOMPANION_NO_TRAINING")
    if not forbidden:
        try:
            there = sweeps.possible(missing, plan.name, options.root)
            missing = missing if options.dry_run else there
        except DataError as error:
            if not options.dry_run:
                raise
            print(error)
    expected = {}
    if options.estimate and missing and not forbidden:
        try:
            expected = expected_seconds(missing, options.workers)
        except RuntimeError as error:  # such as a GPU's memory
            print(f"no estimate ({first_line(error)})", file=sys.stderr)
    listed, kept = wanted if options.dry_run else missing, Counter(run.where.parent for run in archived)
    for (where, epochs), number in Counter((run.where.parent, run.recipe.epochs) for run in listed).items():
        own = [s for run, s in expected.items() if run.where.parent == where]
        said = [f"{number} x {epochs} epochs"] + [f"{kept[where]} archived"] * (
            options.dry_run and where in kept
        )
        print(f"  {where}  {', '.join(said + [spoken(sum(own))] * bool(own))}")
    if expected:
        import torch

        workers = sweeps.side_by_side(len(missing), options.workers)
        at_a_time = f", {workers} at a time" * (workers > 1)
        # What runs gain that share a GPU, or a core, is not known.
        cores = min(workers, torch.cuda.device_count() or torch.get_num_threads())
        in_all = spoken(sum(expected.values()) / cores)
        print(f"about {in_all} on this machine{at_a_time}; landmarks and SRGAN come on top", flush=True)
    if options.dry_run:
        return 0

    def keep(*finished: runs.Run) -> None:
        if options.pack:
            try:
                packs.pack(finished, plan.name, options.pack)
            except (OSError, TarError) as error:  # the runs themselves are archived
                print(f"{options.pack}: not packed ({error}); the next sweep tries again", file=sys.stderr)

    keep(*wanted)
    done = sweeps.complete([*archived, *missing], plan.name, options.root, keep, options.workers)
    print(f"{len(done)} of {len(wanted)} runs are in {runs.results_folder(plan.name)}")
    return LACKING * (len(done) < len(wanted))


def expected_seconds(missing: list[runs.Run], workers: int | None) -> dict[runs.Run, float]:
    """Run -> expected seconds, each on its share of the cores."""
    import torch

    from .estimate import seconds
    from .progress import tqdm

    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // sweeps.side_by_side(len(missing), workers)))
    try:
        return {run: seconds(run) for run in tqdm(missing, "timing a step of each network", leave=False)}
    finally:
        torch.set_num_threads(threads)
        torch.cuda.empty_cache()  # the workers' now


def compare(options) -> int:
    from . import pooling, tables

    folders = (options.first, options.other)
    found = [pooling.below(folder) for folder in folders]
    first, other = (next(iter(own.items())) for own in found)
    copies = [result.info["data_sha256"][:12] for _, result in (first, other)]
    if copies[0] != copies[1]:
        raise DataError(f"runs on two data sets, or copies of one ({', '.join(copies)}), cannot be compared")
    kinds = [f"{run.protocol}, {run.n_folds} folds" for run, _ in (first, other)]
    if kinds[0] != kinds[1]:
        raise DataError(f"runs under two protocols ({'; '.join(kinds)}) were tested on other images")
    both = {(run.seed, run.fold) for run in found[0]} & {(run.seed, run.fold) for run in found[1]}
    if not both:
        seeds = (sorted({(run.seed, run.fold + 1) for run in own}) for own in found)
        has = "; ".join(f"{f} has {own}" for f, own in zip(folders, seeds, strict=True))
        raise DataError(f"no seed and fold in common: (seed, fold) {has}")
    names = [run.recipe.name for run, _ in (first, other)]
    names, tested = names if names[0] != names[1] else folders, {}
    for name, own in zip(names, found, strict=True):
        common = {run: result for run, result in own.items() if (run.seed, run.fold) in both}
        (tested[name],) = pooling.by_arm(common, partial=True).values()
    lab = first[0].protocol != "official"
    neighbours = not all(run.recipe.cross_entropy for run, _ in (first, other))  # whose bank is of middles
    view = "centre" if neighbours else "tencrop"
    accuracies = tables.accuracies(tested, clusters=lab)
    differences = tables.differences(tested, clusters=lab, pairs=(tuple(names),), view=view)
    for table in (accuracies, differences.drop(columns="paper")):
        print(f"{table.T.to_string()}\n")
    print(
        f"per cent and points with 95 % intervals; the difference by {'the centre crop' if neighbours else 'TenCrop'}"
    )
    left = [f"{len(own) - len(both)} of {folder}" for folder, own in zip(folders, found, strict=True)]
    if any(len(own) > len(both) for own in found):
        print(f"runs left out, since the other has no such seed and fold: {', '.join(left)}")
    return 0


def predict(options) -> int:
    from .photo import SHIPPED, read_faces, reader

    asked, unread = reader(options.folder or SHIPPED), []
    for path in options.images:
        try:
            for face in read_faces(path, *asked):
                print(f"{path}: {face}")
        except DataError as error:
            unread.append(path)
            print(f"fercompanion predict: {error}", file=sys.stderr)
    return int(bool(unread))


if __name__ == "__main__":
    sys.exit(main())
