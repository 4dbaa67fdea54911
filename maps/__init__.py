"""Where a network looks: maps of its evidence, and how well they fall on boxes."""
