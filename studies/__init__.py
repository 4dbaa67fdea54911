"""Experiments that anyone can repeat: recipes of many runs, their table, and what it says of the paper."""
