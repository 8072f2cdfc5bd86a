"""In: a precision and a device. Out: why it cannot be, torch's settings for it, and the training step in it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import torch
from torch import Tensor

from model import TrainingStep

T = TypeVar("T")

# With torch's 65,536 gradients of small batches overflow, and the first updates are skipped.
FIRST_SCALE = 2.0**10
AUTOCAST: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}


def why_unsupported(precision: str, device: torch.device) -> str | None:
    """Why a step cannot be computed in `precision` on `device`, as torch says, or None where it can."""
    if precision == "tf32":
        if device.type != "cuda":
            return "only CUDA has TF32"
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
    """torch warns, and computes in float32, where autocast does not know `dtype` on this kind of device."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.autocast(device.type, dtype):
            square = torch.ones(2, 2, device=device)
            found = torch.mm(square, square).dtype
    return None if found is dtype else f"autocast on {device.type} computes in {found}, not in {dtype}"


def _why_no_products(dtype: torch.dtype, device: torch.device) -> str | None:
    """A network's two kinds of products, tried: torch has not all of them in every format on every device."""
    try:
        square = torch.ones(2, 2, dtype=dtype, device=device)
        torch.mm(square, square)
        torch.nn.functional.conv2d(square[None, None], square[None, None])
    except RuntimeError as error:
        return str(error).split("\n")[0]
    return None


def convolutions_in_tf32() -> bool:
    """Whether cuDNN computes those of float32 in TF32, as it does unless it is told otherwise."""
    return str(torch.backends.cudnn.conv.fp32_precision) == "tf32"  # type: ignore[attr-defined]


@contextlib.contextmanager
def float32_products(*, tf32: bool) -> Iterator[None]:
    """Products and convolutions of float32 on tensor cores, in 10 bits of mantissa, or in all of their 23 bits.

    The default of torch is all bits for products, and 10 for convolutions. torch has old settings for this and new
    ones, for each kind of operation, and fails where it reads an old one that a new one contradicts. A user may have
    set either: both are set here, and put back.
    """
    backends: Any = torch.backends
    operations = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul)
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
    """An old setting; None where a new one contradicts it."""
    try:
        return setting()
    except RuntimeError:
        return None


class AutocastStep(TrainingStep):
    """A training step whose forward pass is in a lower precision where autocast finds it safe.

    float16 has so few exponents that gradients vanish: a scaler multiplies the loss, and skips the update where a
    gradient has overflown.
    """

    def __init__(self, step: TrainingStep, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(step.model, step.optimizer, step.loss)
        self._dtype, self._type = dtype, device.type
        self.scaler: torch.amp.GradScaler | None = None
        self.reset()

    def reset(self) -> None:
        """Begin with the scale of the beginning."""
        if self._dtype is torch.float16:
            self.scaler = torch.amp.GradScaler(self._type, init_scale=FIRST_SCALE)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(self._type, self._dtype):
            return super().forward(images, labels)

    def backward(self, loss: Tensor) -> None:
        super().backward(loss if self.scaler is None else self.scaler.scale(loss))

    def update(self) -> None:
        if self.scaler is None:
            super().update()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()


def autocast(call: Callable[[Tensor], Tensor], precision: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    """`call` in `precision`."""
    dtype = AUTOCAST.get(precision)
    if dtype is None:
        return call

    def lower(images: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype):
            return call(images)

    return lower


def in_precision(step: TrainingStep, precision: str, device: torch.device) -> TrainingStep:
    """`step`, computed in `precision`; for fp32 and tf32, `float32_products` must be in force meanwhile."""
    dtype = AUTOCAST.get(precision)
    return step if dtype is None else AutocastStep(step, dtype, device)
