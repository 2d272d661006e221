"""From the arguments of a loss, as users and configs write them, to enums and tuples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from monai_jdt.definitions.enums import Activation, ActiveClasses, Backend, LabelForm
from monai_jdt.validation import check_bool, check_choice, check_int, check_name, check_number, check_sequence, error_sentence

AVERAGE_NAMES = ("dataset", "image", "class")


def activation_of(sigmoid: bool, softmax: bool, other_act: Callable | None) -> Activation:
    """Return MONAI's three activation arguments as one choice.

    Raises:
        TypeError: a flag is no bool, or `other_act` is not callable.
        ValueError: more than one is given.
    """
    check_bool("sigmoid", sigmoid)
    check_bool("softmax", softmax)
    if other_act is not None and not callable(other_act):
        raise TypeError(error_sentence("other_act", "None or a callable", f"{type(other_act).__name__} {other_act!r}"))
    if sigmoid + softmax + (other_act is not None) > 1:
        given = [name for name, on in (("sigmoid", sigmoid), ("softmax", softmax), ("other_act", other_act is not None)) if on]
        raise ValueError(error_sentence("sigmoid, softmax, other_act", "at most one of them", " and ".join(given), "keep one"))
    if sigmoid:
        return Activation.SIGMOID
    if softmax:
        return Activation.SOFTMAX
    return Activation.NONE if other_act is None else Activation.OTHER


def backend_of(backend: str) -> Backend:
    """Return the `backend` argument as an enum.

    Raises:
        ValueError: an unknown name.
    """
    return check_choice("backend", backend, Backend)


def label_form_of(to_onehot_y: bool, votes: bool, regions: object) -> LabelForm:
    """Return the label's form. It follows from the arguments, never from a dtype.

    Raises:
        TypeError: a flag is no bool.
        ValueError: the arguments contradict each other.
    """
    check_bool("to_onehot_y", to_onehot_y)
    check_bool("votes", votes)
    if votes and to_onehot_y:
        fix = "leave to_onehot_y out: votes are class values already"
        raise ValueError(error_sentence("votes, to_onehot_y", "at most one of them", "both", fix))
    if regions is not None and to_onehot_y:
        fix = "leave to_onehot_y out: regions say which values make a channel"
        raise ValueError(error_sentence("regions, to_onehot_y", "at most one of them", "both", fix))
    if votes:
        return LabelForm.VOTES
    return LabelForm.INDEX if to_onehot_y or regions is not None else LabelForm.DENSE


def regions_of(regions: Sequence[Sequence[int]] | None) -> tuple[tuple[int, ...], ...] | None:
    """Return regions as nested tuples.

    Raises:
        TypeError: not a sequence of sequences of whole numbers.
        ValueError: no region, an empty one, a negative value, or a value twice in one region.
    """
    if regions is None:
        return None
    shape = "a sequence of label values for each channel, such as [[1, 4], [1, 2, 4], [4]]"
    outer = check_sequence("regions", regions, shape)
    result = tuple(tuple(check_int("regions", value) for value in check_sequence("regions", values, shape)) for values in outer)
    if not result or any(not values or min(values) < 0 or len(set(values)) != len(values) for values in result):
        expected = f"{shape}, each with different values >= 0"
        raise ValueError(error_sentence("regions", expected, f"{[list(values) for values in result]}"))
    return result


def average_of(average: str | Mapping[str, float] | None) -> tuple[tuple[str, float], ...] | None:
    """Return the `average` argument as weights of the three averages.

    Raises:
        TypeError: neither None, a name nor a mapping.
        ValueError: an unknown name, a negative weight, or all weights 0.

    Example:
        >>> average_of("image")
        (('image', 1.0),)
    """
    if average is None:
        return None
    if isinstance(average, str):
        average = {average: 1.0}
    if not isinstance(average, Mapping):
        expected = f"None, one of {list(AVERAGE_NAMES)}, or a mapping of these names to weights"
        raise TypeError(error_sentence("average", expected, f"{type(average).__name__} {average!r}"))
    for name in average:
        check_name("average", name, AVERAGE_NAMES)
    weights = tuple((name, check_number(f"average[{name!r}]", average[name], 0)) for name in AVERAGE_NAMES if name in average)
    weights = tuple((name, value) for name, value in weights if value > 0)
    if not weights:
        raise ValueError(error_sentence("average", "at least one weight > 0", repr(dict(average))))
    return weights


def active_classes_of(classes: str | Sequence[int]) -> tuple[ActiveClasses, tuple[int, ...]]:
    """Return the `classes` argument as a mode and, for a list, its channel numbers.

    Raises:
        TypeError: neither a name nor a sequence of whole numbers.
        ValueError: an unknown name; an empty list, a negative number or a number twice.

    Example:
        >>> active_classes_of("present")
        (<ActiveClasses.LABEL: 'label'>, ())
    """
    if isinstance(classes, str):
        names = {"present": ActiveClasses.LABEL} | {m.value: m for m in ActiveClasses if m is not ActiveClasses.LISTED}
        if classes not in names:
            raise ValueError(error_sentence("classes", f"one of {sorted(names)} or a list of channel numbers", repr(classes)))
        return names[classes], ()
    numbers = check_sequence("classes", classes, "a name or a list of channel numbers")
    listed = tuple(check_int("classes", number) for number in numbers)
    if not listed or min(listed) < 0 or len(set(listed)) != len(listed):
        raise ValueError(error_sentence("classes", "different channel numbers >= 0, at least one", repr(list(listed))))
    return ActiveClasses.LISTED, listed
