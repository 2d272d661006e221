"""What a wheel holds, and what setup.cfg requires."""

from __future__ import annotations

import ast
import configparser
import re
import runpy
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
#: Extras that the package itself imports.
OF_THE_PACKAGE = ("cpu", "dask", "lidc", "mlflow", "nnunet", "scipy")
#: All but `pylidc`, which is for one conversion.
EXTRAS = ("cpu", "dask", "lidc", "nnunet", "scipy", "accelerate", "lightning", "mlflow", "onnx", "release", "test")


def tracked(*folders: str) -> list[Path]:
    """Return the files of these folders, or of the project, that git tracks and that are there."""
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(line) for line in listed.stdout.splitlines() if (ROOT / line).exists()]


def copied(copy: Path) -> Path:
    """Copy the tracked files into a folder, since a build writes into the tree."""
    for name in [*tracked(), Path("MANIFEST.in")]:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    return copy


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("source"))


def built(source: Path, kind: str, out: Path) -> Path:
    """Build as `pip wheel` and `python -m build` do, and return the file."""
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(out)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (file,) = out.iterdir()
    return file


def test_the_wheel_holds_every_module_and_bundle_file(source: Path, tmp_path: Path) -> None:
    archive = zipfile.ZipFile(built(source, "wheel", tmp_path))
    held = set(archive.namelist())
    expected = {str(path) for path in tracked("monai_jdt")} | {f"monai_jdt/{path}" for path in tracked("bundles")}
    assert expected - held == set()
    assert {name for name in held if not name.startswith(("monai_jdt/", "monai_jdt-"))} == set()
    (described,) = [name for name in held if name.endswith(".dist-info/METADATA")]
    head, _, page = archive.read(described).decode("utf-8").partition("\n\n")
    assert "Description-Content-Type: text/markdown" in head
    assert page.startswith("# monai_jdt\n")
    assert [target for target in link_targets(page) if not target.startswith("https://")] == []


def link_targets(page: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", page)


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "setup.py"))


PAGE = """
![A picture of
a case](docs/images/case.png) [here](docs/a.md#part), [docs/b.md](docs/b.md), [MONAI](https://monai.io), [below](#below) `x[0](1)`

```python
y = [f](x)
```
"""


def test_the_page_of_pypi_names_files_while_the_repository_has_no_address(settings: dict[str, Any]) -> None:
    *page, note = settings["pypi_page"](PAGE, None, "1.2.3").splitlines()
    assert (
        "\n".join(page)
        == """
*Picture `docs/images/case.png`: A picture of
a case.* here (`docs/a.md#part`), `docs/b.md`, [MONAI](https://monai.io), below `x[0](1)`

```python
y = [f](x)
```
"""
    )
    assert "pip download --no-deps --no-binary monai-jdt monai-jdt" in note
    assert settings["pypi_page"]("[MONAI](https://monai.io)", None, "1.2.3") == "[MONAI](https://monai.io)"  # no file, no note


def test_the_page_of_pypi_links_to_the_tag_of_its_version(settings: dict[str, Any]) -> None:
    assert (
        settings["pypi_page"](PAGE, "https://git.example/us/it/", "1.2.3")
        == """
![A picture of
a case](https://git.example/us/it/raw/v1.2.3/docs/images/case.png) [here](https://git.example/us/it/blob/v1.2.3/docs/a.md#part), \
[docs/b.md](https://git.example/us/it/blob/v1.2.3/docs/b.md), [MONAI](https://monai.io), below `x[0](1)`

```python
y = [f](x)
```
"""
    )


def test_the_address_of_the_repository_is_that_of_the_settings(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "monai_jdt").mkdir()
    (tmp_path / "monai_jdt" / "__init__.py").write_text('__version__ = "9.8"\n')
    (tmp_path / "README.md").write_text("[docs/b.md](docs/b.md)")
    addresses = "project_urls =\n    Source = https://git.example/us/it\n"
    (tmp_path / "setup.cfg").write_text(f"[metadata]\n{addresses}")
    assert settings["this_page"](tmp_path) == "[docs/b.md](https://git.example/us/it/blob/v9.8/docs/b.md)"
    (tmp_path / "setup.cfg").write_text(f"[metadata]\n{addresses.replace('Source', 'Paper')}")
    assert settings["this_page"](tmp_path).startswith("`docs/b.md`\n")


def test_the_source_distribution_holds_every_file(source: Path, tmp_path: Path) -> None:
    with tarfile.open(built(source, "sdist", tmp_path)) as archive:
        held = {Path(*Path(name).parts[1:]) for name in archive.getnames()}
    assert {path for path in tracked() if not path.parts[0].startswith(".")} - held == set()


def imported_packages(*folders: str) -> dict[str, Path]:
    """The packages that these folders import, without those of Python, each with a file that does."""
    found: dict[str, Path] = {}
    for path in sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
            elif (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", None) == "optional_import"
                and isinstance(node.args[0], ast.Constant)
            ):
                modules = [str(node.args[0].value)]
            found.update({module.partition(".")[0]: path for module in modules})
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names}


def declared(*sections: str) -> set[str]:
    """Names of the distributions that setup.cfg requires: `install_requires`, or an extra."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    found: set[str] = set()
    for section in sections:
        text = config["options"][section] if section == "install_requires" else config["options.extras_require"][section]
        found |= {canonicalize_name(Requirement(line).name) for line in text.splitlines() if line and not line.startswith("#")}
    return found


def undeclared(imports: dict[str, Path], requirements: set[str]) -> dict[str, Path]:
    distributions = packages_distributions()
    return {
        name: path
        for name, path in imports.items()
        if not {canonicalize_name(distribution) for distribution in distributions.get(name, [name])} & requirements
    }


def test_every_import_of_the_package_is_declared() -> None:
    imports = imported_packages("monai_jdt", "bundles")
    # Triton comes with PyTorch's CUDA builds and cannot be installed everywhere; the kernel is not used where it is absent.
    assert undeclared(imports, declared("install_requires", *OF_THE_PACKAGE) | {"monai-jdt", "triton"}) == {}


def test_every_requirement_is_imported_or_named() -> None:
    # What MONAI itself imports for the bundles, the readers and the handlers that the package uses.
    for_monai = {"itk", "pyyaml", "tensorboard"}
    distributions = packages_distributions()
    used = {
        canonicalize_name(name) for module in imported_packages("monai_jdt", "bundles") for name in distributions.get(module, [module])
    }
    assert declared("install_requires", *OF_THE_PACKAGE) - used == for_monai


def test_every_import_outside_the_package_is_declared() -> None:
    imports = imported_packages("tests", "docs", "benchmarks", "examples", "release")
    own = {"monai-jdt", "tests", "benchmarks"}
    # benchmarks/decision.py compares with it where it is installed
    peers = {"rankseg", "torchmetrics"}
    assert undeclared(imports, declared("install_requires", *EXTRAS) | own | peers) == {}


def test_an_undeclared_import_is_seen() -> None:
    assert undeclared({"sklearn": Path("x.py"), "torch": Path("x.py")}, declared("install_requires")) == {"sklearn": Path("x.py")}


def test_every_requirement_has_its_exact_version_in_the_constraints() -> None:
    constraints = {
        canonicalize_name(Requirement(line).name): line
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if line[0] != "#"
    }
    assert all("==" in line for line in constraints.values())
    assert declared("install_requires", *EXTRAS) - set(constraints) == {"monai-jdt"}
