"""Train on the votes of several raters with MONAI's Auto3DSeg: analysis, a network per fold, and their ensemble.

It writes phantoms (synthetic, no patients) into a temporary folder, and downloads nothing:
`python examples/auto3dseg/train_jdtvotes.py`.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from monai.apps.auto3dseg import AutoRunner
from monai.bundle import ConfigParser

from monai_jdt.data import brats_datalist, write_brats_phantoms

folder = tempfile.TemporaryDirectory()
root = write_brats_phantoms(os.path.join(folder.name, "phantoms"), cases=9, shape=(16, 16, 16), progress=False)

# Auto3DSeg reads the Decathlon's lists. Its analysis needs one hard label per case: here the majority, which lies beside the raters.
# `monai-jdt fuse` makes it. The template trains on "raters".
items = [
    {"image": case["image"], "label": case["raters"][0].replace("_seg_rater1", "_seg"), "raters": case["raters"], "fold": index % 2}
    for index, case in enumerate(brats_datalist(root))
]
datalist = os.path.join(folder.name, "list.json")
Path(datalist).write_text(json.dumps({"training": items[:8], "testing": [{"image": items[8]["image"]}]}))

runner = AutoRunner(
    work_dir=os.path.join(folder.name, "runs"),
    # `loss` and the other keys of hyper_parameters.yaml may stand here too
    input={"modality": "MRI", "datalist": datalist, "dataroot": root, "sigmoid": True},
    templates_path_or_url=str(Path(__file__).parent / "templates"),
    algos="jdtvotes",
)
runner.set_analyze_params({"device": "cpu", "do_ccp": False})
# one process; several: f"{sys.executable} -m torch.distributed.run --nnodes=1 --nproc_per_node=2"
runner.set_device_info(cuda_visible_devices="", cmd_prefix=sys.executable)
runner.run()

for fold in (0, 1):
    progress = ConfigParser.load_config_file(f"{folder.name}/runs/jdtvotes_{fold}/model/progress.yaml")
    losses, score = progress[-1]["losses"], progress[-1]["best_avg_dice_score"]
    print(f"fold {fold}: loss {losses[0]:.4f} to {losses[-1]:.4f}, thresholded Dice {score:.2f}")
print("prediction:", *(file.name for file in Path(folder.name, "runs", "ensemble_output").rglob("*.nii.gz")))
folder.cleanup()
