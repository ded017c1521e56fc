/* Stands in for the compiler's intrin.h, which needs a Microsoft C runtime.
 *
 * Why here: mingw-w64's inline functions call intrinsics that this leaves undeclared. Bindings take
 * declarations only, so their bodies need not compile. */
#pragma once
#pragma clang diagnostic ignored "-Wimplicit-function-declaration"
