"""The model service. This module only sets environment variables that its libraries read when they are loaded."""

import os

__version__ = "0.1.0"

# By default, MKL computes the blocks of a matrix product in different ways, and the last bits of a frame depend on its
# place in the batch. In its reproducible mode they do not; it costs nothing. An operator may choose another mode.
os.environ["MKL_CBWR"] = os.environ.get("MKL_CBWR") or "AUTO"
# transformers would warn that torchvision is missing, which this service does not need.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
