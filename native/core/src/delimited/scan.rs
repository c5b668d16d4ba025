//! Where the bytes are that may mean something.

/// The bytes that end cells or records, open quotes or escape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks([u8; 5]);

const BLOCK: usize = 64;

impl Marks {
    /// Of a delimiter's first byte, and of quote and escape where there are any.
    pub(super) fn new(delimiter: u8, quote: Option<u8>, escape: Option<u8>) -> Self {
        // A mark that is not there is another one once more.
        Self([
            delimiter,
            b'\n',
            b'\r',
            quote.unwrap_or(delimiter),
            escape.unwrap_or(delimiter),
        ])
    }

    fn is_mark(&self, byte: u8) -> bool {
        let [a, b, c, d, e] = self.0;
        (byte == a) | (byte == b) | (byte == c) | (byte == d) | (byte == e)
    }

    /// Append the places of all marks in `text[from..]`, as indexes into `text`, which is shorter than 4 GiB.
    pub(super) fn find(&self, text: &[u8], from: usize, places: &mut Vec<u32>) {
        let mut base = from as u32;
        let (blocks, rest) = text[from..].as_chunks::<BLOCK>();
        for block in blocks {
            // Two plain loops, of which the compiler makes vector instructions.
            let mut hits = [0_u8; BLOCK];
            for (hit, byte) in hits.iter_mut().zip(block) {
                *hit = u8::from(self.is_mark(*byte));
            }
            let mut mask = 0_u64;
            for (word, eight) in hits.as_chunks::<8>().0.iter().enumerate() {
                // Gathers the lowest bit of each of the eight bytes in the highest byte.
                let bits = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
                mask |= bits << (word * 8);
            }
            while mask != 0 {
                places.push(base + mask.trailing_zeros());
                mask &= mask - 1;
            }
            base += BLOCK as u32;
        }
        for (index, byte) in rest.iter().enumerate() {
            if self.is_mark(*byte) {
                places.push(base + index as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_mark_is_found_and_nothing_else(
            text in "[a,\"\\\\\n\r;]{0,300}", from in 0usize..300, quote: bool, escape: bool,
        ) {
            let text = text.as_bytes();
            let from = from.min(text.len());
            let (quote, escape) = (quote.then_some(b'"'), escape.then_some(b'\\'));
            let mut found = Vec::new();
            Marks::new(b',', quote, escape).find(text, from, &mut found);
            let expected: Vec<u32> = (from..text.len())
                .filter(|at| {
                    let byte = text[*at];
                    b",\n\r".contains(&byte) || Some(byte) == quote || Some(byte) == escape
                })
                .map(|at| at as u32)
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
