"""`matcher fit|validate|test|predict`: Lightning's command line over the trainings. Imports torch, so only these verbs import it."""

from __future__ import annotations

import logging
import warnings
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.multiprocessing.spawn import ProcessException

from matcher.cli.allowed import guard_imports
from matcher.cli.keys import class_keys, parameter_keys
from matcher.cli.refusals import one_sentence
from matcher.cli.words import content, plain_words
from matcher.cli.written import refuse_broken
from matcher.errors import MatcherError, UsageError
from matcher.storage.aside import remove_temporaries
from matcher.storage.home import located
from matcher.storage.lock import hold
from matcher.training.job import TrainingJob
from matcher.training.last_checkpoint import check_whole
from matcher.training.pace import Pace
from matcher.training.pairs import PairTraining
from matcher.training.predicting import WriteDescriptors, WritePairScores
from matcher.training.processes import KEPT, end_children, tell_plainly, told_by
from matcher.training.publishing import Publish
from matcher.training.slices import LAST, Slices

CONFIG = "config.yaml"
log = logging.getLogger("matcher")
SWITCHES = {"fresh"}
QUIET = ("lightning.pytorch", "lightning.fabric")
REMARKS = (
    ".*args parameter is intended.*",
    ".*does not have many workers.*",
    ".*in eval mode at the start.*",
    ".*callbacks used to create the checkpoint.*",
    ".*predict returned None.*",
    ".*It is recommended to use .self.log.*sync_dist=True.*",  # every process measures the same, or one does
    ".*isinstance\\(treespec, LeafSpec\\).*",
)
DEFAULTS: dict[str, Any] = {
    "devices": 1,
    "use_distributed_sampler": False,  # what a process works on is decided in PhotoPairs
    "enable_checkpointing": False,  # Slices saves
    "enable_progress_bar": False,  # Pace tells
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "max_epochs": -1,  # the draws have no end: max_steps counts
    "check_val_every_n_epoch": None,
}


class TrainingCLI(LightningCLI):
    """Lightning's command line; any LightningModule and LightningDataModule, with what every training of ours has."""

    begins: Mapping[str, Any] | None = None  # the config of a training that goes on from no other

    def __init__(self, words: Sequence[str], *, run: bool = True) -> None:
        super().__init__(
            LightningModule,
            LightningDataModule,
            args=list(words),
            run=run,
            subclass_mode_model=True,
            subclass_mode_data=True,
            trainer_defaults=DEFAULTS,
            seed_everything_default=0,
            save_config_callback=None,  # Publish and save_config write it
            parser_kwargs={"exit_on_error": False, "allow_abbrev": False, "prog": "matcher"},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(TrainingJob, instantiate=False)

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand] if self.subcommand else self.config
        self.job = TrainingJob(**{field.name: config[field.name] for field in fields(TrainingJob)})
        self.folder = Path(located(self.job.output))
        if self.subcommand and (config.weights_only is False or "://" in str(config.ckpt_path)):
            raise UsageError("a checkpoint is a file here, and read with weights_only: anything else could run code that lies in it")
        config.trainer.default_root_dir = str(self.folder)
        if self.subcommand == "fit":
            self.go_on(config)
        elif self.subcommand and config.ckpt_path is None:
            if (self.folder / LAST).exists():
                config.ckpt_path = str(self.folder / LAST)
            elif self.subcommand == "predict" and not config.get("model.init_args.weights"):
                raise UsageError(
                    f"{self.folder} holds no {LAST}: name the folder of a training with --output, or its file with --ckpt_path"
                )
            elif not rank_zero_only.rank:
                log.warning("%s holds no %s: this is the model as its config begins it, no training of it", self.folder, LAST)
        if self.subcommand and config.ckpt_path is not None and Path(config.ckpt_path).is_file():
            check_whole(Path(config.ckpt_path))

    def before_fit(self) -> None:
        """What several devices cannot do is told once, before there are several processes; then a new training has its folder."""
        for part in (self.model, self.datamodule):
            part.check_devices(self.trainer.num_devices * self.trainer.num_nodes)
        if rank_zero_only.rank:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = hold(self.folder)
        remove_temporaries(self.folder)
        if self.begins:
            (self.folder / LAST).unlink(missing_ok=True)  # an old training would go on if this one were killed before it saves
            (self.folder / CONFIG).write_text(yaml.safe_dump(self.begins, sort_keys=False), encoding="utf-8")

    def after_fit(self) -> None:
        """What was cut short, if a training was ended after its last step: the last validation, and the weights."""
        if self.publish.is_late(self.trainer):
            if self.trainer.limit_val_batches:
                self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)
            self.publish.on_train_end(self.trainer, self.model)

    def go_on(self, config: Namespace) -> None:
        """Takes up the training that stopped in the folder, if it was begun with this config and should not begin anew."""
        asked = self.as_plain(config)
        if self.job.fresh or not (self.folder / LAST).exists():
            self.begins = asked
            return
        begun = read_begun(self.folder)
        for part in ("model", "data"):
            if changed := first_difference(begun.get(part), asked.get(part), part):
                raise UsageError(f"{self.folder} was begun with another {changed}; name another output, or say --fresh to begin anew")
        config.ckpt_path = config.ckpt_path or str(self.folder / LAST)

    def as_plain(self, config: Namespace) -> dict[str, Any]:
        """The config as YAML holds it, without what says where and how long."""
        parser = self._parser(self.subcommand)
        plain = yaml.safe_load(parser.dump(config, skip_unset=False, format="yaml"))
        return {name: value for name, value in plain.items() if name not in {"config", "ckpt_path", "minutes", "fresh", "weights_only"}}

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer = super().instantiate_trainer(**kwargs, logger=self.loggers(), callbacks=[*self.own_callbacks(), *self.asked_callbacks()])
        return trainer

    def asked_callbacks(self) -> list[Callback]:
        """Those that the config names."""
        return list(self._get(self.config_init, "trainer").get("callbacks") or [])

    def own_callbacks(self) -> list[Callback]:
        """What every training of ours has, by verb."""
        if self.subcommand == "fit":
            self.slices = Slices(self.folder, minutes=self.job.minutes, every_minutes=self.job.every_minutes)
            self.publish = Publish(self.folder, self.as_plain(self.config.fit))
            return [Pace(), self.slices, self.publish]
        if self.subcommand == "predict":
            pairs = isinstance(self.model, PairTraining)
            return [WritePairScores(self.folder, fresh=self.job.fresh) if pairs else WriteDescriptors(self.folder)]
        return []

    def loggers(self) -> Any:
        """Curves of a training: TensorBoard in one folder, and a CSV for each slice."""
        if self.subcommand != "fit":
            return False
        return [TensorBoardLogger(self.folder, name="tensorboard", version=""), CSVLogger(self.folder, name="curves")]


def read_begun(folder: Path) -> dict[str, Any]:
    """Folder of a training that stopped -> the config it was begun with. MatcherError if that is not there."""
    held = content(str(folder / CONFIG))
    if not isinstance(held, dict):
        raise MatcherError(
            f"{folder} holds {LAST}, but no {CONFIG} that says what made it: put it back, name another --output, or say --fresh"
        )
    return held


def first_difference(begun: Any, asked: Any, where: str) -> str:
    """Two configs -> the first key, with dots, where they differ; empty if they are equal."""
    if not isinstance(begun, dict) or not isinstance(asked, dict):
        return "" if begun == asked else where
    differences = (first_difference(begun.get(key), asked.get(key), f"{where}.{key}") for key in [*begun, *asked])
    return next(filter(None, differences), "")


def train(verb: str, words: Sequence[str]) -> int:
    """A verb of Lightning's and the words after it -> the exit code; errors as the other verbs raise them."""
    quieten()
    if rank_zero_only.rank:  # one process tells
        logging.getLogger("matcher").setLevel(logging.WARNING)
    words = [verb, *plain_words(words, SWITCHES)]
    refuse_broken(words)
    guard_imports()
    try:
        cli = TrainingCLI(words)
    except ArgumentError as error:
        raise UsageError(one_sentence(str(error), TrainingJob, [TrainingJob], words, more=own_keys(words))) from error
    except UnpicklingError as error:
        raise MatcherError("the checkpoint of the training holds more than numbers, or is damaged: it is not read; say --fresh") from error
    except ValueError as error:  # a module or data whose own words were wrapped in the parser's
        if isinstance(error.__cause__, MatcherError):
            raise error.__cause__ from error
        raise
    except ProcessException as error:
        raise told_by(error) from error
    except RuntimeError as error:
        if "DataLoader worker" in str(error):  # see training/ahead.py
            raise MatcherError(f"the process that makes batches ahead ended: {KEPT}") from error
        raise
    except MisconfigurationException as error:  # a device that is not there, devices that do not go together
        raise UsageError(" ".join(str(error).split())) from error
    except SystemExit as done:
        if isinstance(done.__context__, KeyboardInterrupt):
            end_children()
            if rank_zero_only.rank:
                return 130
            raise KeyboardInterrupt from done
        return int(done.code or 0)
    if verb == "fit" and cli.slices.interrupted:
        raise KeyboardInterrupt
    return 0


def own_keys(words: Sequence[str]) -> Iterator[str]:
    """Plain words -> the keys of the trainer, and of the model and the data that they name."""
    yield from parameter_keys(Trainer, "trainer.")
    for part in ("model", "data"):
        yield from class_keys(part, words)


def quieten() -> None:
    """Leaves Lightning's warnings of real trouble; hides its tips and remarks on what we do on purpose."""
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    tell_plainly()
    for sentence in REMARKS:
        warnings.filterwarnings("ignore", message=sentence)
