"""The page that a person looks at: one self-contained HTML file.

Each picture is embedded once, as an SVG ``<image>`` at the end of the page, and shown by ``<use>`` wherever it appears: that needs
no script, prints, and lets picture and outline share one coordinate system. The script only sorts, filters and counts.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from matcher.errors import MatcherError, UsageError
from matcher.images.table import ImageSet
from matcher.metrics.evaluation import Evaluation
from matcher.metrics.judged import judge
from matcher.metrics.predicted import ScoredPairs
from matcher.metrics.truth import GroundTruth
from matcher.report import judging
from matcher.report.cards import Card, Dealer
from matcher.report.quality import describe_quality
from matcher.report.thumbnails import make_thumbnails
from matcher.report.words import fact_in_words, name_in_words, percent
from matcher.settings import ImageSettings
from matcher.storage.aside import write_aside
from matcher.types import Predictions

ROOM = Path(__file__).parent
NO_FACTS: Mapping[str, Any] = MappingProxyType({})


def write_report(
    path: str | Path,
    predictions: Predictions,
    queries: ImageSet,
    references: ImageSet,
    *,
    truth: GroundTruth | None = None,
    evaluation: Evaluation | None = None,
    facts: Mapping[str, Any] = NO_FACTS,
    limit: int = 500,
    image_settings: ImageSettings = ImageSettings(),
) -> Path:
    """Predictions and both image sets -> a self-contained HTML page at ``path``, which is returned.

    ``facts`` (name -> number, text or mapping) say what was run. At most ``limit`` predictions are shown, the best of each query
    and all probable ones first, and with a truth at most as many missed pairs. A picture that cannot be read becomes a box with the reason.
    The same input gives the same bytes. UsageError if the limit is negative, MatcherError if the page cannot be written.
    """
    if limit < 0:
        raise UsageError(f"the report's limit must be 0 or more, got {limit}")
    truth = truth or None  # one that lists nothing judges nothing
    ranking = judge(ScoredPairs.from_predictions(predictions), truth).ranking if truth else None
    threshold = judging.choose_threshold(ranking)
    rows = judging.choose_rows(predictions, limit=limit).tolist()
    missed = judging.find_missed(predictions, truth, threshold=threshold) if truth else []
    below = {row for _, row in missed}
    found, not_found = [row for row in rows if row not in below], missed[:limit]
    pairs = judging.pairs_of(predictions)
    shown = [pairs[row] for row in found] + [pair for pair, _ in not_found]
    dealer = prepare_cards(predictions, shown, queries, references, truth, image_settings)
    text = render(
        found=[dealer.card(row) for row in found],
        missed=[dealer.card_of_never_predicted(pair) if row is None else dealer.card(row, missed=True) for pair, row in not_found],
        counts=judging.count(predictions, truth, threshold=threshold),
        threshold=threshold,
        summary=summarise(predictions, shown=len(rows)),
        missed_note=f"; {len(not_found):,} of {len(missed):,} are shown" if len(not_found) < len(missed) else "",
        quality=describe_quality(ranking, evaluation) if ranking else None,
        facts={name_in_words(str(name)): fact_in_words(value) for name, value in facts.items()},
    )
    return write(Path(path), text)


def prepare_cards(
    predictions: Predictions,
    pairs: Sequence[judging.Pair],
    queries: ImageSet,
    references: ImageSet,
    truth: GroundTruth | None,
    settings: ImageSettings,
) -> Dealer:
    """The pairs that will be on the page -> who makes their cards, with all pictures read."""
    return Dealer(
        predictions,
        judging.judge(predictions, truth),
        judging.true_references(truth),
        make_thumbnails(queries, (query for query, _ in pairs), settings=settings),
        make_thumbnails(references, (reference for _, reference in pairs), settings=settings),
    )


def summarise(predictions: Predictions, *, shown: int) -> str:
    """How many predictions there are, and which of them the page shows."""
    queries = len(np.unique(predictions.query_id))
    whole = f"{count_of(len(predictions), 'prediction')} for {count_of(queries, 'query', 'queries')}"
    if shown == len(predictions):
        return f"{whole}, best first." if shown else "No predictions."
    left_out = len(predictions) - shown
    return (
        f"{whole}; {shown:,} of them are shown, the best of each query and the probable ones before all others, and {left_out:,} left out."
    )


def count_of(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def render(*, found: Sequence[Card], missed: Sequence[Card], counts: judging.Counts, **values: Any) -> str:
    """Cards and words -> the page. Everything that comes from outside is escaped by the template engine."""
    room = Environment(loader=FileSystemLoader(ROOM), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    room.filters |= {"percent": percent, "plain": plain}
    sides = [side for card in (*found, *missed) for side in (card.query, card.reference)]
    pictures = {side.picture.uri: side.picture for side in sides if side.picture.uri}
    style, script = (Markup((ROOM / name).read_text("utf-8")) for name in ("page.css", "page.js"))
    inline = f"style-src '{digest(style)}'; script-src '{digest(script)}'"
    return room.get_template("page.html.jinja").render(
        found=found,
        missed=missed,
        counts=counts,
        has_learned=any(side.learned or (side.outline and side.outline.is_learned) for side in sides),
        counts_data=asdict(counts),
        pictures=pictures.values(),
        symbols={uri: f"i{i}" for i, uri in enumerate(pictures)},
        style=style,
        script=script,
        policy=f"default-src 'none'; img-src data:; {inline}; base-uri 'none'; form-action 'none'",
        **values,
    )


def plain(number: float) -> str:
    """A number for the script with all its digits, nothing for NaN."""
    return "" if number != number else repr(number)


def digest(text: str) -> str:
    """What a content security policy calls an inline style or script that it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def write(path: Path, text: str) -> Path:
    """The page -> its file, whole or not at all; parts of names that are no text (broken file names) are written as \\udc.."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MatcherError(f"cannot make the folder {path.parent}: {error.strerror}") from error
    with write_aside(path) as file:
        file.write(text.encode("utf-8", errors="backslashreplace"))
    return path
