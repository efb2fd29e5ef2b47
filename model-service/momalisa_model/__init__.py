"""The model service. Here stands only what its libraries read from the environment, once, before they are loaded."""

import os

__version__ = "0.1.0"

# Left alone, MKL deals a product's rows over the threads in blocks that are computed in unlike ways, and a frame's last
# bits depend on its place in the batch. In a reproducible mode they do not; it costs nothing.
os.environ["MKL_CBWR"] = "AUTO"
# transformers would tell every newcomer that torchvision is missing, which nothing here needs.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
