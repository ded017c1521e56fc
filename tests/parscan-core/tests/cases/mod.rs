//! How many cases a property is tried with.

use proptest::test_runner::Config;

/// So many cases, and fewer under Miri, which is slow. What failed is printed and kept nowhere.
pub(crate) fn cases(usually: u32, under_miri: u32) -> Config {
    Config {
        cases: if cfg!(miri) { under_miri } else { usually },
        failure_persistence: None,
        ..Config::default()
    }
}
