"""The push of a bundle to the hub: what is refused, what would be sent, and what is. No connection is opened."""

from __future__ import annotations

import json
import runpy
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from monai_jdt.cli.bundle import copy_bundle

SCRIPT = Path(__file__).parents[2] / "release" / "push_bundle.py"
NAME = "qubiq_multirater_segmentation"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle as a training leaves it: weights, their settings, data and results."""
    folder = Path(copy_bundle(NAME, tmp_path / "my_bundle"))
    parser = ConfigParser(ConfigParser.load_config_files([str(folder / "configs" / "inference.yaml")]))
    for place in ("models", "data/phantoms", "eval"):
        (folder / place).mkdir(parents=True)
    torch.save(parser.get_parsed_content("network_def").state_dict(), folder / "models" / "model.pt")
    (folder / "models" / "model.json").write_text("{}")
    (folder / "models" / "last.pt").write_text("a checkpoint")
    (folder / "data" / "phantoms" / "case.nii.gz").write_text("an image")
    (folder / "eval" / "metrics.csv").write_text("a table")
    return folder


def test_without_push_nothing_is_sent(
    script: dict[str, Any], bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in bundle.rglob("*")}
    assert script["main"]([str(bundle), "--repo", "someone/kidneys"]) == 0
    said = capsys.readouterr().out
    files = [line.split()[-1] for line in said.splitlines()[:-1]]
    inference = {"configs/inference.yaml", "models/model.pt", "models/model.json"}
    assert {"LICENSE", "configs/metadata.json", "docs/README.md", *inference} <= set(files)
    assert not [name for name in files if name.startswith(("data", "eval")) or name.endswith("last.pt")]
    assert said.splitlines()[-1] == (
        f"Would send {len(files)} files to someone/kidneys (private if it is new), version 0.1.0. "
        "Nothing was sent. Add --push to send it."
    )
    assert {path: path.stat().st_mtime_ns for path in bundle.rglob("*")} == before


@pytest.mark.parametrize("public", [False, True])
def test_push_sends_a_card_the_parts_and_a_tag(
    script: dict[str, Any], bundle: Path, public: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MONAI's own upload, with a hub that writes down what it is asked to do."""
    pytest.importorskip("huggingface_hub")
    asked: dict[str, Any] = {}

    class Hub:
        def __init__(self, token: str | None = None) -> None:
            asked["token"] = token

        def create_repo(self, **given: Any) -> None:
            asked["repo"] = given

        def upload_folder(self, repo_id: str, folder_path: str) -> str:
            sent = {str(file.relative_to(folder_path)): file for file in Path(folder_path).rglob("*") if file.is_file()}
            asked["sent"], asked["card"] = sorted(sent), sent["README.md"].read_text("utf-8")
            return f"https://hub/{repo_id}"

        def create_tag(self, **given: Any) -> None:
            asked["tag"] = given

    monkeypatch.setattr("monai.bundle.scripts.huggingface_hub.HfApi", Hub, raising=False)
    assert script["main"]([str(bundle), "--repo", "someone/kidneys", "--push", *(["--public"] if public else [])]) == 0
    assert asked["repo"] == {"repo_id": "someone/kidneys", "private": not public, "exist_ok": True}
    assert asked["tag"]["tag"] == "0.1.0"
    assert asked["token"] is None  # that of the user's login
    assert "README.md" in asked["sent"]
    assert not [name for name in asked["sent"] if name.startswith(("data", "eval")) or name.endswith("last.pt")]
    assert "library_name: monai\nlicense: apache-2.0" in asked["card"]
    assert not (bundle / "README.md").exists()
    assert "https://hub/someone/kidneys" in capsys.readouterr().out


def spoilt(bundle: Path, how: str) -> None:
    metadata = bundle / "configs" / "metadata.json"
    if how == "untrained":
        (bundle / "models" / "model.pt").unlink()
    elif how == "other weights":
        torch.save({"weight": torch.zeros(2)}, bundle / "models" / "model.pt")
    elif how == "a path":
        (bundle / "models" / "model.json").write_text('{"dataset_dir": "/home/anna/scans"}')
    elif how == "version":
        metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "version": "0.2.0"}))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("untrained", "model.pt: expected a file, got none. Fix: train the bundle first."),
        ("other weights", "models/model.pt: expected the weights of network_def in configs/inference.yaml, got others."),
        ("a path", "model.json: expected no path of one machine, since others will read it, got /home/anna."),
        ("version", "version: expected one that changelog describes, got 0.2.0."),
        ("repo", "--repo: expected USER/NAME or ORGANISATION/NAME, got kidneys."),
    ],
)
def test_a_bundle_that_others_cannot_use_is_refused(
    script: dict[str, Any], bundle: Path, how: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt(bundle, how)
    assert script["main"]([str(bundle), "--repo", "kidneys" if how == "repo" else "someone/kidneys", "--push"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert says in err
