"""How Auto3DSeg fills this template: MONAI looks for `<template>.scripts.algo.<Template>Algo`."""

import os
from typing import Any

from monai.apps.auto3dseg import BundleAlgo
from monai.bundle import ConfigParser


class JdtvotesAlgo(BundleAlgo):
    def fill_template_config(self, data_stats_filename: str, algo_path: str, **kwargs: Any) -> dict:
        """Write what the task file and the data analysis say into the settings of a fold."""
        file = os.path.join(algo_path, "configs", "hyper_parameters.yaml")
        config = ConfigParser.load_config_file(file)
        task = ConfigParser.load_config_file(self.data_list_file)
        statistics = ConfigParser.load_config_file(data_stats_filename)["stats_summary"]
        found = {"bundle_root": algo_path, "channels": statistics["image_stats"]["channels"]["max"], "fold": kwargs["fold"]}
        config.update(found | {key: value for key, value in task.items() if key in config})
        ConfigParser.export_config_file(config, file, fmt="yaml", sort_keys=False)
        return {"hyper_parameters.yaml": config}
