"""The atelier: a painter, and a small diffusion model that learns from it. Nothing that serves imports this."""
