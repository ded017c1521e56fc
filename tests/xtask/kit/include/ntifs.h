/* Adapts mingw-w64's DDK headers to what Microsoft's crates expect of the WDK's.
 *
 * Why here: wdk-sys includes ntifs.h first in every pass over the headers, and the kit's crt folder
 * is searched first. Used only where Microsoft's WDK is not installed. The layouts that the driver
 * relies on are checked when it is compiled, against these headers and against Microsoft's. */
#pragma once

/* Windows 10 and later: declares what newer systems have. */
#define NTDDI_VERSION 0x0A00000C
#define _WIN32_WINNT 0x0A00
#define WINVER 0x0A00

/* ntdef.h now, before wdm.h includes it, so that FIELD_OFFSET can be replaced below. */
#define NT_INCLUDED
#include <ntdef.h>

/* mingw-w64's is a constant expression for GCC only; the headers' C_ASSERTs need one. */
#undef FIELD_OFFSET
#define FIELD_OFFSET(Type, Field) __builtin_offsetof(Type, Field)

/* The WDK aligns these to MEMORY_ALLOCATION_ALIGNMENT, mingw-w64 does not. An attribute of a forward
 * declaration carries over to the definition. */
struct DECLSPEC_ALIGN(16) _DEVICE_OBJECT;
struct DECLSPEC_ALIGN(16) _IRP;

/* Inline in mingw-w64, and so without a binding; functions exported by the kernel in the WDK. */
#define KeGetCurrentIrql mingw_KeGetCurrentIrql
#define KfRaiseIrql mingw_KfRaiseIrql
#define KeLowerIrql mingw_KeLowerIrql
#include_next <ntifs.h>
#undef KeGetCurrentIrql
#undef KfRaiseIrql
#undef KeLowerIrql
NTKERNELAPI KIRQL NTAPI KeGetCurrentIrql(VOID);
NTKERNELAPI KIRQL NTAPI KfRaiseIrql(KIRQL NewIrql);
NTKERNELAPI VOID NTAPI KeLowerIrql(KIRQL NewIrql);

/* wdk-alloc allocates with these, mingw-w64 10 lacks them. */
typedef ULONG64 POOL_FLAGS;
NTKERNELAPI PVOID NTAPI ExAllocatePool2(POOL_FLAGS Flags, SIZE_T NumberOfBytes, ULONG Tag);
