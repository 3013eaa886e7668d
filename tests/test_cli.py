"""The command line: it teaches, and its errors are one line."""

import re

import pytest
from PIL import Image

from fercompanion import estimate, runs, sweeps
from fercompanion.__main__ import LACKING, chosen_recipe, main, parser
from fercompanion.plans import PROFILES, all_runs, literal_lab_runs
from fercompanion.recipes import PAPER, arm, sources
from fercompanion.siblings import sibling_arm


def run(capsys, *arguments):
    try:
        code = main(list(arguments))
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


@pytest.mark.parametrize("command", ["", "doctor", "landmarks", "train", "sweep", "compare", "predict"])
def test_help_explains(capsys, command):
    code, out, _ = run(capsys, *command.split(), "--help")
    assert code == 0
    asked = parser() if not command else next(iter(parser()._subparsers._group_actions)).choices[command]
    assert asked.description and all(action.help for action in asked._actions if action.dest != "command")
    assert all(f"\n    {name} " in out for name in ("doctor", "predict")) or command


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "--recipe", "our"), "there is no recipe 'our'"),
        (("train", "--set", "lamda=1"), "no field 'lamda'"),
        (("train", "--set", "epochs=many"), "expected a value like 8"),
        (("train", "--data", "fer"), "There is no data set 'fer'"),
        (("train", "--data", "demo-ck", "--fold", "11"), "expected 1 to 10"),
        (("train", "--data", "demo-ck", "--protocol", "official"), "no official splits"),
        (("sweep", "--profile", "papr"), "there is no profile 'papr'"),
        (("train", "--protocol", "official", "--fold", "7", "--folds", "3"), "--fold 7: expected 1 to 3"),
        (("train", "--fold", "3"), "--fold 3: protocol official has no folds"),
        (("train", "--data", "demo-ck", "--folds", "0"), "--folds 0: expected 1 or more"),
        (("train", "--name", "mine"), "nothing is set"),
        (("train", "--arm", "vgg19", "--set", "weights=x.pt"), "vgg19 with metric=triplet does not read it"),
        (("train", "--arm", "vgg19", "--set", "center_rate=0.9"), "does not read it"),
        (("train", "--profile", "../up"), "expected the name of one folder"),
        (("train", "--arm", "kim", "--recipe", "ours"), "--dry-run"),
        (("predict", "nowhere.jpg"), "there is no such file"),
        (("predict", "nowhere.jpg", "--run", "nowhere"), "no finished run here"),
    ],
)
def test_errors_are_one_line_with_a_remedy(capsys, arguments, words):
    code, _, error = run(capsys, *arguments)
    assert code == 1 and words in error and len(error.strip().splitlines()) == 1


def test_a_folder_too_high_is_told_the_run_below(capsys, tmp_path):
    below = tmp_path / "demo" / "mine-vgg19" / "official" / "seed0"
    below.mkdir(parents=True)
    (below / "run.json").write_text("{}")
    for asked in (tmp_path, below / "run.json"):
        code, _, error = run(capsys, "predict", "x.jpg", "--run", str(asked))
        assert code == 1 and f"did you mean {below}?" in error


def test_a_dry_run_tells_that_the_data_are_not_here(capsys, tmp_path):
    part = ("sweep", "--profile", "paper", "--only", "fer2013/ours-vgg19", "--no-estimate", "--dry-run")
    code, out, _ = run(capsys, *part, "--root", str(tmp_path))
    assert code == 0 and "5 x 40 epochs" in out and "neither archived nor possible here" in out


def test_unreadable_photo(tmp_path):
    from fercompanion.data import DataError
    from fercompanion.photo import read_photo

    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(DataError, match="a.jpg: not a readable image"):
        read_photo(tmp_path / "a.jpg")
    Image.new("RGB", (400, 10)).save(tmp_path / "whole.png")
    for name, damage in (("cut.png", lambda b: b[:60]), ("chunk.png", lambda b: b.replace(b"IDAT", b"IDAX"))):
        (tmp_path / name).write_bytes(damage((tmp_path / "whole.png").read_bytes()))
        with pytest.raises(DataError, match=f"{name}: not a readable image"):
            read_photo(tmp_path / name)


def test_a_photo_without_faces_does_not_keep_the_others_from_being_read(capsys, tmp_path, demo):
    pytest.importorskip("facenet_pytorch")
    Image.new("RGB", (200, 200), "white").save(tmp_path / "blank.png")
    face = Image.fromarray(demo.images[demo.where("PrivateTest")[3]])
    face.resize((288, 288), Image.Resampling.BICUBIC).save(tmp_path / "face.png")
    photos = [str(tmp_path / name) for name in ("blank.png", "nowhere.png", "face.png")]
    code, out, error = run(capsys, "predict", *photos)
    assert code == 1 and re.fullmatch(r".*face.png: face at [\d, to]+: \w+ \d+ %.*\n", out)
    assert [line.split(": ")[2] for line in error.splitlines()] == [
        "MTCNN finds no face; try a larger or brighter picture",
        "there is no such file",
    ]


@pytest.mark.parametrize("more", [("--set", "lr=1e-4"), ("--set", "lr=1e-4", "--name", "my-own")])
@pytest.mark.parametrize("arm", ["lkrnet-lambda0.4", "liu-a"])
def test_a_dash_in_a_name_of_ones_own_does_not_hide_the_arm(arm, more):
    recipe = chosen_recipe(parser().parse_args(["train", "--arm", arm, *more]))
    assert recipe.arm == arm and recipe.lr == 1e-4


def test_what_cannot_be_built_is_told_in_one_line(capsys, monkeypatch):
    small = ("train", "--arm", "vgg19", "--set", "crop=8")
    code, _, error = run(capsys, *small)
    assert code == 1 and error.startswith("fercompanion train: ") and len(error.strip().splitlines()) == 1
    monkeypatch.setenv("FERCOMPANION_DEBUG", "1")
    with pytest.raises(RuntimeError):
        main(list(small))


def test_train_show_names_every_source(capsys):
    code, out, _ = run(capsys, "train", "--recipe", "paper", "--show")
    told = [" ".join(line.split()) for line in out.splitlines()]
    wanted = [f"{name} {value} {source}" for name, value, source in sources(arm(PAPER, "lkrnet"))]
    assert code == 0 and [line for line in wanted if line not in told] == []


def test_compare_puts_two_networks_side_by_side(capsys):
    folders = ("results/paper/fer2013/long-lkrnet", "results/paper/fer2013/long-vgg19/official/seed0")
    code, out, _ = run(capsys, "compare", *(str(runs.ROOT / f) for f in folders))
    assert code == 0 and re.search(r"ours +0\.39 \[-0\.78, 1\.53\]", out) and "by TenCrop" in out
    assert out.count("3589") == 2  # images of either


def test_compare_takes_the_folds_that_both_have(capsys):
    folders = ("results/paper/ckplus/mild-vgg19/subject", "results/paper/ckplus/paper_ck-vgg19/subject")
    code, out, _ = run(capsys, "compare", *(str(runs.ROOT / f) for f in folders))
    assert code == 0 and "9 of" in out and out.count(" 99") >= 2 and "runs left out" in out


def test_compare_reads_neighbours_by_the_centre_crop(capsys):
    folders = ("results/paper-cpu/fer2013/short-tdnn", "results/paper-cpu/fer2013/short-dnnrl")
    code, out, _ = run(capsys, "compare", *(str(runs.ROOT / f) for f in folders))
    assert code == 0 and re.search(r"ours +15\.6", out) and "by the centre crop" in out


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (("results/none", "results/paper/fer2013/long-vgg19"), "results/none: no finished run here"),
        (
            ("results/paper-cpu/ckplus/narrow-vgg19/subject", "results/paper-cpu/ckplus/narrow-vgg19/frame"),
            "two protocols",
        ),
        (("results/paper/ckplus", "results/paper/fer2013/long-vgg19"), "name one of"),
        (("results/paper/fer2013/long-vgg19", "results/paper/ckplus/mild-vgg19/subject"), "two data sets"),
        (
            ("results/paper/fer2013/long-vgg19", "results/paper/fer2013/ours-vgg19/official/seed1"),
            "no seed and fold in common",
        ),
    ],
)
def test_what_cannot_be_compared_is_told(capsys, folders, words):
    code, out, error = run(capsys, "compare", *(str(runs.ROOT / f) for f in folders))
    assert code == 1 and not out and words in error and len(error.splitlines()) == 1


def test_an_own_run_does_not_go_into_an_archive(capsys):
    code, _, error = run(capsys, "train", "--profile", "paper-cpu", "--set", "epochs=1")
    assert code == 1 and "its plan has no run demo/demo_epochs=1-lkrnet" in error


def test_train_show_tells_what_makes_the_arm_from_what_is_ours(capsys):
    _, out, _ = run(capsys, "train", "--arm", "vgg19", "--recipe", "paper", "--show")
    assert "ours" not in out and "this arm's instead of lkrnet" in out and out.count("this arm's") == 4
    _, out, _ = run(capsys, "train", "--recipe", "mild", "--data", "ckplus", "--show")
    assert "instead of 250" not in out  # the epochs that are printed for CK+


@pytest.mark.parametrize("name", PROFILES)
def test_plans_start_with_one_seed_of_every_arm(name):
    plan = PROFILES[name]
    runs = all_runs(plan)
    assert len(set(runs)) == len(runs) == len({r.where for r in runs})
    assert [r.recipe.arm for r in runs[: len(plan.arms)]] == list(plan.arms)
    assert {r.seed for r in runs[: len(plan.arms)]} == {0}
    second = next((place for place, r in enumerate(runs) if r.seed), len(runs))
    late = {r.recipe.name for r in runs} - {r.recipe.name for r in runs[:second]}
    assert late == {r.recipe.name for r in literal_lab_runs(plan)}


def test_dry_run_trains_nothing_and_tells_the_time(capsys, tmp_path):
    code, out, _ = run(capsys, "sweep", "--profile", "demo", "--dry-run")
    assert code == 0 and "0 archived" in out and not (tmp_path / "results").exists()
    assert re.search(r"about (\d+ (s|min)|\d+\.\d h) on this machine", out)


def test_a_part_of_the_plan(capsys):
    part = ("sweep", "--profile", "paper", "--no-estimate", "--dry-run", "--only")
    code, out, _ = run(capsys, *part, "fer2013/ours-lkrnet/")
    assert code == 0 and "5 runs, 0 archived" in out and out.count("epochs\n") == 1
    assert "fer2013/ours-lkrnet/official  5 x 40 epochs\n" in out
    code, _, err = run(capsys, *part, "fer2014")
    assert code == 1 and "--only fer2014" in err and "\n" not in err.strip()


def test_nothing_is_timed_for_data_that_are_not_here(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(estimate, "seconds", lambda *_: pytest.fail("a step was timed"))
    code, out, _ = run(capsys, "sweep", "--profile", "paper", "--only", "seed0", "--root", str(tmp_path))
    assert code == LACKING and "runs on fer2013 are neither archived nor possible here" in out
    assert re.search(r"0 of \d+ runs are in", out)


@pytest.mark.parametrize("lost", [0, 1])
def test_the_status_tells_make_whether_runs_are_missing(lost, capsys, monkeypatch):
    monkeypatch.setattr(sweeps, "possible", lambda missing, *_: missing)
    monkeypatch.setattr(sweeps, "complete", lambda wanted, *_: dict.fromkeys(wanted[lost:]))
    code, *_ = run(capsys, "sweep", "--profile", "demo", "--no-estimate")
    assert code == (LACKING if lost else 0)
    assert f"test $$? -eq {LACKING} && echo" in (runs.ROOT / "Makefile").read_text()


def test_no_estimate_where_nothing_may_be_trained(capsys, monkeypatch):
    monkeypatch.setenv("FERCOMPANION_NO_TRAINING", "1")
    code, out, _ = run(capsys, "sweep", "--profile", "demo", "--dry-run")
    assert code == 0 and "0 archived" in out and "on this machine" not in out


def test_train_obeys_too(capsys, monkeypatch):
    monkeypatch.setenv("FERCOMPANION_NO_TRAINING", "1")
    code, _, err = run(capsys, "train", "--arm", "vgg19")
    assert code == 1 and "FERCOMPANION_NO_TRAINING forbids training" in err


def chosen(*arguments):
    return chosen_recipe(parser().parse_args(["train", *arguments]))


def test_fields_are_set_all_at_once():
    """Neither their order nor what the arm fixes anyway may refuse what can be trained."""
    assert chosen("--arm", "vgg19", "--set", "triplets=none").triplets == "none"
    pair = ["--set", "size=96", "--set", "canvas=120"]
    one, other = (chosen("--arm", "dnn", "--name", "x", *p) for p in (pair, pair[2:] + pair[:2]))
    assert one == other and (one.size, one.canvas) == (96, 120)


@pytest.mark.parametrize("arm", ["kim", "kim-softmax", "kim-resnet18", "kim-no-occlusion"])
def test_kims_arms_by_the_papers_recipe(arm):
    assert chosen("--arm", arm, "--recipe", "paper") == sibling_arm("kim", arm)


def test_a_path_among_the_fields_stays_out_of_the_folders_name():
    recipe = chosen("--arm", "liu-b", "--set", "weights=../../resnet50.pth")
    assert recipe.weights == "../../resnet50.pth" and recipe.arm == "liu-b"
    assert not set("/\\") & set(recipe.name) and ".." not in recipe.name
