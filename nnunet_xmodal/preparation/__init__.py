"""From native scans to a raw dataset of nnU-Net: found, read, aligned, resampled, cropped, checked by eye.

Every case is prepared by itself (`case`), and leaves a record of what went in and what came out (`record`), from which
the report is written and by which a second run knows what is missing.
"""
