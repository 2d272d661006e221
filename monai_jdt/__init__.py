"""JDT losses for MONAI: Jaccard, Dice and Tversky losses that are right on soft labels, from rater files to reports."""

from monai_jdt import losses as losses

__version__ = "0.1.0"
