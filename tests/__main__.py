"""`python -m tests`: lint, types, tests and doctests; exit code 1 if any of them fails. `--long` runs the long tier too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    """Run every check, even after one has failed, and say at the end which did.

    Args:
        arguments: handed on to pytest, such as `--long`.
    """
    # a kernel's module needs a compiler that not every machine has; whether it can be imported, the kernel's tests say
    doctests = ["--doctest-modules", "--doctest-ignore-import-errors"]
    checks = {
        "lint": ["ruff", "check", "."],
        "format": ["ruff", "format", "--check", "--diff", "-q", "."],
        "types": ["mypy"],
        "tests": ["pytest", *doctests, "-n", "2", "--dist", "worksteal", "tests", "monai_jdt", *arguments],
    }
    # Two processes with a thread each: more threads than cores wait for each other at every parallel loop.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    failed = []
    for name, command in checks.items():
        print(f"== {name}: {' '.join(command)}", flush=True)
        if subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment).returncode:
            failed.append(name)
    print(f"== failed: {', '.join(failed)}" if failed else "== all passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
