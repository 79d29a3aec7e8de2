"""Which optimizer moves which weights, and how fast."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer
from transformers import PreTrainedModel, TrainingArguments

from train.optim.muon import take_muon_step
from train.settings.arguments import OptimizerArguments


class MuonWithAdamW(Optimizer):
    """AdamW, and Muon for the parameter groups that have a `momentum`, as one optimizer: one schedule, one state in a
    checkpoint. Groups for Muon come last."""

    def __init__(self, groups: list[dict], betas: tuple[float, float], epsilon: float, in_bf16: bool = False):
        self._adamw = AdamW(_without_momentum(groups), betas=betas, eps=epsilon, fused=True)
        self._in_bf16 = in_bf16
        super().__init__([*self._adamw.param_groups, *groups[len(self._adamw.param_groups) :]], {})

    def step(self, closure=None):
        assert closure is None, "the Trainer gives none"
        # Anew at each step, since loading a checkpoint replaces both.
        groups = _without_momentum(self.param_groups)
        self._adamw.param_groups, self._adamw.state = _by_mesh(groups), self.state
        self._adamw.step()
        for group in self.param_groups:
            if "momentum" in group:
                take_muon_step(group, self.state, self._in_bf16)


def _without_momentum(groups: list[dict]) -> list[dict]:
    return [group for group in groups if "momentum" not in group]


def _by_mesh(groups: list[dict]) -> list[dict]:
    """The groups, parted by how their parameters are sharded: AdamW's fused kernel does not mix that."""
    parted = []
    for group in groups:
        parameters = defaultdict(list)
        for parameter in group["params"]:
            parameters[parameter.device_mesh if isinstance(parameter, DTensor) else None].append(parameter)
        parted += [{**group, "params": alike} for alike in parameters.values()]
    return parted


def build_optimizer(
    model: PreTrainedModel, decayed: Iterable[str], training: TrainingArguments, settings: OptimizerArguments
) -> Optimizer:
    """The optimizer that `--optim_name` asks for, with a learning rate for each kind of weight: "vectors" (norms and
    biases), "embeddings" (the tied head among them) and "hidden", the matrices of the blocks. `decayed` names the
    parameters that weight decay applies to. Where one rate serves all, the groups are the stock Trainer's."""
    rate, decay = training.learning_rate, training.weight_decay
    groups: dict[str, dict[str, Any]] = {
        "vectors": {"params": [], "lr": rate, "weight_decay": 0.0},  # the log shows the first group's rate
        "embeddings": {"params": [], "lr": rate * settings.embedding_lr_scale, "weight_decay": decay},
        "hidden": {"params": [], "lr": rate * settings.hidden_lr_scale, "weight_decay": decay},
    }
    if not settings.differs_from_stock:
        groups = {"decayed": {**groups["hidden"]}, "vectors": groups["vectors"]}
    if settings.optim_name == "muon":
        groups["hidden"]["momentum"] = settings.muon_momentum
    head = model.get_output_embeddings()
    hidden_names = {
        f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear) and module != head
    }
    decayed = set(decayed)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            matrix = "hidden" if name in hidden_names else "embeddings"
            kind = "vectors" if name not in decayed else matrix if matrix in groups else "decayed"
            groups[kind]["params"].append(parameter)
    betas = (training.adam_beta1, training.adam_beta2)
    return MuonWithAdamW(list(groups.values()), betas=betas, epsilon=training.adam_epsilon, in_bf16=training.bf16)
