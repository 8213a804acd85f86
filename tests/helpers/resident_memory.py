"""How much memory this process holds."""

import os


def resident() -> int:
    """Bytes, as Linux counts them."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
