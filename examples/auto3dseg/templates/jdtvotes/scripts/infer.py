"""How Auto3DSeg predicts with a trained fold: it looks for this class and calls `infer` for each file."""

import os
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose


class InferClass:
    def __init__(self, config_file: list[str], **override: Any) -> None:
        parser = ConfigParser()
        parser.read_config(config_file)
        parser.update({key: value for key, value in override.items() if key in parser})
        self.read = Compose(parser.get_parsed_content("read_image"))
        self.inferer = parser.get_parsed_content("inferer")
        self.network = parser.get_parsed_content("network").eval()
        weights = os.path.join(parser.get_parsed_content("ckpt_path"), "model.pt")
        self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

    @torch.no_grad()
    def infer(self, image_file: Any) -> torch.Tensor:
        """Return the probability of each region, (C, X, Y, Z), with the place of the image."""
        image = self.read(image_file if isinstance(image_file, dict) else {"image": image_file})["image"]
        return self.inferer(image[None], self.network)[0].sigmoid()
