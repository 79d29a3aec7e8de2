"""A model and its optimizer in shards, one for each process: FSDP2, its replicas (HSDP), and tensor parallelism.

What is saved is whole: state dictionaries are gathered from the shards and taken apart again, so that a checkpoint of
any number of processes goes on with any other, and opens on one machine.
"""

from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel
from transformers.distributed import DistributedConfig
from transformers.distributed.utils import initialize_distributed_mesh


def shard_model(model: PreTrainedModel, sizes: DistributedConfig) -> None:
    """Keep of a whole model, which all processes have alike, this process's shards.

    Each block is a group of FSDP2's, gathered while it computes. All else is one group more: the head must be in that
    of the embedding that it is tied to, or the two become different matrices. Tensor parallelism parts the blocks only:
    with a whole head, the loss needs no logits, and a vocabulary may be odd.
    """
    _, meshes = initialize_distributed_mesh(sizes)
    model.tp_plan = {name: style for name, style in model.tp_plan.items() if ".blocks." in name}
    model.maybe_distribute_model(model, sizes, meshes)
    model.register_load_state_dict_pre_hook(_part_weights)


def let_go_of_whole_weights(model: PreTrainedModel) -> None:
    """Free the whole copies of embedding and head, which FSDP2 keeps after a forward pass without a backward pass, as
    in text samples before the first step. An optimizer must not be given those copies: only the shards are trained."""
    if isinstance(model, FSDPModule):
        model.reshard()


def keep_state_whole(optimizer: Optimizer) -> None:
    """Let an optimizer's `state_dict` gather whole tensors, and its `load_state_dict` split them into shards. All
    processes must call `state_dict` together; only the main process gets the state, on the CPU."""
    optimizer.register_state_dict_post_hook(_gather_state)
    optimizer.register_load_state_dict_pre_hook(_part_state)


def to_whole(tensor: Tensor) -> Tensor:
    """A tensor without its sharding; all processes that hold shards must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def to_shard(whole: Tensor, like: Tensor) -> Tensor:
    """What this process keeps of a tensor that all have whole, sharded as `like` is."""
    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _part_weights(model: PreTrainedModel, state: dict[str, Tensor], *_) -> None:
    for name, parameter in model.named_parameters():
        if name in state:
            state[name] = to_shard(state[name], parameter)


def _gather_state(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    is_main, gathered = dist.get_rank() == 0, {}
    for number, values in state["state"].items():
        whole = {name: to_whole(value) for name, value in values.items()}
        if is_main:
            gathered[number] = {name: value.cpu() for name, value in whole.items()}
    return {**state, "state": gathered}


def _part_state(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    parted = {
        number: {
            name: to_shard(value, parameters[number]) if value.shape == parameters[number].shape else value
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }
    return {**state, "state": parted}
