"""The losses, each a `torch.nn` loss module in MONAI's calling convention. `JDTLoss` says which arguments they share."""

from monai_jdt.losses.deep_supervision import SoftDeepSupervisionLoss
from monai_jdt.losses.distance import DiceDistance, JaccardDistance
from monai_jdt.losses.distillation import DistillationLoss
from monai_jdt.losses.jdt import CompatibleTverskyLoss, DiceSemimetricLoss, JaccardMetricLoss, JDTLoss
from monai_jdt.losses.jdt_ce import JDTCELoss
from monai_jdt.losses.jdt_focal import JDTFocalLoss
from monai_jdt.losses.lovasz import LovaszSoftmaxLoss
from monai_jdt.losses.metric_choice import loss_for_metric

__all__ = [
    "CompatibleTverskyLoss",
    "DiceDistance",
    "DiceSemimetricLoss",
    "DistillationLoss",
    "JDTCELoss",
    "JDTFocalLoss",
    "JDTLoss",
    "JaccardDistance",
    "JaccardMetricLoss",
    "LovaszSoftmaxLoss",
    "SoftDeepSupervisionLoss",
    "loss_for_metric",
]
