//! The report as Markdown. Owns escaping: in a table a cell is one line, a text of several lines is a fenced block whose fence is
//! longer than any in the text.

use super::document::{Block, Document};
use std::fmt::Write as _;

/// The document as Markdown.
#[must_use]
pub fn markdown(document: &Document) -> String {
    let mut out = String::new();
    for block in &document.blocks {
        match block {
            Block::Heading(level, text) => {
                let _ = writeln!(out, "{} {}\n", "#".repeat(*level), inline(text));
            }
            Block::Text(text) => {
                let _ = writeln!(out, "{}\n", inline(text));
            }
            Block::Warning(text) => {
                let _ = writeln!(out, "> ⚠ {}\n", inline(text));
            }
            Block::List(items) => {
                for item in items {
                    let _ = writeln!(out, "- {}", inline(item));
                }
                out.push('\n');
            }
            Block::Table(header, rows) => {
                let line = |cells: &[String]| {
                    format!("| {} |", cells.iter().map(|c| inline(c)).collect::<Vec<_>>().join(" | "))
                };
                let _ = writeln!(out, "{}\n|{}", line(header), "---|".repeat(header.len()));
                for row in rows {
                    let _ = writeln!(out, "{}", line(row));
                }
                out.push('\n');
            }
            Block::Command(command) => {
                let _ = writeln!(out, "{}\n", fenced(command));
            }
            // A picture's numbers are in the tables around it.
            Block::Chart(_) => {}
            Block::Answers(prompt, answers) => {
                let _ = writeln!(out, "**Prompt**\n\n{}\n", fenced(prompt));
                for answer in answers {
                    let remark =
                        if answer.remark.is_empty() { String::new() } else { format!(" ({})", inline(&answer.remark)) };
                    let _ = writeln!(out, "**{}**{remark}\n\n{}\n", inline(&answer.title), fenced(&answer.text));
                }
            }
        }
    }
    out
}

/// A text on one line whose characters are no markup.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.split_whitespace().collect::<Vec<_>>().join(" ").chars() {
        if matches!(c, '\\' | '|' | '`' | '*' | '_' | '<' | '>' | '[' | ']' | '#') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A text of any lines as a block of code.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}\n{}\n{fence}", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::report::document::SampleAnswer;
    use crate::shell::report::html::html;

    /// Texts that try to be markup.
    fn hostile() -> Document {
        let bad = "</pre><script>alert(1)</script> ``` # x\n| a | b |\n<img src=x onerror=alert(1)> \u{1b}[31m";
        let mut document = Document::default();
        document.heading(1, bad);
        document.text(bad);
        document.warning(bad);
        document.list([bad.to_owned()]);
        document.table(&[bad], vec![vec![bad.to_owned()]]);
        document.command(bad);
        document.answers(bad, vec![SampleAnswer { title: bad.into(), remark: bad.into(), text: bad.into() }]);
        document
    }

    #[test]
    fn no_text_becomes_markup() {
        let page = html("<script>", &hostile(), &[]);
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\u{1b}'), "{page}");
        assert_eq!(page.matches("<pre>").count(), page.matches("</pre>").count());
        let text = markdown(&hostile());
        assert!(!text.contains('\u{1b}'));
        // Outside of fenced blocks every bracket is escaped.
        let mut fence = None;
        for line in text.lines() {
            let ticks = line.len() - line.trim_start_matches('`').len();
            match fence {
                None if ticks >= 3 => fence = Some(ticks),
                Some(open) if ticks == open && line.len() == open => fence = None,
                None => assert!(!line.replace("\\<", "").contains('<'), "{line}"),
                Some(_) => {}
            }
        }
        assert_eq!(fence, None);
    }
}
