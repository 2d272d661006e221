"""The shape of the package: a file imports only from lower layers, and has no name of MONAI's."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest
from monai.bundle import ConfigParser
from monai.bundle.config_item import ComponentLocator

PACKAGE = Path(__file__).resolve().parent.parent / "monai_jdt"

#: Lowest first; the names of one line may not import each other.
LADDER = [
    {"validation", "progress_bar"},
    {"definitions", "plain_tensors"},
    {"checks"},
    {"data", "kernels"},
    {"functional"},
    {"raters", "losses", "metrics"},
    {"transforms"},
    {"inferers"},
    {"teachers", "training"},
    {"handlers", "report"},
    {"bundle_runtime", "nnunet"},
    {"cli"},
]
#: The same inside a folder that has rooms.
ROOMS = {
    "data": [
        {"names", "problems", "file_names"},
        {"files"},
        {"layouts"},
        {"csv_lists"},
        {"list_forms", "rater_names"},
        {"datalist_file", "splits", "case_runner"},
        {"lidc"},
        {"inspection", "phantoms", "resampling"},
    ],
}
FORBIDDEN = {"utils", "util", "common", "base", "misc", "helpers"}


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def layer_of(module: str) -> tuple[str, int]:
    name = module.split(".")[1]
    for height, names in enumerate(LADDER):
        if name in names:
            return name, height
    raise AssertionError(f"{module} is in no layer")


def is_module(package: str, name: str) -> bool:
    place = PACKAGE.joinpath(*package.split(".")[1:], name)
    return place.is_dir() or place.with_suffix(".py").exists()


def imported(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "monai_jdt" and [alias.name for alias in node.names] == ["__version__"]:
                continue
            if node.module == "monai_jdt":
                found += [f"monai_jdt.{alias.name}" for alias in node.names]
            elif node.module and node.module.startswith("monai_jdt."):
                # `from monai_jdt.data import files` imports a folder, `from monai_jdt.data.files import x` something in it
                found += [f"{node.module}.{alias.name}" if is_module(node.module, alias.name) else node.module for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("monai_jdt.")]
    return found


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_from_lower_layers_only(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    assert not FORBIDDEN & set(parts)
    if len(parts) == 1 and parts[0] in ("__init__", "__main__"):
        return  # the package itself shows what is in it
    own, height = layer_of(".".join(("monai_jdt", *parts)))
    for module in imported(path):
        name, other = layer_of(module)
        assert other < height or name == own, f"{path}: {own} may not import {module}"


def room_of(module: str) -> tuple[str, int] | None:
    """The room of a module inside its folder, and the room's height; None: the folder has none, or the module is the folder itself."""
    folder, _, inside = module.removeprefix("monai_jdt.").partition(".")
    if folder not in ROOMS or not inside:
        return None
    room = inside.partition(".")[0]
    return room, next(height for height, names in enumerate(ROOMS[folder]) if room in names)


@pytest.mark.parametrize("folder", ROOMS)
def test_a_room_imports_from_lower_rooms_only(folder: str) -> None:
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        own = room_of(".".join(("monai_jdt", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"))
        if own is None:
            continue  # the folder itself shows what is in it
        for module in imported(path):
            if not module.startswith(f"monai_jdt.{folder}"):
                continue
            other = room_of(module)
            assert other is not None, f"{path}: imports the folder that it is in"
            assert other[1] < own[1] or other[0] == own[0], f"{path}: {own[0]} may not import {module}"


def test_the_readme_has_one_row_for_each_folder_from_the_bottom_to_the_top() -> None:
    rows = re.findall(r"^\| `([\w./]+)` \| .+ \|$", (PACKAGE / "README.md").read_text("utf-8"), re.MULTILINE)
    folders = {f"{path.parent.relative_to(PACKAGE)}/" for path in PACKAGE.rglob("*/__init__.py")}
    modules = {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")}
    assert sorted(rows) == sorted(folders | modules)
    heights = [layer_of(f"monai_jdt.{row.removesuffix('.py').strip('/').replace('/', '.')}")[1] for row in rows]
    assert heights == sorted(heights)
    for room in {path.parent for path in PACKAGE.rglob("*/__init__.py")}:
        order = [row.strip("/").rpartition("/")[2] for row in rows if (PACKAGE / row).parent == room]
        for unit, used in imports_within(room).items():
            if unit in order:
                assert {other for other in used if other in order} <= set(order[: order.index(unit)]), f"{room.name}/{unit}"


def imports_within(room: Path) -> dict[str, set[str]]:
    """By file or folder of a room, the others of that room that it imports; the room's `__init__` aside, which shows what is in it."""
    window = ".".join(("monai_jdt", *room.relative_to(PACKAGE).parts))
    found: dict[str, set[str]] = {}
    for path in room.rglob("*.py"):
        unit = path.relative_to(room).with_suffix("").parts[0]
        if unit != "__init__":
            inner = [module for module in imported(path) if module.startswith(f"{window}.")]
            found.setdefault(unit, set()).update(module[len(window) + 1 :].partition(".")[0] for module in inner)
    return {unit: used - {unit} for unit, used in found.items()}


@pytest.mark.parametrize(
    "room", sorted({path.parent for path in PACKAGE.rglob("*/__init__.py")}), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_nothing_in_a_room_imports_in_a_circle(room: Path) -> None:
    within = imports_within(room)
    # a circle has no order, and raises
    assert set(TopologicalSorter(within).static_order()) >= set(within)


def test_a_circle_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("from monai_jdt.b import x\n")
    (tmp_path / "b.py").write_text("from monai_jdt.a import y\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.test_layers.PACKAGE", tmp_path)
        with pytest.raises(CycleError):
            test_nothing_in_a_room_imports_in_a_circle(tmp_path)


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    """550 lines. Split a longer one by what it is about."""
    assert [str(path.relative_to(PACKAGE)) for path in files() if len(path.read_text("utf-8").splitlines()) > 550] == []


def test_the_ladder_is_seen_to_be_broken(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("from monai_jdt.losses import JDTLoss\n")
    assert layer_of(imported(bad)[0])[1] > layer_of("monai_jdt.kernels.bad")[1]


def definitions() -> list[tuple[str, str]]:
    found = []
    for path in files():
        module = ".".join(("monai_jdt", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.append((node.name, module))
    return found


def test_no_name_is_monais_nor_twice_ours() -> None:
    locator = ComponentLocator()
    locator.get_component_module_name("nothing")
    table = {name: [m for m in modules if not m.startswith("monai_jdt")] for name, modules in (locator._components_table or {}).items()}
    clashes = [(name, module, table[name]) for name, module in definitions() if table.get(name)]
    assert not clashes
    twice = [name for name, count in Counter(name for name, _ in definitions()).items() if count > 1]
    assert not twice


def test_tests_are_found_by_the_path_of_what_they_test() -> None:
    tests = PACKAGE.parent / "tests"
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    # tests/bundles tests bundles/, and so on, and promises are measured on losses of other packages too
    assert {str(folder) for folder in folders if not (PACKAGE / folder).is_dir()} == {"bundles", "benchmarks", "promises", "release"}


@pytest.mark.parametrize("name", ["JDTLoss", "JaccardMetricLoss", "DiceSemimetricLoss", "CompatibleTverskyLoss", "JDTCELoss"])
def test_short_names_resolve_after_an_import(name: str) -> None:
    parser = ConfigParser({"imports": ["$import monai_jdt"], "loss": {"_target_": name, "sigmoid": True}})
    loss = parser.get_parsed_content("loss")
    assert type(loss).__name__ == name
    assert type(loss).__module__.startswith("monai_jdt.")


@pytest.mark.parametrize("name", ["LoadRatersd", "FuseRatersd", "LossProgressBar", "ThresholdedDice", "MeanThresholdedDice"])
def test_transforms_and_handlers_have_short_names_too(name: str) -> None:
    locator = ComponentLocator()
    import_module("monai_jdt")
    assert locator.get_component_module_name(name) is not None


def test_every_public_class_and_function_is_documented() -> None:
    for module in ("losses", "metrics", "transforms", "inferers", "handlers", "data", "raters", "functional"):
        package = import_module(f"monai_jdt.{module}")
        for name in package.__all__:
            thing = getattr(package, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                assert inspect.getdoc(thing), f"{module}.{name}"


def test_import_needs_torch_and_monai_only() -> None:
    absent = [
        "ignite",
        "nibabel",
        "SimpleITK",
        "itk",
        "matplotlib",
        "typer",
        "yaml",
        "fire",
        "tqdm",
        "tensorboard",
        "scipy",
        "skimage",
        "pandas",
        "PIL",
        "numba",
        "triton",
        "pydantic",
    ]
    code = (
        "import sys\n"
        f"for name in {absent!r}: sys.modules[name] = None\n"
        "import torch, monai\n"
        "import monai_jdt, monai_jdt.losses, monai_jdt.transforms, monai_jdt.handlers, monai_jdt.data, monai_jdt.raters\n"
        "print(float(monai_jdt.losses.JDTCELoss(sigmoid=True)(torch.zeros(1, 1, 4), torch.ones(1, 1, 4))) > 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr
    # before it, MONAI prints what it could not import of packages that are there, such as huggingface_hub without tqdm
    assert done.stdout.splitlines()[-1] == "True"
