"""The atelier: a painter, and a small diffusion model that learns from it. Nothing that serves imports this."""

import os

# Threads that spin while they wait keep the cores from the ones they wait for: on a shared machine that costs tenfold.
# libgomp reads it once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
