//! What chat templates take from Jinja2 and Python and the engine lacks: tests, text methods, `cycler` and `joiner`.
//!
//! Owns only names that published templates use, with Python's results. Refuses everything that reaches beyond the arguments.

use minijinja::value::{Rest, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State};

/// Adds the tests, functions and methods.
pub(super) fn add_to(env: &mut Environment<'static>) {
    // Jinja2: `none`, numbers and booleans are not iterable; a missing value is empty.
    env.add_test("iterable", is_iterable);
    env.add_test("sequence", is_iterable);
    env.add_function("cycler", |items: Rest<Value>| match items.0 {
        items if items.is_empty() => Err(invalid("cycler needs at least one item".into())),
        items => minijinja_contrib::globals::cycler(items),
    });
    env.add_function("joiner", minijinja_contrib::globals::joiner);
    env.set_unknown_method_callback(method);
}

/// The source of a template with `\n` at the ends of its lines, as Jinja2 reads it.
pub(super) fn newlines(source: &str) -> String {
    source.replace("\r\n", "\n").replace('\r', "\n")
}

fn is_iterable(value: &Value) -> bool {
    !matches!(value.kind(), ValueKind::None | ValueKind::Bool | ValueKind::Number | ValueKind::Plain)
}

fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && let Some(result) = text_method(text, name, args)
    {
        return result;
    }
    if name == "index" && value.kind() == ValueKind::Seq {
        let (wanted,): (Value,) = from_args(args)?;
        let at = value.try_iter()?.position(|item| item == wanted);
        return at.map(Value::from).ok_or_else(|| invalid(format!("{wanted} is not in the list")));
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

fn invalid(why: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

/// A method of Python's `str`; none for those that the engine has.
fn text_method(text: &str, name: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    Some(match name {
        "removeprefix" => one(args).map(|start| text.strip_prefix(&*start).unwrap_or(text).into()),
        "removesuffix" => one(args).map(|end| text.strip_suffix(&*end).unwrap_or(text).into()),
        "partition" => one(args).and_then(|mark| {
            filled(&mark)?;
            let (before, found, after) =
                text.split_once(&*mark).map_or((text, "", ""), |(before, after)| (before, &*mark, after));
            Ok(texts(&[before, found, after]))
        }),
        "rpartition" => one(args).and_then(|mark| {
            filled(&mark)?;
            let (before, found, after) =
                text.rsplit_once(&*mark).map_or(("", "", text), |(before, after)| (before, &*mark, after));
            Ok(texts(&[before, found, after]))
        }),
        "rsplit" => rsplit(text, args),
        "index" | "rindex" => one(args).and_then(|part| {
            let at = if name == "index" { text.find(&*part) } else { text.rfind(&*part) };
            let at = at.ok_or_else(|| invalid(format!("`{part}` is not in the text")))?;
            Ok(text[..at].chars().count().into())
        }),
        "zfill" => from_args(args).map(|(width,): (usize,)| zfill(text, width).into()),
        "ljust" | "rjust" | "center" => from_args(args).and_then(|(width, fill): (usize, Option<String>)| {
            let fill = fill.unwrap_or_else(|| " ".into());
            if fill.chars().count() != 1 {
                return Err(invalid(format!("{name} fills with one character")));
            }
            let missing = width.min(MOST_FILL).saturating_sub(text.chars().count());
            // Python puts the odd one on the left where the width is odd.
            let left = match name {
                "ljust" => 0,
                "rjust" => missing,
                _ => missing / 2 + (missing & width & 1),
            };
            Ok(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)).into())
        }),
        "swapcase" => Ok(text
            .chars()
            .flat_map(|c| -> Vec<char> {
                if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
            })
            .collect::<String>()
            .into()),
        "casefold" => Ok(text.to_lowercase().into()),
        _ => return None,
    })
}

/// The most characters that a text is filled up to.
const MOST_FILL: usize = 1 << 16;

fn one(args: &[Value]) -> Result<String, Error> {
    from_args(args).map(|(text,): (String,)| text)
}

fn texts(parts: &[&str]) -> Value {
    parts.iter().map(|part| Value::from(*part)).collect()
}

fn filled(mark: &str) -> Result<(), Error> {
    if mark.is_empty() { Err(invalid("an empty separator".into())) } else { Ok(()) }
}

fn zfill(text: &str, width: usize) -> String {
    let zeros = "0".repeat(width.min(MOST_FILL).saturating_sub(text.chars().count()));
    match text.strip_prefix(['+', '-']) {
        Some(digits) => format!("{}{zeros}{digits}", &text[..1]),
        None => format!("{zeros}{text}"),
    }
}

fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (mark, most): (Option<String>, Option<i64>) = from_args(args)?;
    let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let mut parts: Vec<&str> = Vec::new();
    if let Some(mark) = mark {
        filled(&mark)?;
        parts.extend(text.rsplitn(most.saturating_add(1), &*mark));
    } else {
        let mut rest = text.trim_end();
        while !rest.is_empty() {
            if parts.len() == most {
                parts.push(rest);
                break;
            }
            let (before, word) = rest.rsplit_once(char::is_whitespace).unwrap_or(("", rest));
            parts.push(word);
            rest = before.trim_end();
        }
    }
    parts.reverse();
    Ok(texts(&parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The right side as Python 3 and Jinja2 print it.
    #[test]
    fn methods_and_tests_give_what_python_gives() {
        let mut env = Environment::new();
        add_to(&mut env);
        for (source, printed) in [
            ("none is iterable", "False"),
            ("5 is iterable", "False"),
            ("true is sequence", "False"),
            ("'a' is iterable and [] is iterable and {} is iterable and missing is iterable", "True"),
            ("'a b c'.rsplit(' ', 1)|join('|')", "a b|c"),
            ("'  a  b c '.rsplit()|join('|')", "a|b|c"),
            ("'  a  b c '.rsplit(none, 1)|join('|')", "  a  b|c"),
            ("'a-b-c'.rsplit('-')|join('|')", "a|b|c"),
            ("'a=b=c'.partition('=')|join('|')", "a|=|b=c"),
            ("'abc'.partition('=')|join('|')", "abc||"),
            ("'a=b=c'.rpartition('=')|join('|')", "a=b|=|c"),
            ("'abc'.rpartition('=')|join('|')", "||abc"),
            ("'<think>x'.removeprefix('<think>')", "x"),
            ("'x</s>'.removesuffix('</s>')", "x"),
            ("'x'.removesuffix('</s>')", "x"),
            ("'häuser'.index('u')", "2"),
            ("'abab'.rindex('ab')", "2"),
            ("[1, 2, 3].index(3)", "2"),
            ("'7'.zfill(3)", "007"),
            ("'-7'.zfill(3)", "-07"),
            ("'ab'.center(5, '*')", "**ab*"),
            ("'abc'.center(6, '*')", "*abc**"),
            ("'ab'.ljust(4) ~ '|'", "ab  |"),
            ("'ab'.rjust(4, '0')", "00ab"),
            ("'aB'.swapcase()", "Ab"),
            ("'a,b'.split(',')|length", "2"),
        ] {
            let found = env.render_str(&format!("{{{{ {source} }}}}"), ()).unwrap_or_else(|e| panic!("{source}: {e}"));
            assert_eq!(found, printed, "{source}");
        }
        let comma = "{% set comma = joiner(', ') %}{{ comma() }}a{{ comma() }}b";
        assert_eq!(env.render_str(comma, ()).unwrap(), "a, b");
        let row = "{% set row = cycler('x', 'y') %}{{ row.next() }}{{ row.next() }}{{ row.next() }}";
        assert!(env.render_str(row, ()).is_ok_and(|out| out == "xyx"), "{:?}", env.render_str(row, ()));
        for wrong in ["'a'.index('b')", "'a'.partition('')", "[1].index(2)", "'a'.center(3, '')", "'a'.nothing()"] {
            assert!(env.render_str(&format!("{{{{ {wrong} }}}}"), ()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_end_of_line_becomes_a_line_feed() {
        assert_eq!(newlines("a\r\nb\rc\nd"), "a\nb\nc\nd");
    }
}
