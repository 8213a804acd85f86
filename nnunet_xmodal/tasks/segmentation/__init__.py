"""Segmentation with several streams: attention, missing streams, a region of interest."""
