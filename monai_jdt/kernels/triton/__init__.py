"""The CUDA kernel, written in Triton: one pass over the voxels forward, one backward."""
