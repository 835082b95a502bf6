"""Open Watches in a process of its own. `python -m tests.bench.watchers ADDRESS CREDENTIALS AGREEMENT OFFICER COUNT`.

Prints "open" once all of them are, and ends when its standard input closes.
"""

import sys
import threading

import grpc

from npd.common.v1.access_pb2 import AccessContext
from npd.sharing.v1.change_pb2 import WatchChangesRequest
from npd.sharing.v1.change_pb2_grpc import ChangeServiceStub
from npd_client.channel import RotatingChannel

_STREAMS_A_CONNECTION = 50


def main() -> None:
    """Open the Watches and read them until told to stop."""
    address, credentials, agreement_id, officer = sys.argv[1:5]
    count = int(sys.argv[5])
    access = AccessContext(agreement_id=agreement_id, case_reference="bench/2", officer_id=officer)
    opened = threading.Barrier(count + 1)

    def watch(channel: grpc.Channel) -> None:
        stream = iter(ChangeServiceStub(channel).WatchChanges(WatchChangesRequest(access=access), timeout=200))
        next(stream)
        opened.wait()
        for _ in stream:
            pass

    channels = [RotatingChannel(address, credentials) for _ in range(-(-count // _STREAMS_A_CONNECTION))]
    for number in range(count):
        channel = channels[number // _STREAMS_A_CONNECTION]
        threading.Thread(target=watch, args=[channel], daemon=True).start()
    opened.wait(60)
    print("open", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
