"""What becomes of a visitor's clip: formats, metadata, and files made to do harm."""

import io
import os
import random
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from threading import Thread

import av
import psutil
import pytest

from momalisa_api.pictures import remux as limits_of
from momalisa_api.pictures.clip_format import UnreadableClip
from momalisa_api.pictures.decoders import CLIP_GAVE_UP, Remuxers
from momalisa_api.pictures.limits import restrict
from momalisa_api.pictures.remux import Clip, remuxed
from momalisa_api.pictures.remuxer import CLIP_OUTPUT_BYTES, REMUXING_CPU_S, remux
from momalisa_api.problems import BadClip, BucketUnavailable
from tests.support import exiftool
from tests.support.clips import SECRETS, SIZE, box, clip, flash_and_beep, many_streams, sound_only
from tests.support.pictures import encoded, mutated, scene

MUTATIONS = int(os.environ.get("MOMALISA_TEST_MUTATIONS", "240"))
MP4 = clip(sound="aac", metadata=SECRETS)

pytestmark = pytest.mark.anyio


def remuxing(content: bytes, target: Path) -> Clip:
    return remuxed(io.BytesIO(content), target)


@pytest.mark.parametrize(
    ("content", "ending", "sound"),
    [
        pytest.param(MP4, "mp4", True, id="mp4"),
        pytest.param(clip(options={"movflags": "frag_keyframe+empty_moov"}), "mp4", False, id="in fragments"),
        pytest.param(clip("mov", sound="aac"), "mp4", True, id="mov"),
        pytest.param(clip("mov", sound="pcm_s16le"), "mp4", False, id="mov with sound that MP4 has no place for"),
        pytest.param(clip("webm", "libvpx-vp9", sound="libopus"), "webm", True, id="webm"),
        pytest.param(clip("webm", "libvpx"), "webm", False, id="vp8"),
    ],
)
def test_a_clip_keeps_its_pictures_and_its_sound(tmp_path: Path, content: bytes, ending: str, sound: bool):
    """They are copied, so nothing is lost, and a phone's clip takes no time."""
    found = remuxing(content, tmp_path / "clip")
    assert found == Clip(ending, 2.0, *SIZE, 20, sound)
    with av.open(str(tmp_path / "clip")) as after, av.open(io.BytesIO(content)) as before:
        assert [stream.type for stream in after.streams] == ["video", "audio"][: 1 + sound]
        for one, other in zip(before.decode(video=0), after.decode(video=0), strict=True):
            assert bytes(one.planes[0]) == bytes(other.planes[0])
    remuxing(content, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "clip").read_bytes()


@pytest.mark.parametrize("kind", ["mp4", "mov", "webm"])
def test_nothing_but_the_pictures_and_the_sound_is_kept(tmp_path: Path, kind: str):
    """Phones write where a clip was taken, and encoders write messages between the pictures (SEI)."""
    codec = {"webm": "libvpx-vp9"}.get(kind, "libx264")
    content = clip(kind, codec, metadata=SECRETS, options={"movflags": "+use_metadata_tags"})
    content += box(b"udta", b"at home") if kind != "webm" else b""
    assert b"at home" in content
    found = remuxing(content, tmp_path / f"clip.{kind}")
    stored = (tmp_path / f"clip.{kind}").read_bytes()
    for secret in (b"52.5", b"Jane", b"at home", b"x264 - core"):
        assert secret not in stored
    assert found.frames == 20
    [tags] = exiftool.read([tmp_path / f"clip.{kind}"], "all")
    assert not [tag for tag in tags if "GPS" in tag or "Artist" in tag or "Comment" in tag], tags


def test_the_side_that_is_up_stays_up(tmp_path: Path):
    """Phones store frames as the sensor sees them, and how to turn them. The size is as players show it."""
    found = remuxing(clip(rotation=90), tmp_path / "clip.mp4")
    assert (found.width, found.height) == (48, 64)
    (tmp_path / "before.mp4").write_bytes(clip(rotation=90))
    turned = exiftool.read([tmp_path / "before.mp4", tmp_path / "clip.mp4"], "Rotation")
    assert [tags["Composite:Rotation"] for tags in turned] == [90, 90]


def test_oblong_pixels_make_a_clip_wider(tmp_path: Path):
    """The size is as players show it, and decides the shape of the frames: nobody gets thin."""
    found = remuxing(clip(pixel_shape=Fraction(4, 3)), tmp_path / "clip")
    assert (found.width, found.height) == (85, 48)


def test_oblong_pixels_of_a_clip_on_its_side_make_it_higher(tmp_path: Path):
    """The pixels are turned with the frame. A shape that no camera has is a mistake."""
    found = remuxing(clip(pixel_shape=Fraction(4, 3), rotation=90), tmp_path / "clip.mp4")
    assert (found.width, found.height) == (48, 85)
    odd = remuxing(clip(pixel_shape=Fraction(100, 1)), tmp_path / "odd")
    assert (odd.width, odd.height) == (64, 48)


def _named_elsewhere(address: str) -> bytes:
    """An MP4 whose data are in another file: the flag that says `in this file` is gone, and a URL is there."""
    entry = box(b"url ", b"\0\0\0\0" + address.encode() + b"\0")
    content = clip()
    at = content.index(b"url ") - 4
    there = content[:at] + entry + content[at + 12 :]
    for name in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        start = there.rindex(name, 0, at) - 4
        [size] = struct.unpack_from(">I", there, start)
        there = there[:start] + struct.pack(">I", size + len(entry) - 12) + there[start + 4 :]
    return there


@pytest.mark.parametrize(
    "content_of",
    [
        pytest.param(lambda url: f"#EXTM3U\n#EXTINF:1,\n{url}\n".encode(), id="hls"),
        pytest.param(lambda url: box(b"ftyp", b"isom") + f"#EXTM3U\n#EXTINF:1,\n{url}\n".encode(), id="hls in mp4"),
        pytest.param(
            lambda url: f"<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>{url}</BaseURL></MPD>".encode(), id="dash"
        ),
        pytest.param(lambda url: f"ffconcat version 1.0\nfile {url}\n".encode(), id="concat"),
        pytest.param(_named_elsewhere, id="data reference"),
    ],
)
def test_a_file_that_names_others_opens_none(tmp_path: Path, content_of: Callable[[str], bytes]):
    """The decoders of playlists would fetch addresses of this network, or read this machine's files."""
    (tmp_path / "secret.ts").write_bytes(MP4)
    with _listening() as (port, callers):
        for url in (f"http://127.0.0.1:{port}/x.ts", f"file://{tmp_path}/secret.ts"):
            (tmp_path / "body").write_bytes(content_of(url))
            found = remux(tmp_path / "body", tmp_path / "clip")
            # A reference in an MP4 is ignored, and its own data is read.
            assert "problem" in found or content_of is _named_elsewhere
        assert callers == []


@contextmanager
def _listening() -> Iterator[tuple[int, list[object]]]:
    """A port of this machine, and who has connected to it. Connections are closed at once."""
    callers: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                callers.append(address)
                connection.close()

        thread = Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1], callers
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"no clip", "not a clip", id="text"),
        pytest.param(encoded(scene(), "PNG"), "not a clip", id="a picture"),
        pytest.param(encoded(scene(), "AVIF"), "single frame", id="a picture that looks like an mp4"),
        pytest.param(clip("avi", "mpeg4"), "not a clip", id="avi"),
        pytest.param(clip("mp4", "mpeg4"), "video format", id="mpeg-4 part 2"),
        pytest.param(MP4[: len(MP4) // 2], "damaged", id="truncated"),
        pytest.param(clip(options={"movflags": "+faststart"})[:-150], "damaged", id="truncated pictures"),
        pytest.param(sound_only(), "no video", id="sound only"),
        pytest.param(clip(frames=1), "single frame", id="one frame"),
        pytest.param(clip(frames=320), "30 seconds", id="too long"),
        pytest.param(flash_and_beep("mp4", "libx264", "aac", 0, 60_000), "30 seconds", id="sound a minute later"),
        pytest.param(clip(frames=2, size=(4112, 16)), "4,112 x 16", id="too large"),
        pytest.param(
            clip(
                options={
                    "encryption_scheme": "cenc-aes-ctr",
                    "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
                    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
                }
            ),
            "encrypted",
            id="encrypted",
        ),
        pytest.param(box(b"ftyp", b"isom") + box(b"moov", box(b"trak", b"")), "damaged|no video", id="no tracks"),
    ],
)
def test_what_is_no_usable_clip_is_explained(tmp_path: Path, content: bytes, reason: str):
    """A short sentence says what to do; nothing is stored."""
    with pytest.raises(UnreadableClip, match=reason):
        remuxing(content, tmp_path / "clip")


def test_a_file_of_many_streams_costs_no_more_than_others(tmp_path: Path):
    """Each stream has a decoder of its own."""
    (tmp_path / "body").write_bytes(many_streams(limits_of.MAX_STREAMS + 1))
    assert "too much memory" in remux(tmp_path / "body", tmp_path / "clip")["problem"]


def test_a_clip_that_is_also_a_page_becomes_a_clip_only(tmp_path: Path):
    """What a browser or an archiver would find in the file is gone."""
    page = b"<html><script>alert(1)</script></html>"
    remuxing(MP4 + box(b"free", page) + b"PK\5\6" + bytes(18), tmp_path / "clip")
    stored = (tmp_path / "clip").read_bytes()
    assert page not in stored
    assert b"PK\5\6" not in stored


async def test_the_remuxer_keeps_its_limits(tmp_path: Path):
    """The clip of a form, of a real process; and one that takes too long ends with its process."""
    source, target = tmp_path / "body", tmp_path / "clip"
    form = b'--x\r\nContent-Disposition: form-data; name="clip"; filename="a.mp4"\r\n\r\n' + MP4 + b"\r\n--x--\r\n"
    source.write_bytes(form)
    found = await Remuxers().remux(source, target, "x")
    assert (found.ending, found.frames, found.has_sound) == ("mp4", 20, True)
    source.write_bytes(b"no clip")
    with pytest.raises(BadClip, match="not a clip"):
        await Remuxers().remux(source, target)
    with pytest.raises(BadClip, match=CLIP_GAVE_UP):
        await Remuxers(limit_s=0.001).remux(source, target)
    assert not [child for child in psutil.Process().children() if "remuxer" in " ".join(child.cmdline())]


async def test_a_full_disk_is_not_the_fault_of_the_clip(tmp_path: Path):
    """The visitor is asked to come back, and not to save the clip again."""
    (tmp_path / "body").write_bytes(MP4)
    (tmp_path / "clip").symlink_to("/dev/full")
    with pytest.raises(BucketUnavailable, match="No room"):
        await Remuxers().remux(tmp_path / "body", tmp_path / "clip")


def _case(folder: Path, content: bytes) -> str:
    (folder / "body").write_bytes(content)
    found = remux(folder / "body", folder / "clip")
    return "problem" if "problem" in found else "clip"


def test_damaged_files_end_no_remuxer(tmp_path: Path):
    """Each of them is a clip or a problem. A fault in a decoder would end its process, and others must be spared."""
    dice = random.Random(17)
    originals = [MP4, clip("mov"), clip("webm", "libvpx-vp9", sound="libopus"), clip("mp4", "libx265")]
    cases = [mutated(dice.choice(originals), dice) for _ in range(MUTATIONS)]
    limits = (REMUXING_CPU_S, CLIP_OUTPUT_BYTES)
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=restrict, initargs=limits) as pool:
        # A process that ends raises BrokenProcessPool here.
        found = list(pool.map(_case, [tmp_path] * len(cases), cases, chunksize=20))
    assert set(found) == {"clip", "problem"}
