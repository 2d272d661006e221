"""Files of voxels: how they are opened and read, where their voxels lie, which values they hold; and how files are written."""
