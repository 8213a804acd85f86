"""Rigid transforms, surfaces, grids and the way from voxels to millimetres; knows nothing of networks or trainers."""
