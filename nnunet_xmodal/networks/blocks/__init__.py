"""One block of one paper each."""
