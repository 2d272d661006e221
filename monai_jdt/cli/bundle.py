"""The verb `bundle`: list the bundles that come with the package, and copy one to work in."""

from __future__ import annotations

import os
import shutil
import uuid
from importlib.resources import as_file, files
from typing import Annotated

import typer

bundle_verbs = typer.Typer(help="List the bundles that come with the package, and copy one to work in.", no_args_is_help=True)


def shipped_bundles() -> list[str]:
    """Names of the bundles in the installed package.

    Returns:
        The names, sorted.
    """
    return sorted(entry.name for entry in files("monai_jdt.bundles").iterdir() if entry.joinpath("configs").is_dir())


def copy_bundle(name: str, dest: str | os.PathLike[str]) -> str:
    """Copy a bundle out of the package. A bundle writes into its folder when it runs, so it should not run where it is installed.

    Args:
        name: one of :func:`shipped_bundles`.
        dest: the folder to make; it must be free or empty. It is there as a whole or not at all.

    Returns:
        The folder of the copy.

    Raises:
        ValueError: for an unknown name.
        FileExistsError: if there is something at `dest`.
    """
    if name not in shipped_bundles():
        raise ValueError(f"expected a bundle among {shipped_bundles()}, got {name!r}")
    dest = os.path.abspath(os.path.expanduser(os.fspath(dest)))
    if os.path.exists(dest) and (not os.path.isdir(dest) or os.listdir(dest)):
        raise FileExistsError(f"{dest}: expected a free name or an empty folder, got something else. Fix: name another")
    os.makedirs(os.path.dirname(dest), exist_ok=True)
    draft = os.path.join(os.path.dirname(dest), f".{os.path.basename(dest)}.{uuid.uuid4().hex}")
    # what a run wrote into a development checkout stays there
    leftovers = shutil.ignore_patterns("data", "eval", "models", "__pycache__")
    try:
        with as_file(files("monai_jdt.bundles").joinpath(name)) as source:
            shutil.copytree(source, draft, ignore=leftovers)
        os.replace(draft, dest)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return dest


@bundle_verbs.command("list")
def _list_verb() -> None:
    """Print the names of the bundles."""
    for name in shipped_bundles():
        typer.echo(name)


@bundle_verbs.command("copy")
def _copy_verb(
    name: Annotated[str, typer.Argument(help="The bundle, as `bundle list` names it.")],
    dest: Annotated[str, typer.Argument(help="The folder to make: free or empty.")],
) -> None:
    """Copy a bundle to a folder of yours, and tell how to run it."""
    folder = copy_bundle(name, dest)
    typer.echo(f"{folder}: run it with")
    typer.echo(f"  python -m monai.bundle run --config_file {folder}/configs/train.yaml --bundle_root {folder}")
