"""Sharding by the Trainer: each process holds a part of the model, and of the optimizer's state."""

from pathlib import Path

import torch
from torch.distributed.device_mesh import init_device_mesh
from transformers.distributed import DistributedConfig
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from train.sharding import shard_model
from train.trainer.saving import SavingTrainer


class ShardingTrainer(SavingTrainer):
    """Identical to `SavingTrainer`, except that the model may be sharded (see `train.sharding`), and trains, is saved
    and goes on as a whole one.

    The stock Trainer refuses to save checkpoints of such a model, but only as it is made: this one shards after that.
    Three private methods are overridden: `_save_optimizer_and_scheduler` and `_load_optimizer_and_scheduler`, since the
    stock ones let the main process alone save, and read the whole state into each device; and
    `_sync_replicated_trainable_parameters`, which averages by what gloo lacks the gradients of what is not sharded:
    under tensor parallelism they are the same already.
    """

    def __init__(self, *args, sharding: DistributedConfig | None, **kwargs):
        super().__init__(*args, **kwargs)
        self.is_distributed_loading_by_transformers = self.is_sharded = sharding is not None
        if sharding is None:
            return
        shard_model(self.model, sharding)
        # Gradients are parted after each batch of a step, at the price of sending them more often.
        self.accelerator.gradient_state.plugin_kwargs["sync_each_batch"] = True
        if sharding.tp_size > 1:
            # By these names, accelerate gives the processes that share a matrix the same batches. Its own
            # ParallelismConfig refuses CPUs.
            shape = (sharding.dp_replicate_size, sharding.fsdp_size, sharding.tp_size)
            names = ("dp_replicate", "dp_shard", "tp")
            self.accelerator.state.device_mesh = init_device_mesh(self.args.device.type, shape, mesh_dim_names=names)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.is_sharded and not self.args.should_save:
            self.optimizer.state_dict()  # gathers it together with the main process, which saves it
        super()._save_optimizer_and_scheduler(output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.is_sharded or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        # Mapped, so that only what the shards need is read.
        state = torch.load(Path(checkpoint, OPTIMIZER_NAME), map_location="cpu", weights_only=True, mmap=True)
        self.optimizer.load_state_dict(state)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint, SCHEDULER_NAME), weights_only=True))

    def _sync_replicated_trainable_parameters(self, model: torch.nn.Module) -> None:
        pass
