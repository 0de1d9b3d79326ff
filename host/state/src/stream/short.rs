//! Copies and compares byte strings that are mostly shorter than a cache line, without calling the C library.

/// Appends `bytes`.
#[inline(always)]
pub fn append(to: &mut Vec<u8>, bytes: &[u8]) {
    let len = bytes.len();
    if len > 16 {
        to.extend_from_slice(bytes);
        return;
    }
    let start = to.len();
    match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) => {
            to.extend_from_slice(first);
            to.truncate(start + len - 8);
            to.extend_from_slice(last);
        }
        _ => {
            to.extend_from_slice(&word(bytes).to_le_bytes());
            to.truncate(start + len);
        }
    }
}

/// Up to seven bytes as a number, the first one lowest.
#[inline(always)]
fn word(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return u64::from(first) | u64::from(last) << (8 * (len - 4));
    }
    match *bytes {
        [] => 0,
        [a] => u64::from(a),
        [a, b] => u64::from(a) | u64::from(b) << 8,
        [a, b, c, ..] => u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16,
    }
}

/// Whether two byte strings are equal.
#[inline(always)]
#[must_use]
pub fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    if left.len() > 16 {
        return left == right;
    }
    match (
        left.first_chunk::<8>(),
        left.last_chunk::<8>(),
        right.first_chunk::<8>(),
        right.last_chunk::<8>(),
    ) {
        (Some(a), Some(b), Some(c), Some(d)) => {
            let differ = (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*c))
                | (u64::from_le_bytes(*b) ^ u64::from_le_bytes(*d));
            differ == 0
        }
        _ => word(left) == word(right),
    }
}

#[cfg(test)]
mod tests {
    //! Catches lost bytes and missed differences, at any length around the short ones.

    use super::*;

    #[test]
    fn copies_and_compares_are_those_of_the_standard_library() {
        let bytes: Vec<u8> = (1..=40).collect();
        for len in 0..40 {
            let mut to = b"x".to_vec();
            append(&mut to, &bytes[..len]);
            assert_eq!(to, [b"x", &bytes[..len]].concat());
            assert!(same(&bytes[..len], &bytes[..len]));
            assert!(!same(&bytes[..len], &bytes[..len + 1]));
            for at in 0..len {
                let mut other = bytes[..len].to_vec();
                other[at] ^= 0x80;
                assert!(!same(&bytes[..len], &other), "{len} {at}");
            }
        }
    }
}
