//! A table that fits where it is shown: columns give way in an order, and are left out at last. Pure.

use super::{Colour, paint_if};
use unicode_width::UnicodeWidthStr;

/// Between two columns.
const GAP: usize = 2;

/// Which end of a text is dispensable.
#[derive(Clone, Copy, PartialEq)]
pub enum Cut {
    Never,
    End,
    /// Of a path the end says more.
    Begin,
}

pub struct Column {
    pub title: &'static str,
    pub cut: Cut,
    /// It is not made narrower than this.
    pub least: usize,
    /// Columns with lower numbers are left out first; None: it always stays.
    pub leaves: Option<u8>,
}

pub struct Cell {
    pub text: String,
    pub colour: Option<Colour>,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, colour: None }
    }
}

/// `width`: of the terminal, in columns; None: there is none, and nothing is cut.
pub fn text(columns: &[Column], rows: &[Vec<Cell>], width: Option<usize>, colourful: bool) -> String {
    let natural: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            rows.iter().map(|row| row[at].text.width()).chain([column.title.width()]).max().unwrap_or(0)
        })
        .collect();
    let widths = fit(columns, &natural, width);
    let last = widths.iter().rposition(Option::is_some);
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = (usize, &str, Option<Colour>)>| {
        for (at, cell, colour) in cells {
            let Some(width) = widths[at] else { continue };
            let shown = cut(cell, width, columns[at].cut);
            let padding = if Some(at) == last { 0 } else { width.saturating_sub(shown.width()) + GAP };
            text.push_str(&colour.map_or_else(|| shown.clone(), |colour| paint_if(colourful, &shown, colour)));
            text.extend(std::iter::repeat_n(' ', padding));
        }
        // What stands at the end may be empty.
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    };
    line(&mut columns.iter().enumerate().map(|(at, column)| (at, column.title, Some(Colour::Bold))));
    for row in rows {
        line(&mut row.iter().enumerate().map(|(at, cell)| (at, cell.text.as_str(), cell.colour)));
    }
    text
}

/// How wide each column is shown; None: it is left out.
fn fit(columns: &[Column], natural: &[usize], width: Option<usize>) -> Vec<Option<usize>> {
    let mut widths: Vec<Option<usize>> = natural.iter().copied().map(Some).collect();
    let Some(width) = width else { return widths };
    loop {
        let shown: Vec<usize> = widths.iter().flatten().copied().collect();
        let over = (shown.iter().sum::<usize>() + GAP * shown.len().saturating_sub(1)).saturating_sub(width);
        if over == 0 {
            return widths;
        }
        // The widest that can give way gives way, by a column at a time, so that all end alike.
        let gives =
            |at: &usize| widths[*at].is_some_and(|now| columns[*at].cut != Cut::Never && now > columns[*at].least);
        match (0..columns.len()).filter(gives).max_by_key(|at| widths[*at]) {
            Some(at) => widths[at] = widths[at].map(|now| now - 1),
            None => match leaver(columns, &widths) {
                Some(at) => {
                    widths = natural.iter().zip(&widths).map(|(all, now)| now.map(|_| *all)).collect();
                    widths[at] = None;
                }
                None => {
                    // So narrow a terminal shows what fits.
                    let last = widths.iter().rposition(Option::is_some);
                    let Some(at) = last else { return widths };
                    widths[at] = widths[at].filter(|now| *now > over).map(|now| now - over);
                }
            },
        }
    }
}

fn leaver(columns: &[Column], widths: &[Option<usize>]) -> Option<usize> {
    let there = (0..columns.len()).filter(|at| widths[*at].is_some() && columns[*at].leaves.is_some());
    there.min_by_key(|at| columns[*at].leaves)
}

/// The text in so many columns; `…` stands for what is missing.
pub fn cut(text: &str, width: usize, which: Cut) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let mark = if width == 0 { "" } else { "…" };
    // Measured as a whole: some characters are wider with what follows them.
    let mut kept = String::new();
    if which == Cut::Begin {
        for c in text.chars().rev() {
            let longer = format!("{c}{kept}");
            if longer.width() > room {
                break;
            }
            kept = longer;
        }
        return format!("{mark}{kept}");
    }
    for c in text.chars() {
        kept.push(c);
        if kept.width() > room {
            kept.pop();
            break;
        }
    }
    format!("{kept}{mark}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column { title: "ID", cut: Cut::Never, least: 2, leaves: None },
        Column { title: "WHERE", cut: Cut::Begin, least: 8, leaves: Some(1) },
        Column { title: "WHAT", cut: Cut::End, least: 6, leaves: None },
    ];

    fn shown(width: Option<usize>) -> String {
        let row = |cells: [&str; 3]| cells.map(|cell| Cell::from(cell.to_owned())).into();
        text(&COLUMNS, &[row(["a1", "you/project", "repair the roof"]), row(["b2", "", "文字化け"])], width, false)
    }

    #[test]
    fn columns_give_way_and_are_left_out_at_last() {
        assert_eq!(shown(None), "ID  WHERE        WHAT\na1  you/project  repair the roof\nb2               文字化け\n");
        assert_eq!(
            shown(Some(24)),
            "ID  WHERE      WHAT\na1  …project   repair t…\nb2             文字化け\n"
                .replace("…project ", "…/project")
        );
        assert_eq!(shown(Some(12)), "ID  WHAT\na1  repair …\nb2  文字化け\n");
        for width in 1..40 {
            assert!(shown(Some(width)).lines().all(|line| line.width() <= width), "{width}");
        }
    }

    #[test]
    fn what_is_cut_says_so_and_counts_columns() {
        assert_eq!(cut("abcdef", 4, Cut::End), "abc…");
        assert_eq!(cut("abcdef", 4, Cut::Begin), "…def");
        assert_eq!(cut("文字化け", 4, Cut::End), "文…");
        assert_eq!(cut("abc", 3, Cut::End), "abc");
        assert_eq!((cut("abcdef", 1, Cut::Never), cut("abc", 0, Cut::End)), ("…".into(), String::new()));
        assert!(cut(&"❤️".repeat(42), 20, Cut::End).width() <= 20);
    }
}
