"""HTML pages of templates: one file each, with nothing to fetch, and every name in it escaped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from monai_jdt.data.files.atomic import whole_file


def write_page(template: str, dest: str | os.PathLike[str], **content: Any) -> None:
    """Fill a template of the folder `templates`, and write the page as a whole.

    Args:
        template: the file's name.
        dest: the HTML file.
        content: what the template names.
    """
    # imported late: `import monai_jdt` needs torch and monai only
    from jinja2 import Environment, FileSystemLoader

    # autoescape: a case called <script> is text
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    text = environment.get_template(template).render(**content)
    with whole_file(dest) as draft:
        # a file's name may hold bytes that are no text
        Path(draft).write_text(text, encoding="utf-8", errors="backslashreplace")
