"""Names and paths as people write them: `~`, names of cases that become file names, and names that are printed."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from typing import Any

# Bytes. The limit of file systems is 255 for one name: the rest is for the hash and for endings such as _prob.nii.gz.
_LONGEST = 200


def user_path(path: str | os.PathLike[str]) -> str:
    """Return a path that a user gave, with `~` and `~name` expanded, which a shell does not do after `=` or inside quotes.

    Args:
        path: the path.

    Example:
        >>> user_path("data/~x")
        'data/~x'
    """
    return os.path.expanduser(os.fspath(path))


def safe_relative_name(name: Any) -> str:
    """Make a path that stays inside the folder it is joined to, from a name of a data list.

    A slash makes folders, as in "site1/case3". Parts that lead elsewhere (`..`, `.`, a leading slash) are dropped, backslashes
    and control characters become `_`, and a part above 200 bytes is cut. A name that is changed ends with a hash of the original,
    so that two names never become one.

    Args:
        name: the name of a case, rater or data set, as text or a number.

    Returns:
        A relative path without `..`, at least one character long.

    Example:
        >>> safe_relative_name("site1/case3")
        'site1/case3'
        >>> safe_relative_name("../../x")
        'x-9cdf6a50'
    """
    given = str(name)
    parts = []
    for part in given.split("/"):
        part = "".join("_" if c == "\\" or unicodedata.category(c) in ("Cc", "Cs") else c for c in part)
        if part not in ("", ".", ".."):
            parts.append(part.encode()[:_LONGEST].decode(errors="ignore"))
    made = "/".join(parts)
    if made == given and made:
        return made
    mark = hashlib.sha256(given.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{made or 'name'}-{mark}"


def folded_name(name: str) -> str:
    """Return a key that is the same for names that differ in upper and lower case, or in the encoding of an accent (NFC or NFD).

    Args:
        name: the name.

    Example:
        >>> folded_name("Seg_Ä") == folded_name("seg_A" + chr(0x308))
        True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def with_escapes(text: str) -> str:
    r"""Return a name as UTF-8 files hold it: bytes of a file's name that are no text are escaped, as a table or a page writes them.

    Args:
        text: the name.

    Example:
        >>> with_escapes("case" + chr(0xDCE9)), with_escapes("Ä")
        ('case\\udce9', 'Ä')
    """
    return text.encode(errors="backslashreplace").decode()


def one_line(text: Any) -> str:
    r"""Return a name as one line that any terminal can print, with control characters and bytes that are no text escaped.

    Args:
        text: the name, path or message.

    Example:
        >>> one_line("two\nlines")
        'two\\nlines'
    """
    return re.sub(r"[^\S ]|[\x00-\x1f\x7f-\x9f\ud800-\udfff]", lambda c: c[0].encode("unicode_escape").decode(), str(text))
