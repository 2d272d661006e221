"""Networks of the bundles outside of PyTorch, and trainings that a tracker follows."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

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


@pytest.mark.long
def test_mlflow_follows_a_training(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    data = write_brats_phantoms(tmp_path / "set", cases=4, shape=(16, 16, 16), progress=False)
    settings: dict[str, Any] = {**brats.TINY, "dataset_dir": data, "tracking": "mlflow"}
    brats.start("train.yaml", root=tmp_path / "root", **settings)
    with sqlite3.connect(tmp_path / "root" / "eval" / "mlruns.db") as runs:
        found = dict(runs.execute("select key, count(*) from metrics group by key").fetchall())
    assert found["train_loss"] == 2  # a step in each of two epochs
    assert found["val_mean_dice"] == 2
