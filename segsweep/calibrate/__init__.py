"""Temperatures, calibration and anomaly scores of trained models; nothing is trained."""
