"""The atelier: a painter, and a small diffusion model that learns from it. The services never import this package."""

import os

# Threads that wait actively block the cores for the threads they wait for: ten times slower on a shared machine.
# libgomp reads the variable when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
