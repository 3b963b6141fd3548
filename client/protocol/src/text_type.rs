/// Implements serde for a type by its `FromStr` and `Display`; `text_type!(Name(String))`, for a checked text,
/// implements `Display` and `as_str`, too.
#[macro_export]
macro_rules! text_type {
    ($name:ident(String)) => {
        impl $name {
            /// The whole text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                formatter.pad(&self.0)
            }
        }

        $crate::text_type!($name);
    };
    ($name:ident $(<$(const $parameter:ident: $kind:ty),+>)?) => {
        impl $(<$(const $parameter: $kind),+>)? ::serde::Serialize for $name $(<$($parameter),+>)? {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de $($(, const $parameter: $kind)+)?> ::serde::Deserialize<'de> for $name $(<$($parameter),+>)? {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as ::serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(::serde::de::Error::custom)
            }
        }
    };
}
