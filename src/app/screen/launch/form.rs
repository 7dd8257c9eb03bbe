//! The launch form: a method, a start, and its hyper-parameters as typed text, checked at each key.
//!
//! Owns the text and its validation against the method table. Refuses to know files or models: a worker estimates what
//! a run takes.

use crate::domain::{Criterion, Method, OVERALL, ParamKind, ParamRow, Params, RowChoice, RunId, methods};
use std::collections::BTreeMap;

/// Where a run starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The session's model as it is.
    Model,
    /// The adapter of a finished run of this session.
    Run(RunId),
    /// The adapter in this folder, as typed.
    Folder(String),
}

/// A field that can have the focus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchField {
    /// Choice of the method.
    Method,
    /// Choice of the start.
    Start,
    /// The filter of the rows.
    Filter,
    /// The criteria by which they were judged.
    Rubric,
    /// A hyper-parameter, by its index in the method's rows.
    Param(usize),
    /// `…`: shows or hides the advanced ones.
    More,
}

/// The form.
#[derive(Debug, Clone, PartialEq)]
pub struct LaunchForm {
    method: usize,
    start: usize,
    starts: Vec<Start>,
    /// The typed folder of an adapter; empty for the chosen start.
    folder: String,
    rewards: Vec<RunId>,
    /// The session's criteria.
    criteria: Vec<Criterion>,
    /// The typed filter; empty for all rows.
    filter: String,
    /// The typed rubric; empty for verdicts overall.
    rubric: String,
    /// Typed values by key; kept when the method changes. A missing key has the method's default.
    typed: BTreeMap<String, String>,
    /// Whether the advanced hyper-parameters are shown.
    pub advanced: bool,
    /// The field that keys act on.
    pub focus: LaunchField,
    /// Whether the next character replaces the field's text.
    fresh: bool,
}

impl Default for LaunchForm {
    fn default() -> Self {
        Self {
            method: 0,
            start: 0,
            starts: vec![Start::Model],
            folder: String::new(),
            rewards: Vec::new(),
            criteria: Vec::new(),
            filter: String::new(),
            rubric: String::new(),
            typed: BTreeMap::new(),
            advanced: false,
            focus: LaunchField::Method,
            fresh: true,
        }
    }
}

impl LaunchForm {
    /// The method chosen.
    #[must_use]
    pub fn method(&self) -> &'static Method {
        let all = methods();
        &all[self.method.min(all.len() - 1)]
    }

    /// The start, typed or chosen.
    #[must_use]
    pub fn start(&self) -> Start {
        match self.folder.trim() {
            "" => self.chosen_start().clone(),
            folder => Start::Folder(folder.to_owned()),
        }
    }

    fn chosen_start(&self) -> &Start {
        self.starts.get(self.start).unwrap_or(&Start::Model)
    }

    /// Sets the runs to start from; keeps the choice if it is still among them.
    pub fn set_runs(&mut self, runs: impl IntoIterator<Item = RunId>) {
        let chosen = self.chosen_start().clone();
        self.starts = std::iter::once(Start::Model).chain(runs.into_iter().map(Start::Run)).collect();
        self.start = self.starts.iter().position(|s| *s == chosen).unwrap_or(0);
    }

    /// The finished reward runs, which `reward_model` can name.
    pub fn set_rewards(&mut self, runs: impl IntoIterator<Item = RunId>) {
        self.rewards = runs.into_iter().collect();
    }

    /// Sets the criteria that a rubric can name.
    pub fn set_criteria(&mut self, criteria: &[Criterion]) {
        if self.criteria != criteria {
            self.criteria = criteria.to_vec();
        }
    }

    /// The text of the filter.
    #[must_use]
    pub fn filter_text(&self) -> &str {
        &self.filter
    }

    /// The text of the rubric.
    #[must_use]
    pub fn rubric_text(&self) -> &str {
        if self.rubric.is_empty() { OVERALL } else { &self.rubric }
    }

    /// Whether the focused field says which rows.
    #[must_use]
    pub fn chooses_rows(&self) -> bool {
        matches!(self.focus, LaunchField::Filter | LaunchField::Rubric)
    }

    /// The rubrics to choose from with one key: overall and each criterion.
    #[must_use]
    pub fn rubrics(&self) -> Vec<&str> {
        std::iter::once(OVERALL).chain(self.criteria.iter().map(|c| c.name.as_str())).collect()
    }

    /// Which rows the run trains on.
    ///
    /// # Errors
    /// When the filter or the rubric is invalid: one sentence.
    pub fn choice(&self) -> Result<RowChoice, String> {
        let choice = RowChoice::parse(&self.filter, &self.rubric)?;
        choice.rubric.check(&self.criteria)?;
        Ok(choice)
    }

    /// The finished reward runs.
    #[must_use]
    pub fn rewards(&self) -> &[RunId] {
        &self.rewards
    }

    /// The choices of a hyper-parameter; empty if its value is typed.
    #[must_use]
    pub fn choices(&self, row: &ParamRow) -> Vec<&str> {
        match row.kind {
            ParamKind::Choice(words) => words.to_vec(),
            ParamKind::Bool => vec!["true", "false"],
            ParamKind::Word if row.key == "reward_model" && !self.rewards.is_empty() => {
                std::iter::once("").chain(self.rewards.iter().map(RunId::as_str)).collect()
            }
            ParamKind::Float(..)
            | ParamKind::Floats(..)
            | ParamKind::Int(..)
            | ParamKind::List(_)
            | ParamKind::Word
            | ParamKind::Metric
            | ParamKind::Names
            | ParamKind::Variables
            | ParamKind::Checks => Vec::new(),
        }
    }

    /// The starts to choose from.
    #[must_use]
    pub fn starts(&self) -> &[Start] {
        &self.starts
    }

    /// The text of a hyper-parameter, typed or default.
    #[must_use]
    pub fn text<'a>(&'a self, row: &ParamRow) -> &'a str {
        self.typed.get(row.key).map_or(row.default, String::as_str)
    }

    /// Whether a hyper-parameter differs from its default.
    #[must_use]
    pub fn changed(&self, row: &ParamRow) -> bool {
        self.text(row) != row.default
    }

    /// Why a hyper-parameter's text is invalid, as one sentence.
    #[must_use]
    pub fn problem(&self, row: &ParamRow) -> Option<String> {
        row.parse(self.text(row)).err().map(|e| e.to_string())
    }

    /// The hyper-parameters, parsed.
    ///
    /// # Errors
    /// When a text is invalid: the first such sentence.
    pub fn params(&self) -> Result<Params, String> {
        let method = self.method();
        let rows = method.rows();
        let mut params = Params::defaults(&rows);
        for row in &rows {
            params.set(&rows, method.name, row.key, self.text(row)).map_err(|e| e.to_string())?;
        }
        Ok(params)
    }

    /// The hyper-parameters, with the default for each invalid text, for display while typing.
    #[must_use]
    pub fn params_or_defaults(&self) -> Params {
        let rows = self.method().rows();
        let mut params = Params::defaults(&rows);
        for row in &rows {
            // An invalid text leaves the default.
            let _ = params.set(&rows, "", row.key, self.text(row));
        }
        params
    }

    /// The fields in order, as shown.
    #[must_use]
    pub fn fields(&self) -> Vec<LaunchField> {
        let rows = self.method().rows();
        let mut out = vec![LaunchField::Method, LaunchField::Start, LaunchField::Filter];
        out.extend((!self.criteria.is_empty()).then_some(LaunchField::Rubric));
        out.extend((0..rows.len()).filter(|i| rows[*i].basic).map(LaunchField::Param));
        out.push(LaunchField::More);
        if self.advanced {
            out.extend((0..rows.len()).filter(|i| !rows[*i].basic).map(LaunchField::Param));
        }
        out
    }

    /// Moves the focus by `by` fields, wrapping at the ends.
    pub fn move_focus(&mut self, by: isize) {
        let fields = self.fields();
        let at = fields.iter().position(|f| *f == self.focus).unwrap_or(0) as isize;
        self.focus = fields[(at + by).rem_euclid(fields.len() as isize) as usize];
        self.fresh = true;
    }

    /// Moves the focused field's choice by `by`, wrapping. True if the run's specification changed.
    pub fn change_choice(&mut self, by: isize) -> bool {
        let around = |at: usize, len: usize| (at as isize + by).rem_euclid(len.max(1) as isize) as usize;
        match self.focus {
            LaunchField::Method => {
                self.method = around(self.method, methods().len());
                methods().len() > 1
            }
            LaunchField::Start => {
                let typed = !std::mem::take(&mut self.folder).is_empty();
                self.start = around(self.start, self.starts.len());
                typed || self.starts.len() > 1
            }
            LaunchField::Filter => false,
            LaunchField::Rubric => {
                let words = self.rubrics();
                let now = words.iter().position(|w| *w == self.rubric_text()).unwrap_or(0);
                self.rubric = words[around(now, words.len())].to_owned();
                true
            }
            LaunchField::More => {
                self.advanced = !self.advanced;
                false
            }
            LaunchField::Param(at) => {
                let rows = self.method().rows();
                let Some(row) = rows.get(at) else { return false };
                let words = self.choices(row);
                if words.is_empty() {
                    return false;
                }
                let now = words.iter().position(|w| *w == self.text(row)).unwrap_or(0);
                let next = words[around(now, words.len())].to_owned();
                self.typed.insert(row.key.to_owned(), next);
                true
            }
        }
    }

    /// Types a character into the focused field. False if the field does not accept it: it may be a command.
    pub fn type_char(&mut self, c: char) -> bool {
        let fresh = self.fresh;
        if let Some(text) = self.free_text() {
            if c.is_control() {
                return false;
            }
            if fresh {
                text.clear();
            }
            if text.len() < 1000 {
                text.push(c);
            }
            self.fresh = false;
            return true;
        }
        let Some(row) = self.focused_row() else { return false };
        if !accepts(row.kind, c) {
            return false;
        }
        let mut text = if self.fresh { String::new() } else { self.text(&row).to_owned() };
        // Longer than any number or word; checks are a few phrases.
        if text.len() < if matches!(row.kind, ParamKind::Checks | ParamKind::Variables) { 1000 } else { 120 } {
            text.push(c);
        }
        self.typed.insert(row.key.to_owned(), text);
        self.fresh = false;
        true
    }

    /// Deletes the last character of the focused field. False if its value is not typed.
    pub fn backspace(&mut self) -> bool {
        self.edit(|text| {
            text.pop();
        })
    }

    /// Empties the focused field. False if it has no text.
    pub fn clear(&mut self) -> bool {
        self.edit(String::clear)
    }

    fn edit(&mut self, change: impl Fn(&mut String)) -> bool {
        if let Some(text) = self.free_text() {
            change(text);
            self.fresh = false;
            return true;
        }
        let Some(row) = self.focused_row().filter(|r| !matches!(r.kind, ParamKind::Choice(_) | ParamKind::Bool)) else {
            return false;
        };
        let mut text = self.text(&row).to_owned();
        change(&mut text);
        self.typed.insert(row.key.to_owned(), text);
        self.fresh = false;
        true
    }

    /// The text of the focused field, if it takes any character: which rows, and the folder to start from.
    fn free_text(&mut self) -> Option<&mut String> {
        match self.focus {
            LaunchField::Filter => Some(&mut self.filter),
            LaunchField::Rubric => Some(&mut self.rubric),
            LaunchField::Start => Some(&mut self.folder),
            LaunchField::Method | LaunchField::Param(_) | LaunchField::More => None,
        }
    }

    /// Resets every value to the method's default.
    pub fn reset(&mut self) {
        self.typed.clear();
        self.folder.clear();
        self.filter.clear();
        self.rubric.clear();
        self.fresh = true;
    }

    /// The hyper-parameter with the focus.
    #[must_use]
    pub fn focused_row(&self) -> Option<ParamRow> {
        match self.focus {
            LaunchField::Param(at) => self.method().rows().get(at).copied(),
            LaunchField::Method
            | LaunchField::Start
            | LaunchField::Filter
            | LaunchField::Rubric
            | LaunchField::More => None,
        }
    }

    /// Approximate optimizer steps for `rows` rows, since the exact split by prompt is unknown; none if they depend on
    /// the rows' lengths.
    #[must_use]
    pub fn steps(&self, rows: usize) -> Option<u64> {
        let p = self.params_or_defaults();
        if p.i64("max_steps") > 0 {
            return Some(p.i64("max_steps") as u64);
        }
        if p.usize("max_tokens_per_batch") > 0 {
            return None;
        }
        let train = ((rows as f64) * (1.0 - p.f64("eval_fraction"))).round().max(1.0) as usize;
        let batches = train.div_ceil(p.usize("per_device_train_batch_size").max(1));
        let updates = batches.div_ceil(p.usize("gradient_accumulation_steps").max(1));
        Some((updates as f64 * p.f64("num_train_epochs")).ceil() as u64)
    }
}

/// Whether a value of that kind may contain a character.
fn accepts(kind: ParamKind, c: char) -> bool {
    match kind {
        ParamKind::Float(..) => c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E'),
        ParamKind::Floats(..) => c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E' | ','),
        ParamKind::Int(..) => c.is_ascii_digit() || c == '-',
        ParamKind::List(_) => c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ','),
        ParamKind::Word => c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@'),
        ParamKind::Names => c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ','),
        ParamKind::Metric => c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '@'),
        // Phrases and JSON contain blanks and punctuation.
        ParamKind::Checks | ParamKind::Variables => !c.is_control(),
        ParamKind::Bool | ParamKind::Choice(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn focus(form: &mut LaunchForm, key: &str) {
        let at = form.method().rows().iter().position(|r| r.key == key).unwrap();
        form.focus = LaunchField::Param(at);
        form.fresh = true;
    }

    fn type_text(form: &mut LaunchForm, text: &str) {
        for c in text.chars() {
            assert!(form.type_char(c), "{c}");
        }
    }

    #[test]
    fn a_new_form_has_the_defaults_of_its_method() {
        let form = LaunchForm::default();
        assert_eq!(form.params().unwrap(), Params::defaults(&form.method().rows()));
    }

    #[test]
    fn typed_text_is_checked_at_each_key() {
        let mut form = LaunchForm::default();
        focus(&mut form, "beta");
        type_text(&mut form, "0.");
        let row = form.focused_row().unwrap();
        assert_eq!((form.text(&row), form.problem(&row)), ("0.", Some(row.parse("0.").unwrap_err().to_string())));
        type_text(&mut form, "2");
        assert_eq!(form.problem(&row), None);
        assert_eq!(form.params().unwrap().text("beta"), "0.2");
        assert!(!form.type_char('r'), "a letter is a command, not a number");
        for _ in 0..3 {
            form.backspace();
        }
        assert!(form.params().is_err());
        form.reset();
        assert!(form.params().is_ok() && !form.changed(&row));
    }

    #[test]
    fn choices_cycle_and_typed_values_survive_a_change_of_method() {
        let mut form = LaunchForm::default();
        focus(&mut form, "tune");
        assert!(form.change_choice(1));
        assert_eq!(form.params().unwrap().text("tune"), "full");
        focus(&mut form, "learning_rate");
        type_text(&mut form, "3e-6");
        form.focus = LaunchField::Method;
        assert!(form.change_choice(1));
        assert_ne!(form.method().name, "dpo");
        assert_eq!(form.params().unwrap().text("learning_rate"), "3e-6");
        form.change_choice(-1);
        assert_eq!(form.method().name, "dpo");
    }

    #[test]
    fn a_typed_folder_is_the_start_until_another_is_chosen() {
        let mut form = LaunchForm::default();
        form.set_runs(["dpo-1", "dpo-2"].map(RunId::new));
        form.focus = LaunchField::Start;
        form.change_choice(1);
        form.change_choice(1);
        assert_eq!(form.start(), Start::Run(RunId::new("dpo-2")));
        type_text(&mut form, "~/my adapter");
        assert_eq!(form.start(), Start::Folder("~/my adapter".into()));
        form.set_runs(["dpo-1", "dpo-2", "dpo-3"].map(RunId::new));
        assert!(
            form.clear() && form.start() == Start::Run(RunId::new("dpo-2")),
            "an empty field has the choice before"
        );
        type_text(&mut form, "x");
        assert!(form.change_choice(1) && form.start() == Start::Run(RunId::new("dpo-3")));
        type_text(&mut form, "x");
        form.reset();
        assert_eq!(form.start(), Start::Run(RunId::new("dpo-3")));
    }

    #[test]
    fn the_focus_visits_every_field_and_wraps() {
        let mut form = LaunchForm { advanced: true, ..LaunchForm::default() };
        let rows = form.method().rows().len();
        let mut seen = Vec::new();
        loop {
            seen.push(form.focus);
            form.move_focus(1);
            if form.focus == LaunchField::Method {
                break;
            }
        }
        assert_eq!(seen.len(), rows + 4);
        form.move_focus(-1);
        assert_eq!(Some(&form.focus), seen.last());
    }

    #[test]
    fn rows_are_chosen_by_a_filter_and_a_rubric() {
        let mut form = LaunchForm { focus: LaunchField::Filter, ..LaunchForm::default() };
        type_text(&mut form, "tag:math -verdict:tie");
        assert_eq!(form.choice().unwrap().words(), "filter tag:math -verdict:tie");
        assert!(!form.fields().contains(&LaunchField::Rubric), "without criteria there is nothing to choose");
        form.set_criteria(&["helpful", "harmless"].map(|name| Criterion::parse(name).unwrap()));
        form.focus = LaunchField::Rubric;
        form.fresh = true;
        assert!(form.change_choice(1) && form.rubric_text() == "helpful");
        type_text(&mut form, "helpful=3,harmless=1");
        assert_eq!(form.choice().unwrap().rubric.to_string(), "helpful=0.75,harmless=0.25");
        form.backspace();
        form.backspace();
        assert_eq!(form.rubric_text(), "helpful=3,harmless");
        type_text(&mut form, "s");
        assert!(form.choice().unwrap_err().contains("did you mean `harmless`"));
        form.reset();
        assert_eq!(form.choice().unwrap(), RowChoice::default());
    }

    #[test]
    fn reward_runs_are_offered_and_checks_are_typed() {
        let row = |key, kind| ParamRow { key, kind, default: "", usual: "", help: "", basic: true };
        let mut form = LaunchForm::default();
        let reward = row("reward_model", ParamKind::Word);
        assert!(form.choices(&reward).is_empty(), "without reward runs the name is typed");
        form.set_rewards(["reward-1", "reward-3"].map(RunId::new));
        assert_eq!(form.choices(&reward), ["", "reward-1", "reward-3"]);
        assert!(form.choices(&row("ref_model", ParamKind::Word)).is_empty());
        assert!("reward-1.b".chars().all(|c| accepts(ParamKind::Word, c)) && !accepts(ParamKind::Word, ' '));
        assert!(
            "any_of=ja, nein;ends_with=?".chars().all(|c| accepts(ParamKind::Checks, c))
                && !accepts(ParamKind::Checks, '\n')
        );
    }

    #[test]
    fn epochs_become_steps() {
        let mut form = LaunchForm::default();
        focus(&mut form, "num_train_epochs");
        type_text(&mut form, "3");
        // 41 pairs, a tenth kept for evaluation: 37 rows, 10 batches of 4, three times.
        assert_eq!(form.steps(41), Some(30));
        focus(&mut form, "max_steps");
        type_text(&mut form, "7");
        assert_eq!(form.steps(41), Some(7));
    }
}
