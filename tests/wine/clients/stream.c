/*
 * A program in C that takes a port for a file, as most programs that print do: it knows nothing of
 * parscan, and calls Windows as its compiler's library or another language's would.
 *
 *     stream flush PATH FILE    begins to write FILE, and flushes: what has gone out by then?
 *     stream append PATH FILE   opens PATH for appending (FILE_APPEND_DATA alone), and writes FILE
 *     stream end PATH FILE      writes FILE to the end, by OVERLAPPED's offset of -1
 *     stream place PATH FILE    writes FILE to a place that a stream does not have
 */
#include <stdio.h>
#include <string.h>
#include <windows.h>

/* What is written. */
static char page[0x20000];
static DWORD size;

static int failed(const char *function)
{
    DWORD error = GetLastError();
    printf("%s: error %lu\n", function, error);
    return 1;
}

static HANDLE open_port(const char *path, DWORD access, DWORD flags)
{
    return CreateFileA(path, access, 0, NULL, OPEN_EXISTING, flags, NULL);
}

static int flush(const char *path)
{
    HANDLE port = open_port(path, GENERIC_WRITE, FILE_FLAG_OVERLAPPED);
    if (port == INVALID_HANDLE_VALUE)
        return failed("CreateFile");
    OVERLAPPED write = {0};
    write.hEvent = CreateEventA(NULL, TRUE, FALSE, NULL);
    if (!WriteFile(port, page, size, NULL, &write) && GetLastError() != ERROR_IO_PENDING)
        return failed("WriteFile");
    printf("the write %s\n", HasOverlappedIoCompleted(&write) ? "has ended" : "is under way");
    if (!FlushFileBuffers(port))
        return failed("FlushFileBuffers");
    /* Its end is told in a moment, if it was not told yet. */
    if (WaitForSingleObject(write.hEvent, 1000) != WAIT_OBJECT_0) {
        printf("flushed, and the write is still under way\n");
        return 1;
    }
    DWORD written = 0;
    if (!GetOverlappedResult(port, &write, &written, FALSE))
        return failed("GetOverlappedResult");
    printf("flushed: %lu of %lu bytes\n", written, size);
    CloseHandle(write.hEvent);
    CloseHandle(port);
    return 0;
}

static int put(const char *path, DWORD access, OVERLAPPED *place)
{
    HANDLE port = open_port(path, access, 0);
    if (port == INVALID_HANDLE_VALUE)
        return failed("CreateFile");
    DWORD written = 0;
    int result = 0;
    if (WriteFile(port, page, size, &written, place))
        printf("%lu of %lu bytes\n", written, size);
    else
        result = failed("WriteFile");
    CloseHandle(port);
    return result;
}

int main(int argc, char **argv)
{
    OVERLAPPED end = {0}, place = {0};
    end.Offset = end.OffsetHigh = 0xFFFFFFFF;
    place.Offset = 4096;
    if (argc != 4) {
        fprintf(stderr, "usage: stream flush|append|end|place PATH FILE\n");
        return 2;
    }
    const char *verb = argv[1], *path = argv[2];
    FILE *file = fopen(argv[3], "rb");
    if (file == NULL) {
        fprintf(stderr, "%s cannot be read\n", argv[3]);
        return 2;
    }
    size = (DWORD)fread(page, 1, sizeof page, file);
    fclose(file);
    if (strcmp(verb, "flush") == 0)
        return flush(path);
    if (strcmp(verb, "append") == 0)
        return put(path, FILE_APPEND_DATA | SYNCHRONIZE, NULL);
    if (strcmp(verb, "end") == 0)
        return put(path, GENERIC_WRITE, &end);
    if (strcmp(verb, "place") == 0)
        return put(path, GENERIC_WRITE, &place);
    fprintf(stderr, "no such command: %s\n", verb);
    return 2;
}
