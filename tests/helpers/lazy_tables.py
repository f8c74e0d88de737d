"""Stands for a library that makes a table when it is imported, as e3nn does, and is imported when a model is built."""

import torch

TABLE = torch.arange(8.0) + 1
