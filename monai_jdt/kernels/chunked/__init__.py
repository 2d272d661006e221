"""The CPU kernel of torch operations on chunks of voxels: no compiler, and no temporary as large as the logits."""
