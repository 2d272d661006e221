"""Train one fold and score it: `python train.py run --config_file configs/hyper_parameters.yaml`, or by torchrun."""

import functools
import os
from typing import Any

import fire
import torch
import torch.distributed as dist
from monai.auto3dseg.utils import datafold_read
from monai.bundle import ConfigParser
from monai.data import CacheDataset, DataLoader, DistributedSampler
from monai.transforms import Compose
from monai.utils import set_determinism
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from monai_jdt.metrics import ThresholdedDice
from monai_jdt.transforms import rater_collate


def run(config_file: str | list[str], **override: Any) -> None:
    """Train, and write `model.pt` and `progress.yaml`, in which Auto3DSeg looks up the score of the fold."""
    launched = "WORLD_SIZE" in os.environ  # by torchrun
    if launched:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if launched else (0, 1)
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")

    parser = ConfigParser()
    parser.read_config(config_file)
    parser.update(override)
    get = parser.get_parsed_content
    set_determinism(get("seed"))
    train_items, val_items = datafold_read(get("datalist"), get("dataroot"), fold=get("fold"))
    read = Compose(get("read_image") + get("read_votes"))
    train_data, val_data = (CacheDataset(items, read, progress=False) for items in (train_items, val_items))
    sampler = DistributedSampler(train_data, shuffle=True, num_replicas=ranks, rank=rank)
    collate = functools.partial(rater_collate, keys="votes", value=get("missing"))
    loader = DataLoader(train_data, batch_size=get("batch_size") // ranks, sampler=sampler, collate_fn=collate)

    network = get("network").to(device)
    loss_function, optimizer = get("loss"), get("optimizer")
    trained: nn.Module = DistributedDataParallel(network) if launched else network
    epoch_losses = []
    for epoch in range(get("num_epochs")):
        sampler.set_epoch(epoch)
        losses = []
        for batch in loader:
            optimizer.zero_grad()
            loss = loss_function(trained(batch["image"].to(device)), batch["votes"].to(device))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        epoch_losses.append(sum(losses) / len(losses))
        if rank == 0:
            print(f"epoch {epoch + 1}: loss {epoch_losses[-1]:.4f}")

    if rank == 0:
        metric = ThresholdedDice(thresholds="qubiq", votes=True, regions=list(get("regions").values()))
        with torch.no_grad():
            scores = [
                metric(y_pred=get("inferer")(case["image"].to(device), network).sigmoid(), y=case["votes"].to(device))
                for case in DataLoader(val_data, batch_size=1)
            ]
        score = float(torch.cat(scores).mean())
        os.makedirs(get("ckpt_path"), exist_ok=True)
        torch.save(network.state_dict(), os.path.join(get("ckpt_path"), "model.pt"))
        # Auto3DSeg ranks networks by this key. Here it is the thresholded Dice score
        progress: Any = [{"losses": epoch_losses, "best_avg_dice_score": score}]
        ConfigParser.export_config_file(progress, os.path.join(get("ckpt_path"), "progress.yaml"), fmt="yaml")
        print(f"fold {get('fold')}: thresholded Dice {score:.2f}")
    if launched:
        del trained  # before its process group: the last one to go, it would wait for gloo's threads, and they for Python's lock
        dist.destroy_process_group()


if __name__ == "__main__":
    fire.Fire({"run": run})
