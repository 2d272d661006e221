"""The form in which a label or a prediction is written: probabilities, 0 and 1, or one map of label values."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms.transform import MapTransform, Transform
from monai.utils import convert_to_numpy, convert_to_tensor

from monai_jdt.data.files.label_pictures import write_palette_picture
from monai_jdt.raters import regions_to_label_map
from monai_jdt.raters.label_map import check_map_values
from monai_jdt.raters.region_names import RegionSpec, named_regions
from monai_jdt.transforms.same_grid_writer import SameGridWriter
from monai_jdt.transforms.with_meta import with_meta_of
from monai_jdt.validation import error_sentence

#: The forms: probabilities; 0 and 1 for each region; one label value per voxel.
LABEL_FORMS = ("soft", "hard", "map")


class RegionForm(Transform):
    """Bring a label with a channel for each region into the form in which it is written.

    * `"soft"`: as it is;
    * `"hard"`: 1 where p > 0.5, else 0, uint8;
    * `"map"`: one channel of label values, by :func:`monai_jdt.raters.regions_to_label_map`.

    Args:
        form: one of the above.
        regions: for `"map"` the label values of each channel, in any spelling of :func:`monai_jdt.raters.named_regions`.

    Raises:
        ValueError: another form, or `"map"` without regions or with label values beyond int16.

    Example:
        >>> p = torch.tensor([[0.9, 0.6, 0.1], [0.8, 0.2, 0.1]])
        >>> RegionForm("hard")(p).tolist(), RegionForm("map", {"whole": [1, 2], "core": [2]})(p).tolist()
        ([[1, 1, 0], [1, 0, 0]], [[2, 1, 0]])
    """

    def __init__(self, form: str = "soft", regions: RegionSpec | None = None) -> None:
        if form not in LABEL_FORMS:
            raise ValueError(error_sentence("form", f"one of {', '.join(LABEL_FORMS)}", repr(form), "name one of them"))
        if form == "map" and regions is None:
            fix = "pass regions, such as {'lesion': [1]}"
            raise ValueError(error_sentence("regions", "the label values of each channel, since form is map", "None", fix))
        self.form = form
        self.groups = None if regions is None else list(named_regions(regions).values())
        if form == "map" and self.groups is not None:
            check_map_values(self.groups)

    def __call__(self, label: torch.Tensor) -> MetaTensor:
        """Return the label in that form.

        Args:
            label: `(C, *S)`, in [0, 1].

        Returns:
            `(C, *S)`, or `(1, *S)` for `"map"`, with affine and meta of the label.

        Raises:
            ValueError: another number of regions than of channels.
        """
        plain = convert_to_tensor(label, track_meta=False)
        if self.form == "hard":
            plain = (plain > 0.5).to(torch.uint8)
        elif self.groups is not None and self.form == "map":
            plain = regions_to_label_map(plain, self.groups)[None]
        return with_meta_of(label, plain)


class RegionFormd(MapTransform):
    """Dictionary version of :class:`RegionForm`.

    Args:
        keys: keys of the labels.
        form: see :class:`RegionForm`.
        regions: see :class:`RegionForm`.
        allow_missing_keys: leave out a key that the item does not have.

    Raises:
        ValueError: as :class:`RegionForm`.
    """

    def __init__(
        self, keys: KeysCollection, form: str = "soft", regions: RegionSpec | None = None, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.to_form = RegionForm(form, regions)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with each label in that form. The item passed in is not changed."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.to_form(d[key])
        return d


class LabelPictureWriter(SameGridWriter):
    """Write a map of label values as a PNG with a palette, for :class:`monai.transforms.SaveImage`.

    :class:`monai.data.PILWriter` writes grey, in which the values 1 and 2 are both black to the eye. See
    :func:`monai_jdt.data.files.label_pictures.write_palette_picture`.
    """

    def write(self, filename: Any, verbose: bool = False, **kwargs: Any) -> None:
        """Write the array.

        Args:
            filename: the file, a PNG.
            verbose: not used, as are the arguments after it; `SaveImage` gives them to every writer.
            kwargs: not used.

        Raises:
            DataProblemError: numbers that a palette cannot hold, or more than one flat map.
        """
        values: NdarrayOrTensor = self.data_obj
        write_palette_picture(filename, convert_to_numpy(values))
