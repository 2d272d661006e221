"""MONAI's own verification of every shipped bundle, without a network connection, and what apps rely on in its configs."""

import configparser
import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export, verify_metadata, verify_net_in_out
from monai.bundle.config_item import ConfigComponent, ConfigItem
from monai.bundle.properties import InferProperties, TrainProperties
from monai.bundle.scripts import _get_fake_spatial_shape
from monai.utils import optional_import

import monai_jdt

# MONAI says so of every schema that is not named with its hash
pytestmark = pytest.mark.filterwarnings("ignore:No hash value")

ROOT = Path(__file__).parents[2]
SCHEMA = Path(__file__).with_name("metadata_schema.json")
BUNDLES = sorted(path.parents[1] for path in ROOT.glob("bundles/*/configs/metadata.json"))

FILES = {
    "LICENSE",
    "configs/metadata.json",
    "configs/train.yaml",
    "configs/evaluate.yaml",
    "configs/inference.yaml",
    "configs/multi_gpu_train.yaml",
    "configs/votes.yaml",
    "configs/logging.conf",
    "docs/README.md",
    "docs/data_license.txt",
}
#: Every way in which a bundle's files are laid over each other.
LAYERS = {
    "train": ["train.yaml"],
    "evaluate": ["train.yaml", "evaluate.yaml"],
    "multi_gpu_train": ["train.yaml", "multi_gpu_train.yaml"],
    "votes": ["train.yaml", "votes.yaml"],
    "inference": ["inference.yaml"],
}
#: What apps look up, beside the ids of MONAI's properties. A training without a metric of its own has no `train#key_metric`.
KEYS = {
    "train": ["output_dir", "train#trainer", "train#dataset#data", "train#handlers", "val_interval", "validate#evaluator"],
    "inference": ["output_dir", "dataset#data", "handlers", "preprocessing", "postprocessing"],
}
NOT_NEEDED = {"train#key_metric", "key_metric"}

every_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)


def layers(bundle: Path, name: str) -> list[str]:
    return [str(bundle / "configs" / file) for file in LAYERS[name]]


def parsed(bundle: Path, name: str) -> ConfigParser:
    return ConfigParser(ConfigParser.load_config_files(layers(bundle, name)))


def metadata(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / "configs" / "metadata.json").read_text())


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, which stays empty where nothing is written."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def check_verifies(tmp_path: Path, content: dict[str, Any]) -> None:
    file, schema = tmp_path / "metadata.json", tmp_path / "schema.json"
    file.write_text(json.dumps(content))
    # where the file is there, MONAI downloads nothing
    shutil.copy(SCHEMA, schema)
    verify_metadata(meta_file=str(file), filepath=str(schema))
    assert schema.read_bytes() == SCHEMA.read_bytes()


def test_every_folder_of_bundles_is_looked_at() -> None:
    found = {path.name for path in BUNDLES}
    assert "brats_multirater_segmentation" in found
    tracked = subprocess.run(["git", "ls-files", "bundles"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode == 0:  # a source archive has no git
        assert {line.split("/")[1] for line in tracked.stdout.splitlines() if line.count("/") > 1} <= found


@every_bundle
def test_the_files_of_a_bundle_are_there(bundle: Path) -> None:
    assert [name for name in sorted(FILES) if not (bundle / name).is_file()] == []


# --- metadata ---


@every_bundle
def test_the_metadata_fit_the_schema(bundle: Path, tmp_path: Path, offline: None) -> None:
    check_verifies(tmp_path, metadata(bundle))


def test_the_schema_says_that_it_is_not_monais() -> None:
    schema = json.loads(SCHEMA.read_text())
    assert schema["title"].startswith("metadata.json of a MONAI bundle. Not the schema that MONAI publishes")


IMAGE, PRED = ("network_data_format", "inputs", "image"), ("network_data_format", "outputs", "pred")
ABSENT = object()


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        *[((key,), ABSENT, f"'{key}' is a required property") for key in ("version", "authors", "task", "network_data_format")],
        *[((*PRED, key), ABSENT, f"'{key}' is a required property") for key in ("channel_def", "dtype", "is_patch_data")],
        (("network_data_format", "outputs"), ABSENT, "'outputs' is a required property"),
        (("network_data_format", "inputs"), {}, "{} should be non-empty"),
        (("required_packages_version",), ABSENT, "is not valid under any of the given schemas"),
        (("required_packages_version", "monai-jdt"), 0.1, "0.1 is not of type 'string'"),
        (("version",), 1, "1 is not of type 'string'"),
        (("version",), "first", "'first' does not match"),
        (("changelog",), ["0.1.0"], "is not of type 'object'"),
        (("changelog", "first"), "words", "'first' does not match"),
        (("name",), "", "'' should be non-empty"),
        (("references",), "one", "'one' is not of type 'array'"),
        (("eval_metrics", "mean_dice"), "good", "'good' is not of type 'number'"),
        ((*IMAGE, "type"), "picture", "'picture' is not one of"),
        ((*IMAGE, "dtype"), "float", "'float' is not one of"),
        ((*IMAGE, "num_channels"), "4", "'4' is not of type 'integer'"),
        ((*IMAGE, "num_channels"), 0, "0 is less than the minimum"),
        ((*IMAGE, "spatial_shape"), "8*n", r"'8\*n' is not of type 'array'"),
        ((*IMAGE, "spatial_shape"), ["8*n", "8*k"], r"'8\*k' does not match"),
        ((*IMAGE, "spatial_shape"), [32, 32, 0], "0 is less than the minimum"),
        ((*PRED, "value_range"), [0], r"\[0\] is not valid|\[0\] is too"),
        ((*PRED, "value_range"), ["0", "1"], "is not of type 'number'"),
        ((*PRED, "is_patch_data"), "true", "'true' is not of type 'boolean'"),
        ((*PRED, "channel_def"), ["tumour"], "is not of type 'object'"),
        ((*PRED, "channel_def"), {"tumour": "0"}, "'tumour' does not match"),
        ((*PRED, "channel_def"), {"0": 1}, "1 is not of type 'string'"),
    ],
)
def test_the_schema_refuses(path: tuple[str, ...], value: Any, says: str, tmp_path: Path, offline: None) -> None:
    content = metadata(BUNDLES[0])
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    if value is ABSENT:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    with pytest.raises(ValueError, match=says):
        check_verifies(tmp_path, content)


@every_bundle
def test_every_channel_is_described(bundle: Path) -> None:
    for tensors in metadata(bundle)["network_data_format"].values():
        for tensor in tensors.values():
            assert list(tensor["channel_def"]) == [str(c) for c in range(tensor["num_channels"])]


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


@every_bundle
def test_versions_are_those_that_the_tests_run_with_and_the_package_asks_for(bundle: Path) -> None:
    content = metadata(bundle)
    # a bundle's version is its own: its newest change, whatever else the package has changed
    assert content["version"] == max(content["changelog"], key=numbers)
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    assert (content["monai_version"], content["pytorch_version"]) == (pins["monai"], pins["torch"])
    assert numbers(content["numpy_version"]) <= numbers(pins["numpy"])
    # it is shipped in the package, so that it needs this version of it and no other
    packages = dict(content["required_packages_version"])
    assert packages.pop("monai-jdt") == monai_jdt.__version__
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    floors = dict(re.findall(r"^([\w-]+)>=([\d.]+)$", config["options"]["install_requires"], re.MULTILINE))
    for name, version in packages.items():
        assert numbers(version)[:2] == numbers(floors[name])[:2], name


def test_names_differ() -> None:
    names = [metadata(bundle)["name"] for bundle in BUNDLES]
    assert len(set(names)) == len(names)


# --- configs ---


@every_bundle
@pytest.mark.parametrize("name", LAYERS)
def test_every_target_is_a_full_path_that_resolves(bundle: Path, name: str) -> None:
    parser = parsed(bundle, name)
    parser.parse()
    components = [
        item.get_config()
        for item in parser.ref_resolver.items.values()
        if isinstance(item, ConfigItem) and ConfigComponent.is_instantiable(item.get_config())
    ]
    assert len(components) > 10
    for component in components:
        target = component["_target_"]
        # an expression chooses between our class and MONAI's, which comes last
        choices = re.findall(r"'([\w.]+)'", target) if target.startswith("$") else [target]
        for choice in choices:
            module, _, attribute = choice.rpartition(".")
            assert module, f"{choice}: a full path is needed"
            assert optional_import(module, name=attribute)[1], choice
        # a prediction runs with MONAI alone, and without what needs more
        without = str(component.get("_disabled_", "")) in (
            "$not @has_monai_jdt",
            "$not (@has_monai_jdt and @save_masks)",
            "$@form == 'soft'",
        )
        assert name != "inference" or without or choices[-1].startswith(("monai.", "torch."))


@every_bundle
def test_an_overlay_keeps_the_imports_below_it(bundle: Path) -> None:
    below, above = parsed(bundle, "train"), parsed(bundle, "multi_gpu_train")
    assert above["imports"][: len(below["imports"])] == below["imports"]
    assert len(above["imports"]) > len(below["imports"])


@every_bundle
@pytest.mark.parametrize("name", LAYERS)
def test_what_apps_look_up_is_there(bundle: Path, name: str) -> None:
    parser = parsed(bundle, name)
    kind = "inference" if name == "inference" else "train"
    properties: dict[Any, Any] = InferProperties if kind == "inference" else TrainProperties
    ids = {entry["id"].replace("::", "#") for entry in properties.values()} - NOT_NEEDED
    assert len(ids) > 7
    assert [key for key in sorted(ids | set(KEYS[kind])) if key not in parser] == []
    # an app that exchanges a property must reach the engine: the engine refers to the property and has no copy of it
    for entry in properties.values():
        reference = parser.get(entry["refer_id"]) if entry.get("refer_id") else None
        if isinstance(reference, str) and not reference.startswith("$"):
            assert reference.replace("::", "#") == "@" + entry["id"].replace("::", "#")
    validations = [handler for handler in parser.get("train#handlers", []) if handler["_target_"].endswith(".ValidationHandler")]
    if validations:
        # at every interval, and after the last epoch where no interval ends
        assert {handler["validator"] for handler in validations} == {"@validate#evaluator"}
        assert [handler["interval"] for handler in validations] == ["@val_interval", "@epochs"]
        assert validations[1]["_disabled_"] == "$@epochs % @val_interval == 0"
    assert {"initialize", "run"} <= set(parser.get())


# --- the network ---


def network(bundle: Path, name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return parsed(bundle, name).get_parsed_content("network_def").eval()


@every_bundle
@pytest.mark.parametrize("name", ["train", "inference"])
@pytest.mark.parametrize("n", [1, 3])
def test_the_network_takes_and_gives_what_the_metadata_say(bundle: Path, name: str, n: int, empty_folder: Path) -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=layers(bundle, name),
        device="cpu",
        n=n,
    )
    assert list(empty_folder.iterdir()) == []  # to look at the network makes no phantoms


@every_bundle
def test_a_network_that_differs_from_the_metadata_is_found(bundle: Path, empty_folder: Path) -> None:
    channels = metadata(bundle)["network_data_format"]["outputs"]["pred"]["num_channels"]
    with pytest.raises(ValueError, match=f"output channel number `{channels}` doesn't match: `{channels + 1}`"):
        verify_net_in_out(
            net_id="network_def",
            meta_file=str(bundle / "configs" / "metadata.json"),
            config_file=layers(bundle, "inference"),
            device="cpu",
            **{"_meta_#network_data_format#outputs#pred#num_channels": channels + 1},
        )


@every_bundle
def test_weights_of_a_training_fit_inference(bundle: Path) -> None:
    shapes = [{key: value.shape for key, value in network(bundle, name).state_dict().items()} for name in ("train", "inference")]
    assert shapes[0] == shapes[1]


@every_bundle
def test_an_exported_network_runs_where_torch_alone_is_installed(bundle: Path, tmp_path: Path, empty_folder: Path) -> None:
    net = network(bundle, "inference")
    weights, exported = tmp_path / "model.pt", tmp_path / "model.ts"
    torch.save(net.state_dict(), weights)
    ckpt_export(
        net_id="network_def",
        filepath=str(exported),
        ckpt_file=str(weights),
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=layers(bundle, "inference"),
    )
    image = metadata(bundle)["network_data_format"]["inputs"]["image"]
    # two images of another size than the one it was exported with, and no two axes alike
    shape = [size * (axis + 1) for axis, size in enumerate(_get_fake_spatial_shape(image["spatial_shape"]))]
    x = torch.rand(2, image["num_channels"], *shape)
    torch.save(x, tmp_path / "x.pt")
    code = (
        "import sys, json, torch\n"
        "sys.modules['monai'] = sys.modules['monai_jdt'] = None\n"
        "extra = {'metadata.json': '', 'inference.json': ''}\n"
        "net = torch.jit.load('model.ts', _extra_files=extra)\n"
        "torch.save(net(torch.load('x.pt')), 'y.pt')\n"
        "print(json.loads(extra['metadata.json'])['name'], '_target_' in extra['inference.json'].decode())\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{metadata(bundle)['name']} True"
    with torch.no_grad():
        expected = net(x)
    assert expected.std() > 0
    torch.testing.assert_close(torch.load(tmp_path / "y.pt"), expected, rtol=1e-5, atol=1e-5)
    assert list(empty_folder.iterdir()) == []
