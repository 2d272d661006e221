"""Write the table of keys into the docs of each bundle, from the settings that are declared and the defaults in its YAML files.

    python docs/make_key_tables.py

`tests/test_docs.py` holds the tables equal to what this prints.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from monai_jdt.bundle_runtime import (
    BratsEvaluation,
    BratsPrediction,
    LidcEvaluation,
    LidcPrediction,
    QubiqEvaluation,
    QubiqPrediction,
)
from monai_jdt.bundle_runtime.values import expected_text

ROOT = Path(__file__).resolve().parent.parent
BUNDLES: dict[str, tuple[type[BaseModel], type[BaseModel]]] = {
    "brats_multirater_segmentation": (BratsEvaluation, BratsPrediction),
    "lidc_multirater_segmentation": (LidcEvaluation, LidcPrediction),
    "qubiq_multirater_segmentation": (QubiqEvaluation, QubiqPrediction),
}
BEGIN, END = "<!-- keys: made by docs/make_key_tables.py -->\n", "<!-- end of keys -->\n"


def key_table(bundle: str) -> str:
    """Return the table of a bundle's keys, in Markdown.

    Args:
        bundle: the name of its folder.
    """
    training, prediction = BUNDLES[bundle]
    configs = ROOT / "bundles" / bundle / "configs"
    train, evaluate, inference = (yaml.safe_load((configs / f"{name}.yaml").read_text()) for name in ("train", "evaluate", "inference"))
    lines = ["| key | what may be given | in training | in prediction | meaning |", "|---|---|---|---|---|"]
    entries = {**prediction.model_fields, **training.model_fields}
    known = [name for name in (*train, *inference, *evaluate) if name in entries]
    for name in dict.fromkeys(known):
        defaults = [_default(layer, name) for layer in ({**evaluate, **train}, inference)]
        cells = [f"`{name}`", expected_text(entries[name]), *defaults, entries[name].description or ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _default(config: dict[str, Any], name: str) -> str:
    """Return the default of a key: its value, a path for an expression that joins one, or "computed"."""
    if name not in config:
        return ""
    value = config[name]
    if not (isinstance(value, str) and value.startswith(("$", "@"))):
        text = yaml.safe_dump(value, default_flow_style=True, width=200).removesuffix("...\n").strip()
        return f"`{text}`"
    path = re.fullmatch(r"\$@(\w+) \+ '(/[^']+)'", value)
    return f"`<{path[1]}>{path[2]}`" if path else "computed"


def with_table(text: str, bundle: str) -> str:
    """Return a page with a new table of keys.

    Args:
        text: the page.
        bundle: the name of the bundle's folder.
    """
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + key_table(bundle) + END + after


if __name__ == "__main__":
    for bundle in BUNDLES:
        page = ROOT / "bundles" / bundle / "docs" / "README.md"
        page.write_text(with_table(page.read_text(), bundle))
