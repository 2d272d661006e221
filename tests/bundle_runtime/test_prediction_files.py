"""Predictions are pictures where a picture can hold them."""

from __future__ import annotations

from typing import Any

import pytest
from monai.bundle import ConfigParser

from tests.bundles import test_brats_bundle as brats
from tests.bundles import test_qubiq_bundle as qubiq

FORMS = [
    ("map", ["a.png", "b.JPG"], 2, True),
    ("hard", ["a.png", "b.png"], 1, True),
    ("hard", ["a.png", "b.png"], 2, False),
    ("soft", ["a.png", "b.png"], 1, False),
    ("map", ["a.png", "b.nii.gz"], 1, False),
    # eight pages are a volume
    ("map", ["a.tif", "b.tif"], 1, False),
    ("hard", ["a.TIFF", "b.TIFF"], 1, False),
    # a palette has 256 colours
    ("map", ["a.png", "b.png"], [[1], [300]], False),
    ("map", ["a.png", "b.png"], [[-1]], False),
    ("hard", ["a.png", "b.png"], [[300]], True),
]


@pytest.mark.parametrize(("form", "images", "regions", "expected"), FORMS)
@pytest.mark.parametrize("bundle", [brats, qubiq], ids=["brats", "qubiq"])
def test_predictions_are_pictures_if_they_can_be(bundle: Any, form: str, images: list[str], regions: Any, expected: bool) -> None:
    groups = [[value + 1] for value in range(regions)] if isinstance(regions, int) else regions
    items = [{"case": image, "image": image} for image in images]
    # the network of the QUBIQ bundle has a channel for the background
    settings = {"form": form, "regions": groups, "out_channels": len(groups) + (bundle is qubiq), "task": 1}
    parser = ConfigParser(ConfigParser.load_config_files(bundle.configs("inference.yaml")))
    for name, value in {**settings, "items": items, "datalist": items}.items():
        parser[name] = value
    assert parser.get_parsed_content("as_picture") is expected
