"""Networks, each made of blocks."""
