"""The CPU kernel that numba compiles: one pass over the voxels forward, one backward, shared out among threads."""
