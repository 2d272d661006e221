"""A batch of MONAI's trainer with what a teacher says of its images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.engines import PrepareBatch
from torch import nn

from monai_jdt.inferers.module_modes import module_modes
from monai_jdt.teachers.targets import TeacherTarget
from monai_jdt.validation import check_bool, check_number, error_sentence


class TeacherPrepareBatch(PrepareBatch):
    """Return the images, and a :class:`TeacherTarget` of labels and the teacher's logits.

    For `monai.engines.SupervisedTrainer(prepare_batch=...)`. The teacher runs in evaluation mode and without gradient, on the images'
    device. With `confidence` a voxel is learnt from the teacher only where the teacher is sure: its largest probability over the
    classes (softmax), or that of a channel or of its opposite (sigmoid), is at least so large.

    Args:
        teacher: from images to logits, such as :class:`TeacherEnsemble` or :class:`MeanTeacher`.
        sigmoid: the teacher's logits are those of a sigmoid. Needed with `confidence`, as is `softmax`.
        softmax: they are those of a softmax over the channels.
        confidence: a probability in [0.5, 1] with sigmoid, in [0, 1] with softmax; None: the teacher is trusted everywhere.
        image_key: the student's images.
        label_key: the labels; the batch may have none.
        teacher_image_key: the images for the teacher, such as weakly augmented ones, each in the place of the student's; None: the
            student's.
        labelled_key: for each image whether it has a label; where the batch has no such key, all images have one.
        mask_key: which voxels count; where the batch has no such key, all do.
        weights_key: the raters' weights, for votes; where the batch has no such key, there are none.
        amp: run the teacher under autocast, as the trainer runs the student with `amp`.

    Raises:
        TypeError: an argument of the wrong type; a batch that is no dictionary.
        ValueError: an argument outside its range.
        KeyError: a batch without images.

    Example:
        >>> prepare = TeacherPrepareBatch(nn.Identity())
        >>> image, target = prepare({"image": torch.ones(2, 1, 4), "label": torch.zeros(2, 1, 4)})
        >>> tuple(target.teacher_logits.shape)
        (2, 1, 4)
    """

    def __init__(
        self,
        teacher: nn.Module,
        *,
        sigmoid: bool = False,
        softmax: bool = False,
        confidence: float | None = None,
        image_key: str = "image",
        label_key: str = "label",
        teacher_image_key: str | None = None,
        labelled_key: str = "labelled",
        mask_key: str = "mask",
        weights_key: str = "rater_weights",
        amp: bool = False,
    ) -> None:
        if confidence is not None:
            if bool(sigmoid) == bool(softmax):
                fix = "name the activation of the teacher's logits"
                raise ValueError(error_sentence("sigmoid, softmax", "one of them True with confidence", f"{sigmoid}, {softmax}", fix))
            confidence = check_number("confidence", confidence, 0.5 if sigmoid else 0, high=1)
        self.teacher = teacher
        self.softmax = check_bool("softmax", softmax)
        self.confidence = confidence
        self.image_key, self.label_key, self.teacher_image_key = image_key, label_key, teacher_image_key
        self.labelled_key, self.mask_key, self.weights_key = labelled_key, mask_key, weights_key
        self.amp = check_bool("amp", amp)

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, TeacherTarget]:
        """Return the images and the target on a device.

        Args:
            batchdata: a dictionary of tensors.
            device: where they go.
            non_blocking: see `torch.Tensor.to`.
            kwargs: further arguments of `torch.Tensor.to`.
        """
        if not isinstance(batchdata, Mapping):
            raise TypeError(error_sentence("batchdata", "a dictionary with an image", type(batchdata).__name__))
        if self.image_key not in batchdata:
            fix = "name the key of the images, image_key=..."
            raise KeyError(
                error_sentence("batchdata", f"the key {self.image_key!r}", f"the keys {', '.join(map(str, batchdata))}", fix)
            )

        def moved(key: str | None) -> torch.Tensor | None:
            found = None if key is None else batchdata.get(key)
            return None if found is None else torch.as_tensor(found).to(device=device, non_blocking=non_blocking, **kwargs)

        image = moved(self.image_key)
        assert image is not None
        seen = image if self.teacher_image_key is None else moved(self.teacher_image_key)
        if seen is None or seen.shape[0] != image.shape[0] or seen.shape[2:] != image.shape[2:]:
            got = "no such key" if seen is None else f"shape {tuple(seen.shape)}"
            raise ValueError(
                error_sentence(f"batchdata[{self.teacher_image_key!r}]", f"images in the place of {tuple(image.shape)}", got)
            )
        with torch.no_grad(), module_modes(self.teacher), torch.autocast(seen.device.type, enabled=self.amp):
            logits = self.teacher(seen).detach()
        labelled = batchdata.get(self.labelled_key)
        return image, TeacherTarget(
            label=moved(self.label_key),
            teacher_logits=logits,
            labelled=None if labelled is None else torch.as_tensor(labelled).to("cpu", torch.bool).reshape(-1),
            trusted=self._trusted(logits),
            mask=moved(self.mask_key),
            rater_weights=moved(self.weights_key),
        )

    def _trusted(self, logits: torch.Tensor) -> torch.Tensor | None:
        if self.confidence is None:
            return None
        if self.softmax:
            return logits.softmax(1).amax(1, keepdim=True) >= self.confidence
        return torch.sigmoid(logits.abs()) >= self.confidence
