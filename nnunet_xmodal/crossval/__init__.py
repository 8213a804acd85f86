"""Trainers × folds as jobs: each one stock call of `nnUNetv2_train`, here or on a cluster."""
