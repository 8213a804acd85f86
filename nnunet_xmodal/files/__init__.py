"""Reading and writing of files: volumes with their place in space, JSON, temporary folders."""
