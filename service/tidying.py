"""What a model that has left leaves behind goes back to the system."""

import gc

from service.process import give_back_free_memory


def tidy() -> None:
    """Find what only itself refers to, as a model's stages do, and give back what is free in the heaps."""
    gc.collect()
    give_back_free_memory()
