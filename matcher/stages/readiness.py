"""A strategy and places -> an error for what a long run would stumble over at its end. Reads names and headers, no weights."""

from __future__ import annotations

from importlib.util import find_spec
from os import PathLike

from matcher.background import Background
from matcher.describe import made_by, wants, weights_path
from matcher.errors import MatcherError
from matcher.images.table import list_pictures
from matcher.index_gpu import check_gpu
from matcher.models.cards import find_model, read_card
from matcher.scoring.nearest import choose_device
from matcher.scoring.pair_model import ROOMS
from matcher.settings import DescriptorSettings, Strategy
from matcher.shortlist.rules import check_rules
from matcher.stages.collecting import collection_config
from matcher.stages.collection import Collection, is_collection
from matcher.stages.predicting import load_fusion
from matcher.stages.scoring import check_pair_model
from matcher.views.choose import OVERLAYS


def check_ready(strategy: Strategy, *, queries: str | PathLike[str], references: str | PathLike[str]) -> None:
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
    else:
        list_pictures(references, "references")


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
