//! As much of DER as reading a certificate's public key and a PKCS#7 signature takes.
//!
//! Nothing here allocates; every length is checked against the bytes that are there.

/// `INTEGER`.
pub(crate) const INTEGER: u8 = 0x02;
/// `BIT STRING`.
pub(crate) const BIT_STRING: u8 = 0x03;
/// `OCTET STRING`.
pub(crate) const OCTET_STRING: u8 = 0x04;
/// `OBJECT IDENTIFIER`.
pub(crate) const OID: u8 = 0x06;
/// `SEQUENCE`.
pub(crate) const SEQUENCE: u8 = 0x30;
/// `SET`.
pub(crate) const SET: u8 = 0x31;
/// `[0]`, constructed.
pub(crate) const CONTEXT_0: u8 = 0xa0;
/// `[1]`, constructed.
pub(crate) const CONTEXT_1: u8 = 0xa1;

/// A cursor over consecutive values.
#[derive(Clone, Copy)]
pub(crate) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tag of the next value.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Takes the next value, whatever it is: its tag and its contents.
    pub(crate) fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        if tag & 0x1f == 0x1f {
            return None; // Tags of several bytes occur in neither structure.
        }
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // One to four bytes of length; 0x80 would be BER's indefinite form.
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0usize, |len, &d| (len << 8) | usize::from(d)), rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, contents))
    }

    /// Takes the contents of the next value if it has this tag.
    pub(crate) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.peek()? != tag {
            return None;
        }
        self.any().map(|(_, contents)| contents)
    }

    /// Takes the next value if it has this tag, as a cursor over its contents.
    pub(crate) fn enter(&mut self, tag: u8) -> Option<Der<'a>> {
        self.take(tag).map(Der)
    }

    /// Passes over the next value if it has this tag.
    pub(crate) fn skip_optional(&mut self, tag: u8) -> Option<()> {
        if self.peek() == Some(tag) {
            self.any()?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked() {
        assert_eq!(Der::new(&[4, 2, 7, 8, 9]).take(OCTET_STRING), Some(&[7, 8][..]));
        assert_eq!(Der::new(&[4, 0x82, 0, 1, 7]).take(OCTET_STRING), Some(&[7][..]));
        let bad: [&[u8]; 7] = [
            &[],
            &[4],
            &[4, 2, 7],
            &[4, 0x80, 0, 0],
            &[4, 0x84, 255, 255, 255, 255],
            &[4, 0x85],
            &[0x1f, 1, 1],
        ];
        for bytes in bad {
            assert_eq!(Der::new(bytes).any(), None, "{bytes:?}");
        }
        assert_eq!(Der::new(&[4, 0]).take(OID), None);
    }
}
