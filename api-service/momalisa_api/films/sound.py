"""The sound of a clip in the film of its walk: copied, packet by packet, as the film grows. Needs PyAV."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import OutputContainer
from av.packet import Packet


class Sound:
    """A file with one sound, whose packets go into a film."""

    def __init__(self, source: Path, film: OutputContainer) -> None:
        self._film = film
        self._source = av.open(str(source), "r", format="mov")
        [sound] = self._source.streams.audio
        self._written = film.add_stream_from_template(sound)
        self._packets = (packet for packet in self._source.demux(sound) if packet.size)
        self._next: Packet[Any] | None = next(self._packets, None)

    def copy_until(self, seconds: Fraction | None) -> None:
        """Copy the packets that are heard before a time, None: all that are left."""
        while packet := self._next:
            if seconds is not None and (packet.dts or 0) * Fraction(packet.time_base) > seconds:
                return
            packet.stream = self._written
            self._film.mux_one(packet)
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Close the file."""
        self._source.close()
