"""In: the name of an architecture of torchvision, timm or transformers. Out: how to train it, from random weights.

Nothing is downloaded. Images, videos, masks, boxes and tokens are random: they are there to be computed on.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.errors import RecipeError, UnknownModel
from model.imports import LIBRARIES

IMAGENET_CLASSES = 1000
# Image sides [pixels] of torchvision's classification models, as published. All models not listed take 224.
SIDES = {"inception_v3": 299}
# Auxiliary heads return tuples, and help only in long trainings. Weights start from PyTorch's defaults.
AUXILIARY = {name: {"aux_logits": False, "init_weights": False} for name in ("googlenet", "inception_v3")}
# Prefixes of torchvision's models that use patches and attention. All its other models use convolutions.
TRANSFORMERS = ("vit_", "swin_", "maxvit_")
# Frames and side [pixels] of a video for torchvision's networks of convolutions, and for all others.
CONVOLVED_VIDEO, VIDEO = (16, 112), (16, 224)


@dataclass(frozen=True)
class Known:
    """How to train an architecture: `build` makes a network for images, or `task` a training of another kind.

    `parameters` is their number; None if it is not known before the network is made.
    """

    build: Callable[[], nn.Module] | None = None
    input_shape: tuple[int, int, int] = (3, 224, 224)
    classes: int = IMAGENET_CLASSES
    channels_last: bool = False
    task: Callable[[], object] | None = None
    parameters: int | None = None


def of_torchvision(name: str, own: Sequence[str]) -> Known:
    """Any model of `torchvision.models.list_models()`. Raises RecipeError, also for what cannot be trained.

    `own` are Stepwatch's own names, to be suggested.
    """
    from torchvision import models  # this import takes a second, and the reference network does not need it

    known = models.list_models()
    if name not in known:
        close = difflib.get_close_matches(name, [*own, *known], n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "see torchvision.models.list_models()"
        raise UnknownModel(
            f"unknown model {name!r}: {hint} (write your own model as path/to/file.py:NAME or package.module:NAME)"
        )
    if name in models.list_models(module=models):
        build = partial(models.get_model, name, weights=None, num_classes=IMAGENET_CLASSES, **AUXILIARY.get(name, {}))
        side = SIDES.get(name, 224)
        return Known(build, (3, side, side), channels_last=not name.startswith(TRANSFORMERS))
    kinds: dict[ModuleType, type] = {
        models.segmentation: Segmentation, models.detection: Detection, models.video: Video,
        models.optical_flow: OpticalFlow,
    }  # fmt: skip
    for module, kind in kinds.items():
        if name in models.list_models(module=module):
            return Known(task=_described(partial(kind, name), kind))
    if name.startswith("quantized_"):
        raise RecipeError(f"{name}: a quantized network is for inference alone, and has nothing to train")
    raise RecipeError(f"{name}: Stepwatch does not know how torchvision's {name} is trained; write it as a task")


def of_library(library: str, name: str) -> Known:
    """The architecture `name` of timm ("timm") or transformers ("hf"). Raises RecipeError."""
    package = LIBRARIES[library]
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise RecipeError(f"{library}:{name} needs {package} ({error}): pip install {package}") from error
    return _of_timm(module, name) if library == "timm" else _of_transformers(module, name)


def _of_timm(timm: Any, name: str) -> Known:
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise UnknownModel(f"unknown model 'timm:{name}': " + (f"did you mean timm:{' or timm:'.join(close)}?" if close
                           else "see timm.list_models()"))  # fmt: skip
    found = timm.models.get_pretrained_cfg(name)
    shape = tuple(found.input_size) if found is not None else (3, 224, 224)
    build = partial(timm.create_model, name, pretrained=False, num_classes=IMAGENET_CLASSES)
    parameters = None
    with contextlib.suppress(Exception):  # not every network can be made without memory
        parameters = _parameters(build)
    return Known(build, shape, parameters=parameters)


def _parameters(build: Callable[[], nn.Module]) -> int:
    """The number of parameters of the network that `build` makes, found without memory for them."""
    with torch.device("meta"):
        return sum(one.numel() for one in build().parameters())


def _of_transformers(transformers: Any, name: str) -> Known:
    kinds = transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES
    if name not in kinds:
        close = difflib.get_close_matches(name, list(kinds), n=3)
        raise UnknownModel(f"unknown model 'hf:{name}': " + (f"did you mean hf:{' or hf:'.join(close)}?" if close
                           else "a name is a model type of transformers, such as hf:gpt2"))  # fmt: skip
    try:
        config = transformers.AutoConfig.for_model(name)
        for head, kind in HEADS.items():
            of_head = getattr(transformers, head)
            if type(config) in of_head._model_mapping:
                _settle(config)
                build = partial(of_head.from_config, config)
                return Known(task=_described(partial(kind, build, config), kind), parameters=_parameters(build))
    except Exception as error:
        said = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        raise RecipeError(
            f"hf:{name}: transformers cannot make it from its default configuration ({said}); write it as a task, "
            "with a configuration of your own"
        ) from error
    raise RecipeError(f"hf:{name}: it is neither a language model nor a classifier of images; write it as a task")


def _settle(config: Any) -> None:
    """Make a default configuration of transformers fit for training: no cache of keys and values, as in its Trainer.

    The sequences that a decoder must write begin with the token that its family begins with: that of the padding.
    """
    config.use_cache = False
    if getattr(config, "is_encoder_decoder", False) and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = getattr(config, "pad_token_id", None) or 0


def _described(factory: Callable[[], object], kind: type) -> Callable[[], object]:
    """`factory` with the batch sizes of `kind`, to be known before anything is built."""
    factory.batch_sizes = kind.batch_sizes  # type: ignore[attr-defined]
    return factory


class Segmentation:
    """Each pixel of an image has a class. The loss is the cross entropy of all pixels."""

    CLASSES, SIDE = 21, 224
    batch_sizes = (2, 8)

    def __init__(self, name: str) -> None:
        from torchvision import models

        self.model = models.get_model(
            name, weights=None, weights_backbone=None, num_classes=self.CLASSES, **_unless_lraspp(name)
        )

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Images float (size, 3, SIDE, SIDE) and classes int64 (size, SIDE, SIDE)."""
        classes = torch.randint(self.CLASSES, (size, 7, 7)).repeat_interleave(32, 1).repeat_interleave(32, 2)
        return torch.randn(size, 3, self.SIDE, self.SIDE) + classes.unsqueeze(1) / self.CLASSES, classes

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return functional.cross_entropy(self.predict(batch), batch[1])

    def predict(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits: Tensor = self.model(batch[0])["out"]
        return logits


def _unless_lraspp(name: str) -> dict[str, bool]:
    return {} if name.startswith("lraspp") else {"aux_loss": False}


class Detection:
    """Two boxes in each image. The loss is the sum of the network's own losses."""

    SIDE = 320
    batch_sizes = (2, 4)

    def __init__(self, name: str) -> None:
        from torchvision import models

        self.model = models.get_model(name, weights=None, weights_backbone=None)
        self.keypoints = 17 if name.startswith("keypointrcnn") else 0
        self.classes = 2 if self.keypoints else 91

    def batch(self, size: int) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """Images float (3, SIDE, SIDE), each with its boxes [pixels], classes, masks and keypoints."""
        return [torch.rand(3, self.SIDE, self.SIDE) for _ in range(size)], [self._target() for _ in range(size)]

    def _target(self) -> dict[str, Tensor]:
        corner = torch.rand(2, 2) * self.SIDE / 2
        boxes = torch.cat([corner, corner + self.SIDE / 4], dim=1)
        masks = torch.zeros(2, self.SIDE, self.SIDE, dtype=torch.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
            mask[top:bottom, left:right] = 1
        found = {"boxes": boxes, "labels": torch.randint(1, self.classes, (2,)), "masks": masks}
        if self.keypoints:
            inside = corner.unsqueeze(1) + torch.rand(2, self.keypoints, 2) * self.SIDE / 4
            found["keypoints"] = torch.cat([inside, torch.ones(2, self.keypoints, 1)], dim=2)
        return found

    def optimizer(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1e-4)  # with 0.01, the losses of some networks diverge

    def loss(self, batch: tuple[list[Tensor], list[dict[str, Tensor]]]) -> Tensor:
        return torch.stack(list(self.model(*batch).values())).sum()

    def predict(self, batch: tuple[list[Tensor], list[dict[str, Tensor]]]) -> Any:
        return self.model(batch[0])


class Video:
    """Each video has a class. The loss is the cross entropy."""

    CLASSES = 400
    batch_sizes = (2, 4)

    def __init__(self, name: str) -> None:
        from torchvision import models

        self.frames, self.side = CONVOLVED_VIDEO if name.endswith("_18") else VIDEO
        self.model = models.get_model(name, weights=None, num_classes=self.CLASSES)

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Videos float (size, 3, frames, side, side) and classes int64 (size,)."""
        return torch.randn(size, 3, self.frames, self.side, self.side), torch.randint(self.CLASSES, (size,))


class OpticalFlow:
    """How each pixel moves from one image to the next. The loss is the mean distance of all the network's estimates."""

    SIDE = 128
    batch_sizes = (2, 4)

    def __init__(self, name: str) -> None:
        from torchvision import models

        self.model = models.get_model(name, weights=None)

    def batch(self, size: int) -> dict[str, Tensor]:
        """Two images float (size, 3, SIDE, SIDE), and the movement of each pixel float (size, 2, SIDE, SIDE)."""
        images = torch.rand(2, size, 3, self.SIDE, self.SIDE) * 2 - 1
        return {"first": images[0], "second": images[1], "flow": torch.randn(size, 2, self.SIDE, self.SIDE)}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        estimates = self.model(batch["first"], batch["second"])
        return torch.stack([(estimate - batch["flow"]).abs().mean() for estimate in estimates]).mean()


class Tokens:
    """A language model of transformers: it predicts tokens of random sequences."""

    CONTEXT = 128
    unit = "tokens"
    batch_sizes = (2, 8)

    def __init__(self, build: Callable[[], nn.Module], config: Any) -> None:
        self.model = build()
        self._vocabulary = int(config.get_text_config().vocab_size)

    def batch(self, size: int) -> dict[str, Tensor]:
        """Tokens int64 (size, CONTEXT), which are also the labels."""
        tokens = torch.randint(self._vocabulary, (size, self.CONTEXT))
        return {"input_ids": tokens, "labels": tokens.clone()}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        loss: Tensor = self.model(**batch).loss
        return loss

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        logits: Tensor = self.model(**batch).logits
        return logits

    def optimizer(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=1e-4)

    def count(self, batch: dict[str, Tensor]) -> int:
        return batch["labels"].numel()


class LabelledImages(Tokens):
    """A classifier of images of transformers."""

    unit = "images"

    def __init__(self, build: Callable[[], nn.Module], config: Any) -> None:
        self.model = build()
        self._config = config

    def batch(self, size: int) -> dict[str, Tensor]:
        """Images float (size, channels, side, side) and classes int64 (size,)."""
        side = getattr(self._config, "image_size", 224)
        rows, columns = side if isinstance(side, list | tuple) else (side, side)
        images = torch.randn(size, getattr(self._config, "num_channels", 3), rows, columns)
        return {"pixel_values": images, "labels": torch.randint(self._config.num_labels, (size,))}


# The heads of transformers for what Stepwatch can make batches of. The first that an architecture has is trained.
HEADS: dict[str, type[Tokens]] = {
    "AutoModelForCausalLM": Tokens,
    "AutoModelForMaskedLM": Tokens,
    "AutoModelForSeq2SeqLM": Tokens,
    "AutoModelForImageClassification": LabelledImages,
}
