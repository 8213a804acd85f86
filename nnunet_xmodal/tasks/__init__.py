"""One folder per task: its checks, loaders, predictor, validation and outputs."""
