"""Synthetic data sets whose true probability is known: latent fields, raters of known style, and the files of two layouts."""
