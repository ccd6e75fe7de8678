//! Packs bytes as gzip without making them smaller: what is tested is the client that did not ask
//! for it, not the compression.

/// Longest stored block of RFC 1951.
const BLOCK_MAX: usize = 65_535;
/// Magic, deflate, no flags, no time, no hints, unknown system: RFC 1952.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// The bytes as a gzip member.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(bytes.len() + bytes.len() / 1_000 + 32);
    packed.extend_from_slice(&HEAD);
    let mut rest = bytes;
    loop {
        let (block, after) = rest.split_at(rest.len().min(BLOCK_MAX));
        let len = u16::try_from(block.len()).unwrap_or(u16::MAX);
        packed.push(u8::from(after.is_empty()));
        packed.extend_from_slice(&len.to_le_bytes());
        packed.extend_from_slice(&(!len).to_le_bytes());
        packed.extend_from_slice(block);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    packed.extend_from_slice(&crc32(bytes).to_le_bytes());
    // The length modulo 2^32, as the format has it.
    let len = u32::try_from(bytes.len() & 0xffff_ffff).unwrap_or_default();
    packed.extend_from_slice(&len.to_le_bytes());
    packed
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn long_and_empty_bytes_are_packed_whole() {
        let packed = gzip(&vec![7; BLOCK_MAX + 1]);
        assert_eq!(packed.len(), 10 + 2 * 5 + BLOCK_MAX + 1 + 8);
        assert_eq!(gzip(b"")[10..15], [1, 0, 0, 255, 255]);
    }
}
