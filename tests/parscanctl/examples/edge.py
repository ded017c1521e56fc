"""A reaction time: a trigger goes out of LPT1, and the next rise of nAck (pin 10) is the answer.

Needs Windows and the parscan driver, and nothing but Python; the port needs an interrupt, and
ParscanWaitEdge = 1 in its hardware key. Nobody polls, and the times are those of the interrupt.
"""

import ctypes
import struct

from trigger import Port, data, delay_us

IOCTL_PARSCAN_WAIT_EDGE = 0x00166410
HEADER = struct.Struct("<IIIIQ")
EDGE = struct.Struct("<QII")
MOST_EDGES = 64


def parse_edges(answer):
    """Edges as (seconds, status), and how many were lost before them."""
    version, count, lost, _left, frequency = HEADER.unpack_from(answer)
    if version != 1:
        raise RuntimeError(f"version {version}")
    edges = []
    for number in range(count):
        stamp, status, _ = EDGE.unpack_from(answer, HEADER.size + number * EDGE.size)
        edges.append((stamp / frequency, status & 0xFF))
    return edges, lost


def wait_edges(port, milliseconds):
    """Waits until nAck rises, or did since the last call; none, if the time is over."""
    room = HEADER.size + MOST_EDGES * EDGE.size
    return parse_edges(port.control(IOCTL_PARSCAN_WAIT_EDGE, struct.pack("<I", milliseconds), room))


def counter(kernel):
    """The performance counter, in seconds."""
    count, frequency = ctypes.c_int64(), ctypes.c_int64()
    kernel.QueryPerformanceFrequency(ctypes.byref(frequency))
    kernel.QueryPerformanceCounter(ctypes.byref(count))
    return count.value / frequency.value


if __name__ == "__main__":
    port = Port()
    # The watch begins here: what comes from now on is kept.
    wait_edges(port, 0)
    start = counter(port.kernel)
    port.run(data(1), delay_us(10), data(0), atomic=True)
    edges, lost = wait_edges(port, 2000)
    if edges:
        seconds, status = edges[0]
        print(f"{(seconds - start) * 1e6:.1f} us, status 0x{status:02x}, {lost} lost")
    else:
        print("no answer in two seconds")
    port.close()
