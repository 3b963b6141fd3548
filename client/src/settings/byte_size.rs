use std::fmt;

use serde::Deserialize;

/// An amount of storage, written as `"500MiB"`, `"1 GiB"` or `"0B"`: a whole number and a binary unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct ByteSize(u64);

/// A text that isn't an amount of storage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} isn't an amount of storage such as \"500MiB\" or \"1GiB\": a whole number, and B, KiB, MiB, GiB or TiB"
)]
pub struct ByteSizeError(String);

impl ByteSize {
    /// Units, each as a power of two.
    const UNITS: [(&'static str, u32); 5] =
        [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

    /// An amount in bytes.
    pub const fn new(bytes: u64) -> Self {
        ByteSize(bytes)
    }

    /// The amount in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl TryFrom<String> for ByteSize {
    type Error = ByteSizeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parse = || {
            let end_of_number = text.find(|character: char| !character.is_ascii_digit())?;
            let (number, unit) = text.split_at(end_of_number);
            let (_, doublings) = Self::UNITS
                .into_iter()
                .find(|(name, _)| *name == unit.trim_start())?;
            let bytes = number.parse::<u64>().ok()?.checked_mul(1 << doublings)?;
            Some(ByteSize(bytes))
        };
        parse().ok_or_else(|| ByteSizeError(text.chars().take(80).collect()))
    }
}

/// For people: in the largest unit that isn't larger than the amount, with one decimal.
impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, doublings) = Self::UNITS
            .into_iter()
            .find(|(_, doublings)| self.0 >> doublings > 0)
            .unwrap_or(("B", 0));
        let (whole, rest) = (self.0 >> doublings, self.0 & ((1 << doublings) - 1));
        // Rounded down: what is shown as free is free.
        let tenth = (u128::from(rest) * 10) >> doublings;
        match tenth {
            0 => write!(formatter, "{whole} {unit}"),
            _ => write!(formatter, "{whole}.{tenth} {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes, shown) in [
            ("0B", 0, "0 B"),
            ("1023B", 1023, "1023 B"),
            ("1 KiB", 1024, "1 KiB"),
            ("1536MiB", 1_610_612_736, "1.5 GiB"),
            ("2047MiB", 2_146_435_072, "1.9 GiB"),
            ("3TiB", 3_298_534_883_328, "3 TiB"),
        ] {
            let size = ByteSize::try_from(text.to_owned()).unwrap();
            assert_eq!((size.bytes(), size.to_string()), (bytes, shown.to_owned()));
        }
        for bad in [
            "",
            "1",
            "GiB",
            "-1GiB",
            "1GB",
            "1.5GiB",
            "1gib",
            "1GiB ",
            "16777216TiB",
            "１GiB",
        ] {
            assert!(ByteSize::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
