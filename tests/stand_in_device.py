"""A device that stands in for an accelerator: its tensors compute on the CPU, and it notes where the host would wait.

They claim to be on the meta device. For that one torch runs the backward pass in the calling thread, and no backend has
to be registered, which other tests would find. As on an accelerator, they do not meet tensors of the CPU, single
numbers apart.
"""

import traceback
from contextlib import ContextDecorator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


aten = torch.ops.aten
# Their results, or the sizes of these, are values of the tensor.
READING = {
    *(aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten._unique2, aten.equal, aten.allclose),
    *(aten.bincount, aten.repeat_interleave),
}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}  # a mask's True values are counted
COPYING = {aten._to_copy, aten.copy_}
PRODUCTS = {F.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, F.scaled_dot_product_attention}


class DeviceTensor(Tensor):
    on_cpu: Tensor

    @staticmethod
    def __new__(cls, on_cpu: Tensor):
        layout = {"strides": on_cpu.stride(), "storage_offset": on_cpu.storage_offset(), "dtype": on_cpu.dtype}
        tensor = Tensor._make_wrapper_subclass(cls, on_cpu.size(), device="meta", **layout)
        tensor.on_cpu = on_cpu
        return tensor

    def tolist(self) -> list:  # which torch refuses for such tensors
        return self.to("cpu").tolist()

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        with StandInDevice():
            return operator(*args, **kwargs or {})


class StandInDevice(TorchDispatchMode):
    """`with StandInDevice() as device: ...`, where `torch.device("meta")` is the accelerator.

    `device.waits` then has a line for each time that the host waited: the operator, and who called it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        kwargs.pop("pin_memory", None)
        packet = operator.overloadpacket
        if packet is aten._fused_sdp_choice:
            return 0  # the kernel in plain operators: torch would take one for the device that the tensors claim
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        of_device = {id(tensor.on_cpu): tensor for tensor in given if isinstance(tensor, DeviceTensor)}
        if packet is aten.copy_:
            on_device = isinstance(args[0], DeviceTensor)
        elif kwargs.get("device") is not None:
            on_device = torch.device(kwargs["device"]).type == "meta"
            kwargs["device"] = torch.device("cpu")
        else:
            on_device = bool(of_device)
        # A true tensor of the meta device has no values.
        outside = [tensor for tensor in given if not isinstance(tensor, DeviceTensor)]
        strays = [tensor.shape for tensor in outside if tensor.dim() or tensor.is_meta]
        if of_device and strays and packet not in COPYING:
            raise RuntimeError(f"{operator}: tensors of the CPU, {strays}, among those of the device")
        masks = [index for index in args[1] if index is not None] if packet in INDEXING else []
        reads = packet in READING or any(mask.dtype in (torch.bool, torch.uint8) for mask in masks)
        asynchronous = kwargs.get("non_blocking") or (packet is aten.copy_ and args[2:] == (True,))
        # A copy from the CPU waits, too: for all that the device was given before.
        crosses = packet in COPYING and (bool(of_device) != on_device or (on_device and bool(strays)))
        if (of_device and reads) or (crosses and not asynchronous):
            self.waits.append(f"{operator} {describe_caller()}")
        result = operator(*tree_map(_unwrap, args), **tree_map(_unwrap, kwargs))

        def wrap(leaf: Any) -> Any:
            if not on_device or not isinstance(leaf, Tensor):
                return leaf
            return of_device.get(id(leaf)) if id(leaf) in of_device else DeviceTensor(leaf)

        return tree_map(wrap, result)


class StandInAutocast(TorchFunctionMode, ContextDecorator):
    """In place of `torch.autocast`, which does not know the device: casts what goes into matrix products."""

    dtypes: list[torch.dtype | None] = [None]  # of the contexts that are open

    def __init__(self, device_type: str, dtype: torch.dtype | None = None, enabled: bool = True, **kwargs):
        super().__init__()
        self.dtype = dtype if enabled else None

    def __enter__(self):
        self.dtypes.append(self.dtype)
        return super().__enter__()

    def __exit__(self, *error):
        self.dtypes.pop()
        return super().__exit__(*error)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if (dtype := self.dtypes[-1]) is not None and function in PRODUCTS:
            args = [arg.to(dtype) if isinstance(arg, Tensor) else arg for arg in args]
        return function(*args, **kwargs or {})


def _unwrap(leaf: Any) -> Any:
    return leaf.on_cpu if isinstance(leaf, DeviceTensor) else leaf


def describe_caller() -> str:
    """The innermost line that is neither torch's nor of this file."""
    frames = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
    outside = [frame for frame in frames if frame.filename != __file__]
    return f"at {outside[-1].filename}:{outside[-1].lineno} {outside[-1].line}"
