//! mingw-w64's headers that do not know Windows on ARM64, as edited copies.
//!
//! Blocks for "neither AMD64 nor IA64" mean 32 bits, so they ask for `_WIN64` instead; what an
//! architecture declares for itself is added. What the driver uses of all this is checked when it
//! is compiled (its layouts) and by the gate (its imports).

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{
    MINGW_INCLUDE,
    crates::{Edit, apply},
};
use crate::shell::write_if_changed;

/// A header below [`MINGW_INCLUDE`], where its copy goes below `km`, and its edits.
struct Header {
    from: &'static str,
    to: &'static str,
    edits: &'static [Edit],
}

const HEADERS: &[Header] = &[
    Header {
        from: "ddk/wdm.h",
        to: "wdm.h",
        edits: &[
            Edit {
                file: "ddk/wdm.h",
                why: "XSTATE_SAVE has one word where there is no extended state",
                find: "  XSTATE_CONTEXT XStateContext;\n#elif defined(_IA64_)\n",
                replace: "  XSTATE_CONTEXT XStateContext;\n#elif defined(_IA64_) || defined(_ARM64_)\n",
            },
            Edit {
                file: "ddk/wdm.h",
                why: "PAGED_LOOKASIDE_LIST has no obsolete lock where pointers have 64 bits",
                find: "#if !defined(_AMD64_) && !defined(_IA64_)\n  FAST_MUTEX Lock__",
                replace: "#if !defined(_WIN64)\n  FAST_MUTEX Lock__",
            },
            Edit {
                file: "ddk/wdm.h",
                why: "NPAGED_LOOKASIDE_LIST has no obsolete lock where pointers have 64 bits",
                find: "#if !defined(_AMD64_) && !defined(_IA64_)\n  KSPIN_LOCK Lock__",
                replace: "#if !defined(_WIN64)\n  KSPIN_LOCK Lock__",
            },
            Edit {
                file: "ddk/wdm.h",
                why: "IO_STACK_LOCATION is packed where pointers have 32 bits only (start)",
                find: "#if !defined(_AMD64_) && !defined(_IA64_)\n#include <pshpack4.h>\n#endif\ntypedef struct _IO_STACK_LOCATION {",
                replace: "#if !defined(_WIN64)\n#include <pshpack4.h>\n#endif\ntypedef struct _IO_STACK_LOCATION {",
            },
            Edit {
                file: "ddk/wdm.h",
                why: "IO_STACK_LOCATION is packed where pointers have 32 bits only (end)",
                find: "*PIO_STACK_LOCATION;\n#if !defined(_AMD64_) && !defined(_IA64_)\n",
                replace: "*PIO_STACK_LOCATION;\n#if !defined(_WIN64)\n",
            },
            Edit {
                file: "ddk/wdm.h",
                why: "what each architecture declares for itself: interrupt levels, pages, IRQL",
                find: "#elif defined(_M_ARM)\n#include <armddk.h>\n#else\n",
                replace: concat!(
                    "#elif defined(_M_ARM)\n#include <armddk.h>\n",
                    "#elif defined(_M_ARM64)\n",
                    "#define PASSIVE_LEVEL 0\n#define LOW_LEVEL 0\n#define APC_LEVEL 1\n",
                    "#define DISPATCH_LEVEL 2\n#define CLOCK_LEVEL 13\n#define IPI_LEVEL 14\n",
                    "#define DRS_LEVEL 14\n#define POWER_LEVEL 14\n#define PROFILE_LEVEL 15\n",
                    "#define HIGH_LEVEL 15\n#define PAGE_SIZE 0x1000\n#define PAGE_SHIFT 12L\n",
                    "typedef struct _KFLOATING_SAVE { ULONG Dummy; } KFLOATING_SAVE, *PKFLOATING_SAVE;\n",
                    "NTKERNELAPI KIRQL NTAPI KeGetCurrentIrql(VOID);\n",
                    "NTKERNELAPI VOID NTAPI KeLowerIrql(IN KIRQL NewIrql);\n",
                    "NTKERNELAPI KIRQL NTAPI KfRaiseIrql(IN KIRQL NewIrql);\n",
                    "#define KeRaiseIrql(a,b) *(b) = KfRaiseIrql(a)\n",
                    "NTKERNELAPI PKTHREAD NTAPI KeGetCurrentThread(VOID);\n",
                    "#define KeFlushIoBuffers(_Mdl, _ReadOperation, _DmaOperation)\n",
                    "#define YieldProcessor()\n",
                    "#else\n"
                ),
            },
            Edit {
                file: "ddk/wdm.h",
                why: "arithmetic on large integers is inline where pointers have 64 bits (not declared)",
                find: "#if !defined(_AMD64_) && !defined(_IA64_)\nNTSYSAPI\nLARGE_INTEGER\nNTAPI\nRtlExtendedIntegerMultiply(",
                replace: "#if !defined(_WIN64)\nNTSYSAPI\nLARGE_INTEGER\nNTAPI\nRtlExtendedIntegerMultiply(",
            },
            Edit {
                file: "ddk/wdm.h",
                why: "arithmetic on large integers is inline where pointers have 64 bits (defined)",
                find: "#if defined(_AMD64_) || defined(_IA64_)\n\nstatic __inline\nLARGE_INTEGER\n",
                replace: "#if defined(_WIN64)\n\nstatic __inline\nLARGE_INTEGER\n",
            },
            Edit {
                file: "ddk/wdm.h",
                why: "interlocked operations are the compiler's where pointers have 64 bits",
                find: "#if defined(_AMD64_) || defined(_IA64_)\n\n#define ExInterlockedCompareExchange64(",
                replace: "#if defined(_WIN64)\n\n#define ExInterlockedCompareExchange64(",
            },
        ],
    },
    Header {
        from: "ddk/ntddk.h",
        to: "ntddk.h",
        edits: &[
            Edit {
                file: "ddk/ntddk.h",
                why: "the bounds of user memory, which each architecture declares for itself",
                find: "\n#elif defined(_M_ARM)\n#else\n#error Unknown Architecture\n",
                replace: concat!(
                    "\n#elif defined(_M_ARM)\n#elif defined(_M_ARM64)\n",
                    "extern NTKERNELAPI PVOID MmHighestUserAddress;\n",
                    "extern NTKERNELAPI PVOID MmSystemRangeStart;\n",
                    "extern NTKERNELAPI ULONG64 MmUserProbeAddress;\n",
                    "#else\n#error Unknown Architecture\n"
                ),
            },
            Edit {
                file: "ddk/ntddk.h",
                why: "more arithmetic on large integers is inline where pointers have 64 bits",
                find: "#if defined(_AMD64_) || defined(_IA64_)\n\n\n\n//DECLSPEC_DEPRECATED_DDK_WINXP\n",
                replace: "#if defined(_WIN64)\n\n\n\n//DECLSPEC_DEPRECATED_DDK_WINXP\n",
            },
        ],
    },
    Header {
        from: "vadefs.h",
        to: "crt/vadefs.h",
        edits: &[Edit {
            file: "vadefs.h",
            why: "variable arguments lie in words of 8 bytes on ARM64 as on AMD64",
            find: "#elif defined(_M_AMD64)\n\n#define _PTRSIZEOF(n)",
            replace: "#elif defined(_M_AMD64) || defined(_M_ARM64)\n\n#define _PTRSIZEOF(n)",
        }],
    },
];

/// The headers whose copies stand in for mingw-w64's in `ddk`, by name.
pub(super) fn is_edited(name: &Path) -> bool {
    HEADERS.iter().any(|header| Path::new(header.to) == name)
}

/// The edits, for the stamp.
pub(super) fn edits() -> impl Iterator<Item = &'static Edit> {
    HEADERS.iter().flat_map(|header| header.edits)
}

/// Writes the edited copies into the kit's folder `km`.
pub(super) fn copy_edited(km: &Path) -> Result<()> {
    for header in HEADERS {
        let source = Path::new(MINGW_INCLUDE).join(header.from);
        let mut content =
            fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        for edit in header.edits {
            apply(edit, &mut content).with_context(|| {
                format!(
                    "{} is not the one that tests/xtask/src/setup/headers.rs knows. Edit that no \
                     longer fits: {}",
                    source.display(),
                    edit.why
                )
            })?;
        }
        write_if_changed(&km.join(header.to), &content)?;
    }
    Ok(())
}
