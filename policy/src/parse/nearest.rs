//! The nearest known word to one that was mistyped.

/// The word of `known` that `word` was most likely meant to be, if one is near enough to be worth saying.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters wrong is still the same word; more is another one. Long texts are no mistyped names, and
    // the distance costs the product of the lengths.
    let letters = word.chars().count();
    if letters > 64 {
        return None;
    }
    let near = (letters / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= near)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters to insert, remove, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swapped_pair_and_a_missing_letter_are_near() {
        assert_eq!(nearest("form", ["tcp", "udp", "from"]), Some("from"));
        assert_eq!(nearest("gatway", ["web", "gateway", "db"]), Some("gateway"));
    }

    #[test]
    fn another_word_is_not_near() {
        assert_eq!(nearest("printer", ["web", "gateway", "db"]), None);
        assert_eq!(nearest("", ["web"]), None);
        assert_eq!(nearest(&"x".repeat(10_000), ["web"]), None);
    }
}
