"""Networks, their losses and what turns raw maps into boxes."""

from models.decode import Thresholds
from models.detector import Detector, Found, load_detector

__all__ = ["Detector", "Found", "Thresholds", "load_detector"]
