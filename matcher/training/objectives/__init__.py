"""What a training of a descriptor minimises: parts that a config names under ``model.init_args.objective``."""

from matcher.training.objectives.arc_face_classes import ArcFaceClasses
from matcher.training.objectives.barlow_twins import BarlowTwins
from matcher.training.objectives.classes_and_triplet import ClassesAndTriplet
from matcher.training.objectives.contrastive_memory import ContrastiveMemory
from matcher.training.objectives.info_nce import InfoNCE
from matcher.training.objectives.objective import Objective

__all__ = ["ArcFaceClasses", "BarlowTwins", "ClassesAndTriplet", "ContrastiveMemory", "InfoNCE", "Objective"]
