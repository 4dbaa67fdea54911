"""How well a trained network does: average precision of detectors, accuracy of classifiers."""
