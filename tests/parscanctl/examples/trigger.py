"""A trigger on the data lines of LPT1, and the status lines, by parscan's port programs.

Needs Windows and the parscan driver, and nothing but Python.
"""

import ctypes
import struct
from ctypes import wintypes

GENERIC_READ_WRITE = 0xC0000000
OPEN_EXISTING = 3
IOCTL_PARSCAN_CLAIM = 0x0016E404
IOCTL_PARSCAN_RUN = 0x0016E40C
ATOMIC = 1
RESULT = struct.Struct("<IIIIIIQ")
DONE = 0


def data(value):
    """Writes the data register."""
    return bytes([1, value, 0, 0])


def get(register):
    """Reads a register: 0 data, 1 status, 2 control."""
    return bytes([3, register, 0, 0])


def delay_us(us):
    """The next access is over this long after the last one; up to 8.388 s."""
    return bytes([8]) + (us | 0x800000).to_bytes(3, "little")


class Port:
    """A port that is claimed until it is closed."""

    def __init__(self, name=r"\\.\LPT1"):
        self.kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        self.kernel.CreateFileW.restype = wintypes.HANDLE
        self.handle = wintypes.HANDLE(
            self.kernel.CreateFileW(name, GENERIC_READ_WRITE, 0, None, OPEN_EXISTING, 0, None)
        )
        if self.handle.value == ctypes.c_void_p(-1).value:
            raise ctypes.WinError(ctypes.get_last_error())
        self.control(IOCTL_PARSCAN_CLAIM, struct.pack("<I", 0), 0)

    def control(self, code, request, room):
        """Sends a request and gives its answer."""
        answer = ctypes.create_string_buffer(max(room, 1))
        moved = wintypes.DWORD()
        if not self.kernel.DeviceIoControl(
            self.handle, code, request, len(request), answer, room, ctypes.byref(moved), None
        ):
            raise ctypes.WinError(ctypes.get_last_error())
        return answer.raw[: moved.value]

    def run(self, *instructions, atomic=False, room=4096):
        """Runs a program and gives the bytes that it read."""
        code = b"".join(instructions)
        flags = ATOMIC if atomic else 0
        header = struct.pack("<IIII", 1, flags, len(code) // 4, 0)
        answer = self.control(IOCTL_PARSCAN_RUN, header + code, RESULT.size + room)
        _, end, instruction, *_ = RESULT.unpack_from(answer)
        if end != DONE:
            raise RuntimeError(f"the program ended at instruction {instruction}: {end}")
        return answer[RESULT.size :]

    def close(self):
        """Gives the port back; its lines stay."""
        self.kernel.CloseHandle(self.handle)


if __name__ == "__main__":
    port = Port()
    # 1 for 10 us, which nothing stretches.
    port.run(data(1), delay_us(10), data(0), atomic=True)
    # A marker of 5 ms.
    port.run(data(0x2A), delay_us(5000), data(0))
    status = port.run(get(1))[0]
    print(f"status 0x{status:02x}: nAck is {'high' if status & 0x40 else 'low'}")
    port.close()
