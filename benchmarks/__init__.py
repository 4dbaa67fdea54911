"""Measurements: speed against peers or twins, and the spread of results over seeds."""
