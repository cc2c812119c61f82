//! A bounds-checked reader of little-endian fields.
//! Owns: the rule that no count is trusted before the remaining bytes allow it. Never: meaning.

use super::WeightsError;

/// A position in a byte buffer.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) const fn position(&self) -> usize {
        self.at
    }

    pub(super) const fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes.
    pub(super) fn take(
        &mut self,
        count: u64,
        what: &'static str,
    ) -> Result<&'a [u8], WeightsError> {
        let count = usize::try_from(count).map_err(|_| WeightsError::Truncated { what })?;
        if count > self.remaining() {
            return Err(WeightsError::Truncated { what });
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], WeightsError> {
        Ok(self.take(N as u64, what)?.try_into().expect("`take` returns exactly N bytes"))
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, WeightsError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, WeightsError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A count of things that take at least `each` bytes: at most `limit`, and at most as many as
    /// the remaining bytes can hold.
    pub(super) fn count(
        &mut self,
        what: &'static str,
        limit: u64,
        each: u64,
    ) -> Result<usize, WeightsError> {
        let found = self.u64(what)?;
        self.check_count(found, what, limit, each)
    }

    pub(super) fn check_count(
        &self,
        found: u64,
        what: &'static str,
        limit: u64,
        each: u64,
    ) -> Result<usize, WeightsError> {
        if found > limit {
            return Err(WeightsError::OverLimit { what, found, limit });
        }
        let fits = self.remaining() as u64 / each;
        if found > fits {
            return Err(WeightsError::OverLimit { what, found, limit: fits });
        }
        Ok(usize::try_from(found).expect("a count below the file's size fits a usize"))
    }

    /// A string: its length as `u64`, then UTF-8.
    pub(super) fn text(&mut self, what: &'static str, limit: u64) -> Result<&'a str, WeightsError> {
        let length = self.u64(what)?;
        if length > limit {
            return Err(WeightsError::OverLimit { what, found: length, limit });
        }
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes).map_err(|_| WeightsError::NotUtf8 { what })
    }
}
