"""What a notebook of the course asks of its reader: predictions before answers, and blanks in its code."""

from ..contest import beat_the_machine
from . import figures, invariance
from .blanks import Blank, check
from .gammas import gamma_dials
from .leak import leak_microscope
from .parabolas import two_parabolas
from .predictions import Prediction, calibration, nearest, predict

__all__ = [
    "Blank",
    "Prediction",
    "____",
    "beat_the_machine",
    "calibration",
    "check",
    "figures",
    "gamma_dials",
    "invariance",
    "leak_microscope",
    "nearest",
    "predict",
    "two_parabolas",
]

____ = Blank()  # what stands in a cell where the reader is to write
