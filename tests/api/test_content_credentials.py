"""Films that are signed with an operator's key, checked with the reader of the C2PA library."""

import io
import json

import c2pa
import pytest
from PIL import Image

from momalisa_api.app import read_signer
from momalisa_api.films import content_credentials
from momalisa_api.films.content_credentials import Signer
from momalisa_api.films.kinds import FILM_KINDS
from momalisa_api.films.metadata import read_spec
from momalisa_api.films.provenance import DigitalSource
from tests.support import exiftool
from tests.support.certificates import Signing, signing
from tests.support.factories import ended, running

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 3, "spacing": "uniform"}
TERM = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


@pytest.fixture(scope="module")
def keys() -> Signing:
    return signing()


@pytest.fixture
def signed_settings(settings, keys, tmp_path):
    """Settings of an operator with a key."""
    (tmp_path / "key.pem").write_bytes(keys.key)
    (tmp_path / "chain.pem").write_bytes(keys.certificates)
    changes = {"c2pa_key": tmp_path / "key.pem", "c2pa_certificate": tmp_path / "chain.pem"}
    return settings.model_copy(update=changes)


def read(content: bytes, media_type: str, keys: Signing) -> c2pa.Reader:
    trust = {"trust": {"trust_anchors": keys.authority.decode()}, "verify": {"verify_trust": True}}
    return c2pa.Reader(media_type, io.BytesIO(content), context=c2pa.Context.from_dict(trust))


async def test_each_film_has_a_signature_that_others_can_verify(signed_settings, fleet, keys, tmp_path):
    """Its signature says that the film was made by a model, and what the film carried before is still there."""
    async with running(signed_settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        films = {kind: (await client.get(f"{walk['url']}/{kind.name}")).content for kind in FILM_KINDS.values()}
    for kind, content in films.items():
        found = read(content, kind.media_type, keys)
        assert found.get_validation_state() == "Trusted", (kind.name, found.get_validation_results())
        manifest = found.get_active_manifest()
        [actions] = [made["data"]["actions"] for made in manifest["assertions"] if made["label"] == "c2pa.actions.v2"]
        assert [(action["action"], action["digitalSourceType"]) for action in actions] == [("c2pa.created", TERM)]
        assert "a giraffe" not in json.dumps(manifest)
        film = tmp_path / kind.name
        film.write_bytes(content)
        assert read_spec(film)["stops"] == ["a giraffe", "a battleship"]
    found = exiftool.read([tmp_path / kind.name for kind in films], "XMP-iptcExt:DigitalSourceType")
    assert [tags["XMP-iptcExt:DigitalSourceType"] for tags in found] == [TERM] * len(films)


def test_a_changed_film_is_not_trusted(keys, tmp_path):
    """A signature is of use only if it breaks with the picture."""
    film = tmp_path / "walk.gif"
    Image.effect_noise((64, 64), 50).save(film)
    Signer(keys.key, keys.certificates).sign(film, DigitalSource.COMPOSITE)
    content = bytearray(film.read_bytes())
    assert read(bytes(content), "image/gif", keys).get_validation_state() == "Trusted"
    content[-100] ^= 1
    assert read(bytes(content), "image/gif", keys).get_validation_state() == "Invalid"


def test_a_film_that_cannot_be_signed_is_kept(keys, tmp_path, monkeypatch):
    """A large film, or one that the library refuses, must not cost the walk."""
    signer = Signer(keys.key, keys.certificates)
    film = tmp_path / "walk.gif"
    film.write_bytes(b"no film")
    signer.sign(film, DigitalSource.TRAINED)
    assert film.read_bytes() == b"no film"
    Image.new("L", (8, 8)).save(film, "GIF")
    before = film.read_bytes()
    monkeypatch.setattr(content_credentials, "MAX_SIGNED_BYTES", 10)
    signer.sign(film, DigitalSource.TRAINED)
    assert film.read_bytes() == before
    assert list(tmp_path.iterdir()) == [film]


@pytest.mark.parametrize("broken", ["c2pa_key", "c2pa_certificate"])
def test_a_key_that_cannot_sign_ends_the_start(signed_settings, keys, broken):
    """Otherwise the operator would find out from a film, months later. Web processes make no films."""
    for content in (b"no key", signing().key if broken == "c2pa_key" else signing().certificates):
        getattr(signed_settings, broken).write_bytes(content)
        with pytest.raises(SystemExit, match="MOMALISA_C2PA_KEY"):
            read_signer(signed_settings)
    assert read_signer(signed_settings.model_copy(update={"role": "web"})) is None
