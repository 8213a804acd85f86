"""The report of a comparison: what is in it, its tables and plots, and the files they end up in."""
