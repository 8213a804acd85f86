"""One modality from another."""
