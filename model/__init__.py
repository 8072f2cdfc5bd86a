"""The networks, the training step, the epoch and the evaluation. Plain PyTorch, without pytest."""

from model.recipes import Recipe, RecipeError, UnknownModel, load_recipe
from model.training import Batches, TrainingStep, evaluate, train_epoch

__all__ = ["Batches", "Recipe", "RecipeError", "TrainingStep", "UnknownModel", "evaluate", "load_recipe", "train_epoch"]
