//! Whether the first record names the cells, by elimination as well.

use super::Header;
use super::reading::Reading;

/// Judge the first record by itself, and against those behind it.
pub(super) fn judge(reading: &Reading) -> Header {
    for (index, cell) in reading.first.iter().enumerate() {
        let at = index + 1;
        if cell.trim().is_empty() {
            return Header::No(format!(
                "cell {at} of the first record is empty, and no name"
            ));
        }
        if is_quantity(cell) {
            return Header::No(format!(
                "cell {at} of the first record is `{cell}`, a value and no name"
            ));
        }
    }
    for (index, name) in reading.first.iter().enumerate() {
        let below = || reading.kept.iter().filter_map(|record| record.get(index));
        if below().any(|cell| cell == name) {
            return Header::No(format!(
                "cell {} of the first record is a value of later ones",
                index + 1
            ));
        }
        let mut values = below().filter(|cell| !cell.is_empty()).peekable();
        if values.peek().is_some() && values.all(|cell| is_quantity(cell)) {
            return Header::Yes(format!(
                "cell {} holds numbers or times in every record but the first, where it is `{name}`",
                index + 1
            ));
        }
    }
    Header::Open
}

/// Whether a text can be a number, a date or a time: digits, and little else.
fn is_quantity(cell: &str) -> bool {
    let digits = cell.bytes().filter(u8::is_ascii_digit).count();
    let others = cell
        .bytes()
        .filter(|byte| !byte.is_ascii_digit() && !b"+-.,:/ TZ%eE".contains(byte))
        .count();
    digits > 0 && others == 0
}
