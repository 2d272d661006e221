"""The bundles; an installed package finds them as `monai_jdt.bundles`."""
