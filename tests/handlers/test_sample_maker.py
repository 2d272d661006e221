"""Samples beside the prediction of an evaluator, scored against the raters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine
from monai.transforms import Activationsd, Compose
from torch import nn

from monai_jdt.handlers import MeanGeneralizedEnergyDistance, SampleMaker
from monai_jdt.inferers import DrawnSamples
from monai_jdt.metrics import GeneralizedEnergyDistance
from monai_jdt.transforms import SaveSamplesd
from tests.present import tensor_of

ITEMS: list[dict[str, Any]] = [
    {
        "image": MetaTensor(torch.randn(1, 6, 6), meta={"filename_or_obj": f"case{number}.nii.gz"}),
        "label": (torch.rand(3, 6, 6) > 0.5).long(),
    }
    for number in range(3)
]


def evaluator(tmp_path: Path, **more: Any) -> SupervisedEvaluator:
    return SupervisedEvaluator(
        torch.device("cpu"),
        DataLoader(Dataset(ITEMS), batch_size=2),
        nn.Conv2d(1, 1, 1),
        key_val_metric={"distance": MeanGeneralizedEnergyDistance(output_transform=from_engine(["samples", "label"]))},
        **more,
    )


def test_samples_are_scored_and_written_beside_the_prediction(tmp_path: Path) -> None:
    maker = SampleMaker(DrawnSamples(4, sigmoid=True))
    post = Compose([Activationsd("pred", sigmoid=True), SaveSamplesd("samples", tmp_path)])
    engine = evaluator(tmp_path, val_handlers=[maker], postprocessing=post)
    engine.run()
    metric = GeneralizedEnergyDistance()
    for item in ITEMS:
        samples = DrawnSamples(4, sigmoid=True)(item["image"].as_tensor()[None], engine.network)
        metric(samples, item["label"][None])
    assert engine.state.metrics["distance"] == pytest.approx(tensor_of(metric.aggregate()).item(), abs=1e-12)
    assert len(list(tmp_path.glob("case?_sample_?.nii.gz"))) == 12
    assert engine.state.output[0]["pred"].shape == (1, 6, 6)


def test_something_else_than_a_source_of_samples_is_refused() -> None:
    with pytest.raises(TypeError, match="inferer: expected a SampleInferer, got function"):
        SampleMaker(lambda images, network: images)  # type: ignore[arg-type]
