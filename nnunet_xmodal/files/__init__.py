"""Files: how they are read, written and trusted."""
