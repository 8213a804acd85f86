"""Datasets in nnU-Net's layout: what is in them, whether it is right, and how batches are loaded."""
