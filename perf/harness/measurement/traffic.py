"""In: a callable. Out: its number of floating-point operations, and the bytes that its operations read and write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from perf.harness.verdict.roofline import Work

# Operations that only allocate or describe a tensor, and touch no element.
STILL = ("empty", "new_empty", "resize_", "set_")
# In-place operations that do not read the old values.
OVERWRITING = {"copy_", "fill_", "zero_", "normal_", "uniform_", "random_", "bernoulli_", "exponential_"}
OVERWRITING |= {"_foreach_zero_", "_foreach_copy_"}

# Operations that multiply and add inside, but for which `torch.utils.flop_counter` has no formula: torch's name, and
# the usual name.
FUSED = {
    "mkldnn_rnn_layer*": "LSTM",
    "lstm_mps*": "LSTM",
    "_cudnn_rnn*": "LSTM, GRU or RNN",
    "miopen_rnn*": "LSTM, GRU or RNN",
    "_transformer_encoder_layer*": "TransformerEncoderLayer",
    "_native_multi_head_attention*": "MultiheadAttention",
    "_trilinear": "Bilinear",
    "mkldnn_linear*": "Linear",
    "_cdist*": "cdist",
    "_fft*": "FFT",
    "linalg_vector_norm": "",  # no products: it clips gradients
    "*linalg*": "linear algebra",
    "mv": "matrix by vector",
    "addmv": "matrix by vector",
    "dot": "dot product",
    "vdot": "dot product",
}
# The namespaces of torch's own operations. Every other operation is custom code, and may compute anything.
KNOWN_NAMESPACES = {"aten", "prim", "prims", "profiler", "c10d", "_c10d_functional"}


def work(call: Callable[[], object]) -> Work:
    """Run `call` once, and count its work.

    The count assumes that each operation reads each whole operand once and writes each result once, as if nothing
    stayed in a cache: eager mode runs the operations one by one.
    """
    # The inner mode sees an operation first: the counter may split an operation that it does not know.
    with FlopCounterMode(display=False) as counter, _Traffic() as traffic:
        call()
    by_op = counter.get_flop_counts().get("Global", {})
    convolution = sum(flop for op, flop in by_op.items() if "convolution" in str(op))
    return Work(counter.get_total_flops(), convolution, traffic.bytes, traffic.ops, tuple(traffic.uncounted))


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Sums up the `bytes` that the operations below autograd move, and how many `ops` move any bytes.

    `uncounted` names, once each, the operations whose computations `torch.utils.flop_counter` does not see.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.bytes = 0
        self.ops = 0
        self.uncounted: dict[str, None] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> object:
        made = func(*args, **(kwargs or {}))
        if name := _uncounted(func):
            self.uncounted[name] = None
        if isinstance(func, OpOverload):
            moved = _moved(func, args, kwargs or {}, made)
            self.bytes += moved
            self.ops += moved > 0
        return made


def _uncounted(func: Any) -> str:
    """The usual name of the operation if it computes and has no FLOP formula; empty otherwise."""
    if not isinstance(func, OpOverload):  # written in Python: flex_attention, a Triton kernel
        return "" if func in flop_registry else str(func)
    if func._overloadpacket in flop_registry:
        return ""
    namespace, _, name = func._schema.name.partition("::")
    if namespace not in KNOWN_NAMESPACES:
        return func._schema.name
    return next((text for pattern, text in FUSED.items() if fnmatchcase(name, pattern)), "")


def _moved(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any], made: object) -> int:
    """The bytes that one operation reads and writes; 0 if the operation only returns a view of a tensor."""
    name = func._schema.name.partition("::")[2]
    if name.startswith(STILL):
        return 0
    given = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | dict(kwargs)
    read: list[Tensor] = []
    written: list[Tensor] = []
    for argument in func._schema.arguments:
        tensors = _tensors(given.get(argument.name))
        changed = argument.alias_info is not None and argument.alias_info.is_write
        if changed:
            written += tensors
        if not changed or not (argument.is_out or name in OVERWRITING):
            read += tensors
    inputs = {_storage(tensor) for value in given.values() for tensor in _tensors(value)}
    results = _tensors(made)
    new = [tensor for tensor in results if _storage(tensor) not in inputs]
    if results and not new and not written:
        return 0
    if name.startswith("new_") or name.endswith("_like"):  # these read only the shape
        read = []
    return _bytes(read) + _bytes([*written, *new])


def _tensors(value: object) -> list[Tensor]:
    """The tensors in `value`, an argument or a result. Sparse tensors are left out, because they have no strides."""
    return [one for one in tree_leaves(value) if isinstance(one, Tensor) and one.layout == torch.strided]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _bytes(tensors: Iterable[Tensor]) -> int:
    """The bytes of the distinct tensors in `tensors`. Elements that an expanded dimension repeats count once."""
    distinct = {(tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype): tensor for tensor in tensors}
    return sum(map(_extent, distinct.values()))


def _extent(tensor: Tensor) -> int:
    count = tensor.element_size() if tensor.numel() else 0
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else 1
    return count
