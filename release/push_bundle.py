"""Push a trained bundle to the Hugging Face Hub, after checking it. Without `--push` it says what it would send, and sends nothing.

    python release/push_bundle.py my_bundle --repo USER/brats_multirater_segmentation
    python release/push_bundle.py my_bundle --repo USER/brats_multirater_segmentation --push

The upload is that of `python -m monai.bundle push_to_hf_hub`, of a copy: data, tables and pictures of the training stay here. It needs
`pip install 'monai-jdt[release]'` and a token of `hf auth login` or `HF_TOKEN`.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from monai.bundle import ConfigParser, push_to_hf_hub

from monai_jdt.validation import error_sentence

#: What is sent. Everything else of a bundle's folder is data or results.
PARTS = ("LICENSE", "configs", "docs", "models/model.pt", "models/model.json")
NEEDED = ("LICENSE", "configs/metadata.json", "configs/inference.yaml", "docs/README.md", "models/model.pt")
#: A path of one person's machine.
PERSONAL = re.compile(r"(?<![\w.])(?:/home/|/root/|/Users/|/tmp/|/mnt/|[A-Z]:\\)[\w.-]+")


def bundle_problems(bundle: Path) -> Iterator[str]:
    """Check what MONAI's model zoo asks of a bundle, and that its weights are those of its network.

    Args:
        bundle: the folder of a trained bundle.

    Yields:
        One sentence per problem.
    """
    absent = [name for name in NEEDED if not (bundle / name).is_file()]
    for name in absent:
        yield error_sentence(
            str(bundle / name), "a file", "none", "train the bundle first" if "model" in name else "copy the bundle anew"
        )
    if absent:
        return
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text("utf-8"))
    if metadata["version"] not in metadata["changelog"]:
        yield error_sentence("version", "one that changelog describes", metadata["version"], "add it to configs/metadata.json")
    for file in sorted(
        file for part in ("configs", "models") for file in (bundle / part).rglob("*") if file.suffix in (".yaml", ".json")
    ):
        if found := PERSONAL.search(file.read_text("utf-8")):
            yield error_sentence(str(file), "no path of one machine, since others will read it", found[0], "write a relative path")
    weights = torch.load(bundle / "models" / "model.pt", map_location="cpu", weights_only=True)
    parser = ConfigParser(ConfigParser.load_config_files([str(bundle / "configs" / "inference.yaml")]))
    parser["bundle_root"] = str(bundle)
    expected = {name: value.shape for name, value in parser.get_parsed_content("network_def").state_dict().items()}
    if expected != {name: value.shape for name, value in weights.items()}:
        yield error_sentence(
            "models/model.pt", "the weights of network_def in configs/inference.yaml", "others", "name their network there"
        )


def staged(bundle: Path, folder: Path) -> list[Path]:
    """Copy what is sent into a folder.

    Args:
        bundle: the folder of a trained bundle.
        folder: where the copy goes.

    Returns:
        The copied files, relative to the folder.
    """
    for part in PARTS:
        source, target = bundle / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        elif source.is_file():
            shutil.copyfile(source, target)
    return sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a bundle, and push it if asked to.

    Args:
        arguments: those of the command line.

    Returns:
        The exit code: 1 if there was a problem, and nothing was sent.
    """
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("bundle", type=Path, help="the folder of a trained bundle")
    options.add_argument("--repo", required=True, help="the repository on the hub: USER/NAME or ORGANISATION/NAME")
    options.add_argument("--public", action="store_true", help="a new repository is public, not private")
    options.add_argument("--push", action="store_true", help="send it. Without this option nothing is sent")
    given = options.parse_args(arguments)
    problems = list(bundle_problems(given.bundle))
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", given.repo):
        problems.append(error_sentence("--repo", "USER/NAME or ORGANISATION/NAME", given.repo))
    if problems:
        print(*problems, sep="\n", file=sys.stderr)
        return 1
    version = json.loads((given.bundle / "configs" / "metadata.json").read_text("utf-8"))["version"]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "bundle"
        files = staged(given.bundle, copy)
        for file in files:
            print(f"{(copy / file).stat().st_size:>12,} bytes  {file}")
        visible = "public" if given.public else "private"
        to = f"{len(files)} files to {given.repo} ({visible} if it is new), version {version}"
        if not given.push:
            print(f"Would send {to}. Nothing was sent. Add --push to send it.")
            return 0
        url = push_to_hf_hub(given.repo, name=copy.name, bundle_dir=folder, private=not given.public, version=version)
        print(f"Sent {to}: {url}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
