//! A form on a screen: fields to type into, to choose from and to mark, one below the other.
//!
//! Owns what is typed and where the focus is. Refuses to know what the fields mean: the screen reads them by key and says
//! what is wrong with each.

use super::edit::EditBuffer;
use super::key::{Code, Key};

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue {
    /// A typed text.
    Text(EditBuffer),
    /// A typed number; other characters are commands.
    Number(EditBuffer),
    /// One of these.
    Choice {
        /// The choices.
        options: Vec<String>,
        /// The chosen one.
        at: usize,
    },
    /// Marked or not.
    Mark(bool),
}

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// What the screen reads it by.
    pub key: String,
    /// What it is called.
    pub label: String,
    /// What stands beside it: a usual range, a detail.
    pub about: String,
    /// What it does, shown while it has the focus.
    pub help: String,
    /// What it holds.
    pub value: FieldValue,
    /// Why it is invalid, if it is.
    pub problem: Option<String>,
    /// The heading above it, where a part of the form begins.
    pub heading: Option<&'static str>,
    /// Whether it is shown.
    pub shown: bool,
}

impl Field {
    fn new(key: &str, help: &str, value: FieldValue) -> Self {
        let (key, help) = (key.to_owned(), help.to_owned());
        let (label, about) = (key.clone(), String::new());
        Self { key, label, about, help, value, problem: None, heading: None, shown: true }
    }

    /// A field for a text.
    #[must_use]
    pub fn text(key: &str, default: &str, help: &str) -> Self {
        Self::new(key, help, FieldValue::Text(EditBuffer::line(default)))
    }

    /// A field for a number.
    #[must_use]
    pub fn number(key: &str, default: &str, help: &str) -> Self {
        Self::new(key, help, FieldValue::Number(EditBuffer::line(default)))
    }

    /// A field with choices; the first is chosen.
    #[must_use]
    pub fn choice<S: Into<String>>(key: &str, options: impl IntoIterator<Item = S>, help: &str) -> Self {
        let options = options.into_iter().map(Into::into).collect();
        Self::new(key, help, FieldValue::Choice { options, at: 0 })
    }

    /// A field to mark.
    #[must_use]
    pub fn mark(key: &str, marked: bool, help: &str) -> Self {
        Self::new(key, help, FieldValue::Mark(marked))
    }

    /// The same with another name.
    #[must_use]
    pub fn named(self, label: impl Into<String>) -> Self {
        Self { label: label.into(), ..self }
    }

    /// The same with a detail beside it.
    #[must_use]
    pub fn beside(self, about: impl Into<String>) -> Self {
        Self { about: about.into(), ..self }
    }

    /// The same with a heading above it.
    #[must_use]
    pub fn under(self, heading: &'static str) -> Self {
        Self { heading: Some(heading), ..self }
    }

    /// The text: typed, chosen, or empty of a mark.
    #[must_use]
    pub fn content(&self) -> &str {
        match &self.value {
            FieldValue::Text(buffer) | FieldValue::Number(buffer) => buffer.text().trim(),
            FieldValue::Choice { options, at } => options.get(*at).map_or("", String::as_str),
            FieldValue::Mark(_) => "",
        }
    }

    /// Whether it is marked.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        matches!(self.value, FieldValue::Mark(true))
    }

    fn buffer(&mut self) -> Option<&mut EditBuffer> {
        match &mut self.value {
            FieldValue::Text(buffer) | FieldValue::Number(buffer) => Some(buffer),
            FieldValue::Choice { .. } | FieldValue::Mark(_) => None,
        }
    }
}

/// What a key did to a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormKey {
    /// Nothing: it may be a command.
    Ignored,
    /// It moved the cursor.
    Moved,
    /// It changed a field.
    Changed,
}

/// The form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Form {
    /// The fields in order.
    pub fields: Vec<Field>,
    focus: usize,
    /// Whether the next character replaces a number: the focus has just come to it.
    fresh: bool,
}

impl Form {
    /// A form with the focus on its first field.
    #[must_use]
    pub fn new(fields: Vec<Field>) -> Self {
        Self { fields, focus: 0, fresh: true }
    }

    /// The field with the focus.
    #[must_use]
    pub fn focused(&self) -> Option<&Field> {
        self.fields.get(self.focus)
    }

    /// Whether a field has the focus.
    #[must_use]
    pub fn is_focused(&self, field: &Field) -> bool {
        self.focused().is_some_and(|focused| focused.key == field.key)
    }

    /// The field of that key.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.key == key)
    }

    /// The field of that key, to change it.
    pub fn field_mut(&mut self, key: &str) -> Option<&mut Field> {
        self.fields.iter_mut().find(|field| field.key == key)
    }

    /// The text of a field, trimmed; empty where there is no such field.
    #[must_use]
    pub fn content(&self, key: &str) -> &str {
        self.field(key).map_or("", Field::content)
    }

    /// The rest of the keys of the marked and shown fields that begin with `prefix`, in order.
    #[must_use]
    pub fn marked(&self, prefix: &str) -> Vec<&str> {
        let marked = self.fields.iter().filter(|field| field.is_marked() && field.shown);
        marked.filter_map(|field| field.key.strip_prefix(prefix)).collect()
    }

    /// Puts the focus on a field.
    pub fn focus_on(&mut self, key: &str) {
        let to = self.fields.iter().position(|field| field.key == key).unwrap_or(self.focus);
        self.fresh |= to != self.focus;
        self.focus = to;
    }

    /// Moves the focus by `by` shown fields, wrapping at the ends.
    pub fn move_focus(&mut self, by: isize) {
        let shown: Vec<usize> = (0..self.fields.len()).filter(|i| self.fields[*i].shown).collect();
        let Some(last) = shown.len().checked_sub(1) else { return };
        let at = shown.iter().position(|i| *i == self.focus).unwrap_or(last.min(self.focus)) as isize;
        self.focus = shown[(at + by).rem_euclid(shown.len() as isize) as usize];
        self.fresh = true;
    }

    /// Replaces the fields whose keys begin with `prefix` by others, before the field `before`. What was typed, chosen and
    /// marked in a field that stays is kept, and so is the focus.
    pub fn replace(&mut self, prefix: &str, before: &str, fields: Vec<Field>) {
        let (focused, fresh) = (self.focused().map(|field| field.key.clone()), self.fresh);
        let old: Vec<Field> = self.fields.extract_if(.., |field| field.key.starts_with(prefix)).collect();
        let at = self.fields.iter().position(|field| field.key == before).unwrap_or(self.fields.len());
        let kept = |field: Field| match old.iter().find(|known| known.key == field.key) {
            Some(known) => Field { value: keep(&known.value, field.value), problem: known.problem.clone(), ..field },
            None => field,
        };
        self.fields.splice(at..at, fields.into_iter().map(kept));
        if let Some(key) = focused {
            self.focus_on(&key);
        }
        self.focus = self.focus.min(self.fields.len().saturating_sub(1));
        // The field with the focus is the same.
        self.fresh = fresh;
    }

    /// Sets a field's choices; the chosen one stays if it is still among them.
    pub fn offer(&mut self, key: &str, options: Vec<String>) {
        let Some(FieldValue::Choice { options: old, at }) = self.field_mut(key).map(|field| &mut field.value) else {
            return;
        };
        let chosen = old.get(*at).and_then(|word| options.iter().position(|option| option == word));
        (*old, *at) = (options, chosen.unwrap_or(0));
    }

    /// Shows or hides a field.
    pub fn show(&mut self, key: &str, shown: bool) {
        if let Some(field) = self.field_mut(key) {
            field.shown = shown;
        }
    }

    /// Sets or clears what is wrong with a field.
    pub fn set_problem(&mut self, key: &str, problem: Option<String>) {
        if let Some(field) = self.field_mut(key) {
            field.problem = problem;
        }
    }

    /// The first problem of a shown field: its name and the sentence.
    #[must_use]
    pub fn problem(&self) -> Option<(&Field, &str)> {
        self.fields.iter().filter(|f| f.shown).find_map(|field| Some((field, field.problem.as_deref()?)))
    }

    /// Replaces a field's text.
    pub fn set_text(&mut self, key: &str, text: &str) {
        if let Some(buffer) = self.field_mut(key).and_then(Field::buffer) {
            *buffer = EditBuffer::line(text);
        }
    }

    /// Handles a key in the focused field. The first character typed into a number replaces it.
    pub fn press(&mut self, key: Key) -> FormKey {
        let Some(field) = self.fields.get_mut(self.focus) else { return FormKey::Ignored };
        let step: isize = match key.code {
            Code::Left => -1,
            Code::Right | Code::Char(' ') => 1,
            _ => 0,
        };
        match &mut field.value {
            FieldValue::Mark(marked) if key.typed() == Some(' ') => *marked = !*marked,
            FieldValue::Choice { options, at } if step != 0 && !options.is_empty() => {
                *at = (*at as isize + step).rem_euclid(options.len() as isize) as usize;
            }
            FieldValue::Number(_) if key.typed().is_some_and(|c| !is_number(c)) => return FormKey::Ignored,
            FieldValue::Text(_) | FieldValue::Number(_) => {
                let replaces = self.fresh && key.typed().is_some() && matches!(field.value, FieldValue::Number(_));
                let Some(buffer) = field.buffer() else { return FormKey::Ignored };
                let before = buffer.text().len();
                if replaces {
                    *buffer = EditBuffer::line("");
                }
                if !buffer.press(key) {
                    return FormKey::Ignored;
                }
                self.fresh = false;
                if key.typed().is_none() && buffer.text().len() == before {
                    return FormKey::Moved;
                }
            }
            FieldValue::Mark(_) | FieldValue::Choice { .. } => return FormKey::Ignored,
        }
        field.problem = None;
        FormKey::Changed
    }

    /// Inserts pasted text into the focused field; false if it takes none.
    pub fn insert(&mut self, text: &str) -> bool {
        let Some(field) = self.fields.get_mut(self.focus) else { return false };
        let replaces = self.fresh && matches!(field.value, FieldValue::Number(_));
        let Some(buffer) = field.buffer() else { return false };
        if replaces {
            *buffer = EditBuffer::line("");
        }
        buffer.insert(text);
        self.fresh = false;
        true
    }
}

fn is_number(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E')
}

/// A field's old value where it is of the new one's kind; of choices the chosen word.
fn keep(old: &FieldValue, new: FieldValue) -> FieldValue {
    match (old, new) {
        (FieldValue::Mark(marked), FieldValue::Mark(_)) => FieldValue::Mark(*marked),
        (FieldValue::Text(buffer), FieldValue::Text(_)) => FieldValue::Text(buffer.clone()),
        (FieldValue::Number(buffer), FieldValue::Number(_)) => FieldValue::Number(buffer.clone()),
        (_, new) => new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form() -> Form {
        Form::new(vec![
            Field::mark("m:a", true, ""),
            Field::mark("m:b", false, ""),
            Field::choice("how", ["one", "two"], ""),
            Field::number("n", "2", ""),
            Field::text("filter", "", ""),
        ])
    }

    #[test]
    fn keys_mark_choose_and_type_and_other_keys_are_commands() {
        let mut form = form();
        assert_eq!(form.press(Key::char(' ')), FormKey::Changed);
        assert_eq!(form.press(Key::char('x')), FormKey::Ignored);
        assert!(form.marked("m:").is_empty());
        form.move_focus(2);
        assert_eq!(form.press(Key::plain(Code::Right)), FormKey::Changed);
        assert_eq!(form.content("how"), "two");
        form.move_focus(1);
        assert_eq!(form.press(Key::char('?')), FormKey::Ignored, "help opens");
        assert_eq!(form.press(Key::char('5')), FormKey::Changed);
        assert_eq!(form.content("n"), "5", "the first character replaces a number, the next ones do not");
        assert_eq!(form.press(Key::plain(Code::Left)), FormKey::Moved);
        assert_eq!(form.press(Key::char('2')), FormKey::Changed);
        assert_eq!(form.content("n"), "25");
        form.move_focus(1);
        assert_eq!(form.press(Key::char('?')), FormKey::Changed);
        form.move_focus(1);
        assert_eq!(form.focused().unwrap().key, "m:a", "the focus wraps");
    }

    #[test]
    fn replaced_fields_keep_their_marks_and_the_focus() {
        let mut form = form();
        form.move_focus(1);
        form.press(Key::char(' '));
        let fields = ["m:c", "m:b", "m:a"].map(|key| Field::mark(key, false, "")).into();
        form.replace("m:", "how", fields);
        assert_eq!(form.marked("m:"), ["b", "a"]);
        assert_eq!(form.focused().unwrap().key, "m:b");
        form.show("m:b", false);
        assert_eq!(form.marked("m:"), ["a"]);
        form.offer("how", vec!["two".into(), "one".into()]);
        assert_eq!(form.content("how"), "one");
    }
}
