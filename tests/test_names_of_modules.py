"""No public name is that of a submodule beside it.

`pydoc.locate`, by which MONAI finds the `_target_` of a config, takes the module since Python 3.12, where it took the name before.
"""

import importlib
import pkgutil
from types import ModuleType

import monai_jdt


def packages() -> list[ModuleType]:
    names = [found.name for found in pkgutil.walk_packages(monai_jdt.__path__, "monai_jdt.") if found.ispkg]
    return [monai_jdt, *(importlib.import_module(name) for name in names if "ext_trainer" not in name)]


def test_no_public_name_is_that_of_a_module_beside_it() -> None:
    hidden = [
        f"{package.__name__}.{found.name}"
        for package in packages()
        for found in pkgutil.iter_modules(package.__path__)
        if not isinstance(getattr(package, found.name, None), ModuleType | None)
    ]
    assert hidden == []
