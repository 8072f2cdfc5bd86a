"""In: a precision and a device. Out: why the device lacks it, torch's settings for it, and a training step in it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import torch
from torch import Tensor

from model import TrainingStep, UsersStep, Wrapped
from perf.harness.workload.modes.errors import Unsupported

T = TypeVar("T")

# With torch's default, 65,536, gradients of small mini-batches overflow, and the first updates are skipped.
FIRST_SCALE = 2.0**10
AUTOCAST: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}


def why_unsupported(precision: str, device: torch.device) -> str | None:
    """Why `device` cannot compute a step in `precision`, according to torch; None if it can."""
    if precision == "tf32":
        if device.type != "cuda":
            return "TF32 needs a CUDA device"
        with torch.cuda.device(device):
            supported = torch.cuda.is_tf32_supported()
        return None if supported else f"{torch.cuda.get_device_name(device)} has no TF32"
    dtype = AUTOCAST.get(precision)
    if dtype is None:
        return None
    if not torch.amp.is_autocast_available(device.type):
        return f"torch {torch.__version__} has no autocast on {device.type}"
    if precision == "bf16" and device.type == "cuda":
        with torch.cuda.device(device):
            supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return None if supported else f"{torch.cuda.get_device_name(device)} has no bfloat16"
    return _why_no_products(dtype, device) or _why_not_lowered(dtype, device)


def _why_not_lowered(dtype: torch.dtype, device: torch.device) -> str | None:
    """Why autocast does not use `dtype`, or None. On a device without `dtype`, torch only warns and uses float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.autocast(device.type, dtype):
            square = torch.ones(2, 2, device=device)
            found = torch.mm(square, square).dtype
    return None if found is dtype else f"autocast on {device.type} computes in {found}, not in {dtype}"


def _why_no_products(dtype: torch.dtype, device: torch.device) -> str | None:
    """Why torch lacks matrix products or convolutions in `dtype` on `device`; None if it has both. Tries both."""
    try:
        square = torch.ones(2, 2, dtype=dtype, device=device)
        torch.mm(square, square)
        torch.nn.functional.conv2d(square[None, None], square[None, None])
    except RuntimeError as error:
        return str(error).split("\n")[0]
    return None


def convolutions_in_tf32() -> bool:
    """Whether cuDNN computes float32 convolutions in TF32, which is torch's default."""
    return str(torch.backends.cudnn.conv.fp32_precision) == "tf32"  # type: ignore[attr-defined]


@contextlib.contextmanager
def float32_products(*, tf32: bool) -> Iterator[None]:
    """Compute float32 products and convolutions in TF32 (10 bits of mantissa, on tensor cores) or in all 23 bits.

    torch's default is 23 bits for products and 10 bits for convolutions. torch has old settings and new settings for
    each kind of operation. It raises an error when it reads an old setting that contradicts a new one. A user may have
    set either, so both are set here, and both are restored.
    """
    backends: Any = torch.backends
    mkldnn = backends.mkldnn
    operations = (
        backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn,
    )  # fmt: skip
    new = [operation.fp32_precision for operation in operations]
    products = _unless_contradicted(torch.get_float32_matmul_precision)
    convolutions = _unless_contradicted(lambda: backends.cudnn.allow_tf32)
    try:
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        backends.cudnn.allow_tf32 = tf32
        for operation in operations:
            operation.fp32_precision = "tf32" if tf32 else "ieee"
        yield
    finally:
        if products is not None:
            torch.set_float32_matmul_precision(products)
        if convolutions is not None:
            backends.cudnn.allow_tf32 = convolutions
        for operation, value in zip(operations, new, strict=True):
            operation.fp32_precision = value


def _unless_contradicted(setting: Callable[[], T]) -> T | None:
    """The value of an old setting; None if a new setting contradicts it."""
    try:
        return setting()
    except RuntimeError:
        return None


class AutocastStep(Wrapped):
    """A training step whose forward pass uses a lower precision for the operations that autocast considers safe.

    float16 has a small range, in which small gradients become 0. So a gradient scaler multiplies the loss, and skips
    the update if a gradient overflows.
    """

    def __init__(self, step: TrainingStep, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(step)
        self._dtype, self._type = dtype, device.type
        self.scaler: torch.amp.GradScaler | None = None
        self.reset()

    def reset(self) -> None:
        """Set the scale of the loss back to FIRST_SCALE."""
        if self._dtype is torch.float16:
            self.scaler = torch.amp.GradScaler(self._type, init_scale=FIRST_SCALE)

    def forward(self, *batch: Any) -> Tensor:
        with torch.autocast(self._type, self._dtype):
            return super().forward(*batch)

    def backward(self, loss: Tensor) -> None:
        super().backward(loss if self.scaler is None else self.scaler.scale(loss))

    def update(self) -> None:
        if self.scaler is None:
            super().update()
        else:
            for optimizer in self.optimizers:
                self.scaler.step(optimizer)
            self.scaler.update()
            self.schedule()


def autocast(call: Callable[..., Any], precision: str, device: torch.device) -> Callable[..., Any]:
    """`call` under autocast to `precision`; unchanged for fp32 and tf32."""
    dtype = AUTOCAST.get(precision)
    if dtype is None:
        return call

    def lower(*inputs: Any) -> Any:
        with torch.autocast(device.type, dtype):
            return call(*inputs)

    return lower


def in_precision(step: TrainingStep, precision: str, device: torch.device) -> TrainingStep:
    """`step` in `precision`. For fp32 and tf32, the step must run inside `float32_products`.

    Raises Unsupported for a lower precision if the user has written the step as a whole.
    """
    dtype = AUTOCAST.get(precision)
    if dtype is not None and isinstance(step, UsersStep):
        raise Unsupported(f"{precision}: the task's own `step` decides about its precision")
    return step if dtype is None else AutocastStep(step, dtype, device)
