"""The documentation says what is so: links lead somewhere, code runs, tables are the code's."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from monai.utils import set_determinism

from monai_jdt.losses import loss_for_metric

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*.md"),
        *ROOT.glob("monai_jdt/**/*.md"),
        *ROOT.glob("bundles/*/docs/*.md"),
    ]
)


def fenced(page: Path, language: str) -> list[tuple[int, str]]:
    """Return the blocks of a page in a language, each with the number of its first line, counted from 0."""
    text = page.read_text("utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [(text.count("\n", 0, match.start(1)), match.group(1)) for match in found]


def all_blocks(language: str) -> list[Any]:
    return [
        pytest.param(page, line, block, id=f"{page.relative_to(ROOT)}:{line + 1}")
        for page in PAGES
        for line, block in fenced(page, language)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if not target.startswith(("https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


#: What a page may use beyond the extra `test`. Its installation takes longer than its tests, so that CI does without.
OPTIONAL = ("accelerate", "lightning")


@pytest.mark.parametrize(("page", "line", "block"), all_blocks("python"))
def test_a_block_of_python_runs(page: Path, line: int, block: str) -> None:
    for name in OPTIONAL:
        if re.search(rf"^(import|from) {name}\b", block, re.MULTILINE):
            pytest.importorskip(name)
    torch.set_num_threads(1)  # the examples train small networks: more threads than free cores wait for each other
    try:
        # the lines before it are empty, so that a traceback names the line of the page
        exec(compile("\n" * line + block, str(page), "exec"), {})
    finally:
        set_determinism(None)  # a script may have set it, and the next test's transforms would draw the same numbers


@pytest.mark.parametrize(("page", "line", "block"), all_blocks("yaml"))
def test_a_block_of_yaml_can_be_read(page: Path, line: int, block: str) -> None:
    assert yaml.safe_load(block), f"{page}, line {line + 1}"


def test_the_examples_on_the_pages_are_the_files() -> None:
    """The test of blocks runs the pages, and so the files. `py` marks a program that takes too long: tests/test_examples.py runs it."""
    examples, pages = ROOT / "examples", [ROOT / "examples" / "README.md", ROOT / "docs" / "pipelines.md"]
    shown = {block for page in pages for language in ("python", "py", "yaml") for _, block in fenced(page, language)}
    programs = [*examples.glob("*.py"), *examples.glob("*/*.py"), *examples.glob("**/hyper_parameters.yaml")]
    assert len(programs) > 6
    assert [file.name for file in programs if file.read_text("utf-8") not in shown] == []


def test_the_table_of_losses_is_what_the_function_says() -> None:
    text = (ROOT / "docs" / "which_loss.md").read_text("utf-8")
    rows = re.findall(r"^\| (\w+) \| (\w+) \| (soft|hard) \| ([\d.]+) \| ([\d.]+) \| (\w+) \| (\w+) \|$", text, re.MULTILINE)
    assert len(rows) >= 10
    for metric, average, labels, alpha, beta, argument, classes in rows:
        expected = {"alpha": float(alpha), "beta": float(beta), "average": argument, "classes": classes}
        assert loss_for_metric(metric, average, labels=labels) == expected


def test_the_ci_command_is_the_readmes() -> None:
    """`.ci/run` reads the command from the README; there must be exactly one to read."""
    text = (ROOT / "README.md").read_text("utf-8")
    (command,) = re.findall(r"<!-- the test command -->\n```bash\n(.*?)\n```", text, re.DOTALL)
    assert "-m tests" in command
    assert "\n" not in command


@pytest.mark.parametrize("bundle", [f"{name}_multirater_segmentation" for name in ("brats", "lidc", "qubiq")])
def test_the_tables_of_keys_are_those_of_the_settings(bundle: str) -> None:
    make = runpy.run_path(str(ROOT / "docs" / "make_key_tables.py"))
    page = (ROOT / "bundles" / bundle / "docs" / "README.md").read_text("utf-8")
    assert page.count(make["BEGIN"]) == page.count(make["END"]) == 1
    assert make["with_table"](page, bundle) == page
    # every setting of the first part of a config is declared
    first_part = (ROOT / "bundles" / bundle / "configs" / "train.yaml").read_text("utf-8").split("# --- the network, the loss")[0]
    assert set(yaml.safe_load(first_part)) - {"imports", "data_dir", "cases_found", "all_validated", "split"} <= set(
        make["BUNDLES"][bundle][0].model_fields
    )


def variables_named(source: str) -> set[str]:
    """Return the environment variables that a file names: where it uses `environ`, each text that is written like one."""
    if not re.search(r"\benviron\b|\bgetenv\b", source):
        return set()
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {text for text in texts if re.fullmatch(r"[A-Z][A-Z0-9_]{3,}", text)}


def test_every_environment_variable_of_the_package_is_described() -> None:
    page = (ROOT / "docs" / "environment_variables.md").read_text("utf-8")
    described = {name for row in re.findall(r"^\| (`.+?`) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    sources = {
        path: path.read_text("utf-8") for folder in ("monai_jdt", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")
    }
    for path, source in sources.items():
        if path.is_relative_to(ROOT / "monai_jdt"):
            assert variables_named(source) <= described, path
    assert [name for name in described if not any(name in source for source in sources.values())] == []


def test_an_environment_variable_is_seen() -> None:
    assert variables_named("SWITCH = 'MY_SWITCH'\nimport os\nos.environ.get(SWITCH)") == {"MY_SWITCH"}
