//! Types that a file has as a text.

/// What serde's `try_from = "String", into = "String"` needs, for types that `FromStr` reads and `Display` writes.
macro_rules! by_text {
    ($($name:ident),+) => {$(
        impl TryFrom<String> for $name {
            type Error = <Self as std::str::FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )+};
}

pub(super) use by_text;
