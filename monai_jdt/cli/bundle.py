"""The verb `bundle`: list the bundles that come with the package, and copy one to work in."""

from __future__ import annotations

import difflib
import os
import shlex
import shutil
from importlib.resources import as_file, files
from typing import Annotated

import typer

from monai_jdt.data.files.atomic import whole_folder
from monai_jdt.data.names import user_path
from monai_jdt.validation import error_sentence

bundle_verbs = typer.Typer(help="List the bundles that come with the package, and copy one to work in.", no_args_is_help=True)


def shipped_bundles() -> list[str]:
    """Return the names of the bundles in the installed package, sorted."""
    return sorted(entry.name for entry in files("monai_jdt.bundles").iterdir() if entry.joinpath("configs").is_dir())


def copy_bundle(name: str, dest: str | os.PathLike[str]) -> str:
    """Copy a bundle out of the package. A bundle writes into its folder, so that it should not run where it is installed.

    Args:
        name: one of :func:`shipped_bundles`.
        dest: the folder to make; it must be free or empty. A copy that fails leaves nothing.

    Returns:
        The folder of the copy.

    Raises:
        ValueError: for an unknown name, or a path with a `#`, which MONAI's bundles read as `::`.
        FileExistsError: if `dest` is a file, or a folder that is not empty.
    """
    if name not in shipped_bundles():
        known = shipped_bundles()
        close = [one for one in known if str(name) in one] or difflib.get_close_matches(str(name), known, n=1, cutoff=0)
        raise ValueError(error_sentence("NAME", f"a bundle among {', '.join(known)}", repr(name), f"name {close[0]}"))
    dest = os.path.abspath(user_path(dest))
    if "#" in dest:
        raise ValueError(error_sentence(dest, "a path without #, which MONAI's bundles read as ::", "one with #", "name another"))
    if os.path.lexists(dest) and (not os.path.isdir(dest) or os.listdir(dest)):
        raise FileExistsError(error_sentence(dest, "a free name or an empty folder", "something else", "name another"))
    # a development checkout may hold what a run wrote
    leftovers = shutil.ignore_patterns("data", "eval", "models", "__pycache__")
    with whole_folder(dest) as draft, as_file(files("monai_jdt.bundles").joinpath(name)) as source:
        shutil.copytree(source, draft, ignore=leftovers, dirs_exist_ok=True)
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
    """Copy a bundle to a folder of yours, and print the command that runs it."""
    folder = copy_bundle(name, dest)
    typer.echo(f"{folder}: run it with")
    words = ["--config_file", os.path.join(folder, "configs", "train.yaml"), "--bundle_root", folder]
    typer.echo(f"  python -m monai.bundle run {shlex.join(words)}")
