//! A report as blocks. Owns their types and the sanitising of texts. Refuses any format.

use super::chart::ReportChart;
use crate::domain::sanitise;

/// A part of a report.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// A heading; level 1 is the title.
    Heading(usize, String),
    /// A paragraph.
    Text(String),
    /// Something that spoils what follows.
    Warning(String),
    /// A list.
    List(Vec<String>),
    /// A table with its header.
    Table(Vec<String>, Vec<Vec<String>>),
    /// The command that makes the numbers above again.
    Command(String),
    /// A chart, with what it shows in words.
    Chart(ReportChart),
    /// A prompt with answers, each with its title and a remark.
    Answers(String, Vec<SampleAnswer>),
}

/// An answer in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleAnswer {
    /// Who wrote it.
    pub title: String,
    /// What is known of it, in a few words.
    pub remark: String,
    /// The text.
    pub text: String,
}

/// A report.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Document {
    /// Its parts in order.
    pub blocks: Vec<Block>,
}

impl Document {
    /// Adds a heading.
    pub fn heading(&mut self, level: usize, text: &str) {
        self.blocks.push(Block::Heading(level, sanitise(text)));
    }

    /// Adds a paragraph.
    pub fn text(&mut self, text: &str) {
        self.blocks.push(Block::Text(sanitise(text)));
    }

    /// Adds a warning.
    pub fn warning(&mut self, text: &str) {
        self.blocks.push(Block::Warning(sanitise(text)));
    }

    /// Adds a list; nothing without items.
    pub fn list(&mut self, items: impl IntoIterator<Item = String>) {
        let items: Vec<String> = items.into_iter().map(|item| sanitise(&item)).collect();
        if !items.is_empty() {
            self.blocks.push(Block::List(items));
        }
    }

    /// Adds a table; nothing without rows.
    pub fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>) {
        if !rows.is_empty() {
            let clean = |row: Vec<String>| row.into_iter().map(|cell| sanitise(&cell)).collect();
            let header = header.iter().map(|cell| sanitise(cell)).collect();
            self.blocks.push(Block::Table(header, rows.into_iter().map(clean).collect()));
        }
    }

    /// Adds a command.
    pub fn command(&mut self, command: &str) {
        self.blocks.push(Block::Command(sanitise(command)));
    }

    /// Adds a chart; nothing without points.
    pub fn chart(&mut self, chart: ReportChart) {
        if !chart.is_empty() {
            self.blocks.push(Block::Chart(chart));
        }
    }

    /// Adds answers to a prompt.
    pub fn answers(&mut self, prompt: &str, answers: Vec<SampleAnswer>) {
        let clean = |a: SampleAnswer| SampleAnswer {
            title: sanitise(&a.title),
            remark: sanitise(&a.remark),
            text: sanitise(&a.text),
        };
        self.blocks.push(Block::Answers(sanitise(prompt), answers.into_iter().map(clean).collect()));
    }
}
