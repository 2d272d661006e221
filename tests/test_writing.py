"""How the project writes: spelling, turns of phrase that readers stumbled over, and the one form of an error message."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WRITTEN = {".py", ".md", ".yaml", ".yml", ".cfg", ".toml", ".cff"}

#: Turn of phrase (a regular expression, case ignored) and what to write instead. CONTRIBUTING.md has the rules behind it.
BANNED = {
    r"\b(class|value|voxel|number|label)s? that (is|are) none\b": "invalid",
    r"\bsaid by nobody\b|\bis nobody's\b|\bseen by nobody\b": "name what sees or owns it",
    r"\bmay look\b|\bthen looks\b|\bwho may\b": "reads values; the caller then checks them",
    r"\bmembers of name\b": "named presets",
    r"\bwithout looking\b": "without reading values",
    r"\bbrought near\b": "prefetch",
    r"\bIt says so of\b": "name what is said",
    r"\bleft out and told\b": "reported",
    r"\bas a rule,|, as a rule\b": "say when it does not hold, or a number",
    r"\bof (one's|its|his|their) own accord\b": "by itself",
    r"[,;] came [^f]": "got (by error_sentence)",
    r"; fix: ": "by error_sentence",
    r"\b(stands?|counts) for nothing\b": "unknown, unused, or ignored",
    r"\bdrag the answer\b": "bias the prediction",
    r"\bHe (counts|says|is)\b": "name the rater",
    r"\bnow and then\b": "a number",
    r"\bwhat a (method|loss|kernel) tells\b": "estimates, or reports",
    r"\bcosts no wait\b|\bcosts a wait\b": "no synchronisation",
    r"\b(one|an?) (path|file|row|line|entry|test|byte|column|channel|dictionary)( of \w+)? an? "
    r"(rater|channel|case|region|class|voxel|pixel|image|layout|verb|transform)\b": "per",
    r"\bbytes an? (rater|voxel|pixel|region|class)\b": "per",
    r"\bwhat came\b": "what was got",
    r"\band told\b|\bit tells\b|\btells about\b": "reported",
    r"\bto add nothing\b": "to add zeros",
    r"\bextremes are kept\b": "tracked minima and maxima",
    r"\bmore to say\b": "say what the caller does then",
    r"\bwhat is left is\b": "name what remains",
    r"\bmakes no choices\b|\bis left to the user\b": "say what is not done, or who chooses",
    r"\bwhich measured\b|\bleaner\b": "needs less memory, with the number",
    r"\ba call is sure\b|\bis worth nothing\b": "cannot be used",
}


def written_files() -> list[Path]:
    """The text files that git tracks, or would: this file aside, which has to name what it bans."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = [ROOT / line for line in listed.stdout.splitlines()]
    return [file for file in files if file.suffix in WRITTEN and file.is_file() and file != Path(__file__).resolve()]


def banned_turns(text: str) -> list[str]:
    return [
        f"{match.group(0)!r} at line {text.count(chr(10), 0, match.start()) + 1}: write {instead}"
        for pattern, instead in BANNED.items()
        for match in re.finditer(pattern, text, re.IGNORECASE)
    ]


def hung_summaries(source: str) -> list[str]:
    """The first paragraphs of docstrings that have a semicolon: a summary is a sentence, or two."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source)) if isinstance(node, documented)]
    return [summary for summary in (text.split("\n\n")[0] for text in texts) if ";" in summary]


def test_spelling() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "codespell_lib", *map(str, written_files())], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", written_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_no_banned_turn(file: Path) -> None:
    assert banned_turns(file.read_text(encoding="utf-8")) == []


def test_a_banned_turn_is_seen() -> None:
    assert banned_turns("fine\nA class that is none: it is nobody's.") == [
        "'class that is none' at line 2: write invalid",
        '"is nobody\'s" at line 2: write name what sees or owns it',
    ]


@pytest.mark.parametrize("file", sorted((ROOT / "monai_jdt").rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_no_summary_hangs_a_clause_after_a_semicolon(file: Path) -> None:
    assert hung_summaries(file.read_text(encoding="utf-8")) == []


def test_a_hung_summary_is_seen() -> None:
    assert hung_summaries('"""Fine.\n\nThis; may stand."""\ndef f():\n    """Return x; None: none."""') == ["Return x; None: none."]


#: Words in names of tests that stand for several things. The glossary has a word for each: refused, reported, logged.
VAGUE = re.compile(r"told|tells|reject|forbid|_raises?$|_errors?$")


@pytest.mark.parametrize("file", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_names_of_tests_use_the_words_of_the_glossary(file: Path) -> None:
    names = [node.name for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)]
    assert [name for name in names if name.startswith("test_") and VAGUE.search(name)] == []
