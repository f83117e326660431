//! How much of a list is one page.

/// How many bytes of JSON the rows of one page have together, at most.
///
/// Lambda's answers end at 6 MB. The body stands in them as a JSON string, in which each quote and backslash takes two bytes:
/// twice these rows, and what the body has beside them, have room.
pub const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Takes rows for as long as there is room for them.
#[derive(Debug, Default)]
pub struct Room(usize);

impl Room {
    /// Whether a row of so many bytes belongs to the page. The first always does: a page without rows would lead nowhere.
    pub fn take(&mut self, bytes: usize) -> bool {
        let is_first = self.0 == 0;
        self.0 = self.0.saturating_add(bytes);
        is_first || self.0 <= PAGE_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_what_there_is_room_for_and_one_row_at_least() {
        let taken = |rows: &[usize]| {
            let mut room = Room::default();
            rows.iter().take_while(|bytes| room.take(**bytes)).count()
        };
        assert_eq!(taken(&[1; 100]), 100);
        assert_eq!(taken(&[PAGE_BYTES_MAX - 1, 1, 1]), 2);
        assert_eq!(taken(&[PAGE_BYTES_MAX + 1, 1]), 1);
        assert_eq!(taken(&[1, PAGE_BYTES_MAX, 1]), 1);
    }
}
