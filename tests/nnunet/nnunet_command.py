"""Run a command of nnU-Net in a process of its own: `python -m tests.nnunet.nnunet_command MODULE:FUNCTION [arguments]`.

nnU-Net imports torchvision with every trainer that is not its own, and PyPI's torchvision needs CUDA. The two operators whose absence
ends that import are declared here. No network of these tests uses them. With `WITHOUT_MONAI_JDT` set, this package cannot be imported.
"""

from __future__ import annotations

import importlib
import os
import sys


def main() -> None:
    """Run the command."""
    if os.environ.get("WITHOUT_MONAI_JDT"):
        sys.modules["monai_jdt"] = None  # type: ignore[assignment]  # an import of it is an ImportError
    import torch

    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        main.library = torch.library.Library("torchvision", "DEF")  # type: ignore[attr-defined]
        for name in ("nms", "qnms"):
            main.library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[attr-defined]
    module, _, function = sys.argv[1].partition(":")
    sys.argv = [function, *sys.argv[2:]]
    getattr(importlib.import_module(module), function)()


if __name__ == "__main__":
    main()
