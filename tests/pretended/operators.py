"""In: an operator that torch calls with tensors of the device. Out: its results, on the device, not computed yet.

The shapes of the results come from torch's own `meta` device. Where that does not know them, because they depend on
values, the host waits: as a GPU makes it wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_any, tree_flatten, tree_map_only

from tests.pretended.storage import allocate, on_host
from tests.pretended.work import WORK

aten = torch.ops.aten
KEY = "PrivateUse1"
CPU_KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
# These make another tensor on the same memory. The CPU's kernels for them look at no value and no device.
VIEWS = (
    aten.as_strided.default, aten.view.default, aten._reshape_alias.default, aten.unfold.default,
    aten.set_.source_Storage_storage_offset, aten.resize_.default,
)  # fmt: skip
NAME, HOST, META = "pretended", torch.device("cpu"), torch.device("meta")
generator = torch.Generator()
_library: list[torch.library.Library] = []  # an operator is known as long as its library lives


def _is_here(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type == NAME


def _to(device: torch.device, change: Callable[[Tensor], Tensor], values: Any) -> Any:
    """`values` with the device's tensors changed by `change`, and with `device` where they name a device."""
    moved = tree_map_only(Tensor, lambda tensor: change(tensor) if _is_here(tensor) else tensor, values)
    return tree_map_only(torch.device, lambda _: device, moved)


def _shadow(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _refuse_strangers(operator: Any, values: Any) -> None:
    """A tensor of the CPU is an error; a single number is not, as on a GPU."""
    for value in tree_flatten(values)[0]:
        if isinstance(value, Tensor) and not _is_here(value) and value.dim() > 0:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{NAME}:0 and {value.device}! (when calling {operator})"
            )


def _written(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The tensors that the operator writes to, in the order of its results."""
    declared = operator._schema.arguments
    named = {argument.name: value for argument, value in zip(declared, args, strict=False)} | kwargs
    writes = [one.name for one in declared if one.alias_info and one.alias_info.is_write]
    return tree_flatten([named[name] for name in writes if name in named])[0]


def _draws(operator: Any) -> bool:
    return any(argument.name == "generator" for argument in operator._schema.arguments)


def _with_tensors(operator: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """`args` with a tensor for each number that the operator takes as a tensor: torch unpacks these on the way here."""
    kinds = [str(argument.type) for argument in operator._schema.arguments]
    return tuple(
        torch.tensor(value) if kind == "Tensor" and isinstance(value, bool | int | float) else value
        for kind, value in zip(kinds, args, strict=False)
    )


def execute(operator: Any, *args: Any, **kwargs: Any) -> Any:
    """What every operator does that is not named below."""
    _refuse_strangers(operator, (args, kwargs))
    args = _with_tensors(operator, args)
    if _draws(operator):
        kwargs = {**kwargs, "generator": generator}
    written = _written(operator, args, kwargs)
    if any(target.numel() == 0 for target in written):
        _enlarge(operator, args, kwargs, written)
    host_args, host_kwargs = _to(HOST, on_host, (args, kwargs))
    if written:
        WORK.send(lambda: operator(*host_args, **host_kwargs))
        returned = written[: len(operator._schema.returns)]
        return returned[0] if len(returned) == 1 else tuple(returned) or None
    try:
        meta_args, meta_kwargs = _to(META, _shadow, (args, kwargs))
        shapes = operator(*meta_args, **meta_kwargs)
    except NotImplementedError:
        shapes = None
    if shapes is None or not tree_any(lambda value: isinstance(value, Tensor), shapes):
        WORK.wait()
        return tree_map_only(Tensor, _to_device, operator(*host_args, **host_kwargs))
    results = tree_map_only(Tensor, lambda shape: allocate(shape.shape, shape.stride(), shape.dtype), shapes)
    targets = [on_host(result) for result in tree_flatten(results)[0] if isinstance(result, Tensor)]

    def compute() -> None:
        found = [value for value in tree_flatten(operator(*host_args, **host_kwargs))[0] if isinstance(value, Tensor)]
        for target, value in zip(targets, found, strict=True):
            target.copy_(value)

    WORK.send(compute)
    return results


def _enlarge(operator: Any, args: Any, kwargs: Any, written: list[Tensor]) -> None:
    """Give empty tensors that an operator is to fill (`out=`) the memory for it."""
    meta_args, meta_kwargs = _to(META, _shadow, (args, kwargs))
    shapes = operator(*meta_args, **meta_kwargs)
    for target, shape in zip(written, [shapes] if isinstance(shapes, Tensor) else shapes, strict=True):
        if target.shape != shape.shape:
            fresh = allocate(shape.shape, shape.stride(), shape.dtype).untyped_storage()
            target.set_(fresh, 0, shape.shape, shape.stride())


def _to_device(tensor: Tensor) -> Tensor:
    """A copy of a tensor of the CPU, there when this returns."""
    there = allocate(tensor.shape, tensor.stride(), tensor.dtype)
    on_host(there).copy_(tensor)
    return there


def _empty(size: Any, *, dtype: Any = None, memory_format: Any = None, **_: Any) -> Tensor:
    shape = torch.empty(size, dtype=dtype, device="meta", memory_format=memory_format or torch.contiguous_format)
    return allocate(shape.shape, shape.stride(), shape.dtype)


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> Tensor:
    return allocate(size, stride, dtype or torch.get_default_dtype())


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    """A copy waits for the device, except within the device, and where the caller says `non_blocking`."""
    here = [on_host(tensor) if _is_here(tensor) else tensor for tensor in (source, target)]
    WORK.send(lambda: here[1].copy_(here[0]))
    if not (_is_here(source) and _is_here(target)) and not (non_blocking and _is_here(target)):
        WORK.wait()
    return target


def _item(tensor: Tensor) -> Any:
    WORK.wait()
    return on_host(tensor).item()


def _native_dropout(images: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """torch sends the dropout of this kind of device here, without a generator."""
    if train is False or p == 0:
        return images.clone(), torch.ones_like(images, dtype=torch.bool)
    kept = torch.empty_like(images).bernoulli_(1 - p)
    return images * kept / (1 - p), kept.bool()


def _convolution(*args: Any) -> Any:
    """torch gives this kind of device the convolution under another name."""
    return execute(aten.convolution.default, *args)


def _convolution_backward(gradient: Tensor, images: Tensor, weight: Tensor, *args: Any) -> Any:
    transposed, groups = args[3], args[5]
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    return execute(aten.convolution_backward.default, gradient, images, weight, [channels], *args)


def _pinned(tensor: Tensor, device: torch.device | None = None) -> Tensor:
    """Nothing is pinned in a process without a driver: a copy takes its place."""
    return tensor.clone()


def _clone_storage(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    """torch has no allocator for this device: `copy.deepcopy` of a tensor must not ask it."""
    if storage.device.type != NAME:
        return _torch_clone(storage)
    whole = allocate((0,), None, torch.uint8).set_(storage, 0, (storage.nbytes(),), (1,))
    return whole.clone().untyped_storage()


_torch_clone = torch.UntypedStorage.clone


def register_operators() -> None:
    """Tell torch's dispatcher; once per process."""
    library, fallback = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
    fallback.fallback(execute, KEY)
    for view in VIEWS:
        library.impl(view, lambda *args, view=view, **kwargs: view.redispatch(CPU_KEYS, *args, **kwargs), KEY)
    library.impl(aten.empty.memory_format, _empty, KEY)
    library.impl(aten.empty_strided.default, _empty_strided, KEY)
    library.impl(aten._copy_from.default, _copy_from, KEY)
    library.impl(aten._local_scalar_dense.default, _item, KEY)
    library.impl(aten.native_dropout.default, _native_dropout, KEY)
    library.impl(aten.convolution_overrideable.default, _convolution, KEY)
    library.impl(aten.convolution_backward_overrideable.default, _convolution_backward, KEY)
    library.impl(aten._pin_memory.default, _pinned, "CPU")
    torch.UntypedStorage.clone = _clone_storage
    _library.extend((library, fallback))
