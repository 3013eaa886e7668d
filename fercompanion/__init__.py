"""A companion to four facial-expression-recognition papers: faces, key regions, networks, runs, tables, figures."""

from .data import CK_CLASSES, FER_CLASSES, DataError, Faces, clean_mask, load_faces
from .landmarks import Landmarks, find_landmarks
from .losses import triplet_loss
from .models import MODELS, Output, build_model
from .plans import PROFILES, profile
from .protocols import frame_folds, sequence_folds, subject_folds
from .recipes import ARMS, OURS, PAPER, PAPER_CK, Recipe, arm
from .regions import key_region_mask
from .runs import Run, find_all
from .sweeps import complete

__all__ = [
    "ARMS", "CK_CLASSES", "FER_CLASSES", "MODELS", "OURS", "PAPER", "PAPER_CK", "PROFILES", "DataError", "Faces",
    "Landmarks", "Output", "Recipe", "Run", "arm", "build_model", "clean_mask", "complete", "find_all",
    "find_landmarks", "frame_folds", "key_region_mask", "load_faces", "profile", "sequence_folds",
    "subject_folds", "triplet_loss",
]  # fmt: skip
