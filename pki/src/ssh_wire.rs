//! SSH's way to write values (RFC 4251, section 5), as far as keys, signatures and the ssh-agent use it.
//!
//! Reading is strict: a value that is cut off is none, and [`Reader::end`] refuses what stands behind the last one.

/// Reads one value after another. `None` means that the bytes end too early.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader at the beginning of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// `byte[count]`.
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// `byte`.
    pub fn byte(&mut self) -> Option<u8> {
        let (&taken, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(taken)
    }

    /// `uint32`.
    pub fn uint32(&mut self) -> Option<u32> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*taken))
    }

    /// `string`: a length, and as many bytes.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let count = self.uint32()?;
        self.bytes(usize::try_from(count).ok()?)
    }

    /// Nothing more: there is only one spelling of what was read.
    #[must_use]
    pub fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Writes `text` as a `string`.
///
/// # Panics
/// If it has more than 4 GiB.
pub fn put_string(bytes: &mut Vec<u8>, text: &[u8]) {
    let count = u32::try_from(text.len()).expect("keys, signatures and digests have some hundred bytes");
    bytes.extend_from_slice(&count.to_be_bytes());
    bytes.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_length_beyond_the_end_is_no_string() {
        assert_eq!(Reader::new(&[0, 0, 0, 2, 7]).string(), None);
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff]).string(), None);
        assert_eq!(Reader::new(&[0, 0, 0]).string(), None);
    }

    proptest! {
        #[test]
        fn strings_read_back_and_their_end_is_noticed(first: Vec<u8>, second: Vec<u8>) {
            let mut bytes = Vec::new();
            put_string(&mut bytes, &first);
            put_string(&mut bytes, &second);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.string(), Some(&first[..]));
            prop_assert_eq!(reader.end(), None);
            prop_assert_eq!(reader.string(), Some(&second[..]));
            prop_assert_eq!(reader.end(), Some(()));
        }
    }
}
