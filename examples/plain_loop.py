"""Train a network on the votes of several raters in a plain PyTorch loop.

It makes six phantoms (synthetic, no patients) in memory and needs no file: `python examples/plain_loop.py`.
"""

import torch
from torch import nn

from monai_jdt.data import brats_phantom
from monai_jdt.losses import JDTCELoss
from monai_jdt.metrics import ThresholdedDice
from monai_jdt.raters import fuse_average

torch.manual_seed(0)
regions = {"TC": [1, 4], "WT": [1, 2, 4], "ET": [4]}

# One image of four contrasts and one stack of label maps per case. A rater who drew nothing at all is not in the stack.
cases = [brats_phantom(index, shape=(24, 24, 24)) for index in range(6)]
images = torch.stack([torch.from_numpy(case.image) for case in cases])  # (6, 4, 24, 24, 24)
stacks = [torch.stack([torch.from_numpy(votes) for votes in case.raters.values()]) for case in cases]  # (raters, 24, 24, 24) each
print("raters of each case:", [len(stack) for stack in stacks])

# Cases with fewer raters are padded, and a padded rater has the weight 0.
most = max(len(stack) for stack in stacks)
votes = torch.stack([nn.functional.pad(stack, (0, 0) * 3 + (0, most - len(stack))) for stack in stacks])
weights = torch.stack([torch.arange(most) < len(stack) for stack in stacks]).float()

network = nn.Sequential(
    nn.Conv3d(4, 16, 3, padding=1),
    nn.InstanceNorm3d(16),
    nn.ReLU(),
    nn.Conv3d(16, 16, 3, padding=1),
    nn.InstanceNorm3d(16),
    nn.ReLU(),
    nn.Conv3d(16, len(regions), 1),
)
# The regions overlap: each channel has its own sigmoid. The loss fuses the votes as it reads them.
loss_function = JDTCELoss(sigmoid=True, votes=True, regions=list(regions.values()))
optimizer = torch.optim.Adam(network.parameters(), lr=0.02)

for step in range(30):
    optimizer.zero_grad()
    loss = loss_function(network(images[:5]), votes[:5], rater_weights=weights[:5])
    loss.backward()
    optimizer.step()
    if step % 10 == 9:
        print(f"step {step + 1}: loss {loss.item():.3f}")

# The sixth case was not trained on. Its prediction is compared with the share of its raters who marked a voxel.
with torch.no_grad():
    probability = network(images[5:]).sigmoid()
share = fuse_average(stacks[5], list(regions.values()))[None]
(scores,) = ThresholdedDice(thresholds="qubiq")(y_pred=probability, y=share)
for name, score in zip(regions, scores, strict=True):
    print(f"{name}: thresholded Dice {score:.2f}")
