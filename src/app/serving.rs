//! Fields that say how servers are asked, for every form that may name one.

use super::form::{Field, Form};
use crate::domain::{ParamKind, ParamRow};
use crate::protocol::ServerOptions;

/// The numbers, with their ranges.
const NUMBERS: [ParamRow; 3] = [
    row("in_flight", ParamKind::Int(1, 64), "4", "1 – 16", "requests in flight at once, for each server"),
    row("timeout", ParamKind::Int(1, 86_400), "120", "30 – 600", "the longest silence of a server in seconds"),
    row("retries", ParamKind::Int(0, 20), "5", "3 – 8", "how often a failed request is repeated"),
];

/// A number's row.
#[must_use]
pub const fn row(
    key: &'static str,
    kind: ParamKind,
    default: &'static str,
    usual: &'static str,
    help: &'static str,
) -> ParamRow {
    ParamRow { key, kind, default, usual, help, basic: true }
}

/// A number's field.
#[must_use]
pub fn number(row: &ParamRow) -> Field {
    Field::number(row.key, row.default, row.help).beside(row.usual)
}

/// Says what is wrong with a number's field.
pub fn check(form: &mut Form, row: &ParamRow) {
    let problem = row.parse(form.content(row.key)).err().map(|e| e.to_string());
    form.set_problem(row.key, problem);
}

/// The fields, hidden until [`update`] shows them.
#[must_use]
pub fn fields() -> Vec<Field> {
    let key = Field::text(
        "key_env",
        "",
        "the environment variable that holds the server's key; HOST:PORT=NAME, several with blanks between, for several servers",
    );
    let mut out = vec![key.beside("empty: no key").under("servers")];
    out.extend(NUMBERS.iter().map(number));
    for field in &mut out {
        field.shown = false;
    }
    out
}

/// Shows the fields where a server is named, and says what is wrong with them.
pub fn update(form: &mut Form, shown: bool) {
    for row in &NUMBERS {
        form.show(row.key, shown);
        check(form, row);
    }
    form.show("key_env", shown);
}

/// What the fields say; the default for an invalid number.
#[must_use]
pub fn options(form: &Form) -> ServerOptions {
    let known = ServerOptions::default();
    ServerOptions {
        key_envs: form.content("key_env").split_whitespace().map(str::to_owned).collect(),
        in_flight: form.content("in_flight").parse().unwrap_or(known.in_flight),
        timeout_s: form.content("timeout").parse().unwrap_or(known.timeout_s),
        retries: form.content("retries").parse().unwrap_or(known.retries),
    }
}

/// Completes a field's text from its options as far as they agree; returns what there is to choose from.
pub fn complete(form: &mut Form, key: &str, options: &[String]) -> String {
    let Some(first) = options.first() else { return "nothing here begins like this".into() };
    let mut common = first.as_str();
    for option in options {
        let same = common.char_indices().zip(option.chars()).find(|((_, x), y)| x != y).map(|((at, _), _)| at);
        common = &common[..same.unwrap_or(common.len().min(option.len()))];
    }
    if common.len() > form.content(key).len() {
        form.set_text(key, common);
    }
    match options.len() {
        1 => String::new(),
        n => {
            let name = |path: &String| {
                let part = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
                if path.ends_with('/') { part + "/" } else { part }
            };
            let names: Vec<String> = options.iter().take(12).map(name).collect();
            let more = if n > 12 { format!(" and {} more", n - 12) } else { String::new() };
            format!("{}{more}", names.join("  "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_completes_as_far_as_its_options_agree() {
        let mut form = Form::new(vec![Field::text("p", "/m", "")]);
        let of = |paths: &[&str]| paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        assert_eq!(complete(&mut form, "p", &of(&["/models/ä/", "/models/ö.gguf"])), "ä/  ö.gguf");
        assert_eq!(form.content("p"), "/models/");
        assert_eq!(complete(&mut form, "p", &of(&["/models/ä/"])), "");
        assert_eq!(form.content("p"), "/models/ä/");
        assert!(complete(&mut form, "p", &[]).contains("nothing"));
        assert_eq!(form.content("p"), "/models/ä/", "what was typed stays");
    }
}
