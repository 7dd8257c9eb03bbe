//! Chat templates: render messages to the text a model was trained on, byte for byte as `transformers` does.
//!
//! Owns the Jinja environment: trimmed blocks, Python's methods, Python's formatting of values, `raise_exception`,
//! `strftime_now`, `tojson`, and `{% generation %}` (which only marks text and is ignored). Templates are untrusted: a
//! rendering has limited fuel, text, time and memory, and nothing outside its arguments can be reached.

use super::channels;
use super::error::Error;
use super::fields::{json, text_if_there};
use super::python;
use super::special_tokens::SpecialTokens;
use super::template_guard::TemplateGuard;
use super::template_names;
use super::template_values::{LONGEST_TEXT, printed, to_json};
use crate::domain::{Conversation, JsonFields, Message, RESERVED_VARIABLES};
use jiff::civil::DateTime;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, context};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The template of a conversation, within its environment.
const DEFAULT: &str = "default";

/// The template of a conversation with tools, where there is another; its name in `transformers`.
const TOOL_USE: &str = "tool_use";

/// Where a model's folder has it beside `chat_template.jinja`.
pub(super) const TOOL_USE_FILE: &str = "additional_chat_templates/tool_use.jinja";

/// Instructions per rendering: enough for thousands of turns, but not for an endless loop.
const FUEL: u64 = 4_000_000;

/// The names under which a message holds its reasoning, the first the one that most templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// The longest source, in bytes: ten times the longest that is in use. Its nesting needs a stack.
pub(super) const LONGEST_SOURCE: usize = 256 << 10;

/// The longest format of a date, in bytes.
const LONGEST_FORMAT: usize = 256;

/// The longest message of the engine that is repeated, in characters.
const LONGEST_MESSAGE: usize = 500;

/// A text that takes no more than the limit.
#[derive(Default)]
struct CappedText {
    text: Vec<u8>,
    full: bool,
}

impl std::io::Write for CappedText {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.text.len() + bytes.len() > LONGEST_TEXT {
            self.full = true;
            return Err(std::io::Error::other("the text is too long"));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A model's chat template.
pub struct Template {
    env: Arc<Environment<'static>>,
    guard: TemplateGuard,
    model: String,
    special: SpecialTokens,
    source: String,
    /// The source of the one for conversations with tools.
    tool_use: Option<String>,
    variables: JsonFields,
}

impl Template {
    /// Reads `DIR/chat_template.jinja`, else `chat_template` of `DIR/tokenizer_config.json`: a text, or named ones of which `default`
    /// is taken. The one named `tool_use`, there or in `additional_chat_templates`, is for conversations with tools. None when the
    /// model has none.
    ///
    /// # Errors
    /// When a template cannot be parsed.
    pub fn read(dir: &Path, special: &SpecialTokens) -> Result<Option<Self>, Error> {
        let model = dir.display().to_string();
        if let Some(source) = text_if_there(&dir.join("chat_template.jinja"))? {
            let with_tools = text_if_there(&dir.join(TOOL_USE_FILE))?;
            return Self::new(&source, &model, special)?.for_tools(with_tools.as_deref()).map(Some);
        }
        let config = json(&dir.join("tokenizer_config.json"))?;
        let named: BTreeMap<&str, &serde_json::Value> = match config
            .as_ref()
            .and_then(|config| config.get("chat_template"))
        {
            None | Some(serde_json::Value::Null) => return Ok(None),
            Some(text @ serde_json::Value::String(_)) => [("default", text)].into(),
            Some(serde_json::Value::Array(list)) => {
                // Of two with one name the first counts.
                list.iter().rev().filter_map(|one| Some((named_as(one), one.get("template")?))).collect()
            }
            Some(serde_json::Value::Object(named)) => named.iter().map(|(name, text)| (name.as_str(), text)).collect(),
            Some(_) => {
                return Err(Error::Template { model, why: "chat_template is neither a text nor a list".into() });
            }
        };
        let only = if named.len() == 1 { named.values().next() } else { None };
        let Some(source) = text_of(named.get("default").or(only)) else {
            let why = "tokenizer_config.json holds several and none is named `default`".to_owned();
            return Err(Error::Template { model, why });
        };
        Self::new(source, &model, special)?.for_tools(text_of(named.get(TOOL_USE))).map(Some)
    }

    /// The same with another template for conversations with tools, as `transformers` chooses it.
    ///
    /// # Errors
    /// When that one cannot be parsed.
    pub fn for_tools(mut self, source: Option<&str>) -> Result<Self, Error> {
        let Some(source) = source else { return Ok(self) };
        let env = self.env.as_ref().clone();
        self.env = Arc::new(with_template(&self.guard, env, TOOL_USE, source, &self.model)?);
        self.tool_use = Some(source.to_owned());
        Ok(self)
    }

    /// A template from its source; `model` is for messages.
    ///
    /// # Errors
    /// When it cannot be parsed.
    pub fn new(source: &str, model: &str, special: &SpecialTokens) -> Result<Self, Error> {
        let mut env = Environment::new();
        let syntax = minijinja::syntax::SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.map_err(|e| Error::Template { model: model.to_owned(), why: sentence(&e) })?);
        env.set_fuel(Some(FUEL));
        env.set_recursion_limit(100);
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        python::add_to(&mut env);
        env.set_formatter(|out, _, value| {
            out.write_str(&printed(value)?).map_err(|_| minijinja::Error::new(ErrorKind::WriteFailure, "cannot write"))
        });
        env.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        env.add_filter("tojson", to_json);
        let guard = TemplateGuard::default();
        let env = with_template(&guard, env, DEFAULT, source, model)?;
        let mut template = Self {
            env: Arc::new(env),
            guard,
            model: model.to_owned(),
            special: special.clone(),
            source: source.to_owned(),
            tool_use: None,
            variables: JsonFields::new(),
        };
        template.set_date(jiff::ZonedDateTime::now().datetime());
        Ok(template)
    }

    /// Sets the time of `strftime_now`, for a run the date of its launch. The default is the local time when the template was
    /// read.
    pub fn set_date(&mut self, date: DateTime) {
        Arc::make_mut(&mut self.env).add_function("strftime_now", move |format: String| strftime(&format, date));
    }

    /// Sets variables for every conversation that does not set them itself.
    pub fn set_variables(&mut self, variables: JsonFields) {
        self.variables = variables;
    }

    /// The names that the template reads and that nothing here gives it: variables that a person may set.
    ///
    /// # Errors
    /// When the template may not be used any more, or there is no thread for it.
    pub fn variables(&self) -> Result<Vec<String>, Error> {
        let env = self.env.clone();
        let undeclared = self.guard.run(&self.model, move || {
            let of = |name| env.get_template(name).map(|one| one.undeclared_variables(false)).unwrap_or_default();
            [DEFAULT, TOOL_USE].into_iter().flat_map(of).collect::<Vec<String>>()
        });
        let given: Vec<&str> = self.env.globals().map(|(name, _)| name).collect();
        let own = |name: &String| {
            !given.contains(&name.as_str())
                && !RESERVED_VARIABLES.contains(&name.as_str())
                && !self.special.others.iter().any(|(known, _)| known == name)
        };
        let names = template_names::variables(&self.sources(), undeclared?);
        Ok(names.into_iter().filter(own).collect())
    }

    /// The text of a conversation. `add_generation_prompt` appends the start of the assistant's turn.
    ///
    /// # Errors
    /// When the template refuses the conversation (roles out of order, for one), or takes too long.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, Error> {
        self.filled(messages, &[], &JsonFields::new(), add_generation_prompt)
    }

    /// The same of a conversation with its tools and its template variables.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render_conversation(&self, talk: &Conversation, add_generation_prompt: bool) -> Result<String, Error> {
        self.filled(&talk.turns, talk.tools(), talk.variables(), add_generation_prompt)
    }

    fn filled(
        &self,
        messages: &[Message],
        tools: &[serde_json::Value],
        variables: &JsonFields,
        add_generation_prompt: bool,
    ) -> Result<String, Error> {
        let s = &self.special;
        let token = |t: &Option<String>| t.as_ref().map_or(Value::UNDEFINED, |t| Value::from(t.clone()));
        let turn = |m: &Message| {
            let own = [("role", Value::from(m.role.as_str())), ("content", Value::from(m.content.clone()))];
            let more = m.more.iter().map(|(name, value)| (name.as_str(), of_json(value)));
            // As transformers 5.23: reasoning under one name is there under those that templates read.
            let reasoning = REASONING.iter().find_map(|name| m.more.get(name)).map(of_json);
            let [first, last] = ["thinking", REASONING[0]].map(|name| reasoning.clone().map(|value| (name, value)));
            Value::from_pairs(first.into_iter().chain(own).chain(more).chain(last))
        };
        // Names that a row may not set are refused when it is imported.
        let for_all = self.variables.iter().filter(|(name, _)| !variables.contains_key(*name));
        let given = for_all.chain(variables).map(|(name, value)| (name.clone(), of_json(value)));
        let others = s.others.iter().map(|(name, text)| (name.clone(), Value::from(text.clone())));
        let others = Value::from_pairs(others.chain(given));
        let arguments = context! {
            messages => messages.iter().map(turn).collect::<Value>(),
            add_generation_prompt => add_generation_prompt,
            tools => if tools.is_empty() { Value::from(()) } else { tools.iter().map(of_json).collect::<Value>() },
            documents => Value::from(()),
            bos_token => token(&s.bos),
            eos_token => token(&s.eos),
            pad_token => token(&s.pad),
            unk_token => token(&s.unk),
            ..others
        };
        let refused = |why: String| Error::Template { model: self.model.clone(), why };
        let env = self.env.clone();
        let name = if self.tool_use.is_some() && !tools.is_empty() { TOOL_USE } else { DEFAULT };
        let rendered = self.guard.run(&self.model, move || {
            let mut out = CappedText::default();
            let done = env.get_template(name).and_then(|t| t.render_captured_to(arguments, &mut out).map(|_| ()));
            if out.full {
                return Err(format!("its text is longer than the limit of {} MiB", LONGEST_TEXT >> 20));
            }
            done.map_err(|e| sentence(&e))?;
            String::from_utf8(out.text).map_err(|e| e.to_string())
        });
        rendered?.map_err(refused)
    }

    /// Why the template may not be used any more: a rendering did not end.
    ///
    /// # Errors
    /// When that is so.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.guard.stuck() {
            Some(why) => Err(Error::Template { model: self.model.clone(), why: why.to_owned() }),
            None => Ok(()),
        }
    }

    /// Whether it writes an answer's thought in a channel of its own.
    #[must_use]
    pub fn has_channels(&self) -> bool {
        channels::has_channels(&self.source)
    }

    /// The template's source.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The source of the one for conversations with tools, where there is another.
    #[must_use]
    pub fn tool_use(&self) -> Option<&str> {
        self.tool_use.as_deref()
    }

    /// Both sources: what decides how conversations are read.
    #[must_use]
    pub fn sources(&self) -> String {
        self.tool_use.iter().fold(self.source.clone(), |all, more| format!("{all}\n{more}"))
    }
}

/// The name of a template in a list.
fn named_as(entry: &serde_json::Value) -> &str {
    entry.get("name").and_then(serde_json::Value::as_str).unwrap_or_default()
}

fn text_of<'a>(value: Option<&&'a serde_json::Value>) -> Option<&'a str> {
    value.and_then(|value| value.as_str())
}

/// Adds a template to an environment.
fn with_template(
    guard: &TemplateGuard,
    mut env: Environment<'static>,
    name: &'static str,
    source: &str,
    model: &str,
) -> Result<Environment<'static>, Error> {
    if source.len() > LONGEST_SOURCE {
        let (has, most) = (source.len() >> 10, LONGEST_SOURCE >> 10);
        let why = format!("it has {has} KiB, more than the limit of {most} KiB");
        return Err(Error::Template { model: model.to_owned(), why });
    }
    let text = without_generation(&python::newlines(source));
    let parsed = guard.run(model, move || env.add_template_owned(name, text).map(|()| env))?;
    parsed.map_err(|e| Error::Template { model: model.to_owned(), why: sentence(&e) })
}

/// One sentence of a template error, with its line.
fn sentence(e: &minijinja::Error) -> String {
    let mut what = match e.kind() {
        ErrorKind::OutOfFuel => "it computes too much for one conversation".to_owned(),
        kind => e.detail().map_or_else(|| kind.to_string(), |text| text.chars().take(LONGEST_MESSAGE + 1).collect()),
    };
    if let Some((cut, _)) = what.char_indices().nth(LONGEST_MESSAGE) {
        what.truncate(cut);
        what.push('…');
    }
    match e.line() {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}

/// `{% generation %}` opens a scope and prints its body. `with` does the same, and whitespace control is unchanged.
fn without_generation(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = tag.find("%}") else { break };
        let (tag, after) = tag.split_at(end + 2);
        let word = tag.trim_start_matches("{%").trim_end_matches("%}").trim_matches(['-', '+']).trim();
        match word {
            "generation" => out.push_str(&tag.replacen("generation", "with", 1)),
            "endgeneration" => out.push_str(&tag.replacen("endgeneration", "endwith", 1)),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// A JSON value for a template, its maps in their own order.
fn of_json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(truth) => Value::from(*truth),
        serde_json::Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Value::from(n),
            (None, Some(n)) => Value::from(n),
            (None, None) => Value::from(n.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(list) => list.iter().map(of_json).collect::<Value>(),
        serde_json::Value::Object(object) => {
            Value::from_pairs(object.iter().map(|(name, value)| (name.as_str(), of_json(value))))
        }
    }
}

/// The text of a date and time by a format of C's `strftime`, as Python's `datetime.now().strftime` gives it: local time that
/// names no zone.
fn strftime(format: &str, date: DateTime) -> Result<String, minijinja::Error> {
    if format.len() > LONGEST_FORMAT {
        let why = format!("strftime_now: the format is longer than {LONGEST_FORMAT} bytes");
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, why));
    }
    jiff::fmt::strtime::format(without_zone(format), date)
        .map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {e}")))
}

/// The format without `%z` and `%Z`, which print nothing without a time zone.
fn without_zone(format: &str) -> String {
    let mut out = String::with_capacity(format.len());
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match (c, c == '%') {
            (c, false) => out.push(c),
            (_, true) => match chars.next() {
                Some('z' | 'Z') => {}
                next => out.extend(std::iter::once('%').chain(next)),
            },
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, Error> {
        let messages = vec![Message::new("user", "it's \"x\"\n")];
        Template::new(source, "m", &SpecialTokens::default())?.render(&messages, true)
    }

    #[test]
    fn values_print_as_python_prints_them() {
        let out = render("{{ true }} {{ none }} {{ [1, 'a', false] }} {{ missing }}|{{ messages[0] }}").unwrap();
        assert_eq!(out, "True None [1, 'a', False] |{'role': 'user', 'content': 'it\\'s \"x\"\\n'}");
        assert_eq!(render("{{ {'a': [1, 2]} | tojson }}").unwrap(), r#"{"a": [1, 2]}"#);
    }

    #[test]
    fn tools_variables_and_other_fields_of_messages_reach_the_template() {
        let source = "{{ tools[0].function.name }} {{ enable_thinking }} {{ messages[1].reasoning_content }} \
                      {{ messages[1].tool_calls[0].function.arguments | tojson }} {{ messages[0].tool_calls }}";
        let talk: Conversation = serde_json::from_value(serde_json::json!({
            "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "", "reasoning_content": "Look.",
                "tool_calls": [{"function": {"name": "f", "arguments": {"b": 1, "a": "x"}}}]}],
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "chat_template_kwargs": {"enable_thinking": false},
        }))
        .unwrap();
        let template = Template::new(source, "m", &SpecialTokens::default()).unwrap();
        let out = template.render_conversation(&talk, false).unwrap();
        assert_eq!(out, r#"f False Look. {"b": 1, "a": "x"} "#);
        let none = Template::new("{{ tools is none }}", "m", &SpecialTokens::default()).unwrap();
        assert_eq!(none.render_conversation(&talk.turns.clone().into(), false).unwrap(), "True");
    }

    #[test]
    fn variables_for_all_conversations_yield_to_those_of_one_and_unread_ones_are_known() {
        let source = "{% set own = 1 %}{{ enable_thinking }} {{ own }} {% if strftime_now is defined %}{{ effort }}{% endif %}\
                      {% for m in messages %}{{ m.content }}{{ loop.index }}{{ raise_exception('x') if false }}{% endfor %}";
        let mut template = Template::new(source, "m", &SpecialTokens::default()).unwrap();
        assert_eq!(template.variables().unwrap(), ["effort", "enable_thinking"]);
        let branches = "{% for m in messages %}{% if m.x %}{% set body = m.x %}{% else %}{%- set body = '' %}{% endif %}{{ body }}{% endfor %}\
                        {% if not thinking is defined %}{% set thinking = false %}{% endif %}{{ thinking }}";
        let found = Template::new(branches, "m", &SpecialTokens::default()).unwrap().variables().unwrap();
        assert_eq!(found, ["thinking"]);
        let set = |value: serde_json::Value| value.as_object().cloned().unwrap();
        template.set_variables(set(serde_json::json!({"enable_thinking": false, "effort": "low"})));
        let mut talk: Conversation = vec![Message::new("user", "a")].into();
        assert_eq!(template.render_conversation(&talk, false).unwrap(), "False 1 lowa1");
        talk.set_variables(set(serde_json::json!({"enable_thinking": true})));
        assert_eq!(template.render_conversation(&talk, false).unwrap(), "True 1 lowa1");
    }

    #[test]
    fn reasoning_reaches_a_template_under_the_name_that_it_reads() {
        let read = |name: &str, source: &str| {
            let mut turn = Message::assistant("4");
            turn.more.set(name, "Two.".into());
            Template::new(source, "m", &SpecialTokens::default()).unwrap().render(&[turn], false).unwrap()
        };
        for name in REASONING {
            assert_eq!(
                read(name, "{{ messages[0].reasoning_content }} {{ messages[0].thinking }}"),
                "Two. Two.",
                "{name}"
            );
        }
        let keys = "{{ messages[0].keys() | join(',') }}";
        assert_eq!(read("reasoning", keys), "thinking,role,content,reasoning,reasoning_content");
        assert_eq!(read("name", keys), "role,content,name");
    }

    #[test]
    fn generation_tags_are_ignored() {
        let out = render("a\n{%- generation %}\nb\n{% endgeneration %}\nc").unwrap();
        assert_eq!(out, "ab\nc");
    }

    #[test]
    fn a_refusal_an_endless_loop_and_a_bad_template_are_one_sentence() {
        let message = render("{{ raise_exception('roles must alternate') }}").unwrap_err().to_string();
        assert!(message.contains("roles must alternate") && message.contains("line 1"), "{message}");
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        assert!(render(endless).unwrap_err().to_string().contains("computes too much"));
        assert!(render("{% if %}").is_err());
        let long = "{% set x = 'a' * 65536 %}{% for i in range(9999) %}{{ x }}{% endfor %}";
        assert!(render(long).unwrap_err().to_string().contains("longer than the limit of 64 MiB"));
        assert!(render("{{ 'a' * 99999999999 }}").is_err());
    }

    #[test]
    fn dates_are_printed_as_python_prints_them() {
        let at = jiff::civil::date(2000, 2, 29).at(1, 1, 9, 0);
        let text = |format: &str| strftime(format, at).unwrap();
        assert_eq!(text("%d %b %Y %A %H:%M:%S"), "29 Feb 2000 Tuesday 01:01:09");
        assert_eq!(text("%-d %B %y, %I %p, day %j, %F, 100%%"), "29 February 00, 01 AM, day 060, 2000-02-29, 100%");
        assert_eq!(text("%H%z%Z %%z"), "01 %z", "datetime.now() names no zone");
        assert!(strftime("%!", at).unwrap_err().to_string().contains("strftime_now"));
    }

    #[test]
    fn the_date_is_the_one_set_or_the_local_one() {
        let source = "{{ strftime_now('%Y-%m-%d %H:%M') }}";
        let mut template = Template::new(source, "m", &SpecialTokens::default()).unwrap();
        let now = || jiff::ZonedDateTime::now().datetime().strftime("%Y-%m-%d %H:%M").to_string();
        let (before, rendered, after) = (now(), template.render(&[], true).unwrap(), now());
        assert!(rendered == before || rendered == after, "{rendered} is neither {before} nor {after}");
        template.set_date(jiff::civil::date(2024, 7, 4).at(23, 59, 0, 0));
        assert_eq!(template.render(&[], true).unwrap(), "2024-07-04 23:59");
    }
}
