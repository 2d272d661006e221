"""What `torch.jit.script` is told."""

from __future__ import annotations

from typing import NoReturn

from monai_jdt.validation import error_sentence


class NotScriptable:
    """Refuse `torch.jit.script` in one line: it has no frozen records, enums or keyword arguments."""

    def __prepare_scriptable__(self) -> NoReturn:
        fix = "script the network alone; torch.compile, torch.export and torch.jit.trace take the loss too"
        raise TypeError(error_sentence("torch.jit.script", "a module without a loss of monai_jdt", type(self).__name__, fix))
