"""Measures what every room has: its version, and the rows that wait for a position."""

from collections.abc import Sequence
from importlib import metadata

from services.mesh.core.background import Stopping
from services.mesh.core.sequencer import Sequencer
from services.mesh.wire.metrics import BUILD, SEQUENCE_OLDEST_AGE, SEQUENCE_PENDING
from services.mesh.wire.room import House

_MEASURE_EVERY = 5.0


class Measurement:
    """Measures every five seconds. `sequencers` are those of the room besides its log's."""

    def __init__(self, house: House, sequencers: Sequence[Sequencer]) -> None:
        self._sequencers = (house.log_sequencer, *sequencers)
        BUILD.labels(metadata.version("npd-mesh")).set(1)

    def run(self, stopping: Stopping) -> None:
        """Measure until told to stop."""
        while not stopping.is_set():
            self.measure()
            stopping.wait(_MEASURE_EVERY)

    def measure(self) -> None:
        """Measure once."""
        for sequencer in self._sequencers:
            waits = sequencer.unplaced()
            SEQUENCE_PENDING.labels(sequencer.name).set(waits.count)
            # not the time when it was written: at a scrape that would seem older than it is, by the time since the look
            SEQUENCE_OLDEST_AGE.labels(sequencer.name).set(waits.oldest_age.total_seconds())
