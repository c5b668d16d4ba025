//! What a header has that no header of the contract has, so that a person sees what changed.

use std::fmt::Write as _;

use crate::dataset::shown;

/// Names of one kind that are listed.
const NAMES_MAX: usize = 20;
/// Names this much alike, in percent, may be one that was renamed; less will do where the place is the same.
pub(crate) const RENAMED_PERCENT: usize = 60;
const RENAMED_IN_PLACE_PERCENT: usize = 30;
/// Letters from which on a name within another one says something.
const PART_LETTERS_MIN: usize = 3;
/// Headers beyond this many cells are compared without looking for cells that moved or were renamed.
const CELLS_COMPARED_MAX: usize = 512;

/// The difference between a header and the known one that is most like it, line by line.
pub(super) fn header_difference(found: &[String], known: &[Vec<String>]) -> String {
    let likeness = |header: &Vec<String>| {
        let common = header.iter().filter(|name| found.contains(name)).count();
        (common, usize::MAX - header.len().abs_diff(found.len()))
    };
    // The last of several that are equally near: the contract's newest.
    let closest = known
        .iter()
        .enumerate()
        .max_by_key(|(_, header)| likeness(header));
    let mut text = format!(
        "the header has {} cells and is not known to the contract",
        found.len()
    );
    let Some((number, closest)) = closest else {
        return text;
    };
    let _ = write!(
        text,
        "; against known header {} of {}:",
        number + 1,
        known.len()
    );
    let difference = Difference::between(closest, found);
    difference.write(&mut text);
    text
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    /// Old name, new name, old place, new place.
    renamed: Vec<(String, String, usize, usize)>,
    added: Vec<(String, usize)>,
    removed: Vec<(String, usize)>,
    moved: Vec<(String, usize, usize)>,
}

impl Difference {
    fn between(known: &[String], found: &[String]) -> Self {
        let mut result = Self::default();
        // The n-th of a name is compared with the n-th of that name.
        let known: Vec<_> = numbered(known);
        let found: Vec<_> = numbered(found);
        let place =
            |list: &[(&str, usize)], name: &(&str, usize)| list.iter().position(|one| one == name);
        for (index, name) in known.iter().enumerate() {
            if place(&found, name).is_none() {
                result.removed.push((name.0.to_owned(), index));
            }
        }
        for (index, name) in found.iter().enumerate() {
            if place(&known, name).is_none() {
                result.added.push((name.0.to_owned(), index));
            }
        }
        if known.len().max(found.len()) > CELLS_COMPARED_MAX {
            return result;
        }
        let common: Vec<(usize, usize)> = found
            .iter()
            .enumerate()
            .filter_map(|(now, name)| place(&known, name).map(|before| (before, now)))
            .collect();
        let kept = longest_rising(&common);
        for (index, (before, now)) in common.iter().enumerate() {
            if !kept.contains(&index) {
                result.moved.push((found[*now].0.to_owned(), *before, *now));
            }
        }
        result.pair_renamed();
        result
    }

    /// Take a removed and an added cell for one that was renamed when they look alike.
    fn pair_renamed(&mut self) {
        let mut removed = std::mem::take(&mut self.removed);
        removed.retain(|(before, was)| {
            let looks_like = |(name, at): &(String, usize)| {
                let alike = similarity(before, name);
                (alike >= RENAMED_PERCENT || (at == was && alike >= RENAMED_IN_PLACE_PERCENT))
                    .then_some(alike)
            };
            let best = self
                .added
                .iter()
                .enumerate()
                .filter_map(|(index, one)| looks_like(one).map(|alike| (alike, index)))
                .max_by_key(|(alike, index)| (*alike, usize::MAX - index));
            let Some((_, index)) = best else {
                return true;
            };
            let (name, at) = self.added.remove(index);
            self.renamed.push((before.clone(), name, *was, at));
            false
        });
        self.removed = removed;
    }

    fn write(&self, text: &mut String) {
        let name = |name: &str| format!("`{}`", shown(name.as_bytes()));
        let mut lines = Vec::new();
        for (before, now, was, at) in self.renamed.iter().take(NAMES_MAX) {
            let moved = if was == at {
                String::new()
            } else {
                format!(", now cell {}", at + 1)
            };
            lines.push(format!(
                "~ {} looks renamed to {} (cell {}{moved})",
                name(before),
                name(now),
                was + 1
            ));
        }
        for (removed, was) in self.removed.iter().take(NAMES_MAX) {
            lines.push(format!(
                "- {} is gone (was cell {})",
                name(removed),
                was + 1
            ));
        }
        for (added, at) in self.added.iter().take(NAMES_MAX) {
            lines.push(format!("+ {} is new (cell {})", name(added), at + 1));
        }
        for (moved, was, at) in self.moved.iter().take(NAMES_MAX) {
            lines.push(format!(
                "> {} moved from cell {} to {}",
                name(moved),
                was + 1,
                at + 1
            ));
        }
        for line in &lines {
            text.push_str("\n  ");
            text.push_str(line);
        }
        let all = self.renamed.len() + self.removed.len() + self.added.len() + self.moved.len();
        if lines.len() < all {
            let _ = write!(text, "\n  … and {} more", all - lines.len());
        }
    }
}

/// Each name with how many of the same name came before it.
fn numbered(names: &[String]) -> Vec<(&str, usize)> {
    let mut result: Vec<(&str, usize)> = Vec::with_capacity(names.len());
    let mut counts = std::collections::HashMap::new();
    for name in names {
        let count = counts.entry(name.as_str()).or_insert(0);
        result.push((name, *count));
        *count += 1;
    }
    result
}

/// Indexes of the longest run, in order, whose first members rise.
fn longest_rising(pairs: &[(usize, usize)]) -> Vec<usize> {
    let mut best: Vec<(usize, Option<usize>)> = Vec::with_capacity(pairs.len());
    for (index, (value, _)) in pairs.iter().enumerate() {
        let before = (0..index)
            .filter(|other| pairs[*other].0 < *value)
            .max_by_key(|other| (best[*other].0, usize::MAX - other));
        best.push((before.map_or(1, |other| best[other].0 + 1), before));
    }
    let mut run = Vec::new();
    let mut next = (0..best.len()).max_by_key(|index| (best[*index].0, usize::MAX - index));
    while let Some(index) = next {
        run.push(index);
        next = best[index].1;
    }
    run
}

/// How alike two names are, in percent: by the letters that would have to change.
pub(crate) fn similarity(one: &str, other: &str) -> usize {
    let plain = |name: &str| -> Vec<char> {
        name.chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .take(64)
            .collect()
    };
    let (one, other) = (plain(one), plain(other));
    let longest = one.len().max(other.len());
    if longest == 0 {
        return 0;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    let alike = (longest - row[other.len()]) * 100 / longest;
    let (short, long) = if one.len() < other.len() {
        (&one, &other)
    } else {
        (&other, &one)
    };
    // `user` and `user_name`: one grew out of the other.
    let is_part =
        short.len() >= PART_LETTERS_MIN && long.windows(short.len()).any(|part| part == short);
    if is_part {
        alike.max(RENAMED_PERCENT)
    } else {
        alike
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    #[test]
    fn a_difference_reads_as_what_a_person_did() {
        let known = [header("time,src,n"), header("time,src,n,user")];
        let found = header("time,n,source_ip,user_name,bytes");
        assert_eq!(
            header_difference(&found, &known),
            "the header has 5 cells and is not known to the contract; against known header 2 of 2:\n  \
             ~ `user` looks renamed to `user_name` (cell 4)\n  \
             - `src` is gone (was cell 2)\n  \
             + `source_ip` is new (cell 3)\n  \
             + `bytes` is new (cell 5)"
        );
    }

    #[test]
    fn a_moved_cell_is_named_once() {
        let text = header_difference(&header("b,c,a"), &[header("a,b,c")]);
        assert!(text.ends_with("\n  > `a` moved from cell 1 to 3"), "{text}");
        let text = header_difference(&header("a,a"), &[header("a,b")]);
        assert!(text.contains("- `b`") && text.contains("+ `a`"), "{text}");
    }

    #[test]
    fn a_header_of_very_many_cells_is_compared_in_time() {
        let many: Vec<_> = (0..3_000).map(|n| format!("c{n}")).collect();
        let other: Vec<_> = (0..3_000).rev().map(|n| format!("d{n}")).collect();
        assert!(header_difference(&many, &[other]).contains("… and"));
    }
}
