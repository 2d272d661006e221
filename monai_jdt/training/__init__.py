"""Trainings that are the same whether they were interrupted or not.

* `draws`: random draws that follow from seed and epoch. `checkpoints`: the file of the last complete epoch.
* `accumulated_steps`: one step of the optimizer for several batches.
"""

from monai_jdt.training.accumulated_steps import AccumulatedSteps
from monai_jdt.training.checkpoints import TrainingCheckpoint, read_checkpoint, write_checkpoint
from monai_jdt.training.draws import EpochSampler, SeededItems

__all__ = ["AccumulatedSteps", "EpochSampler", "SeededItems", "TrainingCheckpoint", "read_checkpoint", "write_checkpoint"]
