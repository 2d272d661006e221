"""The folder that `nnUNet_extTrainer` names, so that `nnUNetv2_train -tr nnUNetTrainerJDT` finds the trainer.

nnU-Net imports every module of this folder, and then forgets them. So nothing may be defined here that another process must import.
"""
