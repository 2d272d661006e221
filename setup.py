"""The settings are those of setup.cfg. Only the page of PyPI is made here, since relative links of the README lead nowhere there."""

import configparser
import re
from pathlib import Path

from setuptools import setup

#: Code, which stays as it is, or a link: `!` of a picture, text, target.
CODE_OR_LINK = re.compile(
    r"^```.*?^```$|`[^`\n]*`|(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)", re.DOTALL | re.MULTILINE
)


def pypi_page(readme: str, source: str | None, version: str) -> str:
    """Make the README readable where the files that it links to are not.

    Args:
        readme: the README, in Markdown.
        source: address of the repository, as GitHub has it. With None the page names a file where the README links to it.
        version: version of the package. Its tag is `v` and the version.

    Returns:
        The page without a relative link, in Markdown.
    """

    def replaced(found: re.Match[str]) -> str:
        text, target = found["text"], found["target"]
        if target is None or re.match(r"https?://", target):
            return found[0]
        if target.startswith("#"):  # PyPI gives headings no anchors
            return text
        if source:
            return f"{found['picture']}[{text}]({source.rstrip('/')}/{'raw' if found['picture'] else 'blob'}/v{version}/{target})"
        if found["picture"]:
            return f"*Picture `{target}`: {text}.*"
        return f"`{target}`" if text == target else f"{text} (`{target}`)"

    page = CODE_OR_LINK.sub(replaced, readme)
    if source or page == readme:
        return page
    command = "pip download --no-deps --no-binary monai-jdt monai-jdt"
    return f"{page}\nThe files that this page names are in the source distribution: `{command}`.\n"


def this_page(root: Path) -> str:
    """Return the page of PyPI of the project in a folder."""
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg", "utf-8")
    addresses = dict(line.split(" = ", 1) for line in config["metadata"]["project_urls"].strip().splitlines())
    (version,) = re.findall(r'^__version__ = "(.+)"$', (root / "monai_jdt" / "__init__.py").read_text("utf-8"), re.MULTILINE)
    return pypi_page((root / "README.md").read_text("utf-8"), addresses.get("Source"), version)


if __name__ == "__main__":
    setup(long_description=this_page(Path(__file__).resolve().parent), long_description_content_type="text/markdown")
