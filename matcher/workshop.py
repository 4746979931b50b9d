"""The verbs around a run: benchmarks, backgrounds and fitted models are made here, strategies compared, files converted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from matcher.errors import UsageError
from matcher.pipeline import Place
from matcher.settings import Strategy
from matcher.stages.job import Job
from matcher.verb import verb

MYPY = False  # see pipeline.py
if MYPY:
    from matcher.data.synthesize import BenchmarkSummary
    from matcher.shortlist.false_links import FalseLinks
    from matcher.stages.ablating import Ablation
    from matcher.stages.fitting import Fitted

ScorerName = Literal["sift", "sub_image", "pair_model", "match_count"]


@verb
def synthesize(
    photos: Place,
    output: Place,
    *,
    queries: int = 200,
    references: int | None = None,
    distractor_share: float = 0.5,
    several_share: float = 0.0,
    difficulty: Literal["easy", "usual", "hard"] = "usual",
    max_side: int = 640,
    reference_side: int = 384,
    seed: int = 0,
    workers: int = 0,
    fresh: bool = False,
) -> BenchmarkSummary:
    """Your own photos -> a benchmark: references, edited queries, and the truth about every pixel.

    Args:
        photos: a folder (recursive), a glob, a list file, or a CSV/Parquet table with columns id and path
        output: folder of the benchmark; made anew if the same command made it
        queries: edited pictures to make
        references: photos that become references; null = two in three. The others give strangers and what is pasted
        distractor_share: share of the queries that are copies of nothing
        several_share: share of the copies that show two to four references at once
        difficulty: how many edits, and how strong
        max_side: longer side of the queries in pixels
        reference_side: longer side of the references in pixels
        seed: same seed, same bytes
        workers: threads; 0 = one for each core
        fresh: throw a benchmark of other settings away that is there
    """
    from matcher.data import synthesize as generator

    return generator.synthesize(
        str(photos),
        str(output),
        queries=queries,
        references=references,
        distractor_share=distractor_share,
        several_share=several_share,
        difficulty=difficulty,
        max_side=max_side,
        reference_side=reference_side,
        seed=seed,
        workers=workers,
        fresh=fresh,
    )


@verb
def contact_sheet(
    photos: Place,
    output: Place,
    *,
    recipe: str = "benchmark",
    rows: int = 4,
    seed: int = 0,
    hardness: float = 1.0,
    cache: Place | None = None,
) -> Path:
    """Photographs -> a picture of what a recipe of edits makes of them, with frames, visible parts and boxes.

    Each photo above its edit: outlined in red where it went, tinted green where it is visible; boxes are yellow (pasted picture),
    cyan (emoji or sticker) and magenta (text block).

    Args:
        photos: a folder of photos, or of .tar files with photos
        output: PNG file
        recipe: a name in experiments/augmentations, or a YAML file
        rows: rows of eight photos
        seed: same seed, same sheet
        hardness: 0 (mild) to 1
        cache: folder of the decoded photos
    """
    from matcher.data.augmentations.sheet import contact_sheet_verb

    return contact_sheet_verb(photos, output, recipe=recipe, rows=rows, seed=seed, hardness=hardness, cache=cache)


@verb
def whiten(descriptor: Place, photos: Place, output: Place, *, size: int | None = None, pictures: int = 4000, seed: int = 0) -> Path:
    """Checkpoint of a trained descriptor -> the same one whose numbers do not vary together.

    Args:
        descriptor: safetensors file
        photos: those that it was trained on
        output: safetensors file
        size: side in pixels of the pictures that it takes from now on; null = as in training
        pictures: at most this many of the photographs are drawn
        seed: of the draw
    """
    from matcher.training.whitening import whiten as fold_whitening

    return fold_whitening(descriptor, photos, output, size=size, pictures=pictures, seed=seed)


@verb
def make_background(
    photos: Place, output: Place, *, strategy: Strategy = Strategy(), pictures: int = 4000, seed: int = 0, job: Job = Job()
) -> Path:
    """Photographs that are nobody's references -> the background set that the strategy's descriptor is normalised against.

    Args:
        photos: a folder (recursive), a glob, a list file, or a CSV/Parquet table with columns id and path
        output: safetensors file
        strategy: what its descriptor is, and how its references are decoded
        pictures: at most this many of the photographs are drawn
        seed: of the draw
        job: how it is done
    """
    from matcher import background
    from matcher.engine.kernels import available_cores

    workers = job.workers or available_cores()
    return background.make_background(photos, output, strategy=strategy, pictures=pictures, seed=seed, workers=workers)


@verb
def false_links(gallery: int, *, strategy: Strategy = Strategy(), seed: int = 0) -> FalseLinks:
    """How alike strangers get by the strategy's descriptor and background -> above which similarity a false link is how rare.

    Args:
        gallery: references that queries will be compared with, how many
        strategy: its descriptor names a background
        seed: of the resamples
    """
    from matcher.background import load_background
    from matcher.shortlist.false_links import expect_false_links
    from matcher.stages.descriptors import descriptor_of

    settings = descriptor_of(strategy)
    background = load_background(settings)
    if background is None:
        raise UsageError("false links are counted among strangers: name a background in descriptor.background (matcher background)")
    return expect_false_links(background, settings, gallery=gallery, seed=seed)


@verb
def fit_fusion(pair_scores: Place, ground_truth: Place, output: Place, *, scorers: list[ScorerName] | None = None, seed: int = 0) -> Fitted:
    """Labelled pair scores -> the fusion model that `fuse` and `calibrate` use.

    Args:
        pair_scores: the folder that `score` wrote (`pair_scores` in that of a run), on pairs that `synthesize` made, never those
            of an evaluation
        ground_truth: CSV with query_id,reference_id
        output: JSON file
        scorers: whose evidence counts; null = that of all who looked at these pairs
        seed: of the folds
    """
    from matcher.stages.fitting import fit_on

    return fit_on(Path(pair_scores), ground_truth, Path(output), scorers=scorers, seed=seed)


@verb
def ablate(
    queries: Place,
    references: Place,
    ground_truth: Place,
    output: Place,
    *,
    rows: dict[str, list[Any]],
    edits: Place | None = None,
    job: Job = Job(),
    resamples: int = 1000,
    seed: int = 0,
) -> Ablation:
    """A grid of strategies on one benchmark -> one table: accuracy, what each costs, and the difference to the first.

    Args:
        queries: a folder (recursive), a glob, a list file, or a CSV/Parquet table with columns id and path
        references: likewise
        ground_truth: CSV with query_id,reference_id; an empty reference_id means a copy of nothing
        output: folder of the table and of the stage files, which further calls use again
        rows: by name, the YAML files and differences that make each strategy, the last one wins
        edits: CSV with families, severity, covered and frame, for a table by edit
        job: how it is done
        resamples: bootstrap resamples of the queries
        seed: of the resamples
    """
    from matcher.stages.ablating import ablate_strategies

    return ablate_strategies(
        queries, references, ground_truth, Path(output), rows=rows, edits=edits, job=job, resamples=resamples, seed=seed
    )


@verb
def convert(source: Place, output: Place, *, rows: int = 500_000, strategy: Strategy = Strategy()) -> Path:
    """Predictions and descriptors -> the files of the Image Similarity Challenge 2021, and these -> predictions.

    predictions.parquet or a CSV becomes a CSV with the best rows; the folder of a run becomes HDF5 with a vector of every whole
    picture, after descriptor.post; such HDF5 becomes a CSV with the closest pairs, by minus the squared distance.

    Args:
        source: predictions (.parquet, .csv), a folder that `run` wrote (to .h5), or descriptors (.h5, .hdf5)
        output: .csv or .h5
        rows: of a CSV at most, the best ones; the challenge takes 500,000
        strategy: the one that described the folder; its descriptor.post and background may be others
    """
    from matcher.stages.converting import convert_file

    return convert_file(Path(source), Path(output), rows=rows, strategy=strategy)
