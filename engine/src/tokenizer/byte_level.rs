//! The spelling of bytes as printable characters that byte-level BPE vocabularies use.
//! Source: `bytes_to_unicode` of GPT-2's `encoder.py`.

/// Bytes that stand for themselves (as Latin-1); the others follow from U+0100 on, in order.
fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The byte that `spelled` stands for.
pub(super) fn byte(spelled: char) -> Option<u8> {
    match u32::from(spelled) {
        code @ 0..=0xFF => Some(code as u8).filter(|&byte| stands_for_itself(byte)),
        code => (0..=u8::MAX).filter(|&byte| !stands_for_itself(byte)).nth(code as usize - 0x100),
    }
}

/// A table of [`byte`] for the characters below U+0144, which are all that spell one.
pub(super) fn table() -> [Option<u8>; 0x144] {
    std::array::from_fn(|code| char::from_u32(code as u32).and_then(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_exactly_one_spelling() {
        let mut bytes: Vec<u8> = table().into_iter().flatten().collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=u8::MAX).collect::<Vec<_>>());
        assert_eq!((byte('Ġ'), byte('Ċ'), byte('a')), (Some(b' '), Some(b'\n'), Some(b'a')));
        assert_eq!((byte(' '), byte('\u{144}'), byte('🦀')), (None, None, None));
    }
}
