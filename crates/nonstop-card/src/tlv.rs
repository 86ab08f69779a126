//! BER-TLV as PIV cards and DER use it: tags of up to three bytes, lengths of up to 64 KiB.

use thiserror::Error;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TlvError {
    /// They end within an element, or its tag or length is none.
    #[error("an element is cut off or malformed")]
    Broken,
    /// There is no such element.
    #[error("there is no element {0:#x}")]
    Missing(u32),
}

/// One element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// Its tag, all bytes of it.
    pub tag: u32,
    /// What it holds.
    pub value: &'a [u8],
    /// All of it, tag and length included.
    pub whole: &'a [u8],
}

/// The first element of `data`, and what comes after it.
///
/// Errors: `Broken`.
pub fn first(data: &[u8]) -> Result<(Element<'_>, &[u8]), TlvError> {
    let mut at = 0;
    let mut next = || {
        let byte = data.get(at).copied();
        at += 1;
        byte.ok_or(TlvError::Broken)
    };
    let byte = next()?;
    let mut tag = u32::from(byte);
    if byte & 0x1f == 0x1f {
        loop {
            let byte = next()?;
            if tag > 0xff_ff {
                return Err(TlvError::Broken);
            }
            tag = tag << 8 | u32::from(byte);
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    let length = match next()? {
        short @ 0..=0x7f => usize::from(short),
        0x81 => usize::from(next()?),
        0x82 => usize::from(next()?) << 8 | usize::from(next()?),
        _ => return Err(TlvError::Broken),
    };
    let end = at.checked_add(length).ok_or(TlvError::Broken)?;
    let value = data.get(at..end).ok_or(TlvError::Broken)?;
    let (whole, rest) = data.split_at(end);
    Ok((Element { tag, value, whole }, rest))
}

/// The first element `tag` in a row of elements.
///
/// Errors: `Broken` before it, `Missing`.
pub fn find(data: &[u8], tag: u32) -> Result<&[u8], TlvError> {
    let mut rest = data;
    while !rest.is_empty() {
        let (element, after) = first(rest)?;
        if element.tag == tag {
            return Ok(element.value);
        }
        rest = after;
    }
    Err(TlvError::Missing(tag))
}

/// The element `tag` that holds `value`, of at most 64 KiB.
pub fn element(tag: u32, value: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = tag.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
    let length = u16::try_from(value.len()).expect("what we write to cards is short");
    let [high, low] = length.to_be_bytes();
    match length {
        0..=0x7f => out.push(low),
        0x80..=0xff => out.extend([0x81, low]),
        _ => out.extend([0x82, high, low]),
    }
    out.extend_from_slice(value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_cut_off_or_too_long_is_no_element() {
        for bad in [
            &[][..],
            &[0x53],
            &[0x53, 1],
            &[0x53, 0x81],
            &[0x53, 0x82, 1],
            &[0x53, 0x80, 0, 0],
            &[0x53, 0x83, 0, 0, 1, 0],
            &[0x7f],
            &[0x7f, 0xff, 0xff, 0xff, 0x7f, 0],
        ] {
            assert_eq!(first(bad), Err(TlvError::Broken), "{bad:x?}");
        }
        assert_eq!(find(&[0x53, 0, 0x54], 0x55), Err(TlvError::Broken));
        assert_eq!(find(&[0x53, 0], 0x55), Err(TlvError::Missing(0x55)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(data in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Ok((found, rest)) = first(&data) {
                prop_assert_eq!(found.whole.len() + rest.len(), data.len());
                prop_assert!(found.whole.ends_with(found.value));
            }
        }

        #[test]
        fn what_is_written_is_read(
            tag in prop::sample::select(vec![0x53_u32, 0x5C, 0x7C, 0x7F49, 0x5F_C1_05]),
            value in prop::collection::vec(any::<u8>(), 0..600),
            after in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let bytes = [element(tag, &value), after.clone()].concat();
            let (found, rest) = first(&bytes).expect("ours");
            prop_assert_eq!((found.tag, found.value, rest), (tag, &value[..], &after[..]));
        }
    }
}
