"""Files of voxels: opening, reading, the place of voxels, the values of labels. Files of any kind: the one way to write."""
