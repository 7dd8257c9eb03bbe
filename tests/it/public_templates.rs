//! Published chat templates against `transformers`: read from where `TIEBREAK_TEMPLATES` points, not part of this repository.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tiebreak::domain::Conversation;
use tiebreak::model::{SpecialTokens, Template};

/// `tests/fixtures/template/public.py FOLDER > FOLDER/rendered.json` makes what is compared with.
#[test]
#[ignore = "needs published templates: set TIEBREAK_TEMPLATES to a folder with them and rendered.json (tests/fixtures/template/public.py)"]
fn published_templates_render_byte_for_byte_as_transformers_renders_them() {
    let folder = std::env::var("TIEBREAK_TEMPLATES").expect("TIEBREAK_TEMPLATES names the folder");
    let folder = Path::new(&folder);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let all: Value = serde_json::from_str(&read("rendered.json")).unwrap();
    let cases: Vec<Conversation> = serde_json::from_value(all["cases"].clone()).unwrap();
    let token = |name: &str| all["special"][name].as_str().map(str::to_owned);
    let special = SpecialTokens {
        bos: token("bos_token"),
        eos: token("eos_token"),
        pad: token("pad_token"),
        unk: token("unk_token"),
        ..SpecialTokens::default()
    };
    let mut templates: BTreeMap<String, Template> = BTreeMap::new();
    let (mut equal, mut refused) = (0, 0);
    let mut wrong: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut slowest = Duration::ZERO;
    for row in all["rows"].as_array().unwrap() {
        let name = row["template"].as_str().unwrap();
        let template = templates.entry(name.to_owned()).or_insert_with(|| {
            let mut template = Template::new(&read(name), name, &special).unwrap_or_else(|e| panic!("{name}: {e}"));
            template.set_date(all["date"].as_str().unwrap().parse().unwrap());
            template
        });
        let case = row["case"].as_u64().unwrap() as usize;
        let start = Instant::now();
        let ours = template.render_conversation(&cases[case], row["add"].as_bool().unwrap());
        slowest = slowest.max(start.elapsed());
        let what = match (&ours, row.get("text").and_then(Value::as_str)) {
            (Ok(ours), Some(text)) if ours == text => {
                equal += 1;
                continue;
            }
            (Err(_), None) => {
                refused += 1;
                continue;
            }
            (Ok(ours), Some(text)) => {
                let same = ours.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
                let around = |text: &str| {
                    String::from_utf8_lossy(&text.as_bytes()[same.saturating_sub(30)..])
                        .chars()
                        .take(90)
                        .collect::<String>()
                };
                format!("another text: ours {:?}, wanted {:?}", around(ours), around(text))
            }
            (Ok(_), None) => format!("rendered here; transformers says {}", row["error"]),
            (Err(e), Some(_)) => format!("refused here: {e}"),
        };
        wrong.entry(name.to_owned()).or_default().push(format!("case {case}, {}: {what}", row["add"]));
    }
    println!("{} templates: {equal} equal, {refused} refused by both, slowest {slowest:?}", templates.len());
    for (name, all) in &wrong {
        println!(
            "{name}: {} differ, the first:\n  {}",
            all.len(),
            all.iter().take(3).cloned().collect::<Vec<_>>().join("\n  ")
        );
    }
    assert!(wrong.is_empty(), "{} templates differ", wrong.len());
    assert!(templates.len() >= 26 && equal > 1000);
}
