//! Numbers of C headers that tests go through one after the other.

/// Constants of one type, and a list of them: `[u32]`, or with their names `[(u32, &str)]`.
macro_rules! numbers {
    (
        $(#[$about:meta])*
        $list:ident: [($type:ty, &str)];
        $($(#[$doc:meta])* $name:ident = $value:expr;)*
    ) => {
        $($(#[$doc])* pub const $name: $type = $value;)*

        $(#[$about])*
        pub const $list: [($type, &str); [$($name),*].len()] = [$(($name, stringify!($name))),*];
    };
    (
        $(#[$about:meta])*
        $list:ident: [$type:ty];
        $($(#[$doc:meta])* $name:ident = $value:expr;)*
    ) => {
        $($(#[$doc])* pub const $name: $type = $value;)*

        $(#[$about])*
        pub const $list: [$type; [$($name),*].len()] = [$($name),*];
    };
}
pub(crate) use numbers;
