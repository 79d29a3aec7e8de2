"""Stand-in: starts the processes of a distributed test on the CPU, and hands on what fails in them."""

import os
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing


def run_distributed(world_size):
    """`run_distributed(2)(function)(*arguments)` calls `function(rank, *arguments)` in two joined processes."""

    def with_arguments(function):
        def run(*arguments):
            with tempfile.TemporaryDirectory() as folder:
                _start_rank_processes(_in_group, (world_size, f"{folder}/store", function, arguments), world_size)

        return run

    return with_arguments


def _in_group(rank, world_size, store_file, function, arguments):
    os.environ |= {"WORLD_SIZE": str(world_size), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    store = dist.FileStore(store_file, world_size)
    dist.init_process_group(_get_distributed_backend(), store=store, rank=rank, world_size=world_size)
    try:
        function(rank, *arguments)
        dist.barrier()
    finally:
        dist.destroy_process_group()


def _start_rank_processes(function, args, nprocs):
    torch.multiprocessing.spawn(_on_one_thread, args=(function, args), nprocs=nprocs)


def _on_one_thread(rank, function, arguments):
    torch.set_num_threads(1)  # the processes share the machine's cores
    function(rank, *arguments)


def _get_distributed_backend():
    return "gloo"


def _get_distributed_device_type():
    return "cpu"


def _get_rank_device(rank):
    return torch.device("cpu")


def _set_rank_device(rank):
    pass
