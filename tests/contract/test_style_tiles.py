"""The gallery's small copies of the pictures that styles are taken from."""

from tests.support.processes import REPOSITORY


def test_each_style_of_the_styles_model_has_a_tile_in_the_gallery():
    """A style without one is shown by its title alone, and nobody would notice."""
    names = [
        {path.name for path in (REPOSITORY / folder).glob("*.webp")}
        for folder in ("model-service/atelier/styles", "frontend/src/assets/styles")
    ]
    assert names[0] == names[1] != set()
