"""Which optimizer moves which weights, and how fast."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from transformers import PreTrainedModel, TrainingArguments

from train.optim.muon import Muon
from train.settings.arguments import OptimizerArguments


class MuonWithAdamW(Optimizer):
    """Muon for some groups and AdamW for the others, as one optimizer: one schedule, one state in a checkpoint.

    Args:
        adamw_groups, muon_groups: parameter groups, with `lr` and `weight_decay` each.
        betas, epsilon: AdamW's.
        momentum: Muon's.
    """

    def __init__(
        self,
        adamw_groups: list[dict],
        muon_groups: list[dict],
        betas: tuple[float, float],
        epsilon: float,
        momentum: float,
    ):
        self._adamw = AdamW(adamw_groups, betas=betas, eps=epsilon, fused=True)
        self._muon = Muon(muon_groups, lr=0.0, weight_decay=0.0, momentum=momentum)
        self._adamw_groups = len(adamw_groups)
        super().__init__([*self._adamw.param_groups, *self._muon.param_groups], {})

    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        n = self._adamw_groups
        for part, groups in ((self._adamw, self.param_groups[:n]), (self._muon, self.param_groups[n:])):
            # Anew at each step, since loading a checkpoint replaces both.
            part.param_groups, part.state = groups, self.state
            part.step()
        return loss


def group_parameters(
    model: PreTrainedModel, decayed: Iterable[str], training: TrainingArguments, settings: OptimizerArguments
) -> dict[str, dict[str, Any]]:
    """The model's weights by kind, each with its learning rate and weight decay.

    Args:
        decayed: names of the parameters that weight decay applies to.

    Returns:
        "vectors" (norms and biases), "embeddings" (the tied head among them) and "hidden": the matrices of the blocks.
    """
    head = model.get_output_embeddings()
    hidden_names = {
        f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear) and module != head
    }
    decayed = set(decayed)
    groups: dict[str, dict[str, Any]] = {
        kind: {"params": [], "lr": training.learning_rate * scale, "weight_decay": decay}
        for kind, scale, decay in (
            ("vectors", 1.0, 0.0),  # the first: its learning rate, which is --learning_rate, is what the log shows
            ("embeddings", settings.embedding_lr_scale, training.weight_decay),
            ("hidden", settings.hidden_lr_scale, training.weight_decay),
        )
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = "vectors" if name not in decayed else "hidden" if name in hidden_names else "embeddings"
            groups[kind]["params"].append(parameter)
    return groups


def build_optimizer(
    model: PreTrainedModel, decayed: Iterable[str], training: TrainingArguments, settings: OptimizerArguments
) -> Optimizer:
    """The optimizer that `--optim_name` asks for, with a learning rate for each kind of weight."""
    groups = group_parameters(model, decayed, training, settings)
    betas = (training.adam_beta1, training.adam_beta2)
    if settings.optim_name == "muon":
        others = [groups["vectors"], groups["embeddings"]]
        return MuonWithAdamW(others, [groups["hidden"]], betas, training.adam_epsilon, settings.muon_momentum)
    return AdamW(list(groups.values()), betas=betas, eps=training.adam_epsilon, fused=True)
