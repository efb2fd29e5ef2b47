"""A client that is generated from the API's document makes a walk; tests/model/test_openapi.py has the other one."""

import json

from PIL import Image

from scripts import openapi
from tests.support.factories import CARD, FakeFleet
from tests.support.generated_client import generated_client
from tests.support.processes import wait_until
from tests.support.served_api import served_api


def test_a_generated_client_makes_a_walk(tmp_path):
    """With a seed that is chosen: a number or a word, which generators of clients often cannot read."""
    document = json.loads((openapi.FOLDER / "api.json").read_text())
    fleet = FakeFleet()
    fleet.add()
    with (
        served_api(tmp_path, fleet) as url,
        generated_client(document, tmp_path, "walks_client") as module,
        module("client").Client(base_url=url, raise_on_unexpected_status=True) as client,
    ):
        models = module("models")
        request = models.WalkRequest(
            stops=["a giraffe", "a wave", "a battleship"], frames=5, seed=models.WalkRequestSeedType1.AUTO
        )
        walk = module("api.walks.create_walk").sync(client=client, body=request)
        assert walk.spec.seed == models.BetweenSpecSeedType1.AUTO
        read = module("api.walks.get_walk").sync
        walk = wait_until(lambda: now if (now := read(walk.id, client=client)).state == models.State.DONE else None)
        assert (walk.frames_ready, walk.spec.model) == ([0, 1, 2, 3, 4], CARD["model"])
        film = module("api.pictures.get_film_file").sync(walk.id, models.FilmName.WALK_GIF, client=client)
        with Image.open(film.payload) as picture:
            assert picture.n_frames == 8
        same = module("api.walks.get_film").sync(
            client=client, stop=walk.spec.stops, frames=5, seed=models.GetFilmSeedType1.AUTO
        )
        assert same.payload.getvalue() == film.payload.getvalue()
        page = module("api.gallery.list_walks").sync(client=client, q="wave giraffe")
        assert [found.id for found in page.walks] == [walk.id]
        unknown = read("0" * 32, client=client)
        assert (unknown.status, unknown.type_) == (404, "urn:momalisa:problem:walk-not-found")
