"""The sound of a stored clip as an MP4 of its own, on the time line of the clip's film.

Runs in the program `clip_decoder` only. PyAV is an optional dependency.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
from av.audio.resampler import AudioResampler
from av.container import OutputContainer
from av.packet import Packet

from momalisa_api.pictures.remux import codec_of

# Sound that every player of MP4 plays. Opus and ALAC are encoded again.
_PLAYABLE: Final = ("aac", "mp3")
_AAC_RATE: Final = 48_000
_AAC_BITS_PER_S: Final = 160_000


def write_sound(heard: "Sequence[Packet[Any]]", target: Path, origin: Fraction) -> None:
    """Write a clip's sound alone: as it is if every player plays it in an MP4, else as AAC."""
    stream = heard[0].stream
    with av.open(str(target), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        if codec_of(stream) in _PLAYABLE:
            _copy(heard, container, origin)
        else:
            _encode(heard, container, origin)


def _copy(heard: "Sequence[Packet[Any]]", container: OutputContainer, origin: Fraction) -> None:
    written = container.add_stream_from_template(heard[0].stream)
    shift = round(origin / Fraction(heard[0].time_base))
    for packet in heard:
        packet.pts = (packet.pts or 0) - shift
        packet.dts = packet.pts
        packet.stream = written
        container.mux_one(packet)


def _encode(heard: "Sequence[Packet[Any]]", container: OutputContainer, origin: Fraction) -> None:
    layout = "mono" if heard[0].stream.codec_context.layout.nb_channels == 1 else "stereo"
    written: Any = container.add_stream("aac", rate=_AAC_RATE, layout=layout)
    written.bit_rate = _AAC_BITS_PER_S
    resampler = AudioResampler(format="fltp", layout=layout, rate=_AAC_RATE)
    shift = round(origin * _AAC_RATE)
    for packet in heard:
        for frame in packet.decode():
            assert isinstance(frame, av.AudioFrame)
            for part in resampler.resample(frame):
                part.pts = (part.pts or 0) - shift
                container.mux(written.encode(part))
    for part in resampler.resample(None):
        container.mux(written.encode(part))
    container.mux(written.encode(None))
