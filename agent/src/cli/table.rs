//! Columns of text: cells end at tabs, every run of lines that has a column
//! gives it one width. Go's tabwriter, as far as Docker uses it.

/// Lays `text` out; a cell is at least `width_min` wide and followed by
/// `padding` blanks. What follows a line's last tab is not padded.
pub(super) fn align(text: &str, width_min: usize, padding: usize) -> String {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let lines: Vec<Vec<&str>> = body
        .split('\n')
        .map(|line| line.split('\t').collect())
        .collect();
    let mut layout = Layout {
        lines,
        width_min,
        padding,
        widths: Vec::new(),
        out: String::new(),
    };
    let count = layout.lines.len();
    layout.block(0, count);
    if !text.ends_with('\n') {
        layout.out.pop();
    }
    layout.out
}

struct Layout<'t> {
    lines: Vec<Vec<&'t str>>,
    width_min: usize,
    padding: usize,
    /// Widths of the columns that enclose the block at hand.
    widths: Vec<usize>,
    out: String,
}

impl Layout<'_> {
    fn has(&self, line: usize, column: usize) -> bool {
        self.lines
            .get(line)
            .is_some_and(|cells| column + 1 < cells.len())
    }

    fn block(&mut self, first: usize, end: usize) {
        let column = self.widths.len();
        let (mut written, mut line) = (first, first);
        while line < end {
            if !self.has(line, column) {
                line += 1;
                continue;
            }
            self.write(written, line);
            written = line;
            let mut width = self.width_min;
            while line < end && self.has(line, column) {
                width = width.max(self.lines[line][column].chars().count() + self.padding);
                line += 1;
            }
            self.widths.push(width);
            self.block(written, line);
            self.widths.pop();
            written = line;
        }
        self.write(written, end);
    }

    fn write(&mut self, first: usize, end: usize) {
        for cells in self.lines.get(first..end).unwrap_or(&[]) {
            for (i, cell) in cells.iter().enumerate() {
                self.out += cell;
                if let Some(width) = self.widths.get(i)
                    && i + 1 < cells.len()
                {
                    let missing = width.saturating_sub(cell.chars().count());
                    self.out.extend(std::iter::repeat_n(' ', missing));
                }
            }
            self.out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        assert_eq!(
            align("A\tB\nlonger cell\tb\n", 10, 3),
            "A             B\nlonger cell   b\n"
        );
        assert_eq!(align("A\tB\nx\ty\n", 10, 3), "A         B\nx         y\n");
    }

    #[test]
    fn a_column_ends_where_a_line_lacks_it() {
        assert_eq!(
            align("a\tb\nplain\nlonger\tc\n", 0, 1),
            "a b\nplain\nlonger c\n"
        );
    }
}
