//! Marvin32, the hash that seals entries of transaction logs (regf specification, "Log entries").

/// The seed of the registry, bytes 82 EF 4D 88 7A 4E 55 C5 read as one big-endian number: low half, high half.
const SEED: [u32; 2] = [0x7a4e_55c5, 0x82ef_4d88];

/// The hash of `bytes`: low half first in the file.
pub(super) fn marvin32(bytes: &[u8]) -> u64 {
    let [mut low, mut high] = SEED;
    let mut mix = |word: u32| {
        low = low.wrapping_add(word);
        high ^= low;
        low = low.rotate_left(20).wrapping_add(high);
        high = high.rotate_left(9) ^ low;
        low = low.rotate_left(27).wrapping_add(high);
        high = high.rotate_left(19);
    };
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        mix(u32::from_le_bytes(*word));
    }
    // The rest is closed with one bit.
    let mut last = [0; 4];
    for (place, byte) in last.iter_mut().zip(rest.iter().chain(&[0x80])) {
        *place = *byte;
    }
    mix(u32::from_le_bytes(last));
    mix(0);
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published vectors of Marvin32 with the seed 0x5D70D359C498B3F6 do not use the registry's seed;
    /// entries of real logs are checked by the corpus tests. Here: every byte counts, and the length does.
    #[test]
    fn every_byte_and_the_length_count() {
        let mut seen = std::collections::HashSet::new();
        let mut bytes = vec![0; 41];
        for length in 0..=41 {
            assert!(seen.insert(marvin32(&bytes[..length])));
        }
        for place in 0..41 {
            bytes[place] ^= 1;
            assert!(seen.insert(marvin32(&bytes)));
            bytes[place] ^= 1;
        }
    }
}
