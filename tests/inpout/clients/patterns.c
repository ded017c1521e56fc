/* Clients of inpoutx64.dll, inpout32.dll and dlportio.dll: the call patterns of public programs,
 * written anew. They load the DLL by its name, as those do, and print what they get.
 *
 *   patterns DLL COMMAND [ARGUMENT ...]
 *
 * Numbers are hexadecimal. `tests/wine/transcripts/inpout.txt` shows each command with its output;
 * what reached the port is told there by the simulated devices, not by this program.
 */
#include <windows.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whole registers in and out: programs declare the functions in many ways. */
typedef uintptr_t word;
typedef word(__stdcall *call0)(void);
typedef word(__stdcall *call1)(word);
typedef word(__stdcall *call2)(word, word);
typedef word(__stdcall *call3)(word, word, word);
/* As most programs have them. */
typedef short(__stdcall *inp32)(short);
typedef void(__stdcall *out32)(short, short);

static const char *dll;
static HMODULE module;
static inp32 inp;
static out32 out;

static FARPROC function(const char *name)
{
    FARPROC found = GetProcAddress(module, name);
    if (!found) {
        printf("%s is not in %s\n", name, dll);
        exit(1);
    }
    return found;
}

static call0 function0(const char *name) { return (call0)(void *)function(name); }
static call1 function1(const char *name) { return (call1)(void *)function(name); }
static call2 function2(const char *name) { return (call2)(void *)function(name); }
static call3 function3(const char *name) { return (call3)(void *)function(name); }

static void load(void)
{
    module = LoadLibraryA(dll);
    if (!module) {
        printf("cannot load %s: error %lu\n", dll, GetLastError());
        exit(1);
    }
    inp = (inp32)(void *)function("Inp32");
    out = (out32)(void *)function("Out32");
}

static word number(const char *text) { return (word)strtoul(text, NULL, 16); }

#ifdef __i386__
/* How many bytes a function of this many arguments takes off the stack. */
static int pops(FARPROC call, int arguments)
{
    int before, after;
    __asm__ volatile("movl %%esp, %0\n\t"
                     "movl %3, %%ecx\n"
                     "1: testl %%ecx, %%ecx\n\t"
                     "jz 2f\n\t"
                     "pushl $0\n\t"
                     "decl %%ecx\n\t"
                     "jmp 1b\n"
                     "2: call *%2\n\t"
                     "movl %%esp, %1\n\t"
                     "movl %0, %%esp"
                     : "=&b"(before), "=&S"(after)
                     : "D"(call), "m"(arguments)
                     : "eax", "ecx", "edx", "memory", "cc");
    return after - (before - 4 * arguments);
}
#endif

/* Every name that programs look for; called with zeros, also where they are pointers. */
static int functions(void)
{
    static const struct {
        const char *name;
        int arguments;
    } all[] = {
        {"DlPortReadPortBufferUchar", 3},   {"DlPortReadPortBufferUlong", 3},
        {"DlPortReadPortBufferUshort", 3},  {"DlPortReadPortUchar", 1},
        {"DlPortReadPortUlong", 1},         {"DlPortReadPortUshort", 1},
        {"DlPortWritePortBufferUchar", 3},  {"DlPortWritePortBufferUlong", 3},
        {"DlPortWritePortBufferUshort", 3}, {"DlPortWritePortUchar", 2},
        {"DlPortWritePortUlong", 2},        {"DlPortWritePortUshort", 2},
        {"GetPhysLong", 2},                 {"Inp32", 1},
        {"IsInpOutDriverOpen", 0},          {"IsXP64Bit", 0},
        {"MapPhysToLin", 3},                {"Out32", 2},
        {"SetPhysLong", 2},                 {"UnmapPhysicalMemory", 2},
    };
    int right = 0, count = sizeof all / sizeof *all;
    for (int i = 0; i < count; i++) {
        FARPROC call = function(all[i].name);
#ifdef __i386__
        right += pops(call, all[i].arguments) == 4 * all[i].arguments;
#else
        ((call3)(void *)call)(0, 0, 0);
        right++;
#endif
    }
    printf("%d of %d functions\n", right, count);

    word value = 0x12345678;
    HANDLE handle = (HANDLE)&value;
    printf("IsXP64Bit %llx\n", (unsigned long long)function0("IsXP64Bit")());
    printf("MapPhysToLin %llx",
           (unsigned long long)function3("MapPhysToLin")(0xA0000, 0x1000, (word)&handle));
    printf(", handle %llx\n", (unsigned long long)(word)handle);
    printf("GetPhysLong %llx", (unsigned long long)function2("GetPhysLong")(0x400, (word)&value));
    printf(", value %llx\n", (unsigned long long)value);
    printf("SetPhysLong %llx\n", (unsigned long long)function2("SetPhysLong")(0x400, 1));
    printf("UnmapPhysicalMemory %llx\n",
           (unsigned long long)function2("UnmapPhysicalMemory")(0, 0));
    return 0;
}

/* An experiment package: the ECR read, its mode set to byte mode, the direction cleared; then
 * triggers, and the status pins. */
static int experiment(short base)
{
    printf("open %llx\n", (unsigned long long)function0("IsInpOutDriverOpen")());
    short ecr = inp(base + 0x402);
    printf("ecr %02x\n", ecr);
    out(base + 0x402, (short)((ecr & 0x1F) | 0x20));
    out(base + 2, (short)(inp(base + 2) & ~0x20));
    static const short triggers[] = {1, 0, 0x0A, 0, 0xFF, 0};
    for (unsigned i = 0; i < sizeof triggers / sizeof *triggers; i++) {
        out(base, triggers[i]);
        Sleep(2);
        short status = inp(base + 1);
        printf("data %02x, pins 10 %d 11 %d 12 %d 13 %d 15 %d\n", inp(base), status >> 6 & 1,
               status >> 7 & 1, status >> 5 & 1, status >> 4 & 1, status >> 3 & 1);
    }
    return 0;
}

/* A text display: data lines, nStrobe as its clock, nInit as its register select. Bit 4 is set in
 * every write, as by programs that once ran in an emulator. */
static int display(word base, const char *text)
{
    call2 write = function2("DlPortWritePortUchar");
    for (; *text; text++) {
        write(base + 2, 0x15);
        write(base, (unsigned char)*text);
        write(base + 2, 0x14);
        write(base + 2, 0x15);
    }
    return 0;
}

/* A programmer: bits out on D0, their clock on D1, each bit back on nFault. What it drives goes to
 * a file. */
static int programmer(short base, word count, const char *name)
{
    FILE *file = fopen(name, "wb");
    if (!file)
        return 1;
    unsigned wrong = 0, accesses = 0, seed = 1;
    for (word i = 0; i < count; i++) {
        unsigned char byte, back = 0;
        seed = seed * 1103515245 + 12345;
        byte = (unsigned char)(seed >> 16);
        for (int bit = 7; bit >= 0; bit--) {
            short d0 = byte >> bit & 1;
            short steps[3] = {d0, (short)(d0 | 2), d0};
            out(base, steps[0]);
            out(base, steps[1]);
            back = (unsigned char)(back << 1 | (inp(base + 1) >> 3 & 1));
            out(base, steps[2]);
            for (int step = 0; step < 3; step++)
                fputc(steps[step], file);
            accesses += 4;
        }
        wrong += back != byte;
    }
    fclose(file);
    printf("%u accesses, %u bytes wrong\n", accesses, wrong);
    return 0;
}

/* Says by a file that it is so far. */
static int touch(const char *name)
{
    FILE *file = fopen(name, "wb");
    return !file || fputc('x', file) != 'x' || fclose(file);
}

/* A button box: the status register is polled as a whole byte, until it changes. */
static int buttons(word base, const char *name)
{
    call1 read = function1("DlPortReadPortUchar");
    word first = read(base + 1), now;
    DWORD start = GetTickCount();
    unsigned polls = 0;
    do {
        now = read(base + 1);
        if (++polls == 1000)
            touch(name);
    } while (now == first && GetTickCount() - start < 20000);
    printf("%02x, then %02x\n", (unsigned)first, (unsigned)now);
    return 0;
}

/* Addresses of no port, in a loop as programs have it that wait for a keyboard controller. */
static int nowhere(word base)
{
    static const word offsets[] = {3, 4, 7, 0x400, 0x401};
    call1 uchar = function1("DlPortReadPortUchar");
    for (unsigned i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        out((short)(base + offsets[i]), 0);
        printf("+%x %llx\n", (unsigned)offsets[i], (unsigned long long)uchar(base + offsets[i]));
    }
    DWORD start = GetTickCount();
    unsigned other = 0;
    for (int i = 0; i < 1000000; i++)
        other += inp(0x64) != 0xFF;
    printf("%u of 1000000 are not ff; %s\n", other,
           GetTickCount() - start < 5000 ? "cheap" : "not cheap");
    printf("%llx %llx\n", (unsigned long long)function1("DlPortReadPortUshort")(0x60),
           (unsigned long long)function1("DlPortReadPortUlong")(0xFFFE));
    return 0;
}

/* Wide accesses, buffers, and arguments with something above their low bits. */
static int widths(word base)
{
#ifdef _WIN64
    word above = (word)0xDEADBEEF << 32 | (word)0xFFFF << 16;
#else
    word above = (word)0xFFFF << 16;
#endif
    call1 uchar = function1("DlPortReadPortUchar");
    call1 ushort_ = function1("DlPortReadPortUshort");
    call1 ulong = function1("DlPortReadPortUlong");
    function2("Out32")(above | base, above | 0xFF0A);
    printf("uchar %llx", (unsigned long long)uchar(above | base));
    printf(" inp32 %llx\n", (unsigned long long)function1("Inp32")(above | base));
    function2("DlPortWritePortUlong")(base, 0x110C3305);
    printf("ushort %llx ulong %llx", (unsigned long long)ushort_(base),
           (unsigned long long)ulong(base));
    printf(" across %llx\n", (unsigned long long)ulong(base - 1));
    function2("DlPortWritePortUshort")(base - 1, 0x0711);
    unsigned char bytes[] = {1, 2, 3, 4, 5}, back[3] = {0};
    function3("DlPortWritePortBufferUchar")(base, (word)bytes, sizeof bytes);
    function3("DlPortReadPortBufferUchar")(base + 1, (word)back, sizeof back);
    printf("buffer %02x %02x %02x\n", back[0], back[1], back[2]);
    unsigned short words[] = {0x0806, 0x0707}, wide[2] = {0};
    function3("DlPortWritePortBufferUshort")(base, (word)words, 2);
    function3("DlPortReadPortBufferUshort")(base, (word)wide, 2);
    printf("buffer %04x %04x\n", wide[0], wide[1]);
    return 0;
}

/* Keeps the port until there is another file. */
static int hold(short base, short value, const char *begun, const char *end)
{
    out(base, value);
    printf("wrote %02x, read %02x\n", value, inp(base));
    touch(begun);
    for (int i = 0; i < 3000 && GetFileAttributesA(end) == INVALID_FILE_ATTRIBUTES; i++)
        Sleep(10);
    return 0;
}

/* What a second program gets, at once. */
static int second(short base, short value)
{
    DWORD start = GetTickCount();
    out(base, value);
    for (int i = 0; i < 1000; i++)
        out(base, value);
    printf("open %llx, data %02x, status %02x, ecr %02x",
           (unsigned long long)function0("IsInpOutDriverOpen")(), inp(base), inp(base + 1),
           inp(base + 0x402));
    printf("; %s\n", GetTickCount() - start < 5000 ? "nothing waits" : "something waits");
    return 0;
}

/* Tries until it gets the port that another program gives up. */
static int until(short base, short value)
{
    int tries = 0;
    do {
        out(base, value);
        Sleep(20);
    } while (inp(base) != value && ++tries < 500);
    printf("data %02x\n", inp(base));
    return 0;
}

/* Loads, writes and unloads, for every byte. */
static int reload(short base, word count)
{
    DWORD handles = 0, more = 0, slot = 0;
    for (word i = 0; i < count; i++) {
        load();
        out(base, (short)i);
        FreeLibrary(module);
        /* What the first one leaves is the system's. */
        if (i == 0) {
            GetProcessHandleCount(GetCurrentProcess(), &handles);
            slot = TlsAlloc();
            TlsFree(slot);
        }
    }
    GetProcessHandleCount(GetCurrentProcess(), &more);
    DWORD last = TlsAlloc();
    printf("%u times; handles %s, thread-local slots %s; %s\n", (unsigned)count,
           more <= handles ? "stay" : "leak", last <= slot ? "stay" : "leak",
           GetModuleHandleA(dll) ? "still loaded" : "unloaded");
    return 0;
}

static short shared_base;

static DWORD WINAPI first_call(void *value)
{
    for (int i = 0; i < 100; i++)
        out(shared_base, (short)(word)value);
    return 0;
}

/* Threads whose first calls meet. */
static int threads(short base)
{
    HANDLE all[4];
    shared_base = base;
    for (int i = 0; i < 4; i++)
        all[i] = CreateThread(NULL, 0, first_call, (void *)(word)(i + 1), 0, NULL);
    WaitForMultipleObjects(4, all, TRUE, INFINITE);
    short last = inp(base);
    printf("%s\n", last >= 1 && last <= 4 ? "one of them was last" : "none of them was last");
    return 0;
}

int main(int count, char **words)
{
    /* Of what was not given: an empty text. */
    const char *word_[7] = {"", "", "", "", "", "", ""};
    for (int i = 0; i < count && i < 7; i++)
        word_[i] = words[i];
    const char *command = word_[2];
    word base = number(word_[3]);
    dll = word_[1];
    setvbuf(stdout, NULL, _IONBF, 0);
    if (!strcmp(command, "touch"))
        return touch(word_[3]);
    if (!strcmp(command, "reload"))
        return reload((short)base, number(word_[4]));
    load();
    if (!strcmp(command, "functions"))
        return functions();
    if (!strcmp(command, "experiment"))
        return experiment((short)base);
    if (!strcmp(command, "display"))
        return display(base, word_[4]);
    if (!strcmp(command, "programmer"))
        return programmer((short)base, number(word_[4]), word_[5]);
    if (!strcmp(command, "buttons"))
        return buttons(base, word_[4]);
    if (!strcmp(command, "nowhere"))
        return nowhere(base);
    if (!strcmp(command, "widths"))
        return widths(base);
    if (!strcmp(command, "hold"))
        return hold((short)base, (short)number(word_[4]), word_[5], word_[6]);
    if (!strcmp(command, "second"))
        return second((short)base, (short)number(word_[4]));
    if (!strcmp(command, "until"))
        return until((short)base, (short)number(word_[4]));
    if (!strcmp(command, "threads"))
        return threads((short)base);
    printf("there is no command %s\n", command);
    return 2;
}
