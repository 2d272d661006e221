"""From the arguments of a loss, as users and configs write them, to enums and tuples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from monai_jdt.definitions.enums import Activation, ActiveClasses, Backend, LabelForm
from monai_jdt.validation import check_bool, check_int, check_number, check_sequence

AVERAGE_NAMES = ("dataset", "image", "class")


def activation_of(sigmoid: bool, softmax: bool, other_act: Callable | None) -> Activation:
    """MONAI's three activation arguments as one choice.

    Raises:
        TypeError: a flag is no bool, or `other_act` is not callable.
        ValueError: more than one is given.
    """
    check_bool("sigmoid", sigmoid)
    check_bool("softmax", softmax)
    if other_act is not None and not callable(other_act):
        raise TypeError(f"other_act: expected None or a callable, got {type(other_act).__name__} {other_act!r}")
    if sigmoid + softmax + (other_act is not None) > 1:
        raise ValueError("sigmoid, softmax, other_act: expected at most one of them, got more")
    if sigmoid:
        return Activation.SIGMOID
    if softmax:
        return Activation.SOFTMAX
    return Activation.NONE if other_act is None else Activation.OTHER


def backend_of(backend: str) -> Backend:
    """The `backend` argument.

    Raises:
        ValueError: an unknown name.
    """
    names = [member.value for member in Backend]
    if backend not in names:
        raise ValueError(f"backend: expected one of {names}, got {backend!r}")
    return Backend(backend)


def label_form_of(to_onehot_y: bool, votes: bool, regions: object) -> LabelForm:
    """The label's form from the arguments; never from a dtype.

    Raises:
        TypeError: a flag is no bool.
        ValueError: the arguments contradict each other.
    """
    check_bool("to_onehot_y", to_onehot_y)
    check_bool("votes", votes)
    if votes and to_onehot_y:
        raise ValueError("votes, to_onehot_y: expected one of them, since votes are made of class values already, got both")
    if regions is not None and to_onehot_y:
        raise ValueError("regions, to_onehot_y: expected one of them, since both say how class values become channels, got both")
    if votes:
        return LabelForm.VOTES
    return LabelForm.INDEX if to_onehot_y or regions is not None else LabelForm.DENSE


def regions_of(regions: Sequence[Sequence[int]] | None) -> tuple[tuple[int, ...], ...] | None:
    """Regions as nested tuples.

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
        raise ValueError(f"regions: expected {shape}, each with different values >= 0, got {[list(values) for values in result]}")
    return result


def average_of(average: str | Mapping[str, float] | None) -> tuple[tuple[str, float], ...] | None:
    """The `average` argument as weights of the three averages.

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
        raise TypeError(f"average: expected None, a name among {AVERAGE_NAMES} or a mapping of names to weights, got {average!r}")
    unknown = [name for name in average if name not in AVERAGE_NAMES]
    if unknown:
        raise ValueError(f"average: expected names among {AVERAGE_NAMES}, got {unknown[0]!r}")
    weights = tuple((name, check_number(f"average[{name!r}]", average[name], 0)) for name in AVERAGE_NAMES if name in average)
    weights = tuple((name, value) for name, value in weights if value > 0)
    if not weights:
        raise ValueError(f"average: expected at least one weight > 0, got {dict(average)!r}")
    return weights


def active_classes_of(classes: str | Sequence[int]) -> tuple[ActiveClasses, tuple[int, ...]]:
    """The `classes` argument as a mode and, for a list, its channel numbers.

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
            raise ValueError(f"classes: expected one of {sorted(names)} or a list of channel numbers, got {classes!r}")
        return names[classes], ()
    numbers = check_sequence("classes", classes, "a name or a list of channel numbers")
    listed = tuple(check_int("classes", number) for number in numbers)
    if not listed or min(listed) < 0 or len(set(listed)) != len(listed):
        raise ValueError(f"classes: expected different channel numbers >= 0, at least one, got {list(listed)!r}")
    return ActiveClasses.LISTED, listed
