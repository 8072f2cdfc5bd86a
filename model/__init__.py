"""The networks, a user's own trainings, the training step, the epoch, the evaluation. Plain PyTorch, without pytest."""

from model.errors import RecipeError, Refused, UnknownModel
from model.recipes import Recipe, load_recipe
from model.state import FirstState
from model.task import Task
from model.task_step import TaskStep, UsersStep
from model.training import Batch, Batches, TrainingStep, Wrapped, evaluate, train_epoch

__all__ = [
    "Batch",
    "Batches",
    "FirstState",
    "Recipe",
    "RecipeError",
    "Refused",
    "Task",
    "TaskStep",
    "TrainingStep",
    "UnknownModel",
    "UsersStep",
    "Wrapped",
    "evaluate",
    "load_recipe",
    "train_epoch",
]
