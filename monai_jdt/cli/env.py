"""The verb `env`: what a bug report needs about the machine and its packages."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import typer

#: Hard dependencies first, then what extras bring.
PACKAGES = (
    "torch",
    "monai",
    "numpy",
    "pytorch-ignite",
    "nibabel",
    "SimpleITK",
    "itk",
    "fire",
    "typer",
    "pydantic",
    "matplotlib",
    "tensorboard",
    "numba",
    "triton",
    "scipy",
    "mlflow",
    "nnunetv2",
)

#: Environment variables that change which kernel runs, how fast, or on how many threads.
VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "KMP_BLOCKTIME",
    "NUMBA_CACHE_DIR",
    "NUMBA_CPU_NAME",
    "NUMBA_DISABLE_JIT",
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TRITON_INTERPRET",
)


def environment_report(environment: Mapping[str, str] | None = None) -> str:
    """Return what a bug report needs: versions, devices, threads, kernels that can run here, and the variables that matter.

    Args:
        environment: environment variables; None: those of this process.

    Returns:
        Markdown, one line per fact. It names no user, no host and no path but that of Python.
    """
    import torch

    from monai_jdt import __version__
    from monai_jdt.definitions import Backend, VoxelRecipe
    from monai_jdt.kernels.choice import refusal

    environment = os.environ if environment is None else environment
    cuda = torch.cuda.is_available()
    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())] if cuda else []
    lines = [
        f"- monai_jdt: {__version__}",
        f"- Python: {platform.python_version()} ({sys.executable})",
        f"- system: {platform.platform()}",
        f"- processor: {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads of PyTorch",
        f"- CUDA: {torch.version.cuda or 'not built in'}; devices: {', '.join(devices) or 'none'}",
    ]
    lines += [f"- {name}: {_installed(name)}" for name in PACKAGES]
    sample = torch.zeros(1, 1, 1, device="cuda" if cuda else "cpu")
    for kernel in Backend:
        if kernel is not Backend.AUTO:
            reason = refusal(kernel, sample, sample, VoxelRecipe())
            lines.append(f"- kernel {kernel.value}: {'can run' if reason is None else reason}")
    lines += [f"- {name}={environment[name]}" for name in VARIABLES if name in environment]
    return "\n".join(lines)


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def env_command() -> None:
    """Print what a bug report needs: versions, devices, and the kernels that can run here."""
    typer.echo(environment_report())
