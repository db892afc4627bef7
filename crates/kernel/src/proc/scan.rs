//! The scanner under all parsers of `/proc`.

use thiserror::Error;

/// A file of `/proc` does not read as the kernel's source says it would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("expected {expected} at byte {offset}")]
pub struct ParseError {
    /// Where in the file.
    pub offset: usize,
    /// What should have stood there.
    pub expected: &'static str,
}

/// A position in the bytes of one file.
///
/// Lines and fields that a newer kernel adds are skipped in operation; under
/// test they are a panic, so that captured files are known to be read whole.
#[derive(Clone)]
pub(crate) struct Scan<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    pub(crate) const fn new(all: &'a [u8]) -> Self {
        Self { all, at: 0 }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.all.get(self.at..).unwrap_or_default()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.at >= self.all.len()
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.all.get(self.at).copied()
    }

    pub(crate) const fn failed(&self, expected: &'static str) -> ParseError {
        ParseError { offset: self.at, expected }
    }

    pub(crate) const fn error<T>(&self, expected: &'static str) -> Result<T, ParseError> {
        Err(self.failed(expected))
    }

    /// Takes `literal` if it comes next.
    pub(crate) fn eat(&mut self, literal: &[u8]) -> bool {
        let found = self.rest().starts_with(literal);
        if found {
            self.at += literal.len();
        }
        found
    }

    pub(crate) fn expect(&mut self, literal: &'static str) -> Result<(), ParseError> {
        if self.eat(literal.as_bytes()) { Ok(()) } else { self.error(literal) }
    }

    /// Skips so many bytes, or to the end.
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes).min(self.all.len());
    }

    /// Skips blanks and tabs.
    pub(crate) fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// `literal`, with blanks on either side.
    pub(crate) fn label(&mut self, literal: &'static str) -> Result<(), ParseError> {
        self.blanks();
        self.expect(literal)?;
        self.blanks();
        Ok(())
    }

    /// All up to the next `byte`, which is taken too. Without one: the rest.
    pub(crate) fn until(&mut self, byte: u8) -> &'a [u8] {
        let rest = self.rest();
        match rest.iter().position(|&b| b == byte) {
            Some(n) => {
                self.at += n + 1;
                &rest[..n]
            }
            None => {
                self.at = self.all.len();
                rest
            }
        }
    }

    /// The rest of the line; the line end is taken too.
    pub(crate) fn line(&mut self) -> &'a [u8] {
        self.until(b'\n')
    }

    /// What comes before the next blank, tab or line end, which is not taken.
    pub(crate) fn word(&mut self) -> &'a [u8] {
        let rest = self.rest();
        let len = rest.iter().position(|b| matches!(b, b' ' | b'\t' | b'\n')).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// Takes the line end. What a newer kernel put before it is skipped.
    pub(crate) fn end_line(&mut self) {
        self.blanks();
        let unused = self.line();
        assert!(
            !cfg!(test) || unused.is_empty(),
            "unused: {:?} before byte {}",
            String::from_utf8_lossy(unused),
            self.at
        );
    }

    /// Skips a line whose label is not known to this program.
    pub(crate) fn unknown_line(&mut self) {
        let at = self.at;
        let line = self.line();
        if cfg!(test) {
            panic!("unknown: {:?} at byte {at}", String::from_utf8_lossy(line));
        }
    }

    /// The file ends here, unless a newer kernel has more to say.
    pub(crate) fn end(&self) {
        assert!(
            !cfg!(test) || self.is_empty(),
            "unused: {:?} at byte {}",
            String::from_utf8_lossy(self.rest()),
            self.at
        );
    }

    fn digits(&mut self, radix: u32, expected: &'static str) -> Result<u64, ParseError> {
        let start = self.at;
        let mut value: u64 = 0;
        while let Some(digit) = self.peek().and_then(|b| char::from(b).to_digit(radix)) {
            value = match value
                .checked_mul(u64::from(radix))
                .and_then(|shifted| shifted.checked_add(u64::from(digit)))
            {
                Some(sum) => sum,
                None => return self.error(expected),
            };
            self.at += 1;
        }
        if self.at == start { self.error(expected) } else { Ok(value) }
    }

    fn narrow<T: TryFrom<u64>>(
        &mut self,
        radix: u32,
        expected: &'static str,
    ) -> Result<T, ParseError> {
        let start = self.at;
        let value = self.digits(radix, expected)?;
        T::try_from(value).map_err(|_| ParseError { offset: start, expected })
    }

    pub(crate) fn dec<T: TryFrom<u64>>(&mut self, expected: &'static str) -> Result<T, ParseError> {
        self.narrow(10, expected)
    }

    pub(crate) fn hex<T: TryFrom<u64>>(&mut self, expected: &'static str) -> Result<T, ParseError> {
        self.narrow(16, expected)
    }

    pub(crate) fn oct<T: TryFrom<u64>>(&mut self, expected: &'static str) -> Result<T, ParseError> {
        self.narrow(8, expected)
    }

    /// A decimal number that may be negative.
    pub(crate) fn signed<T: TryFrom<i64>>(
        &mut self,
        expected: &'static str,
    ) -> Result<T, ParseError> {
        let offset = self.at;
        let failed = ParseError { offset, expected };
        let negative = self.eat(b"-");
        let magnitude = self.digits(10, expected)?;
        let value = if negative {
            0i64.checked_sub_unsigned(magnitude)
        } else {
            i64::try_from(magnitude).ok()
        };
        value.and_then(|v| T::try_from(v).ok()).ok_or(failed)
    }

    /// `dec`, after blanks.
    pub(crate) fn next_dec<T: TryFrom<u64>>(
        &mut self,
        expected: &'static str,
    ) -> Result<T, ParseError> {
        self.blanks();
        self.dec(expected)
    }

    /// `signed`, after blanks.
    pub(crate) fn next_signed<T: TryFrom<i64>>(
        &mut self,
        expected: &'static str,
    ) -> Result<T, ParseError> {
        self.blanks();
        self.signed(expected)
    }

    /// `hex`, after blanks.
    pub(crate) fn next_hex<T: TryFrom<u64>>(
        &mut self,
        expected: &'static str,
    ) -> Result<T, ParseError> {
        self.blanks();
        self.hex(expected)
    }
}

/// Undoes the kernel's octal escapes (`\012` for a line end, see
/// `mangle_path` in `fs/seq_file.c`), but only for the bytes the file at hand
/// escapes: in a file that escapes nothing but line ends, a path that really
/// has the four characters `\040` in it must keep them.
pub(crate) fn unescape(bytes: &[u8], escaped: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        if let (b'\\', Some(code)) = (first, tail.first_chunk::<3>())
            && let Some(byte) = octal(*code)
            && escaped.contains(&byte)
        {
            out.push(byte);
            rest = &tail[3..];
        } else {
            out.push(first);
            rest = tail;
        }
    }
    out
}

fn octal(code: [u8; 3]) -> Option<u8> {
    let mut value = 0u32;
    for digit in code {
        value = value * 8 + char::from(digit).to_digit(8)?;
    }
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::{ParseError, Scan, unescape};

    #[test]
    fn numbers_that_do_not_fit_are_errors() {
        let at_start = ParseError { offset: 0, expected: "n" };
        assert_eq!(Scan::new(b"256").dec::<u8>("n"), Err(at_start));
        assert_eq!(Scan::new(b"255").dec::<u8>("n"), Ok(255));
        assert_eq!(Scan::new(b"x").dec::<u8>("n"), Err(at_start));
        assert_eq!(Scan::new(b"18446744073709551615").dec::<u64>("n"), Ok(u64::MAX));
        assert!(Scan::new(b"18446744073709551616").dec::<u64>("n").is_err());
        assert_eq!(Scan::new(b"-9223372036854775808").signed::<i64>("n"), Ok(i64::MIN));
        assert!(Scan::new(b"-9223372036854775809").signed::<i64>("n").is_err());
        assert_eq!(Scan::new(b"-1").signed::<i32>("n"), Ok(-1));
        assert_eq!(Scan::new(b"1777").oct::<u32>("n"), Ok(0o1777));
        assert_eq!(Scan::new(b"fFg").hex::<u32>("n"), Ok(0xff));
    }

    #[test]
    fn only_what_the_file_escapes_is_unescaped() {
        assert_eq!(unescape(br"/a\012b\040c", b"\n"), b"/a\nb\\040c");
        assert_eq!(unescape(br"/a\012b\040c\134", b" \t\n\\"), b"/a\nb c\\");
        assert_eq!(unescape(br"\01", b"\n"), br"\01");
        assert_eq!(unescape(br"\777\n", b"\n"), br"\777\n");
    }
}
