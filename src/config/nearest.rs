//! "Did you mean": the known word that a mistyped one is nearest to.

/// A hint, where one of the words is near enough.
pub(crate) fn did_you_mean<'a>(
    text: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    // A third of the letters may be wrong, as rustc has it.
    let limit = text.chars().count().max(3) / 3;
    let near = |word: &'a str| (distance(&text.to_lowercase(), word), word);
    let (_, word) = words
        .into_iter()
        .map(near)
        .filter(|(d, _)| *d <= limit)
        .min()?;
    Some(format!("did you mean `{word}`?"))
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from one to the other.
fn distance(from: &str, to: &str) -> usize {
    // `_` is how other formats write what is `-` here: no mistake to count.
    let from: Vec<char> = from
        .chars()
        .map(|c| if c == '_' { '-' } else { c })
        .collect();
    let to: Vec<char> = to.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let words = ["vcpus", "memory", "start-timeout"];
        let hint = |text| did_you_mean(text, words);
        assert_eq!(hint("vcpu").unwrap(), "did you mean `vcpus`?");
        assert_eq!(hint("mmeory").unwrap(), "did you mean `memory`?");
        assert_eq!(
            hint("start_timeout").unwrap(),
            "did you mean `start-timeout`?"
        );
        assert_eq!(hint("colour"), None);
    }
}
