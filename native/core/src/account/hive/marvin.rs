//! Marvin32, the checksum of log entries (public in .NET as `Marvin.ComputeHash32`; this is its 64-bit form).

/// The seed that hive writers use, 0x82EF4D887A4E55C5: its lower half first.
const SEED: [u32; 2] = [0x7A4E_55C5, 0x82EF_4D88];

pub(super) fn marvin32(bytes: &[u8]) -> u64 {
    seeded(SEED, bytes)
}

fn seeded(mut state: [u32; 2], bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<4>();
    for block in blocks {
        state[0] = state[0].wrapping_add(u32::from_le_bytes(*block));
        mix(&mut state);
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    last[rest.len()] = 0x80;
    state[0] = state[0].wrapping_add(u32::from_le_bytes(last));
    mix(&mut state);
    mix(&mut state);
    u64::from(state[1]) << 32 | u64::from(state[0])
}

fn mix([low, high]: &mut [u32; 2]) {
    *high ^= *low;
    *low = low.rotate_left(20).wrapping_add(*high);
    *high = high.rotate_left(9) ^ *low;
    *low = low.rotate_left(27).wrapping_add(*high);
    *high = high.rotate_left(19);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vectors_hold() {
        let seed = [0x001B_DBCC, 0x004F_B61A];
        let vectors: [(&[u8], u64); 5] = [
            (&[], 0x30ED_35C1_00CD_3C7D),
            (&[0xAF], 0x48E7_3FC7_7D75_DDC1),
            (&[0xE7, 0x0F], 0xB5F6_E1FC_485D_BFF8),
            (&[0x37, 0xF4, 0x95], 0xF0B0_7C78_9B8C_F7E8),
            (&[0x86, 0x42, 0xDC, 0x59], 0x7008_F2E8_7E9C_F556),
        ];
        for (bytes, hash) in vectors {
            assert_eq!(seeded(seed, bytes), hash, "{bytes:?}");
        }
    }
}
