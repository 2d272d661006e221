"""Settings that are valid alone and contradict each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from monai_jdt.bundle_runtime.case_lists import no_such_block
from monai_jdt.bundle_runtime.values import closest, shown
from monai_jdt.data.files.label_pictures import LARGEST_INDEX
from monai_jdt.data.files.volumes import WITHOUT_PLACE
from monai_jdt.data.layouts.regions import regions_without_label
from monai_jdt.raters import named_regions
from monai_jdt.raters.region_names import region_group
from monai_jdt.validation import error_sentence

#: A function that yields one line for each contradiction, given the settings by name and arguments of components by id.
Rule = Callable[[Mapping[str, Any]], Iterator[str]]


_ONE_OF_TWO = "leave one of the two overlays out"


def contradictions(values: Mapping[str, Any], pending: Collection[str] = ()) -> list[str]:
    """Compare the settings of a run with each other.

    Args:
        values: settings by name, and arguments of components by id (`loss#ignore_index`). Rules whose values are absent are skipped.
        pending: names of values that are not computed yet. Rules that look at one of them are skipped.

    Returns:
        One line for each contradiction.

    Example:
        >>> contradictions({"fold": 5, "folds": 5})
        ['fold: expected a whole number from 0 to 4, since folds is 5, got 5. Fix: --fold 4.']
    """
    return [
        line
        for rule, needed in _RULES
        if all(name in values for name in needed) and not any(name in pending for name in _LOOKED_AT.get(rule, ()))
        for line in rule(values)
    ]


def _edges_fit_the_network(name: str) -> Rule:
    def rule(values: Mapping[str, Any]) -> Iterator[str]:
        edges, blocks, dims = values[name], values["network_def#blocks_down"], values["network_def#spatial_dims"]
        if not isinstance(blocks, (list, tuple)) or not isinstance(dims, int):
            return  # the network says what is wrong with them
        if len(edges) != dims:
            example = [edges[0]] * dims
            got = f"{len(edges)}: {list(edges)}"
            yield error_sentence(name, f"{dims} numbers, one for each axis", got, f'--{name} "{_as_typed(example)}"')
            return
        multiple = 2 ** (len(blocks) - 1)
        if any(edge % multiple for edge in edges):
            near = [max(round(edge / multiple), 1) * multiple for edge in edges]
            halvings = "once" if len(blocks) == 2 else f"{len(blocks) - 1} times"
            expected = f"multiples of {multiple}, since the network halves them {halvings}"
            yield error_sentence(name, expected, str(list(edges)), f'--{name} "{_as_typed(near)}"')

    return rule


def _as_typed(numbers: Sequence[int]) -> str:
    return "[" + ",".join(map(str, numbers)) + "]"


def _spacing_has_each_axis(values: Mapping[str, Any]) -> Iterator[str]:
    spacing, dims = values["spacing"], values["network_def#spatial_dims"]
    if spacing is not None and isinstance(dims, int) and len(spacing) != dims:
        example = "[" + ",".join(["1"] * dims) + "]"
        yield error_sentence("spacing", f"{dims} numbers, one for each axis", str(list(spacing)), f'--spacing "{example}"')


def _spacing_needs_voxel_sizes(values: Mapping[str, Any]) -> Iterator[str]:
    if values["spacing"] is None:
        return
    for item in values["datalist"]:
        image = item["image"] if isinstance(item["image"], str) else item["image"][0]
        if str(image).lower().endswith(WITHOUT_PLACE):
            yield error_sentence(
                "spacing", "null for pictures, which have no size in mm", f"{values['spacing']} with {image}", "leave it out"
            )
            return


def _fold_of_folds(values: Mapping[str, Any]) -> Iterator[str]:
    fold, folds = values["fold"], values["folds"]
    if fold is not None and not fold < folds and not values.get("datalist_file"):  # a data list may have folds of its own
        yield no_such_block(fold, folds)


def _sections_are_of_lists(values: Mapping[str, Any]) -> Iterator[str]:
    section = values["datalist_section"]
    if section not in (None, "all") and not values["datalist_file"]:
        yield error_sentence("datalist_section", "null without a data list", repr(section), "--datalist list.json, or leave it out")


def _split_has_two_sides(values: Mapping[str, Any]) -> Iterator[str]:
    split = values["split"]
    if not isinstance(split, (list, tuple)) or not all(isinstance(side, (list, tuple)) for side in split) or len(split) != 2:
        yield error_sentence("split", "two lists of cases, for training and for validation", shown(split), "give both lists")
        return
    needed = {"validation": split[1]} if "ckpt_path" in values else {"training": split[0], "validation": split[1]}
    empty = [side for side, cases in needed.items() if not cases]
    if empty:
        expected = "at least one case for " + " and ".join(needed)
        yield error_sentence("split", expected, f"none for {' and '.join(empty)}", "add cases, or split them otherwise")


def _levels_need_expected_scores(values: Mapping[str, Any]) -> Iterator[str]:
    if values["decision"] == "threshold" and values["empty_below"] > 0:
        expected = "0, since decision is threshold"
        yield error_sentence("empty_below", expected, f"{values['empty_below']:g}", "--decision expected_dice, or leave it out")


def _lesions_are_volumes(values: Mapping[str, Any]) -> Iterator[str]:
    if values["challenge_scores"] == "brats":
        if values["network_def#spatial_dims"] != 3:
            yield error_sentence("challenge_scores", "qubiq or none for flat images", "brats", "--challenge_scores qubiq")
        elif find_spec("scipy") is None:
            yield error_sentence("challenge_scores", "scipy for brats", "it is not installed", "pip install 'monai-jdt[scipy]'")


def _lower_before_higher(name: str) -> Rule:
    def rule(values: Mapping[str, Any]) -> Iterator[str]:
        low, high = values[name]
        if not low < high:
            yield error_sentence(name, "a lower and a higher number", f"[{low}, {high}]", f'--{name} "[{high},{low}]"')

    return rule


def _key_of(name: str, item: str) -> Rule:
    def rule(values: Mapping[str, Any]) -> Iterator[str]:
        if not values[item]:
            yield error_sentence(item, "at least one entry", "none", f"leave {item} out, or give it entries")
        elif values[name] not in values[item]:
            expected = "one of " + ", ".join(values[item])
            yield error_sentence(name, expected, repr(values[name]), f"--{name} {closest(values[name], values[item])}")

    return rule


def _channel_that_is_drawn(values: Mapping[str, Any]) -> Iterator[str]:
    chosen, channels = values["figure_channel"], values["channels"]
    if chosen is None:
        return
    listed = list(chosen) if isinstance(chosen, (list, tuple)) else [chosen]
    if not all(0 <= channel < channels for channel in listed):
        expected = f"channels from 0 to {channels - 1}, since channels is {channels}"
        yield error_sentence("figure_channel", expected, str(chosen), "--figure_channel 0")
    elif isinstance(chosen, (list, tuple)) and "regions" in values and len(listed) != len(named_regions(values["regions"])):
        expected = f"one channel for each of the {len(named_regions(values['regions']))} regions"
        yield error_sentence("figure_channel", expected, str(chosen), f"--figure_channel {listed[0] if listed else 0}")


def _order_of_channels(values: Mapping[str, Any]) -> Iterator[str]:
    order, channels = values["channel_order"], values["channels"]
    if order is not None and (len(order) != channels or not all(0 <= place < channels for place in order)):
        yield error_sentence(
            "channel_order",
            f"places from 0 to {channels - 1} for {channels} channels",
            str(order),
            f'--channel_order "{_as_typed(range(channels))}"',
        )


def _endings_of_channels(values: Mapping[str, Any]) -> Iterator[str]:
    endings, channels = values["image_endings"], values["channels"]
    # the files of a list may end in anything
    if not (values["datalist_file"] or values["cases_listed"]) and len(endings) not in (1, channels):
        expected = f"1 ending (one file with all channels) or {channels}, one for each channel"
        yield error_sentence("image_endings", expected, f"{len(endings)}: {endings}", "give channels, or the endings of all of them")


def _regions_have_labels(values: Mapping[str, Any]) -> Iterator[str]:
    groups, known = named_regions(values["regions"]), values["label_values"]
    if known is None:
        return
    empty = regions_without_label(groups, known, fatal=True)
    if empty is not None:
        expected = "label values among label_values (" + ", ".join(map(str, known)) + ")"
        yield error_sentence("regions", expected, empty.got, f"{empty.fix}; or give label_values")
        return
    absent = sorted({value for group in groups.values() for value in group} - set(known))
    if absent:
        expected = "label values among label_values (" + ", ".join(map(str, known)) + ")"
        yield error_sentence("regions", expected, f"{absent} as well", "leave them out, or add them to label_values")


def _loss_has_the_same_regions(values: Mapping[str, Any]) -> Iterator[str]:
    given = values["loss#regions"]
    expected = [sorted(set(group)) for group in named_regions(values["regions"]).values()]
    try:
        entries = given if isinstance(given, (list, tuple)) else named_regions(given).values()
        found = [sorted(set(region_group(entry))) for entry in entries]
    except (TypeError, ValueError):
        return  # the loss says what is wrong with them
    if found != expected:
        # a channel would be trained on one region and scored on another
        fix = "give regions; votes.yaml makes the argument of the loss from it"
        yield error_sentence("loss#regions", f"the label values of regions, in their order: {expected}", str(given), fix)


def _ignored_value_is_no_label(values: Mapping[str, Any]) -> Iterator[str]:
    ignored = values["loss#ignore_index"]
    if isinstance(ignored, bool) or not isinstance(ignored, int):
        return
    groups = named_regions(values["regions"])
    taken: dict[str, set[int]] = {}
    if values.get("loss#votes") is True and values.get("loss#softmax") is True:
        # the votes reach such a loss as classes: 0 for what no region names, then the regions in their order
        taken["the classes that votes become"] = set(range(len(groups) + 1))
    elif values.get("loss#votes") is True or values.get("loss#to_onehot_y") is True or "loss#regions" in values:
        taken["label_values"] = set(values.get("label_values") or ())
        taken["the regions"] = {value for group in groups.values() for value in group}
    else:
        taken["the values of a soft label, 0 to 1"] = {0, 1}
    owner = next((name for name, numbers in taken.items() if ignored in numbers), None)
    if owner is not None:
        free = next(value for value in range(255, -1, -1) if not any(value in numbers for numbers in taken.values()))
        expected = "a value that is no label"
        yield error_sentence("loss#ignore_index", expected, f"{ignored}, which is one of {owner}", f"--loss#ignore_index {free}")


def _votes_are_bytes(values: Mapping[str, Any]) -> Iterator[str]:
    ignored = values["loss#ignore_index"]
    if values["loss#votes"] is True and isinstance(ignored, int) and not 0 <= ignored <= 255:
        yield error_sentence(
            "loss#ignore_index", "a whole number from 0 to 255, since votes are bytes", str(ignored), "--loss#ignore_index 255"
        )


def _softmax_needs_disjoint_regions(values: Mapping[str, Any]) -> Iterator[str]:
    if not values["loss#softmax"]:
        return
    owners: dict[int, str] = {}
    for name, group in named_regions(values["regions"]).items():
        for value in group:
            if value in owners and owners[value] != name:
                expected = "regions without a common label value, since the loss has softmax: no voxel belongs to two"
                got = f"{owners[value]} and {name}, which both have {value}"
                yield error_sentence("regions", expected, got, "give each label value to one region; nested regions need sigmoid")
                return
            owners[value] = name


def _lovasz_needs_hard_labels(values: Mapping[str, Any]) -> Iterator[str]:
    if not str(values["loss#_target_"]).endswith("LovaszSoftmaxLoss"):
        return
    if values["label_source"] not in ("majority", "random_rater"):
        expected = "majority or random_rater, since the Lovász loss takes hard labels"
        yield error_sentence("label_source", expected, repr(values["label_source"]), "--label_source majority")
    if "border_smoothing" in values:
        yield error_sentence("border_smoothing", "no smoothing, since the Lovász loss takes hard labels", "smoothing", _ONE_OF_TWO)
    if values.get("activation") == "sigmoid":
        yield error_sentence("activation", "softmax, since the Lovász loss has one", "'sigmoid'", "--activation softmax")


def _average_needs_an_overlap_term(values: Mapping[str, Any]) -> Iterator[str]:
    if values["loss#average"] is not None and values["loss#lambda_jdt"] == 0:
        expected = "null, since the loss is cross-entropy alone"
        yield error_sentence("loss#average", expected, repr(values["loss#average"]), _ONE_OF_TWO)


def _votes_have_no_borders(values: Mapping[str, Any]) -> Iterator[str]:
    if values["loss#votes"] is True:
        expected = "soft labels, since votes are no label that could be smoothed"
        yield error_sentence("border_smoothing", expected, "votes", "take smoothing_uniform.yaml, or leave votes.yaml out")


def _one_smoothing(values: Mapping[str, Any]) -> Iterator[str]:
    if values["loss#label_smoothing"]:
        expected = "one kind of label smoothing"
        got = f"border_smoothing and loss#label_smoothing {values['loss#label_smoothing']}"
        yield error_sentence("border_smoothing", expected, got, _ONE_OF_TWO)


def _teachers_are_there(values: Mapping[str, Any]) -> Iterator[str]:
    if "ckpt_path" in values:
        return  # an evaluation needs no teacher
    if not values["teachers"]:
        fix = "train one by the same config without distillation.yaml, then --teachers \"['FOLDER/models/model.pt']\""
        yield error_sentence("teachers", "at least one checkpoint", "none", fix)
    for path in values["teachers"]:
        if not os.path.isfile(path):
            got = "a folder" if os.path.isdir(path) else "no file at that path"
            yield error_sentence(f"teachers {path}", "a checkpoint", got, "name the model.pt of a training")


def _one_teacher(values: Mapping[str, Any]) -> Iterator[str]:
    yield error_sentence("teachers", "one kind of teacher", "distillation.yaml and mean_teacher.yaml", _ONE_OF_TWO)


def _mean_teacher_has_a_decay(values: Mapping[str, Any]) -> Iterator[str]:
    if values["ema_decay"] is None:
        yield error_sentence("ema_decay", "the decay of the mean teacher", "null", "--ema_decay 0.99")


def _regions_are_sure_from_a_half(values: Mapping[str, Any]) -> Iterator[str]:
    if values["confidence"] is not None and values["confidence"] < 0.5 and values["consistency#sigmoid"] is True:
        expected = "a number from 0.5 to 1 with a sigmoid, or null"
        yield error_sentence("confidence", expected, f"{values['confidence']:g}", "--confidence 0.8")


def _some_cases_have_no_label(values: Mapping[str, Any]) -> Iterator[str]:
    if values["labelled_fraction"] == 1 and values["datalist_file"] is None:
        expected = "a number below 1 without a data list, whose section `unlabelled` has cases without a label"
        yield error_sentence("labelled_fraction", expected, "1", "--labelled_fraction 0.5")


def _something_is_learnt(values: Mapping[str, Any]) -> Iterator[str]:
    if values["label_weight"] == 0 and values["teacher_weight"] == 0:
        yield error_sentence("label_weight, teacher_weight", "one of them above 0", "0 and 0", "--teacher_weight 0.5")


def _at_least_one(name: str) -> Rule:
    def rule(values: Mapping[str, Any]) -> Iterator[str]:
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            yield error_sentence(name, "a whole number >= 1", repr(value), "give epochs, from which it is taken")

    return rule


def _folders_can_be_written(values: Mapping[str, Any]) -> Iterator[str]:
    for name, folder in values["written"].items():
        path = os.path.abspath(folder)
        while not os.path.lexists(path):
            path = os.path.dirname(path)
        if not os.path.isdir(path):
            yield error_sentence(f"{name} {folder}", "a folder to write in", f"a file at {path}", f"--{name} ANOTHER_FOLDER")
        elif not os.access(path, os.W_OK | os.X_OK):
            expected = "a folder to write in"
            fix = f"--{name} FOLDER, or copy the bundle into a folder of yours"
            yield error_sentence(f"{name} {folder}", expected, f"no permission to write in {path}", fix)


def _checkpoint_is_there(values: Mapping[str, Any]) -> Iterator[str]:
    path = os.path.expanduser(values["ckpt_path"])
    if not os.path.isfile(path):
        got = "a folder" if os.path.isdir(path) else "no file at that path"
        yield error_sentence(path, "a checkpoint", got, "train first, or name one with --ckpt_path")


def _maps_have_label_values(values: Mapping[str, Any]) -> Iterator[str]:
    if values["form"] != "map":
        return
    regions, names = values["regions"], values["region_names"]
    if regions is None:
        got = "none: the file beside the weights is missing, or of a training before it had regions"
        fix = "give those of the training, such as --regions \"{'lesion': [1]}\""
        yield error_sentence("regions", "the label values of each channel, since form is map", got, fix)
        return
    groups = named_regions(regions)
    if len(groups) != len(names):
        got = f"{len(groups)}: {', '.join(groups)}"
        yield error_sentence("regions", f"{len(names)} regions, one per channel that is predicted", got, "give those of the training")
        return
    largest, least = (pick(value for group in groups.values() for value in group) for pick in (max, min))
    if str(values.get("prediction_name")).endswith(".png") and (least < 0 or largest > LARGEST_INDEX):
        expected = f"a name that ends in .nii.gz, since a PNG holds label values from 0 to {LARGEST_INDEX}"
        got = f"{values['prediction_name']} for values up to {largest}"
        yield error_sentence("prediction_name", expected, got, "--prediction_name prediction.nii.gz")


def _predictions_have_a_format(values: Mapping[str, Any]) -> Iterator[str]:
    name = values["prediction_name"]
    if os.path.basename(name) != name:
        expected = "a name without folders: a prediction lies in the folder of its case"
        yield error_sentence("prediction_name", expected, name, "name the folder by --output_dir")
        return
    is_flat_and_single = values["network_def#spatial_dims"] == 2 and values["out_channels"] == 2  # the background and one structure
    is_one_picture = is_flat_and_single or (values["network_def#spatial_dims"] == 2 and values.get("form") == "map")
    if not name.endswith(".nii.gz") and not (name.endswith(".png") and is_one_picture):
        expected = "a name that ends in .nii.gz, or in .png for one structure of a flat image or its form map"
        yield error_sentence("prediction_name", expected, name, "--prediction_name prediction.nii.gz")


#: What a rule looks at if it is there. Without a value that comes later the rule would judge another run.
_LOOKED_AT: dict[Rule, tuple[str, ...]] = {
    _ignored_value_is_no_label: ("label_values", "loss#regions", "loss#softmax", "loss#to_onehot_y", "loss#votes"),
    _teachers_are_there: ("ckpt_path",),
}
_RULES: tuple[tuple[Rule, tuple[str, ...]], ...] = (
    (_edges_fit_the_network("roi"), ("roi", "network_def#blocks_down", "network_def#spatial_dims")),
    (_edges_fit_the_network("size"), ("size", "network_def#blocks_down", "network_def#spatial_dims")),
    (_spacing_has_each_axis, ("spacing", "network_def#spatial_dims")),
    (_spacing_needs_voxel_sizes, ("spacing", "datalist")),
    (_fold_of_folds, ("fold", "folds")),
    (_sections_are_of_lists, ("datalist_section", "datalist_file")),
    (_split_has_two_sides, ("split",)),
    (_levels_need_expected_scores, ("decision", "empty_below")),
    (_lesions_are_volumes, ("challenge_scores", "network_def#spatial_dims")),
    (_lower_before_higher("window"), ("window",)),
    (_lower_before_higher("percentiles"), ("percentiles",)),
    (_key_of("normalize", "normalizations"), ("normalize", "normalizations")),
    (_key_of("label_source", "fusions"), ("label_source", "fusions")),
    (_key_of("crop", "croppings"), ("crop", "croppings")),
    (_channel_that_is_drawn, ("figure_channel", "channels")),
    (_order_of_channels, ("channel_order", "channels")),
    (_endings_of_channels, ("image_endings", "channels", "datalist_file", "cases_listed")),
    (_regions_have_labels, ("regions", "label_values")),
    (_loss_has_the_same_regions, ("loss#regions", "regions")),
    (_ignored_value_is_no_label, ("loss#ignore_index", "regions")),
    (_votes_are_bytes, ("loss#ignore_index", "loss#votes")),
    (_softmax_needs_disjoint_regions, ("loss#softmax", "regions")),
    # overlays
    (_lovasz_needs_hard_labels, ("loss#_target_", "label_source")),
    (_average_needs_an_overlap_term, ("loss#average", "loss#lambda_jdt")),
    (_votes_have_no_borders, ("border_smoothing", "loss#votes")),
    (_one_smoothing, ("border_smoothing", "loss#label_smoothing")),
    (_teachers_are_there, ("teachers",)),
    (_one_teacher, ("teachers", "labelled_fraction")),
    (_mean_teacher_has_a_decay, ("ema_decay", "consistency_weight")),
    (_regions_are_sure_from_a_half, ("confidence", "consistency#sigmoid")),
    (_some_cases_have_no_label, ("labelled_fraction", "datalist_file")),
    (_something_is_learnt, ("label_weight", "teacher_weight")),
    # components that fail with a traceback, the scheduler at the end of the first epoch
    (_at_least_one("lr_scheduler#T_max"), ("lr_scheduler#T_max",)),
    (_at_least_one("train#trainer#max_epochs"), ("train#trainer#max_epochs",)),
    (_folders_can_be_written, ("written",)),
    (_checkpoint_is_there, ("ckpt_path",)),
    (_maps_have_label_values, ("form", "regions", "region_names")),
    (_predictions_have_a_format, ("prediction_name", "network_def#spatial_dims", "out_channels")),
)
