"""The programs of `examples` as a user starts them: the loss falls, and two processes train as one.

The first ten steps are compared to the last digit that is printed. After them the network (kinks, Adam's quotients) has made of a
difference in the last digit of float32 one in the fourth digit of the loss.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from monai.apps.auto3dseg import BundleGen, DataAnalyzer

from monai_jdt.data import brats_datalist, write_brats_phantoms

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TEMPLATES = EXAMPLES / "auto3dseg" / "templates"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
ONE = [sys.executable]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def printed(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def numbers(text: str) -> list[tuple[str, float]]:
    """The numbers of the lines about losses and scores, each with what stands before it."""
    lines = [line for line in text.splitlines() if re.match(r"epoch \d+: loss |.*thresholded Dice ", line)]
    return [(line.rpartition(" ")[0], float(line.rpartition(" ")[2])) for line in lines]


def assert_same(two: list[tuple[str, float]], one: list[tuple[str, float]]) -> None:
    assert sorted(name for name, _ in two) == sorted(name for name, _ in one)
    found = dict(two)
    for name, number in one:
        early = name in [f"epoch {epoch}: loss" for epoch in range(1, 6)]
        assert found[name] == pytest.approx(number, abs=1.5e-4 if early else 0.03), name


@pytest.mark.long
@pytest.mark.parametrize(
    ("program", "needs"),
    [
        ("distributed_loop.py", None),
        ("supervised_trainer.py", None),
        ("lightning_module.py", "lightning"),
        ("accelerate_loop.py", "accelerate"),
    ],
)
def test_two_processes_train_as_one(program: str, needs: str | None, tmp_path: Path) -> None:
    if needs and importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    one = numbers(printed([*ONE, str(EXAMPLES / program)], tmp_path))
    losses = [number for name, number in one if "loss" in name]
    assert len(losses) == 10
    assert losses[-1] < 0.9 * losses[0]
    assert len(one) > len(losses)  # a score as well
    # `sync` takes part: two processes of the same program without it end elsewhere
    assert_same(numbers(printed([*TWO, str(EXAMPLES / program)], tmp_path)), one)
    without = tmp_path / program
    without.write_text((EXAMPLES / program).read_text("utf-8").replace(", sync=True", ""), "utf-8")
    apart = [number for name, number in numbers(printed([*TWO, str(without)], tmp_path)) if "loss" in name]
    assert max(abs(own - whole) for own, whole in zip(apart[:5], losses[:5], strict=True)) > 1e-3
    assert list(tmp_path.iterdir()) == [without]  # nothing is left behind


@pytest.mark.long
def test_the_plain_loop_learns(tmp_path: Path) -> None:
    said = printed([*ONE, str(EXAMPLES / "plain_loop.py")], tmp_path)
    losses = [float(number) for number in re.findall(r"^step \d+: loss ([\d.]+)$", said, re.MULTILINE)]
    assert len(losses) == 3
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 0.9 * losses[0]
    assert len(numbers(said)) == 3  # a score of each region
    assert list(tmp_path.iterdir()) == []


# --- Auto3DSeg ---


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A task for Auto3DSeg, and the analysis of its data, of phantoms that have two folds."""
    folder = tmp_path_factory.mktemp("auto3dseg")
    root = write_brats_phantoms(folder / "phantoms", cases=5, shape=(16, 16, 16), progress=False)
    items = [
        {
            "image": case["image"],
            "label": case["raters"][0].replace("_seg_rater1", "_seg"),
            "raters": case["raters"],
            "fold": number % 2,
        }
        for number, case in enumerate(brats_datalist(root))
    ]
    (folder / "list.json").write_text(json.dumps({"training": items}))
    found: dict[str, Any] = {"modality": "MRI", "datalist": str(folder / "list.json"), "dataroot": root, "num_epochs": 4}
    DataAnalyzer(found["datalist"], root, output_path=str(folder / "stats.yaml"), device="cpu", worker=0).get_all_case_stats()
    return found


def generated(task: dict[str, Any], folder: Path, **settings: Any) -> Path:
    """Let Auto3DSeg fill the template for the first fold, and return its folder."""
    (folder / "task.yaml").write_text(yaml.safe_dump({**task, **settings}))
    made = BundleGen(
        algo_path=str(folder),
        algos="jdtvotes",
        templates_path_or_url=str(TEMPLATES),
        data_stats_filename=str(Path(task["datalist"]).parent / "stats.yaml"),
        data_src_cfg_name=str(folder / "task.yaml"),
    )
    made.generate(str(folder), num_fold=1)
    return folder / "jdtvotes_0"


def trained(command: list[str], fold: Path) -> list[float]:
    printed([*command, str(fold / "scripts" / "train.py"), "run", f"--config_file={fold}/configs/hyper_parameters.yaml"], fold)
    (progress,) = yaml.safe_load((fold / "model" / "progress.yaml").read_text())
    return [*progress["losses"], progress["best_avg_dice_score"]]


@pytest.mark.long
def test_a_task_chooses_the_loss_of_the_template(task: dict[str, Any], tmp_path: Path) -> None:
    other = {"_target_": "monai_jdt.losses.JDTFocalLoss", "sigmoid": True, "votes": True, "regions": [[1, 4], [1, 2, 4], [4]]}
    fold = generated(task, tmp_path, loss=other)
    settings = yaml.safe_load((fold / "configs" / "hyper_parameters.yaml").read_text())
    assert settings["loss"] == other
    assert (settings["channels"], settings["fold"], settings["num_epochs"]) == (4, 0, 4)


@pytest.mark.long
def test_two_processes_train_the_template_as_one(task: dict[str, Any], tmp_path: Path) -> None:
    fold = generated(task, tmp_path, batch_size=2)
    one = trained(ONE, fold)
    assert one[3] < one[0]
    two = trained(TWO, fold)
    assert two == pytest.approx(one, abs=1e-4)


@pytest.mark.long
def test_auto3dseg_from_analysis_to_ensemble(tmp_path: Path) -> None:
    said = printed([*ONE, str(EXAMPLES / "auto3dseg" / "train_jdtvotes.py")], tmp_path)
    folds = re.findall(r"^fold (\d): loss ([\d.]+) to ([\d.]+), thresholded Dice ([\d.]+)$", said, re.MULTILINE)
    assert [number for number, *_ in folds] == ["0", "1"]
    for _, first, last, score in folds:
        assert float(last) < 0.7 * float(first)
        assert float(score) > 0.15  # of four cases after 30 steps
    assert re.search(r"^prediction: \S+_ensemble\.nii\.gz$", said, re.MULTILINE)
