"""Every case is read once, however many epochs and worker processes there are."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from monai.bundle import ConfigWorkflow
from monai.data import CacheDataset
from monai.transforms import Compose, Lambda

from monai_jdt.bundle_runtime import fill_cache
from monai_jdt.data import DataProblem, DataProblemError, write_brats_phantoms, write_qubiq_phantoms
from tests.bundles import test_brats_bundle as brats
from tests.bundles import test_qubiq_bundle as qubiq

# a line for each case that is read, whichever process reads it
COUNT = """
+read_case:
- _target_: monai.transforms.Lambda
  func: "$lambda d: (open(@bundle_root + '/reads', 'a').write(d['case'] + chr(10)), d)[1]"
"""


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("bundle", [brats, qubiq], ids=["brats", "qubiq"])
def test_a_case_is_read_once(bundle: ModuleType, workers: int, tmp_path: Path) -> None:
    if bundle is brats:
        data = write_brats_phantoms(tmp_path / "set", cases=4, shape=(16, 16, 16), progress=False)
    else:
        data = write_qubiq_phantoms(tmp_path / "set", datasets="prostate", cases=4, shape=(16, 20), progress=False)
    overlay = tmp_path / "count.yaml"
    overlay.write_text(COUNT)
    settings: dict[str, Any] = {**bundle.TINY, "batch_size": 1, "num_workers": workers}
    files = bundle.configs("train.yaml", str(overlay))
    workflow = ConfigWorkflow(files, logging_file=False, bundle_root=str(tmp_path), dataset_dir=data, **settings)
    workflow.initialize()
    for _epoch in range(3):
        for side in ("train", "validate"):
            assert len(list(workflow.parser.get_parsed_content(f"{side}#dataloader"))) > 0
    reads = Counter((tmp_path / "reads").read_text().split())
    assert len(reads) == 4
    assert set(reads.values()) == {1}


def test_a_file_gone_bad_while_the_cache_is_filled_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def bad(item: int) -> int:
        raise DataProblemError([DataProblem("scan.nii.gz", "a whole file", "half of one", "copy it again")])

    logging.disable(logging.CRITICAL)
    try:
        with pytest.raises(SystemExit) as caught:
            fill_cache(CacheDataset([1], Compose([Lambda(bad)]), runtime_cache="threads", progress=False))
    finally:
        logging.disable(logging.NOTSET)
    assert caught.value.code == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("monai_jdt: error: scan.nii.gz: expected a whole file")
