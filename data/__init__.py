"""The training data: MNIST, the drawn digits, random images, and the pipelines that bring them to a device."""

from data.choose import NAMES, load, places, resolve
from data.errors import DataError
from data.pipelines import PIPELINES, WORKERS, Batch, Order, Pipeline, ResidentPipeline, open_pipeline, shuffle_order
from data.sets import DataSet, ImageDataset, NotResident, Samples, Split
from data.synthetic import random_images

__all__ = [
    "NAMES",
    "PIPELINES",
    "WORKERS",
    "Batch",
    "DataError",
    "DataSet",
    "ImageDataset",
    "NotResident",
    "Order",
    "Pipeline",
    "ResidentPipeline",
    "Samples",
    "Split",
    "load",
    "open_pipeline",
    "places",
    "random_images",
    "resolve",
    "shuffle_order",
]
