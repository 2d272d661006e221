"""nnU-Net v2 trained on the votes of several raters: conversion of a data list, preprocessing, and a trainer.

The raw data set and the plans stay plain nnU-Net: `labelsTr` holds one fused label per case. The raters' maps lie beside, in
`ratersTr`, which nnU-Net does not read. :mod:`monai_jdt.nnunet.preprocessing` writes them as further channels of the preprocessed
segmentation, and :class:`monai_jdt.nnunet.trainer.nnUNetTrainerJDT` trains on these channels.

`preprocessing` and `trainer` import nnunetv2, which the extra `nnunet` brings. So this file imports nothing.
"""
