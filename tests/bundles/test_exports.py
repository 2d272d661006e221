"""Networks of the bundles outside of PyTorch, and trainings that a tracker follows."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import onnx_export
from monai.bundle.scripts import _get_fake_spatial_shape

from monai_jdt.data import write_brats_phantoms
from tests.bundles import test_brats_bundle as brats
from tests.bundles.test_verification import every_bundle, layers, metadata, network


@pytest.mark.long
@every_bundle
def test_onnxruntime_gives_what_the_network_gives_at_any_size(bundle: Path, tmp_path: Path) -> None:
    """The command of docs/shipping.md, in this process."""
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    net = network(bundle, "inference")
    torch.save(net.state_dict(), tmp_path / "model.pt")
    image = metadata(bundle)["network_data_format"]["inputs"]["image"]
    smallest = _get_fake_spatial_shape(image["spatial_shape"])
    axes = {0: "batch"} | {axis + 2: f"size{axis}" for axis in range(len(smallest))}
    onnx_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.onnx"),
        ckpt_file=str(tmp_path / "model.pt"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=layers(bundle, "inference"),
        input_shape=[2, image["num_channels"], *(4 * size for size in smallest)],
        use_trace=True,
        converter_kwargs={
            "dynamo": False,
            "input_names": ["image"],
            "output_names": ["pred"],
            "dynamic_axes": {"image": axes, "pred": axes},
        },
    )
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for n, factors in ((1, (2, 3, 4)), (3, (4, 2, 2))):
        x = torch.randn(n, image["num_channels"], *(size * factor for size, factor in zip(smallest, factors, strict=False)))
        with torch.no_grad():
            expected = net(x)
        (found,) = session.run(None, {"image": x.numpy()})
        assert expected.std() > 0
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4 * float(expected.abs().max()))


#: MONAI's command line, on a machine whose network is looked at.
WATCHED = """
import runpy, socket

def refused(*where, **how):
    with open("asked.txt", "a") as file:
        file.write(f"{where}\\n")
    raise OSError("no network here")

socket.getaddrinfo = socket.socket.connect = socket.socket.connect_ex = refused
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
"""


@pytest.mark.long
def test_mlflow_follows_a_training_and_nothing_leaves_the_machine(tmp_path: Path) -> None:
    """The command of docs/shipping.md. MLflow has its own ways in CI and under pytest, so that it is not told of them."""
    pytest.importorskip("mlflow")
    write_brats_phantoms(tmp_path / "set", cases=4, shape=(16, 16, 16), progress=False)
    settings = {"config_file": brats.configs("train.yaml")[0], "bundle_root": "root", "dataset_dir": "set", "tracking": "mlflow"}
    words = [word for key, value in {**settings, **brats.TINY}.items() for word in (f"--{key}", str(value))]
    hidden = ("CI", "PYTEST_CURRENT_TEST", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "MLFLOW_TRACKING_URI")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", WATCHED, "run", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root", "set"]  # no asked.txt, and no mlruns
    with sqlite3.connect(tmp_path / "root" / "eval" / "mlruns.db") as runs:
        steps: dict[str, list[int]] = {}
        for name, step in runs.execute("select key, step from metrics order by key, timestamp, step"):
            steps.setdefault(name, []).append(step)
        parameters = dict(runs.execute("select key, value from params"))
        ((status, experiment),) = runs.execute(
            "select status, name from experiments natural join (select status, experiment_id from runs)"
        )
    # three cases of training, one in a step; a mean and a validation in each of two epochs
    assert steps["train_loss"] == steps["lr_group_0"] == [1, 2, 3, 4, 5, 6]
    assert steps["train_mean_loss"] == steps["val_mean_dice"] == steps["val_dice_TC"] == [1, 2]
    assert parameters == {"max_epochs": "2", "epoch_length": "3"}
    assert (status, experiment) == ("FINISHED", "monai_experiment")
    (config,) = (tmp_path / "root" / "eval" / "mlruns").rglob("config_*.json")
    assert json.loads(config.read_text("utf-8"))["epochs"] == 2
