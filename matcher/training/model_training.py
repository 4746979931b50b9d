"""What every training of ours shares: AdamW with warm-up and cosine, and a moving average of the weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import nn

from matcher.errors import UsageError
from matcher.training.last_checkpoint import check_fits
from matcher.training.schedule import learning_rate_share
from matcher.training.settings import OptimiserSettings
from matcher.training.shared_norms import share_norms


class ModelTraining(LightningModule):
    """Trains a model; subclasses say the loss.

    Args:
        model: what is trained
        optimiser: how the weights follow the loss
        compiled: compile the network
        frozen: modules of the backbone's network, by name, that keep the weights they start from

    Attributes:
        average: the model with averaged weights, or None
    """

    def __init__(self, model: nn.Module, optimiser: OptimiserSettings, *, compiled: bool = False, frozen: Sequence[str] = ()) -> None:
        super().__init__()
        self.model, self.optimiser, self.compiled = model, optimiser, compiled
        self.frozen = freeze(model.backbone.network, frozen) if frozen else []
        self.average = copy.deepcopy(model).requires_grad_(False).eval() if optimiser.average else None

    @property
    def result(self) -> Any:
        """What the training is for: the model with the averaged weights, if there is an average."""
        return self.model if self.average is None else self.average

    @property
    def trained(self) -> nn.Module:
        """What holds the weights that the optimiser moves."""
        return self.model

    @property
    def size(self) -> int:
        """Side in pixels of the pictures that the model takes."""
        return int(self.model.size)

    def check_devices(self, count: int) -> None:
        """UsageError if so many devices cannot train it together."""

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.check_devices(self.trainer.world_size)
        if stage == "fit" and self.trainer.world_size > 1:
            share_norms(self.model)
        if stage == "fit" and self.compiled:
            self.model.compile()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """MatcherError if the checkpoint is of another model, or of an optimiser of other weights."""
        moved = parameter_groups(self.trained, self.optimiser.weight_decay) if self.trainer.training else ()
        check_fits(self, moved, checkpoint, self.trainer.ckpt_path or "the checkpoint")

    def on_train_start(self) -> None:
        self.model.train()
        for module in self.frozen:  # their batch norms keep what they knew
            module.eval()

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        super().optimizer_step(*arguments, **named)
        if self.average is not None:
            step = self.trainer.global_step
            follow(self.average, self.model, keep=min(self.optimiser.average, (1 + step) / (10 + step)))

    def configure_optimizers(self) -> dict[str, Any]:
        """UsageError if trainer.max_steps is not set."""
        steps, settings = self.trainer.max_steps, self.optimiser
        if steps < 1:
            raise UsageError("set trainer.max_steps: learning rate and hardness follow the share of the steps that is done")
        optimiser = torch.optim.AdamW(list(parameter_groups(self.trained, settings.weight_decay)), lr=settings.learning_rate)

        def share(step: int) -> float:
            return learning_rate_share(step, steps=steps, warm_up=settings.warm_up, final=settings.final)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, share)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def freeze(network: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Modules of a network by name -> the modules, which no optimiser changes any more. UsageError if there is none of a name."""
    known = dict(network.named_modules())
    for name in names:
        if not name or name not in known:
            raise UsageError(f"model.frozen: the backbone has no module {name!r}; it has {', '.join(dict(network.named_children()))}")
    return [known[name].requires_grad_(False) for name in names]


def parameter_groups(model: nn.Module, weight_decay: float) -> Iterator[dict[str, Any]]:
    """Matrices with weight decay, everything of one dimension (biases, scales) without."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    yield {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay}
    yield {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0}


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, *, keep: float) -> None:
    """Moves the averaged weights and statistics towards those of the model; whole numbers are copied."""
    pairs = list(zip(average.state_dict().values(), model.state_dict().values(), strict=True))
    moving = [(old, new) for old, new in pairs if old.is_floating_point()]
    torch._foreach_lerp_([old for old, _ in moving], [new for _, new in moving], 1 - keep)
    for old, new in pairs:
        if not old.is_floating_point():
            old.copy_(new)
