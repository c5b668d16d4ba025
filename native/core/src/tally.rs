//! Comparing what a decoder gave with what an independent walk found, without keeping either list.
//!
//! A unit is a span (offset, length) of the source. The source is cut into windows; each window keeps
//! how many units begin in it and the wrapping sum of a mix of their spans. Two sides that saw the same
//! units, in whatever order, have equal windows; a lost, invented, moved or resized unit shows in its
//! window. The sums guard against faults, not against forgery: both sides run in the same confinement.

use std::collections::TryReserveError;

use crate::account::Account;
use crate::error::CoreError;

/// Windows kept one by one (128 GiB of event log, 2 TiB of text); all further ones count as one.
pub const WINDOWS_MAX: u64 = 1 << 21;

/// Count and mixed sum of the units of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// How many units begin in the window.
    pub count: u64,
    /// Wrapping sum of [`mix`] over these units.
    pub mix: u64,
}

/// The splitmix64 finaliser over a span, so that sums of spans do not collide by accident.
#[must_use]
pub fn mix(offset: u64, length: u64) -> u64 {
    let mut z = offset.rotate_left(32) ^ length.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Units of a source by window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    origin: u64,
    window_bytes: u64,
    windows: Vec<Window>,
    /// Units before the origin or behind the last window that is kept by itself.
    rest: Window,
}

impl Windows {
    /// Windows of `window_bytes` bytes from offset `origin` on.
    ///
    /// # Errors
    /// [`CoreError::Invalid`] when `window_bytes` is 0.
    pub fn new(origin: u64, window_bytes: u64) -> Result<Self, CoreError> {
        Self::from_parts(origin, window_bytes, Vec::new(), Window::default())
    }

    /// Windows with known content.
    pub(crate) fn from_parts(
        origin: u64,
        window_bytes: u64,
        windows: Vec<Window>,
        rest: Window,
    ) -> Result<Self, CoreError> {
        if window_bytes == 0 {
            return Err(invalid("window_bytes is 0"));
        }
        if windows.len() as u64 > WINDOWS_MAX {
            return Err(invalid("too many windows"));
        }
        Ok(Self {
            origin,
            window_bytes,
            windows,
            rest,
        })
    }

    /// Count the unit that begins at `offset`.
    ///
    /// # Errors
    /// [`CoreError::Limit`] when there is no memory for the window.
    pub fn add(&mut self, offset: u64, length: u64) -> Result<(), CoreError> {
        let index = offset
            .checked_sub(self.origin)
            .map(|distance| distance / self.window_bytes)
            .filter(|index| *index < WINDOWS_MAX);
        let window = match index {
            // Below WINDOWS_MAX, so it fits usize.
            Some(index) => {
                let index = index as usize;
                if index >= self.windows.len() {
                    self.grow_to(index + 1).map_err(|_| CoreError::Limit {
                        what: "memory for windows",
                        limit: WINDOWS_MAX,
                        offset,
                    })?;
                }
                &mut self.windows[index]
            }
            None => &mut self.rest,
        };
        window.count = window.count.wrapping_add(1);
        window.mix = window.mix.wrapping_add(mix(offset, length));
        Ok(())
    }

    fn grow_to(&mut self, length: usize) -> Result<(), TryReserveError> {
        self.windows.try_reserve(length - self.windows.len())?;
        self.windows.resize(length, Window::default());
        Ok(())
    }

    /// Offset at which the first window begins, in bytes.
    pub fn origin(&self) -> u64 {
        self.origin
    }

    /// Width of a window in bytes.
    pub fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    /// The windows that are kept one by one; later ones are empty.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// The units of all other windows together.
    pub fn rest(&self) -> Window {
        self.rest
    }

    /// How many units were counted.
    pub fn total(&self) -> u64 {
        self.windows.iter().fold(self.rest.count, |sum, window| {
            sum.wrapping_add(window.count)
        })
    }
}

/// One window in which the two sides do not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowDifference {
    /// Number of the window from the origin; [`WINDOWS_MAX`] stands for all the rest.
    pub index: u64,
    /// Offset at which the window begins, in bytes.
    pub offset: u64,
    /// Units that the independent walk found.
    pub present: u64,
    /// Units that came out of the decoder, as rows or quarantine.
    pub accounted: u64,
    /// Whether the mixed sums are equal, so that the same spans came out.
    pub same_units: bool,
}

/// What came out of a decoder, by window.
#[derive(Debug, Clone)]
pub struct Tally(Windows);

impl Tally {
    /// An empty tally; origin and width are those of the account it will be compared with.
    ///
    /// # Errors
    /// [`CoreError::Invalid`] when `window_bytes` is 0.
    pub fn new(origin: u64, window_bytes: u64) -> Result<Self, CoreError> {
        Windows::new(origin, window_bytes).map(Self)
    }

    /// Count one unit.
    ///
    /// # Errors
    /// [`CoreError::Limit`] when there is no memory for the window.
    pub fn add(&mut self, offset: u64, length: u64) -> Result<(), CoreError> {
        self.0.add(offset, length)
    }

    /// How many units were counted.
    pub fn total(&self) -> u64 {
        self.0.total()
    }

    /// Every window in which tally and account differ, in order; empty means that each unit that the
    /// walk found came out exactly once, and nothing else did.
    ///
    /// # Errors
    /// [`CoreError::Invalid`] when the account has windows of another origin or width.
    pub fn compare(&self, account: &Account) -> Result<Vec<WindowDifference>, CoreError> {
        let (mine, theirs) = (&self.0, &account.windows);
        if (mine.origin, mine.window_bytes) != (theirs.origin, theirs.window_bytes) {
            return Err(invalid("tally and account have different windows"));
        }
        let kept = mine.windows.len().max(theirs.windows.len());
        let by_index =
            |side: &Windows, index: usize| side.windows.get(index).copied().unwrap_or_default();
        let pairs = (0..kept)
            .map(|index| (index as u64, by_index(theirs, index), by_index(mine, index)))
            .chain([(WINDOWS_MAX, theirs.rest, mine.rest)]);
        Ok(pairs
            .filter(|(_, present, accounted)| present != accounted)
            .map(|(index, present, accounted)| WindowDifference {
                index,
                offset: index
                    .saturating_mul(mine.window_bytes)
                    .saturating_add(mine.origin),
                present: present.count,
                accounted: accounted.count,
                same_units: present.mix == accounted.mix,
            })
            .collect())
    }
}

fn invalid(reason: &'static str) -> CoreError {
    CoreError::Invalid {
        what: "tally",
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Unit;

    fn account_of(units: &[(u64, u64)]) -> Account {
        let mut windows = Windows::new(4096, 65_536).unwrap();
        for (offset, length) in units {
            windows.add(*offset, *length).unwrap();
        }
        Account {
            present: windows.total(),
            ..Account::empty(Unit::Record, windows)
        }
    }

    fn tally_of(units: &[(u64, u64)]) -> Tally {
        let mut tally = Tally::new(4096, 65_536).unwrap();
        for (offset, length) in units {
            tally.add(*offset, *length).unwrap();
        }
        tally
    }

    const UNITS: [(u64, u64); 4] = [(4608, 100), (4708, 60), (70_144, 28), (u64::MAX, 1)];

    #[test]
    fn the_same_units_in_another_order_are_equal() {
        let mut reversed = UNITS;
        reversed.reverse();
        assert_eq!(
            tally_of(&reversed).compare(&account_of(&UNITS)).unwrap(),
            []
        );
    }

    #[test]
    fn each_kind_of_fault_shows_in_its_window() {
        let account = account_of(&UNITS);
        let lost = tally_of(&[UNITS[0], UNITS[2], UNITS[3]])
            .compare(&account)
            .unwrap();
        assert_eq!(
            lost,
            [WindowDifference {
                index: 0,
                offset: 4096,
                present: 2,
                accounted: 1,
                same_units: false
            }]
        );
        let resized = tally_of(&[UNITS[0], UNITS[1], (70_144, 29), UNITS[3]]);
        let differences = resized.compare(&account).unwrap();
        assert_eq!(
            (differences[0].index, differences[0].same_units),
            (1, false)
        );
        assert_eq!(differences[0].present, differences[0].accounted);
        let twice = tally_of(&[UNITS[0], UNITS[0], UNITS[2], UNITS[3]]);
        assert_eq!(twice.compare(&account).unwrap().len(), 1);
        let outside = tally_of(&UNITS[..3]).compare(&account).unwrap();
        assert_eq!((outside.len(), outside[0].index), (1, WINDOWS_MAX));
    }

    #[test]
    fn an_offset_before_the_origin_or_far_behind_costs_no_memory() {
        let mut windows = Windows::new(4096, 1).unwrap();
        windows.add(0, 1).unwrap();
        windows.add(u64::MAX, 1).unwrap();
        assert_eq!((windows.windows().len(), windows.rest().count), (0, 2));
    }

    #[test]
    fn windows_of_another_shape_are_refused() {
        let tally = Tally::new(0, 65_536).unwrap();
        assert!(tally.compare(&account_of(&UNITS)).is_err());
        assert!(Tally::new(0, 0).is_err());
    }
}
