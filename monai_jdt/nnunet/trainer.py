"""nnU-Net's trainer with the votes of several raters as labels."""

from __future__ import annotations

import io
import os
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.loss.dice import get_tp_fp_fn_tn
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import MoveSegAsOneHotToDataTransform, nnUNetTrainer

from monai_jdt.data.files.atomic import whole_file
from monai_jdt.losses import JDTCELoss
from monai_jdt.nnunet.raw_dataset import PLANS_ENDING
from monai_jdt.nnunet.votes_loss import VotesLoss
from monai_jdt.validation import error_sentence


class nnUNetTrainerJDT(nnUNetTrainer):
    """Train nnU-Net on the share of raters that vote for each class or region, instead of on one label.

    The preprocessed data must hold a channel for each rater behind the fused label, as `monai-jdt nnunet preprocess` writes them.
    Network, augmentation, optimizer, schedule and sampling are nnU-Net's. The loss is
    ``lambda_jdt * JDT + lambda_ce * cross-entropy`` (binary cross-entropy for regions). With the values below it is nnU-Net's own Dice
    plus cross-entropy wherever all raters agree (plus 1), and is smallest at the share of raters where they do not. Change them in a
    subclass.

    With deep supervision, the label of a smaller head is the mean over the voxels of each block. nnU-Net takes one voxel of each.

    Pseudo Dice of each epoch, final Dice and `checkpoint_best` are nnU-Net's, against the fused label.

    A checkpoint names nnU-Net's own trainer, so that `nnUNetv2_predict` needs nnU-Net alone. That of a subclass with a network of its
    own keeps the subclass's name.
    """

    #: Weight of false positives and of false negatives in the overlap term: 0.5 each is Dice, 1 each is Jaccard.
    alpha = 0.5
    beta = 0.5
    #: Weight of the overlap term and of the cross-entropy.
    lambda_jdt = 1.0
    lambda_ce = 1.0

    @cached_property
    def rater_channels(self) -> int:
        """The number of rater channels of the preprocessed data.

        Raises:
            ValueError: there is none.
        """
        dataset_class = self.dataset_class or infer_dataset_class(self.preprocessed_dataset_folder)
        case = dataset_class.get_identifiers(self.preprocessed_dataset_folder)[0]
        segmentation = dataset_class(self.preprocessed_dataset_folder, [case]).load_case(case)[1]
        raters = int(segmentation.shape[0]) - 1
        if raters < 1:
            plans = self.plans_manager.plans_name.removesuffix(PLANS_ENDING)
            fix = f"run `monai-jdt nnunet preprocess {self.plans_manager.dataset_name} -p {plans}`, train with -p {plans}{PLANS_ENDING}"
            where = f"{self.preprocessed_dataset_folder}, {case}"
            raise ValueError(error_sentence(where, "one channel per rater behind the fused label", "the label alone", fix))
        return raters

    def on_train_start(self) -> None:
        """Begin a training. Plans without rater channels are refused before the first step."""
        raters = self.rater_channels
        super().on_train_start()
        self.print_to_log_file(f"monai_jdt: training on the votes of {raters} raters, {self.loss}")

    def _build_loss(self) -> torch.nn.Module:
        """Build the loss, with nnU-Net's own weights for the heads of deep supervision, which differ under DDP."""
        stock = super()._build_loss()
        labels, batch = self.label_manager, bool(self.configuration_manager.batch_dice)
        # nnU-Net's Dice leaves the background of classes out
        channels: dict[str, Any] = {"softmax": True, "include_background": False}
        if labels.has_regions:
            groups = [list(group) if isinstance(group, tuple) else [group] for group in labels.foreground_regions]
            channels = {"sigmoid": True, "regions": groups}
        loss = JDTCELoss(
            **channels,
            votes=True,
            alpha=self.alpha,
            beta=self.beta,
            lambda_jdt=self.lambda_jdt,
            lambda_ce=self.lambda_ce,
            ignore_index=labels.ignore_label,
            batch=batch,
            # nnU-Net adds 1e-5 to 2 tp, this loss to tp
            smooth_nr=0.5e-5,
            smooth_dr=0.5e-5,
            sync=self.is_ddp and batch,
        )
        return VotesLoss(loss, list(stock.weight_factors) if self.enable_deep_supervision else None)

    def get_training_transforms(
        self,
        patch_size: Any,
        rotation_for_DA: Any,
        deep_supervision_scales: Any,
        mirror_axes: Any,
        do_dummy_2d_data_aug: bool,
        use_mask_for_norm: Any = None,
        is_cascaded: bool = False,
        foreground_labels: Any = None,
        regions: Any = None,
        ignore_label: int | None = None,
    ) -> Any:
        """Return nnU-Net's augmentation, which leaves the segmentation as label values: fused label, then raters."""
        composed = super().get_training_transforms(
            patch_size,
            rotation_for_DA,
            None,
            mirror_axes,
            do_dummy_2d_data_aug,
            use_mask_for_norm=use_mask_for_norm,
            is_cascaded=is_cascaded,
            foreground_labels=foreground_labels,
            regions=None,
            ignore_label=ignore_label,
        )
        return self._with_previous_stage_last(composed)

    def get_validation_transforms(
        self,
        deep_supervision_scales: Any,
        is_cascaded: bool = False,
        foreground_labels: Any = None,
        regions: Any = None,
        ignore_label: int | None = None,
    ) -> Any:
        """Return nnU-Net's transforms of the validation, with the segmentation as in :meth:`get_training_transforms`."""
        composed = super().get_validation_transforms(None, is_cascaded, foreground_labels, None, ignore_label)
        return self._with_previous_stage_last(composed)

    def _with_previous_stage_last(self, composed: Any) -> Any:
        """Let a cascade take the channel of its previous stage, which is behind the raters. nnU-Net takes channel 1, a rater's."""
        for transform in composed.transforms:
            if isinstance(transform, MoveSegAsOneHotToDataTransform):
                transform.source_channel_idx = 1 + self.rater_channels
        return composed

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the loss on the votes, and the counts of nnU-Net's pseudo Dice against the fused label."""
        data = batch["data"].to(self.device, non_blocking=True)
        target = batch["target"].to(self.device, non_blocking=True)
        # as nnU-Net's: autocast is slow on a CPU, and not everywhere on mps
        with torch.autocast("cuda") if self.device.type == "cuda" else nullcontext():
            output = self.network(data)
            loss = self.loss(output, target)
        output = output[0] if self.enable_deep_supervision else output
        fused, labels = target[:, :1], self.label_manager
        # nnU-Net's mask is a number per voxel
        counted = (fused != labels.ignore_label).float() if labels.has_ignore_label else None
        if labels.has_regions:
            predicted = output > 0  # the sigmoid is above 0.5
            groups = [torch.as_tensor(group, device=fused.device, dtype=fused.dtype) for group in labels.foreground_regions]
        else:
            classes = torch.arange(1, output.shape[1], device=output.device)
            predicted = output.argmax(1, keepdim=True) == classes.reshape(1, -1, *[1] * (output.ndim - 2))
            groups = list(classes.to(fused.dtype))
        truth = torch.cat([torch.isin(fused, group) for group in groups], 1)
        axes = [0, *range(2, output.ndim)]
        sums = get_tp_fp_fn_tn(predicted.float(), truth.float(), axes=axes, mask=counted)[:3]
        names = ("tp_hard", "fp_hard", "fn_hard")
        hard = {name: value.detach().cpu().numpy() for name, value in zip(names, sums, strict=True)}
        return {"loss": loss.detach().cpu().numpy(), **hard}

    def save_checkpoint(self, filename: str | os.PathLike[str]) -> None:
        """Write a checkpoint, as a whole or not at all. It names nnU-Net's own trainer where that one builds the same network."""
        written = io.BytesIO()
        super().save_checkpoint(written)
        if not written.tell():
            return  # another rank writes, or checkpoints are switched off
        written.seek(0)
        checkpoint = torch.load(written, map_location="cpu", weights_only=False)
        if type(self).build_network_architecture is nnUNetTrainer.build_network_architecture:
            checkpoint["trainer_name"] = nnUNetTrainer.__name__
        with whole_file(filename) as draft:
            torch.save(checkpoint, draft)
