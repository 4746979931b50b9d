"""A strategy and places -> an error for what a long run would stumble over at its end. Reads names and headers, no weights."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from os import PathLike
from pathlib import Path

from matcher.background import Background
from matcher.describe import made_by, wants, weights_path
from matcher.errors import MatcherError
from matcher.images.table import list_pictures
from matcher.index_gpu import check_gpu
from matcher.metrics.truth import GroundTruth
from matcher.models.cards import find_model, read_card
from matcher.scoring.nearest import choose_device
from matcher.scoring.pair_model import ROOMS
from matcher.settings import DescriptorSettings, Strategy
from matcher.shortlist.rules import check_rules
from matcher.stages.collecting import collection_config
from matcher.stages.collection import Collection, is_collection, is_unfinished
from matcher.stages.predicting import load_fusion
from matcher.stages.scoring import check_pair_model
from matcher.views.choose import OVERLAYS

Place = str | PathLike[str]
log = logging.getLogger("matcher")


def check_ready(strategy: Strategy, *, queries: Place, references: Place) -> None:
    """UsageError or MatcherError if a model that the strategy names is not there, a rule cannot be met, a GPU
    is missing that must be there, or a place holds no pictures.

    StaleStageError if the references are a collection that other settings made.
    """
    load_fusion(strategy)
    check_gpu(strategy.index)
    if strategy.scorers.sift is not None and strategy.scorers.sift.gpu == "yes":
        choose_device("yes")
    if (descriptor := strategy.descriptor) is not None:
        check_descriptor(descriptor)
        check_rules(strategy.shortlist.descriptor, descriptor)
    if strategy.query_crop is not None:
        check_detector(strategy.query_crop.detector)
    if (model := strategy.scorers.pair_model) is not None:
        read_card(find_model(model.model, ROOMS))
        check_pair_model(strategy, model)
    list_pictures(queries, "queries")
    if is_collection(references):
        check_collection(Collection.read(references), strategy)
    elif is_unfinished(references):
        raise MatcherError(f"{references} is a collection whose first `matcher add` was cut short: give that command again")
    else:
        list_pictures(references, "references")


def read_truth(ground_truth: Place, *, queries: Place, references: Place) -> GroundTruth:
    """CSV -> ground truth, before the work; a warning if it names queries or references that are not there (not of a collection)."""
    truth = GroundTruth.read(Path(ground_truth))
    places = {"queries": (queries, truth.queries()), "references": (references, [reference for _, reference in truth.pairs()])}
    for side, (place, named) in places.items():
        if is_collection(place):
            continue
        listing = list_pictures(place, side)[1]
        there = {*listing.ids, *(broken[0] for broken in listing.broken)}
        if absent := [name for name in dict.fromkeys(named) if name not in there]:
            who = f"{len(absent):,} of the {side} that {ground_truth} names, the first {absent[0]},"
            log.warning("%s are not among those of %s: their pairs count as missed", who, place)
    return truth


def check_collection(collection: Collection, strategy: Strategy) -> None:
    """StaleStageError if other settings made the collection, MatcherError if it is empty. It may have descriptors that nobody asks for."""
    config = collection_config(strategy)
    collection.refuse_other(config if strategy.descriptor is not None else {**config, "descriptor": collection.config["descriptor"]})
    next(collection.read_pictures())


def check_descriptor(settings: DescriptorSettings) -> None:
    """Likewise, of a descriptor."""
    maker = made_by(settings)
    if settings.background is not None:
        Background.load(weights_path(settings.background, "background"), made_by=maker)
    if settings.detector is not None and wants([*settings.query_views, *settings.reference_views], OVERLAYS):
        check_detector(settings.detector)


def check_detector(name: str) -> None:
    """Likewise, of an overlay detector. MatcherError too if the extra that it needs is not installed."""
    read_card(weights_path(name, "overlay"))
    if find_spec("ultralytics") is None:
        raise MatcherError("the overlay detector needs ultralytics: pip install matcher[overlay] (ultralytics is AGPL-3.0)")
