"""Distributed, cross-validated hyperparameter sweeps for image segmentation."""

__version__ = "0.1.0"
