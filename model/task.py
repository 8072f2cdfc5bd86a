"""In: a user's own training, as an object with the members below. Out: its training step.

A member is an attribute or a method of the object that the user's function or class returned, or of that function or
class itself. docs/your-model.md says what each of them means. Lightning's and Hugging Face's conventions are
understood without either library.
"""

from __future__ import annotations

import difflib
import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader

from model.errors import (
    CLOSURE_LINES,
    LAZY_LINES,
    LOSS_LINES,
    META_LINES,
    OPTIMIZER_LINES,
    STEP_LINES,
    RecipeError,
    Refused,
    loss_lines,
    of_network,
)
from model.imports import is_users
from model.members import attributes, binds, described, has, name_of, own_names, required

LEARNING_RATE = 0.01

# With one of these members, a factory brings a training of its own, and not only a network for images.
MAKES_A_TASK = ("batch", "dataset", "train_dataloader", "training_step", "step", "predict")
MEMBERS = (*MAKES_A_TASK, "model", "loss", "optimizers", "optimizer", "configure_optimizers", "collate", "count",
           "unit", "metrics", "batch_sizes", "input_shape", "classes")  # fmt: skip
# With one of these, a network for images says how it is trained.
TRAINS = ("loss", "optimizers", "optimizer", "configure_optimizers", "metrics", "count")
# What Lightning calls and Stepwatch does not, with what to write instead.
NOT_CALLED = {
    "optimizer_step": "write `step(batch)`",
    "lr_scheduler_step": "write `step(batch)`",
    "configure_gradient_clipping": "write `step(batch)`",
    "on_before_optimizer_step": "write `step(batch)`",
    "on_train_batch_start": "put it into `training_step`",
    "on_train_batch_end": "put it into `training_step`",
    "on_train_epoch_end": "epochs are timed without it",
    "validation_step": "write `metrics(batches)`",
    "test_step": "write `metrics(batches)`",
    "val_dataloader": "write `metrics(batches)`",
    "test_dataloader": "write `metrics(batches)`",
    "accumulate_grad_batches": "write `step(batch)`",
    "gradient_clip_val": "write `step(batch)`",
}  # fmt: skip
# What a training takes from one of several members, and the words in the name of a function, as in `compute_loss`, that
# may be meant for it.
PARTS = {
    "batch": ("batch", "dataset", "train_dataloader"),
    "loss": ("loss", "step", "training_step"),
    "optimizer": ("optimizer", "optimizers", "configure_optimizers", "step"),
}  # fmt: skip
WORDS = {"batch": ("batch",), "loss": ("loss", "criterion"), "optimizer": ("optimizer", "optim")}
Parameters = Iterable[nn.Parameter]


def sgd(parameters: Parameters, lr: float = LEARNING_RATE) -> Optimizer:
    """The reference optimizer: SGD without momentum."""
    return torch.optim.SGD(parameters, lr=lr)


class Task:
    """A user's own training: its networks and what to do with a mini-batch.

    `made` is what the user's function or class `factory` returned. Raises RecipeError if members are missing or wrong.
    """

    def __init__(self, name: str, factory: object, made: object) -> None:
        self.name = name
        self.made = made
        self._factory = factory
        self.networks = _networks(name, made)
        # The network that takes the input of a pair (input, target); None if there are only several.
        self.network: nn.Module | None = made if isinstance(made, nn.Module) else getattr(made, "model", None)
        self._of_network = False  # whether the loss is one of what `network` returns
        self.step: Callable[[Any], Any] | None = self._callable("step")
        self._loss, self.loss_name = self._how_to_lose()
        self._quiet()

    def lines(self, lines: Iterable[str]) -> Iterable[str]:
        """The `lines` to write; a network itself has no `self.model`."""
        return of_network(lines) if isinstance(self.made, nn.Module) and not hasattr(self.made, "model") else lines

    def member(self, name: str) -> Any:
        """The member `name` of the object or of its factory; None if neither has it."""
        if has(self.made, name):
            return getattr(self.made, name)
        # A function of a class is no member of the class: it needs the object.
        return getattr(self._factory, name) if self._factory is not None and has(self._factory, name) else None

    def _callable(self, name: str) -> Callable[..., Any] | None:
        found = self.member(name)
        if found is not None and not callable(found):
            raise RecipeError(f"{self.name}: `{name}` must be callable, not {found!r}")
        return found  # type: ignore[no-any-return]

    def _how_to_lose(self) -> tuple[Callable[[Any], Tensor] | None, str]:
        """The function from a mini-batch to its loss, and its name; None if only a whole `step` is known."""
        given = self._callable("loss")
        if given is not None and required(given) == 1:
            return given, "loss(batch)"
        if (training_step := self._callable("training_step")) is not None and given is None:
            if getattr(self.made, "automatic_optimization", True) is False:
                raise Refused(f"{self.name}: `training_step` makes its own updates (automatic_optimization = False)",
                              *STEP_LINES)  # fmt: skip
            more = (0,) * (required(training_step) - 1)
            return (lambda batch: _of_training_step(training_step(batch, *more))), "training_step(batch, 0)"
        if self.step is not None and given is None and (self.network is None or self.brings_data):
            return None, "step(batch)"
        if self.network is None:
            raise Refused(
                f"{self.name}: it has several networks, and does not say how to train them", *self.lines(LOSS_LINES)
            )
        function = given or functional.cross_entropy
        self._of_network = True
        return self._of_outputs(function), name_of(function)

    def _of_outputs(self, loss: Callable[..., Tensor]) -> Callable[[Any], Tensor]:
        network = self.network
        assert network is not None

        def of(batch: Any) -> Tensor:
            if isinstance(batch, Mapping):
                if loss is not functional.cross_entropy:
                    raise Refused(f"{self.name}: `{self.loss_name}` takes output and target, and the batch is a "
                                  "dictionary", *self.lines(loss_lines(batch)))  # fmt: skip
                try:
                    output = network(**batch)
                except TypeError as error:
                    if binds(network.forward, batch):
                        raise
                    raise Refused(f"{self.name}: the batch is {described(batch)}, and the network does not take that: "
                                  f"{error}", *self.lines(loss_lines(batch))) from error  # fmt: skip
                found = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
                if found is None:
                    raise Refused(f"{self.name}: the batch is a dictionary, and what the network returns for it has "
                                  "no `loss`", *self.lines(loss_lines(batch)))  # fmt: skip
                self.loss_name = "loss of the network"
                return found  # type: ignore[no-any-return]
            if not isinstance(batch, list | tuple) or len(batch) != 2:
                raise Refused(f"{self.name}: the batch is no pair (input, target), but {described(batch)}, and "
                              "there is no `loss(batch)`", *self.lines(loss_lines(batch)))  # fmt: skip
            return loss(network(batch[0]), batch[1])

        return of

    def lost_in(self, error: BaseException) -> bool:
        """Whether the user's own loss of output and target raised `error`."""
        called = [one.name for one in traceback.extract_tb(error.__traceback__) if is_users(one.filename)]
        return self._of_network and self.member("loss") is not None and self.loss_name in called

    @property
    def has_loss(self) -> bool:
        return self._loss is not None

    def loss(self, batch: Any) -> Tensor:
        """The loss of a mini-batch: a scalar tensor. Raises Refused if the task has only a whole `step`."""
        if self._loss is None:
            raise Refused(f"{self.name}: it has a `step(batch)`, but no `loss(batch)`", *self.lines(LOSS_LINES))
        return self._loss(batch)

    @property
    def can_predict(self) -> bool:
        return self.member("predict") is not None or self.has_loss

    def predict(self, batch: Any) -> Any:
        """What inference computes: `predict(batch)`, the network's output for a pair, or the loss of the batch."""
        if (own := self.member("predict")) is not None:
            return own(batch)
        if self._of_network and self.network is not None:
            return self.network(**batch) if isinstance(batch, Mapping) else self.network(batch[0])
        return self.loss(batch)

    def optimized(self) -> tuple[tuple[Optimizer, ...], tuple[tuple[Any, str], ...]]:
        """The optimizers, and the schedulers with the interval of each ("step" or "epoch").

        The networks must be on their device. Raises RecipeError if a member returns something else.
        """
        own, configure, one = map(self.member, ("optimizers", "configure_optimizers", "optimizer"))
        schedulers: tuple[tuple[Any, str], ...] = ()
        if own is not None:
            found, what = own() if callable(own) else own, "optimizers()"
        elif configure is not None:
            (found, schedulers), what = _configured(self.name, configure()), "configure_optimizers()"
        elif one is not None:
            found, what = self._of_optimizer(one), "optimizer(parameters)"
        elif self.step is not None:
            found, what = [each for each in attributes(self.made) if isinstance(each, Optimizer)], "step(batch)"
        else:
            found, what = sgd(self.networks.parameters()), ""
        several = [found] if isinstance(found, Optimizer) else found
        if not isinstance(several, list | tuple) or not all(isinstance(each, Optimizer) for each in several):
            also = "; what returns schedulers, too, is called `configure_optimizers`" if what == "optimizers()" else ""
            raise Refused(f"{self.name}: `{what}` must return an optimizer or several, not {described(found)}{also}",
                          *self.lines(OPTIMIZER_LINES))  # fmt: skip
        if not several and self.step is None:
            raise Refused(f"{self.name}: `{what}` returns no optimizer", *self.lines(OPTIMIZER_LINES))
        for each in several:
            if self.step is None and needs_closure(each):
                raise Refused(f"{self.name}: {type(each).__name__} needs a function that computes the loss again",
                              *CLOSURE_LINES)  # fmt: skip
        return tuple(several), schedulers

    @property
    def brings_data(self) -> bool:
        return any(self.member(name) is not None for name in ("dataset", "train_dataloader", "batch"))

    def data(self) -> tuple[Any, Any] | Callable[[int], Any]:
        """A data set and its collate (None: torch's), or else the function from a size to a mini-batch.

        Raises Refused if `train_dataloader` returns no loader.
        """
        if (dataset := self.member("dataset")) is not None:
            is_set = hasattr(dataset, "__getitem__") or not callable(dataset)
            return dataset if is_set else dataset(), self.member("collate")
        if (make := self.member("train_dataloader")) is not None:
            loader = make()
            if not isinstance(loader, DataLoader):
                raise Refused(f"{self.name}: `train_dataloader` must return a DataLoader, not {described(loader)}",
                              "def dataset(self):", "    return MyDataset()")  # fmt: skip
            return loader.dataset, self.member("collate") or loader.collate_fn
        return self.member("batch")  # type: ignore[no-any-return]

    def _of_optimizer(self, one: Any) -> Any:
        """What the member `optimizer` gives: it is an optimizer, or returns one, from the parameters or from `self`."""
        if isinstance(one, Optimizer) or not callable(one):
            return one
        written = getattr(type(self.made), "optimizer", None)
        if inspect.ismethod(one) and inspect.isfunction(written) and required(one) == 0:
            is_method = next(iter(inspect.signature(written).parameters)) == "self"
            return one() if is_method else written(self.networks.parameters())  # e.g. a lambda in the class
        return one(self.networks.parameters())

    def unused(self) -> list[str]:
        """Each member that looks as if it belonged to the training and is not used, with the reason."""
        given = {name for name in MEMBERS if self.member(name) is not None}
        found = []
        if "optimizers" in given:
            found += [
                f"`{name}`: `optimizers` is there" for name in ("optimizer", "configure_optimizers") if name in given
            ]
        elif {"configure_optimizers", "optimizer"} <= given:
            found.append("`optimizer`: `configure_optimizers` is there")
        if "loss" in given and "training_step" in given:
            found.append("`training_step`: `loss` is there")
        if "batch" in given and {"dataset", "train_dataloader"} & given:
            found.append("`batch`: the data set is there")
        if "train_dataloader" in given and "dataset" not in given:
            found.append(
                "the batch size, order and workers of `train_dataloader`: --perf-batch-size and the pipelines say"
            )
        if {"dataset", "train_dataloader"} <= given:
            found.append("`train_dataloader`: `dataset` is there")
        if "collate" in given and not {"dataset", "train_dataloader"} & given:
            found.append("`collate`: there is no `dataset`")
        if ("unit" in given) != ("count" in given):
            found.append("`unit`: there is no `count(batch)`" if "unit" in given else "`count`: there is no `unit`")
        written = own_names(self.made) | own_names(self._factory)
        found += [f"`{name}`: {instead}" for name, instead in NOT_CALLED.items() if name in written]
        for name in sorted(written - set(MEMBERS) - set(NOT_CALLED) - {"forward"}):
            close = difflib.get_close_matches(name, [each for each in MEMBERS if each not in given], n=1, cutoff=0.8)
            if callable(getattr(self.made, name, None)):
                said = set(name.split("_"))
                close += [part for part, of in PARTS.items() if not given & set(of) and said & set(WORDS[part])]
            if close:
                found.append(f"`{name}`: did you mean `{close[0]}`?")
        if self.step is None:
            parts = attributes(self.made)
            steppers = (LRScheduler, ReduceLROnPlateau, *(() if given & set(PARTS["optimizer"]) else (Optimizer,)))
            found += [f"{type(each).__name__}: nothing steps it; return it from `configure_optimizers`, or write `step`"
                      for each in parts if isinstance(each, steppers)]  # fmt: skip
            inner = self.made.children() if isinstance(self.made, nn.Module) else ()
            losses = [] if given & set(PARTS["loss"]) else [*parts, *inner]
            found += [f"{type(each).__name__}: nothing calls it; write `loss(batch)`"
                      for each in losses if isinstance(each, nn.modules.loss._Loss)]  # fmt: skip
        return found

    def _quiet(self) -> None:
        """Leave out the logging of a LightningModule, which only warns that there is no trainer."""
        if any(base.__name__ == "LightningModule" for base in type(self.made).__mro__):
            for name in ("log", "log_dict"):
                object.__setattr__(self.made, name, lambda *_, **__: None)


def is_task(factory: object, made: object) -> bool:
    """Whether these bring a training of their own, and not only a network for images."""
    if not isinstance(made, nn.Module):
        return True
    places = (made, factory)
    if any(has(place, name) for place in places for name in MAKES_A_TASK) or any(has(made, name) for name in TRAINS):
        return True
    return any(has(place, "loss") and callable(place.loss) and required(place.loss) == 1 for place in places)  # type: ignore[attr-defined]


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether an update of `optimizer` computes the loss again, as that of LBFGS."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def _networks(name: str, made: object) -> nn.Module:
    """All networks of `made` as one module. Raises Refused if there is none, or nothing to train."""
    if isinstance(made, nn.Module):
        networks = made
    else:
        networks = nn.Module()
        for place, value in enumerate(attributes(made)):
            if isinstance(value, nn.Module):
                networks.add_module(f"network{place}", value)
        if not list(networks.children()):
            raise Refused(
                f"{name}: the factory must return a torch.nn.Module, or an object with one as an attribute, "
                f"not {type(made).__name__}", "self.model = MyNetwork()",
            )  # fmt: skip
    lazy = [one for one in networks.parameters() if isinstance(one, nn.parameter.UninitializedParameter)]
    if lazy:
        raise Refused(
            f"{name}: it has lazy modules, whose parameters do not exist before their first input", *LAZY_LINES
        )
    if any(parameter.is_meta for parameter in networks.parameters()):
        raise Refused(f"{name}: its parameters are on the device meta, and have no values", *META_LINES)
    if not any(parameter.requires_grad for parameter in networks.parameters()):
        raise Refused(f"{name}: the module has no parameters to train", "parameter.requires_grad = True  # of some")
    return networks


def _of_training_step(returned: Any) -> Any:
    return returned["loss"] if isinstance(returned, Mapping) and "loss" in returned else returned


def _configured(name: str, returned: Any) -> tuple[Any, tuple[tuple[Any, str], ...]]:
    """Optimizers and schedulers of Lightning's `configure_optimizers`, in any of its forms."""
    if isinstance(returned, Mapping):
        found = returned.get("lr_scheduler")
        return returned.get("optimizer"), (() if found is None else (_scheduled(name, found),))
    if isinstance(returned, list | tuple) and len(returned) == 2 and isinstance(returned[0], list | tuple):
        return list(returned[0]), tuple(_scheduled(name, one) for one in returned[1])
    if isinstance(returned, list | tuple) and returned and all(isinstance(one, Mapping) for one in returned):
        both = [_configured(name, one) for one in returned]
        return [one for one, _ in both], tuple(scheduler for _, found in both for scheduler in found)
    return returned, ()


def _scheduled(name: str, given: Any) -> tuple[Any, str]:
    scheduler = given["scheduler"] if isinstance(given, Mapping) else given
    interval = given.get("interval", "epoch") if isinstance(given, Mapping) else "epoch"
    if isinstance(scheduler, ReduceLROnPlateau):
        raise Refused(f"{name}: ReduceLROnPlateau waits for a metric, which no benchmark computes while it trains",
                      "return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 10)]")  # fmt: skip
    return scheduler, interval
