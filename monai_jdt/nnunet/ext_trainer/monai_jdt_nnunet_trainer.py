"""What nnU-Net imports: the trainer, under its name."""

from monai_jdt.nnunet.trainer import nnUNetTrainerJDT

__all__ = ["nnUNetTrainerJDT"]
