//! Appends byte strings that are mostly short.
//!
//! In WebAssembly a copy of unknown length is a `memory.copy`, which calls the host's `memmove`: some 10 ns, whatever the
//! length. Up to 16 bytes are copied here as one or two words of fixed length, which may overlap.

/// Longer strings are worth a `memory.copy`.
const SHORT_BYTES_MAX: usize = 16;

/// Appends `bytes`, as `to.extend_from_slice(bytes)` does.
#[inline(always)]
pub(crate) fn append(to: &mut Vec<u8>, bytes: &[u8]) {
    let len = bytes.len();
    if len > SHORT_BYTES_MAX {
        to.extend_from_slice(bytes);
        return;
    }
    let end = to.len() + len;
    match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) => {
            to.extend_from_slice(first);
            // The last eight bytes begin within the first eight, or right behind them.
            to.truncate(end - 8);
            to.extend_from_slice(last);
        }
        _ => {
            to.extend_from_slice(&word(bytes).to_le_bytes());
            to.truncate(end);
        }
    }
}

/// Fewer than eight bytes as a number, the first one lowest.
#[inline(always)]
fn word(bytes: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        // Where both overlap they have the same bits.
        return u64::from(first) | u64::from(last) << (8 * (bytes.len() - 4));
    }
    match *bytes {
        [] => 0,
        [a] => u64::from(a),
        [a, b] => u64::from(a) | u64::from(b) << 8,
        [a, b, c, ..] => u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16,
    }
}

#[cfg(test)]
mod tests {
    //! Catches bytes that get lost, or that stay behind the end, at any length around the short ones.

    use super::*;

    #[test]
    fn copies_are_those_of_the_standard_library() {
        let bytes: Vec<u8> = (1..=40).collect();
        for len in 0..=40 {
            let mut to = b"x".to_vec();
            append(&mut to, &bytes[..len]);
            append(&mut to, b"y");
            assert_eq!(to, [b"x", &bytes[..len], b"y"].concat());
        }
    }
}
