//! What programs see that call the DLLs: on any host, with ports that are not there.

mod double;
mod patterns;
mod space;
#[path = "../../../parscanctl/tests/fake/wire.rs"]
mod wire;
