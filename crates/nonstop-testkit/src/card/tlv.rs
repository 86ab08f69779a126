//! As much BER-TLV as a PIV card speaks.

/// Tag and value of the first element of `data`, and what comes after it.
pub(super) fn first(data: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (&b0, mut rest) = data.split_first()?;
    let mut tag = u32::from(b0);
    if b0 & 0x1f == 0x1f {
        loop {
            let (&b, after) = rest.split_first()?;
            rest = after;
            tag = tag.checked_mul(256)? | u32::from(b);
            if b & 0x80 == 0 {
                break;
            }
        }
    }
    let (&l0, mut rest) = rest.split_first()?;
    let mut length = usize::from(l0);
    if l0 >= 0x80 {
        let n = usize::from(l0 & 0x7f);
        if n == 0 || n > 2 || rest.len() < n {
            return None;
        }
        let (bytes, after) = rest.split_at(n);
        length = bytes.iter().fold(0, |sum, b| sum << 8 | usize::from(*b));
        rest = after;
    }
    (rest.len() >= length).then(|| (tag, &rest[..length], &rest[length..]))
}

/// The value of `tag` among the elements of `data`.
pub(super) fn find(mut data: &[u8], tag: u32) -> Option<&[u8]> {
    while !data.is_empty() {
        let (found, value, rest) = first(data)?;
        if found == tag {
            return Some(value);
        }
        data = rest;
    }
    None
}

/// One element.
pub(super) fn element(tag: u32, value: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = tag.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
    match value.len() {
        n @ 0..=0x7f => out.push(n as u8),
        n @ 0x80..=0xff => out.extend([0x81, n as u8]),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend_from_slice(value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_back() {
        for n in [0, 5, 0x7f, 0x80, 0xff, 0x100, 700] {
            let value = vec![7; n];
            let bytes = [element(0x7f49, &value), element(0x53, b"x")].concat();
            assert_eq!(find(&bytes, 0x7f49), Some(&value[..]), "{n}");
            assert_eq!(find(&bytes, 0x53), Some(&b"x"[..]), "{n}");
        }
        assert_eq!(first(&[0x53, 2, 1]), None);
    }
}
