"""The losses, each a `torch.nn` loss module in MONAI's calling convention; see `JDTLoss` for the arguments they share."""

from monai_jdt.losses.jdt import CompatibleTverskyLoss, DiceSemimetricLoss, JaccardMetricLoss, JDTLoss
from monai_jdt.losses.jdt_ce import JDTCELoss

__all__ = ["CompatibleTverskyLoss", "DiceSemimetricLoss", "JDTCELoss", "JDTLoss", "JaccardMetricLoss"]
