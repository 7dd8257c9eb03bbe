//! The report as one HTML file: no script, no request to anywhere, readable on paper. Owns escaping and the style sheet.

use super::document::{Block, Document};
use super::escape::escape;
use std::fmt::Write as _;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{max-width:54rem;margin:2rem auto;padding:0 1rem;font:16px/1.5 system-ui,sans-serif}\
h1,h2,h3{line-height:1.25;margin:1.6em 0 .4em}\
table{border-collapse:collapse;margin:0 0 1em;display:block;overflow-x:auto;font-size:.9em;font-variant-numeric:tabular-nums}\
th,td{padding:.25em .7em;border-bottom:1px solid #8886;text-align:left;vertical-align:top}\
pre,code{font:.9em/1.4 ui-monospace,monospace}\
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0}\
.c{color:#777;margin:.3em 0 1em}\
.w{border-left:4px solid #d55e00;padding:.3em .8em}\
.p{border-left:4px solid #8886;padding:.3em .8em;margin:1em 0 .5em}\
.s{display:grid;grid-template-columns:repeat(auto-fit,minmax(16rem,1fr));gap:1rem;break-inside:avoid}\
.s>div{border:1px solid #8886;border-radius:4px;padding:.5em .8em}\
.s small{color:#777}\
svg{width:100%;height:auto}\
.v text{fill:currentColor;font:12px system-ui,sans-serif}\
.v .t{font-weight:600}.v .a{opacity:.7;font-size:11px}\
.v .g{stroke:currentColor;opacity:.15}.v .n{stroke:currentColor;opacity:.5;stroke-dasharray:3 3}\
.k svg{width:28px}.k span{margin-right:1em;white-space:nowrap}.k{margin:0 0 1em;font-size:.9em}\
@media print{:root{color-scheme:light}body{max-width:none;margin:0;font-size:11pt}a{color:inherit}h2,h3{break-after:avoid}figure,table,.s{break-inside:avoid}}\
";

/// The document as a page; `pictures` are SVG elements that follow the title.
#[must_use]
pub fn html(title: &str, document: &Document, pictures: &[String]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n",
        escape(title)
    );
    let mut pictures = Some(pictures);
    for block in &document.blocks {
        out.push_str(&element(block));
        if matches!(block, Block::Heading(1, _)) {
            for picture in pictures.take().unwrap_or_default() {
                let _ = writeln!(out, "<figure>{picture}</figure>");
            }
        }
    }
    out.push_str("</html>\n");
    out
}

fn element(block: &Block) -> String {
    match block {
        Block::Heading(level, text) => format!("<h{level}>{}</h{level}>\n", escape(text)),
        Block::Text(text) => format!("<p>{}</p>\n", escape(text)),
        Block::Warning(text) => format!("<p class=\"w\">⚠ {}</p>\n", escape(text)),
        Block::List(items) => {
            let items: Vec<String> = items.iter().map(|item| format!("<li>{}</li>", escape(item))).collect();
            format!("<ul>{}</ul>\n", items.concat())
        }
        Block::Table(header, rows) => {
            let cells = |row: &[String], name: &str| -> String {
                let cells = row.iter().map(|cell| format!("<{name}>{}</{name}>", escape(cell)));
                format!("<tr>{}</tr>", cells.collect::<String>())
            };
            let rows: String = rows.iter().map(|row| cells(row, "td")).collect();
            format!("<table><thead>{}</thead><tbody>{rows}</tbody></table>\n", cells(header, "th"))
        }
        Block::Command(command) => format!("<p class=\"c\"><code>{}</code></p>\n", escape(command)),
        Block::Chart(chart) => format!("<figure>{}</figure>\n", chart.svg()),
        Block::Answers(prompt, answers) => {
            let mut out = format!("<div class=\"p\"><pre>{}</pre></div>\n<div class=\"s\">", escape(prompt));
            for answer in answers {
                let _ = write!(
                    out,
                    "<div><strong>{}</strong> <small>{}</small><pre>{}</pre></div>",
                    escape(&answer.title),
                    escape(&answer.remark),
                    escape(&answer.text)
                );
            }
            out.push_str("</div>\n");
            out
        }
    }
}
