"""The built distributions in an environment of their own: what the wheel requires is enough, and nothing of others is changed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_packaging import built, copied

pytestmark = pytest.mark.long

TINY = ["--roi", "[16,16,16]", "--epochs", "1", "--phantoms#cases", "3", "--phantoms#shape", "[16,16,16]", "--show_progress", "false"]
TINY_NETWORK = ["--network_def#blocks_down", "[1,1]", "--network_def#blocks_up", "[1]"]


def needed_by(requirements: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """The installed distributions that these requirements ask for, and those ask for in turn. Extras and other systems are left out."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        extras = requirement.extras or {""}
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = canonicalize_name(requirement.name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # such as a CUDA library: a build of torch for the CPU was installed beside it
        if name not in found:
            found[name] = distribution
            texts = [Requirement(text) for text in distribution.requires or []]
            waiting += [one for one in texts if not one.marker or any(one.marker.evaluate({"extra": extra}) for extra in extras)]
    return found


class Environment:
    """A virtual environment whose packages are links to those of this one.

    Args:
        folder: where it is made.
        requirements: what is linked, with what that needs.
    """

    def __init__(self, folder: Path, requirements: Iterable[str]) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        self.python = folder / "bin" / "python"
        (self.site,) = folder.glob("lib/python*/site-packages")
        self.home = folder / "home"
        self.home.mkdir()
        for distribution in needed_by(requirements).values():
            for file in distribution.files or []:
                place, origin = self.site / file.parts[0], Path(str(distribution.locate_file(file.parts[0])))
                if file.parts[0] not in ("..", "__pycache__") and not place.is_symlink() and origin.exists():
                    place.symlink_to(origin.resolve())

    def run(self, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
        own = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "OMP_NUM_THREADS": "1",
            "MPLBACKEND": "Agg",
            "CUDA_VISIBLE_DEVICES": "",
        }
        command = [str(self.python), "-I", *words]
        return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, timeout=900)

    def says(self, *words: str, folder: Path) -> str:
        done = self.run(*words, folder=folder)
        assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tree, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment of MONAI and of what the wheel's metadata require, with the wheel, which cannot be written to."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        requirements = message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []
    made = Environment(tmp_path_factory.mktemp("environment") / "venv", ["monai", *requirements])
    assert not (made.site / "numba").exists()  # of an extra
    place = ["--target", str(made.site), "--no-deps", "--no-index", "--no-compile", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "install", *place, str(wheel)], check=True, env={**os.environ, "PIP_NO_INPUT": "1"})
    for path in [made.site / "monai_jdt", *(made.site / "monai_jdt").rglob("*")]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    return made


def contents(folder: Path) -> dict[str, str]:
    """Path to checksum of every file. A superuser can write in spite of permissions, so that it is looked at. Byte code is Python's."""
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


SHORT_NAME = """
from monai.bundle import ConfigParser
import monai_jdt, torch
loss = ConfigParser({"loss": {"_target_": "JDTCELoss", "sigmoid": True}}).get_parsed_content("loss")
print(type(loss).__module__, float(loss(torch.zeros(1, 1, 4), torch.full((1, 1, 4), 0.5))) > 0, monai_jdt.__file__)
"""
UNCHANGED = """
import monai, sys, json, pkgutil, importlib
for part in ("bundle", "data", "engines", "handlers", "inferers", "losses", "metrics", "networks.nets", "transforms", "utils"):
    importlib.import_module("monai." + part)

def state():
    found = {}
    for name, module in list(sys.modules.items()):
        if name == "monai" or name.startswith("monai."):
            for key, value in vars(module).items():
                found[name, key] = id(value)
                if isinstance(value, type) and value.__module__.startswith("monai."):
                    found.update({(name, key, entry): id(held) for entry, held in vars(value).items()})
    return found

before = state()
import monai_jdt
after = state()
import warnings
changed = [key for key, value in before.items() if after.get(key) != value]
# a submodule that was not loaded before is a new name of its package
grown = [key for key in after if key not in before and ".".join(key[:2]) not in sys.modules and key[0] in {k[0] for k in before}]
print(json.dumps([changed, [str(key) for key in grown]]))
"""


def test_short_names_are_found(environment: Environment, tmp_path: Path) -> None:
    module, works, file = environment.says("-W", "ignore", "-c", SHORT_NAME, folder=tmp_path).split()
    assert (module, works) == ("monai_jdt.losses.jdt_ce", "True")
    assert Path(file).is_relative_to(environment.site)


def test_the_import_changes_nothing_of_monai(environment: Environment, tmp_path: Path) -> None:
    changed, grown = json.loads(environment.says("-W", "ignore", "-c", UNCHANGED, folder=tmp_path).splitlines()[-1])
    assert changed == []
    assert grown == []


def test_a_bundle_is_copied_and_runs_and_the_package_stays_as_it_is(environment: Environment, tmp_path: Path) -> None:
    before = contents(environment.site / "monai_jdt")
    assert "bundles/brats_multirater_segmentation/configs/train.yaml" in before
    names = environment.says("-m", "monai_jdt", "bundle", "list", folder=tmp_path).split()
    assert names == [f"{name}_multirater_segmentation" for name in ("brats", "lidc", "qubiq")]
    environment.says("-m", "monai_jdt", "bundle", "copy", names[0], "mine", folder=tmp_path)
    start = ["-m", "monai.bundle", "run", "--bundle_root", "mine"]
    train, evaluate = "mine/configs/train.yaml", "mine/configs/evaluate.yaml"
    environment.says(*start, "--config_file", train, *TINY, *TINY_NETWORK, folder=tmp_path)
    environment.says(*start, "--config_file", f"['{train}','{evaluate}']", *TINY, *TINY_NETWORK, folder=tmp_path)
    images = ["--dataset_dir", "mine/data/phantoms", "--roi", "[16,16,16]"]
    environment.says(*start, "--config_file", "mine/configs/inference.yaml", *TINY_NETWORK, *images, folder=tmp_path)
    assert (tmp_path / "mine" / "models" / "model.pt").is_file()
    assert (tmp_path / "mine" / "eval" / "report.html").is_file()
    assert len(list((tmp_path / "mine" / "eval" / "predictions").rglob("*_prob.nii.gz"))) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert contents(environment.site / "monai_jdt") == before


def test_twine_accepts_what_is_built(tree: Path, wheel: Path, tmp_path: Path) -> None:
    pytest.importorskip("twine")
    sdist = built(tree, "sdist", tmp_path)
    done = subprocess.run([sys.executable, "-m", "twine", "check", "--strict", str(sdist), str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASSED") == 2


def test_the_wheel_of_the_source_distribution_is_the_wheel(tree: Path, wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "sdist").mkdir()
    sdist = built(tree, "sdist", tmp_path / "sdist")
    subprocess.run([sys.executable, "-m", "tarfile", "-e", str(sdist), str(tmp_path)], check=True)
    (unpacked,) = tmp_path.glob("monai_jdt-*")
    (tmp_path / "wheel").mkdir()
    again = built(unpacked, "wheel", tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        of_one, of_other = ({name: archive.read(name) for name in archive.namelist()} for archive in (one, other))
    assert of_one == of_other
