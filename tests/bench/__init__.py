"""Measurements, as ratios within one run. Never assertions: the machines are shared and noisy."""
