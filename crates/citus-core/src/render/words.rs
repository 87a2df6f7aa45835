//! Numbers with their nouns.

/// `1 row`, `2 rows`.
pub fn counted(number: usize, one: &str, many: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {many}")
    }
}
