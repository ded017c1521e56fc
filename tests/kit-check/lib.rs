//! Nothing: the build script of this package is what there is. It depends on nothing and runs within
//! a second, so it speaks before cargo gets to the crates that fail without a kit.
#![no_std]
