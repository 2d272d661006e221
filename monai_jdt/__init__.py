"""JDT losses for MONAI: Jaccard, Dice and Tversky losses that are right on soft labels, from rater files to reports.

After `import monai_jdt` the short names of losses, metrics, transforms and handlers can stand in a MONAI bundle's `_target_`; the full
path, such as `monai_jdt.losses.JDTCELoss`, can always.
"""

__version__ = "0.1.0"

from monai_jdt import data, functional, handlers, inferers, losses, metrics, raters, report, transforms
from monai_jdt.checks import value_checks

__all__ = ["data", "functional", "handlers", "inferers", "losses", "metrics", "raters", "report", "transforms", "value_checks"]
