"""The one step that touches voxels: (logits, label, mask) to sums for each image and class. `eager` is the definition."""
