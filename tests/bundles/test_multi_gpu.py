"""The bundles under torchrun with two CPU processes: they train and validate as one process does, and end, whatever happens."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import monai_jdt.bundle_runtime as bundle_start
from monai_jdt.bundle_runtime.overlay_settings import overlay_of
from monai_jdt.bundle_runtime.values import read_value
from monai_jdt.data import write_brats_phantoms, write_qubiq_phantoms
from tests.bundles import test_brats_bundle as brats
from tests.bundles import test_lidc_bundle as lidc
from tests.bundles import test_qubiq_bundle as qubiq
from tests.bundles.lidc_set import write_lidc_set

# nothing random, the cases in their order, and the loss of each step with all its digits, in a file of each process
SAME_STEPS = """
+train#handlers:
- _target_: monai.handlers.StatsHandler
  epoch_log: false
  iteration_print_logger: "$lambda engine: open(@bundle_root + '/losses%d' % @rank, 'a').write('%r ' % mean_loss(engine.state.output))"
+imports: [$from monai_jdt.handlers import mean_loss]
"""
WITHOUT_DRAWS = {
    brats: "train#random_transforms: [{_target_: monai.transforms.SelectItemsd, keys: [case, image, label]}]\n",
    qubiq: "train#augmentations: []\n",
    lidc: "crop: whole\ntrain#augmentations: [{_target_: monai.transforms.SelectItemsd, keys: [case, image, label]}]\n",
}
# so that three cases are validated: an uneven number for two processes
SPLIT: dict[ModuleType, dict[str, Any]] = {brats: {"val_fraction": 0.4}, qubiq: {"folds": 2}, lidc: {"val_fraction": 0.5}}
KEY_METRIC = {brats: "val_mean_dice", qubiq: "val_thresholded_dice", lidc: "val_thresholded_dice"}


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def _command(bundle: ModuleType, root: Path, data: str, overlay: Path | None, overrides: dict[str, Any], *launch: str) -> list[str]:
    options = [text for key, value in (bundle.TINY | overrides).items() for text in (f"--{key}", str(value))]
    files = [*bundle.configs("train.yaml", "multi_gpu_train.yaml"), *([] if overlay is None else [str(overlay)])]
    command = [sys.executable, "-m", "torch.distributed.run", *launch, "-m", "monai.bundle", "run"]
    return [*command, "--config_file", str(files), "--bundle_root", str(root), "--dataset_dir", data, *options]


def _run_on_two(
    bundle: ModuleType, root: Path, data: str, overlay: Path | None = None, **overrides: Any
) -> subprocess.CompletedProcess[str]:
    command = _command(bundle, root, data, overlay, overrides, "--standalone", "--nproc_per_node=2")
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=ENVIRONMENT, cwd=root)


def _run_on_two_nodes(
    bundle: ModuleType, root: Path, data: str, overlay: Path | None = None, **overrides: Any
) -> list[tuple[int, float, str]]:
    """Run one process on each of two nodes, which are this machine. Return exit code, end in seconds and errors of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    nodes = []
    for rank in (0, 1):
        launch = ("--nnodes=2", f"--node_rank={rank}", "--nproc_per_node=1", "--rdzv_backend=c10d", "--rdzv_id=1")
        command = _command(bundle, root, data, overlay, overrides, *launch, f"--rdzv_endpoint={place}")
        with (root / f"node{rank}.txt").open("w") as errors:
            nodes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=ENVIRONMENT, cwd=root))
    ends: dict[int, float] = {}
    start = time.monotonic()
    try:
        while len(ends) < 2 and time.monotonic() < start + 600:
            ends |= {rank: time.monotonic() for rank, node in enumerate(nodes) if rank not in ends and node.poll() is not None}
            time.sleep(0.1)
    finally:
        for node in nodes:
            node.kill()
    return [(nodes[rank].wait(), ends.get(rank, float("inf")), (root / f"node{rank}.txt").read_text()) for rank in (0, 1)]


def _losses(root: Path) -> dict[int, list[float]]:
    """Rank to the losses of its steps."""
    return {int(path.name[-1]): [float(word) for word in path.read_text().split()] for path in root.glob("losses*")}


@pytest.mark.parametrize(
    "bundle", [qubiq, *(pytest.param(other, marks=pytest.mark.long) for other in (brats, lidc))], ids=["qubiq", "brats", "lidc"]
)
def test_two_processes_train_and_validate_as_one(bundle: ModuleType, tmp_path: Path) -> None:
    if bundle is brats:
        data = write_brats_phantoms(tmp_path / "set", cases=7, shape=(16, 16, 16), progress=False)
    elif bundle is lidc:
        data = write_lidc_set(tmp_path / "set")
    else:
        data = write_qubiq_phantoms(tmp_path / "set", datasets="prostate", cases=7, shape=(16, 20), progress=False)
    steps = tmp_path / "steps.yaml"
    steps.write_text(SAME_STEPS + WITHOUT_DRAWS[bundle] + "train#sampler#shuffle: false\n")
    done = _run_on_two(bundle, tmp_path, data, steps, **SPLIT[bundle], epochs=2, val_interval=2, batch_size=1)
    assert done.returncode == 0, done.stderr[-3000:]
    assert all(not key.startswith("module.") for key in torch.load(tmp_path / "models" / "model.pt", weights_only=True))
    assert len(list((tmp_path / "eval").glob("case.png"))) == 1

    # each of them said the loss of the whole batch, which is that of one process with twice the batch size
    settings: dict[str, Any] = {**bundle.TINY, **SPLIT[bundle], "dataset_dir": data, "epochs": 2, "val_interval": 2}
    (tmp_path / "alone").mkdir()
    bundle.start("train.yaml", str(steps), root=tmp_path / "alone", **{**settings, "batch_size": 2})
    one, two = _losses(tmp_path / "alone"), _losses(tmp_path)
    assert sorted(two) == [0, 1]
    assert list(one) == [0]
    assert len({round(loss, 4) for loss in one[0]}) == 4  # two epochs of four cases in pairs, no step like another
    for rank in (0, 1):
        assert two[rank] == pytest.approx(one[0], abs=1e-5)

    # the metric that they agreed on is that of one process with their weights
    (line,) = [
        text for text in done.stdout.splitlines() + done.stderr.splitlines() if f"{KEY_METRIC[bundle]}:" in text and "Metrics" in text
    ]
    together = float(line.rsplit(f"{KEY_METRIC[bundle]}:", 1)[1].split()[0])
    bundle.start("train.yaml", "evaluate.yaml", root=tmp_path, **settings)
    with (tmp_path / "eval" / "metrics.csv").open() as lines:
        alone = {row[0]: float(row[1]) for row in csv.reader(lines)}[KEY_METRIC[bundle]]
    assert together == pytest.approx(alone, abs=1e-4)  # the log has four decimals


def test_an_error_in_the_data_ends_both(tmp_path: Path) -> None:
    done = _run_on_two(brats, tmp_path, str(tmp_path / "nowhere"))
    assert done.returncode != 0
    assert "monai_jdt: error: dataset_dir" in done.stderr


def test_fewer_cases_than_processes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bundle_start.exit_on_error(bundle_start.check_processes, 2, training=5, validation=1)
    line = capsys.readouterr().err.strip()
    assert line.startswith("monai_jdt: error: validation: expected at least 2 cases, one for each process, got 1")
    for bundle in (brats, lidc, qubiq):
        assert "bundle_start.check_processes" in Path(bundle.configs("multi_gpu_train.yaml")[0]).read_text()


@pytest.mark.long
def test_one_validation_case_for_two_processes_ends_both(tmp_path: Path) -> None:
    data = write_qubiq_phantoms(tmp_path / "set", datasets="kidney", cases=4, shape=(16, 16), progress=False)
    done = _run_on_two(qubiq, tmp_path, data, set="kidney", folds=4, batch_size=1)
    assert done.returncode != 0
    assert "monai_jdt: error: validation: expected at least 2 cases, one for each process, got 1. Fix: start fewer" in done.stderr
    assert os.listdir(tmp_path) == ["set"]


def test_keys_of_several_processes_are_checked_and_refused_without_the_file() -> None:
    with pytest.raises(
        ValueError, match=r"process_group_backend: expected one of nccl, gloo, got 'mpi'\. Fix: --process_group_backend"
    ):
        read_value(bundle_start.BratsTraining, "process_group_backend", "mpi")
    assert read_value(bundle_start.BratsTraining, "sync", "false") is False
    for key in ("sync", "process_group_backend"):
        assert overlay_of(bundle_start.BratsTraining.model_fields[key]) == "multi_gpu_train.yaml"


def test_an_error_in_one_of_them_ends_both(tmp_path: Path) -> None:
    data = write_qubiq_phantoms(tmp_path / "set", datasets="kidney", cases=4, shape=(16, 16), progress=False)
    overlay = tmp_path / "fails.yaml"
    # the other one waits for it in the second step
    overlay.write_text(
        "+train#handlers:\n- _target_: monai.handlers.StatsHandler\n  epoch_log: false\n"
        "  iteration_print_logger: '$lambda engine: 1 / (1 - @rank)'\n"
    )
    done = _run_on_two(qubiq, tmp_path, data, overlay, set="kidney", batch_size=1, epochs=50, val_interval=50)
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stderr
    assert not (tmp_path / "models" / "model.pt").exists()


# ends the process of rank 1 in a step
KILL = """
_stop_at: 0
_stop: "$lambda engine: os.kill(os.getpid(), 9) if engine.state.iteration == @_stop_at and @rank == 1 else None"
+train#handlers:
- {_target_: monai.handlers.StatsHandler, epoch_log: false, iteration_print_logger: '@_stop'}
"""


def _kidneys(tmp_path: Path) -> tuple[str, Path, dict[str, Any]]:
    data = write_qubiq_phantoms(tmp_path / "set", datasets="kidney", cases=6, shape=(16, 16), progress=False)
    overlay = tmp_path / "kill.yaml"
    overlay.write_text(KILL)
    return data, overlay, {"set": "kidney", "folds": 3, "batch_size": 1, "epochs": 3}


@pytest.mark.long
def test_two_nodes_train_as_one_and_go_on_after_a_kill(tmp_path: Path) -> None:
    data, overlay, settings = _kidneys(tmp_path)
    for name in ("one", "two", "killed"):
        (tmp_path / name).mkdir()
    done = _run_on_two(qubiq, tmp_path / "one", data, overlay, **settings)
    assert done.returncode == 0, done.stderr[-3000:]
    for code, _, said in _run_on_two_nodes(qubiq, tmp_path / "two", data, overlay, **settings):
        assert code == 0, said[-3000:]
    killed = _run_on_two(qubiq, tmp_path / "killed", data, overlay, _stop_at=4, **settings)
    assert killed.returncode != 0
    done = _run_on_two(qubiq, tmp_path / "killed", data, overlay, resume=True, **settings)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two, resumed = (
        torch.load(tmp_path / name / "models" / "last.pt", weights_only=True)["states"]["network"] for name in ("one", "two", "killed")
    )
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(resumed[name], weights, rtol=1e-5, atol=1e-6)
    refused = _run_on_two_nodes(qubiq, tmp_path / "two", data, overlay, resume=True, **{**settings, "learning_rate": 0.1})
    assert all(code != 0 for code, *_ in refused)
    assert "learning_rate: expected 0.002, as in the training of" in refused[0][2]


@pytest.mark.long
def test_a_kill_on_one_node_ends_the_other(tmp_path: Path) -> None:
    data, overlay, settings = _kidneys(tmp_path)
    nodes = _run_on_two_nodes(qubiq, tmp_path, data, overlay, _stop_at=2, **{**settings, "epochs": 50})
    assert all(code != 0 for code, *_ in nodes)
    assert abs(nodes[0][1] - nodes[1][1]) < 60
