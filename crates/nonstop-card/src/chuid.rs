//! The Card Holder Unique Identifier: how a card is told from others, and until when it is good.

use crate::tlv::{self, TlvError};

/// A card's own identifier.
pub type Guid = [u8; 16];

/// FASC-N of a card that no agency of the United States issued: 9999 for agency, system and
/// credential, as SP 800-73 wants it where the GUID identifies.
const NON_FEDERAL: [u8; 25] = [
    0xD4, 0xE7, 0x39, 0xDA, 0x73, 0x9C, 0xED, 0x39, 0xCE, 0x73, 0x9D, 0x83, 0x68, 0x58, 0x21, 0x08,
    0x42, 0x10, 0x84, 0x21, 0xC8, 0x42, 0x10, 0xC3, 0xEB,
];

/// The content of a CHUID for `guid`, good until the day `expires` ("20301231").
pub fn content(guid: &Guid, expires: &str) -> Vec<u8> {
    [
        tlv::element(0x30, &NON_FEDERAL),
        tlv::element(0x34, guid),
        tlv::element(0x35, expires.as_bytes()),
        // Not signed: what it says is checked by the card's signature and the lab's own record.
        tlv::element(0x3E, &[]),
        tlv::element(0xFE, &[]),
    ]
    .concat()
}

/// The GUID in the content of a CHUID; none where it has none, or only zeros.
///
/// Errors: it is broken before its GUID.
pub fn guid(content: &[u8]) -> Result<Option<Guid>, TlvError> {
    match tlv::find(content, 0x34) {
        Ok(bytes) => Ok(Guid::try_from(bytes).ok().filter(|guid| *guid != [0; 16])),
        Err(TlvError::Missing(_)) => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_read_back() {
        let chuid = content(b"0123456789abcdef", "20301231");
        assert_eq!(guid(&chuid), Ok(Some(*b"0123456789abcdef")));
        assert_eq!(guid(&content(&[0; 16], "20301231")), Ok(None));
        assert_eq!(guid(&tlv::element(0x34, b"short")), Ok(None));
        assert_eq!(guid(&[]), Ok(None));
        assert_eq!(guid(&[0x34, 16]), Err(TlvError::Broken));
    }
}
