"""Train and evaluate a network with MONAI, from the files of several raters to a metric.

It writes eight phantoms (synthetic, no patients) into a temporary folder: `python examples/monai_script.py`. Replace
`write_brats_phantoms` by your folder, and `brats_datalist` by the lister of your layout, to run it on your data.
"""

import tempfile

import torch
from monai.data import CacheDataset, DataLoader
from monai.inferers import SlidingWindowInferer
from monai.metrics import DiceMetric
from monai.networks.nets import SegResNet
from monai.transforms import Compose, NormalizeIntensityd, RandFlipd, RandSpatialCropd, SelectItemsd
from monai.utils import set_determinism

from monai_jdt.data import brats_datalist, check_items, region_convention, split_cases, write_brats_phantoms
from monai_jdt.losses import JDTCELoss
from monai_jdt.metrics import ThresholdedDice
from monai_jdt.transforms import FuseRatersd, LoadRatersd, LoadVolumed

set_determinism(seed=0)
convention = region_convention("brats2021")
folder = tempfile.TemporaryDirectory()

# 1. The list of cases: one image and one file per rater. Every file is read once before training.
write_brats_phantoms(folder.name, cases=8, shape=(24, 24, 24), progress=False)
items = brats_datalist(folder.name)
check_items(items, channels=4, label_values=convention.values)
train_items, val_items = split_cases(items, fraction=0.25, seed=0)
print(f"{len(train_items)} cases to train on, {len(val_items)} to validate on")

# 2. Files to an image and a soft label: for each region, the share of the raters who marked a voxel.
read_case = [
    LoadVolumed("image", ensure_channel_first=True),
    NormalizeIntensityd("image", nonzero=True, channel_wise=True),
    LoadRatersd("raters", image_key="image", label_values=convention.values),
    FuseRatersd("raters", "brats2021", "average", output_keys="label"),
]
# The stack "raters" does not go into a batch: cases have different numbers of raters.
augment = [
    SelectItemsd(["image", "label"]),
    RandSpatialCropd(["image", "label"], roi_size=(16, 16, 16), random_size=False),
    RandFlipd(["image", "label"], prob=0.5),
]
train_data = CacheDataset(train_items, Compose(read_case + augment), progress=False)
val_data = CacheDataset(
    val_items, Compose([*read_case, FuseRatersd("raters", "brats2021", "majority", output_keys="majority")]), progress=False
)

# 3. Training.
network = SegResNet(in_channels=4, out_channels=3, init_filters=8, blocks_down=(1, 1, 1), blocks_up=(1, 1))
loss_function = JDTCELoss(sigmoid=True, batch=True)
optimizer = torch.optim.AdamW(network.parameters(), lr=0.02)
for epoch in range(30):
    for batch in DataLoader(train_data, batch_size=3, shuffle=True):
        optimizer.zero_grad()
        loss = loss_function(network(batch["image"]), batch["label"])
        loss.backward()
        optimizer.step()
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")

# 4. Metrics: the thresholded Dice against the raters' average, and Dice against their majority.
network.eval()
inferer = SlidingWindowInferer(roi_size=(16, 16, 16), sw_batch_size=8)
soft_dice, hard_dice = ThresholdedDice(thresholds="qubiq"), DiceMetric(reduction="mean_batch")
with torch.no_grad():
    for batch in DataLoader(val_data, batch_size=1):
        logits = torch.as_tensor(inferer(batch["image"], network))
        probability = logits.sigmoid()
        soft_dice(y_pred=probability, y=batch["label"])
        hard_dice(y_pred=(probability > 0.5).float(), y=batch["majority"])
for name, soft, hard in zip(convention.regions, soft_dice.aggregate("mean_batch"), hard_dice.aggregate(), strict=True):
    print(f"{name}: thresholded Dice {soft:.2f}, Dice against the majority {hard:.2f}")
folder.cleanup()
