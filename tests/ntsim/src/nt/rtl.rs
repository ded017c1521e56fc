//! `Rtl`, `Po`, `Mm` odds and ends, and printing.

use core::arch::naked_asm;

use super::types::{set_unicode, unicode, wide_z};
use crate::NtStatus;
use crate::mem::{Va, peek, peek_bytes, poke, poke_bytes};
use crate::state::with;
use crate::trace::EventKind;

fn ansi(va: Va) -> String {
    let mut text = Vec::new();
    loop {
        let byte: u8 = peek(va + text.len());
        if byte == 0 || text.len() > 4096 {
            return String::from_utf8_lossy(&text).into_owned();
        }
        text.push(byte);
    }
}

/// The common conversions of `DbgPrint`, with up to `args` integer or pointer arguments.
fn format(text: &str, args: &[usize]) -> String {
    let mut out = String::new();
    let mut args = args.iter().copied();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = String::new();
        let conversion = loop {
            match chars.next() {
                Some(c) if c.is_ascii_alphabetic() && !matches!(c, 'l' | 'h' | 'I' | 'w') => {
                    break c;
                }
                Some('%') => break '%',
                Some(c) => spec.push(c),
                None => break '?',
            }
        };
        if conversion == '%' {
            out.push('%');
            continue;
        }
        let Some(arg) = args.next() else {
            out.push_str("<more>");
            continue;
        };
        #[allow(clippy::cast_possible_truncation, reason = "an int argument")]
        let low = arg as u32;
        let long = spec.contains("ll") || spec.contains("I64");
        let piece = match conversion {
            'd' | 'i' if !long => low.cast_signed().to_string(),
            'd' | 'i' => arg.cast_signed().to_string(),
            'u' if !long => low.to_string(),
            'u' => arg.to_string(),
            'x' | 'X' if !long => format!("{low:x}"),
            'x' | 'X' | 'p' => format!("{arg:x}"),
            'c' => char::from_u32(low).unwrap_or('?').to_string(),
            's' if spec.contains('w') || spec.contains('l') => wide_z(arg),
            'S' => wide_z(arg),
            's' => ansi(arg),
            'Z' => unicode(arg),
            _ => format!("<{arg:#x}>"),
        };
        out.push_str(&piece);
    }
    out
}

fn print(text: String) {
    with(|k| k.event(EventKind::Debug(text)));
}

#[allow(clippy::many_single_char_names, reason = "unnamed variable arguments")]
// Win64 passes variable arguments like others; six are read here whether given or not.
pub(super) extern "efiapi" fn dbg_print(
    text: Va,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
) -> i32 {
    print(format(&ansi(text), &[a, b, c, d, e]));
    0
}

pub(super) extern "efiapi" fn dbg_print_ex(
    _component: u32,
    _level: u32,
    text: Va,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
) -> i32 {
    print(format(&ansi(text), &[a, b, c, d]));
    0
}

pub(super) extern "efiapi" fn rtl_init_unicode_string(string: Va, source: Va) {
    if source == 0 {
        set_unicode(string, 0, 0, 0);
        return;
    }
    let length = wide_z(source).encode_utf16().count() * 2;
    set_unicode(string, source, length, length + 2);
}

pub(super) extern "efiapi" fn rtl_free_unicode_string(string: Va) {
    let buffer: Va = peek(string + 8);
    if buffer != 0 {
        super::ex::free_pool(buffer, None);
        set_unicode(string, 0, 0, 0);
    }
}

pub(super) extern "efiapi" fn rtl_copy_unicode_string(to: Va, from: Va) {
    if from == 0 {
        poke(to, 0_u16);
        return;
    }
    let maximum: u16 = peek(to + 2);
    let length = peek::<u16>(from).min(maximum);
    let bytes = peek_bytes(peek(from + 8), usize::from(length));
    poke_bytes(peek(to + 8), &bytes);
    poke(to, length);
    if length + 2 <= maximum {
        poke(peek::<Va>(to + 8) + usize::from(length), 0_u16);
    }
}

pub(super) extern "efiapi" fn rtl_compare_unicode_string(a: Va, b: Va, fold: u8) -> i32 {
    let (mut a, mut b) = (unicode(a), unicode(b));
    if fold != 0 {
        (a, b) = (a.to_uppercase(), b.to_uppercase());
    }
    let a: Vec<u16> = a.encode_utf16().collect();
    let b: Vec<u16> = b.encode_utf16().collect();
    a.cmp(&b) as i32
}

pub(super) extern "efiapi" fn rtl_equal_unicode_string(a: Va, b: Va, fold: u8) -> u8 {
    u8::from(rtl_compare_unicode_string(a, b, fold) == 0)
}

pub(super) extern "efiapi" fn rtl_append_unicode_to_string(to: Va, source: Va) -> i32 {
    if source == 0 {
        return 0;
    }
    let units: Vec<u16> = wide_z(source).encode_utf16().collect();
    let length = usize::from(peek::<u16>(to));
    let maximum = usize::from(peek::<u16>(to + 2));
    if length + units.len() * 2 > maximum {
        return NtStatus::BUFFER_TOO_SMALL.raw();
    }
    let buffer: Va = peek(to + 8);
    for (i, unit) in units.iter().enumerate() {
        poke(buffer + length + 2 * i, *unit);
    }
    set_unicode(to, buffer, length + units.len() * 2, maximum);
    0
}

pub(super) extern "efiapi" fn rtl_compare_memory(a: Va, b: Va, len: usize) -> usize {
    (0..len)
        .find(|i| peek::<u8>(a + i) != peek::<u8>(b + i))
        .unwrap_or(len)
}

pub(super) extern "efiapi" fn mm_get_system_routine_address(name: Va) -> Va {
    // A function found this way would not be checked: no optional function is offered.
    let _ = unicode(name);
    0
}

/// Stacks here are one mapping: nothing to probe. rax and all others must stay as they are.
#[unsafe(naked)]
pub(super) extern "C" fn chkstk() {
    naked_asm!("ret")
}
