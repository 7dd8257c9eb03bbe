//! Answers about how a model reads: its description, and the rows of a file as it reads them.
//!
//! Owns the small conversations of a description. Refuses a model whose weights are not finite.

use super::error::Error;
use super::out::say;
use crate::domain::{
    Message, PairId, PairRow, PairTurns, Prompt, PromptBody, PromptId, RatedRow, SftBody, SftRow, sanitise,
    template_variables,
};
use crate::model::discover::check;
use crate::model::layer::ExpertSpec;
use crate::model::layer_kinds::{GlobalHeads, KeySharing};
use crate::model::{Config, LanguageModel, RopeScaling, Template, not_finite};
use crate::protocol::{MaskedRow, ModelDescription, Rendering};
use crate::storage::formats;
use crate::storage::import::{self, ImportedRows};
use crate::train::{Rows, as_read};
use std::path::Path;

/// Left-out rows are counted, and the first few shown.
const MOST_ROWS: usize = 1000;

/// A model that renders with these template variables, a JSON object.
fn opened(path: &Path, variables: &str) -> Result<(LanguageModel, Vec<String>), Error> {
    let variables = template_variables(variables).map_err(Error::Failed)?;
    let model = LanguageModel::open(path)?;
    let unread = model.unread_variables(&variables);
    Ok((model.rendering(&Rendering { date: None, variables })?, unread))
}

/// `worker describe PATH VARIABLES`: the [`ModelDescription`] of a model.
pub(super) fn describe(path: &Path, variables: &str) -> Result<(), Error> {
    let card = check(path)?;
    let (model, unread) = opened(path, variables)?;
    if let Some(cause) = not_finite(&model)? {
        return Err(Error::Failed(cause));
    }
    let ends = model.tokenizer.stops().iter().filter_map(|id| model.tokenizer.token(*id)).collect();
    let conversations = if model.template.is_some() { conversations(&model)? } else { Vec::new() };
    let notes = model.notes.iter().cloned().chain(unread).collect();
    say(&ModelDescription { card, facts: facts(&model)?, ends, notes, conversations })
}

fn facts(model: &LanguageModel) -> Result<Vec<(String, String)>, Error> {
    let c = &model.config;
    let types = model.stored_types()?;
    let stored = |name: &str| types(name).unwrap_or_else(|| "missing".into());
    let names = &c.family.names;
    let rope = match &c.rope_scaling {
        RopeScaling::None => format!("base {}", c.rope_theta),
        RopeScaling::Linear(factor) => format!("base {}, linear, factor {factor}", c.rope_theta),
        RopeScaling::Llama3 { factor, .. } => format!("base {}, llama3, factor {factor}", c.rope_theta),
        RopeScaling::Dynamic(factor) => {
            format!(
                "base {}, dynamic, factor {factor}: unscaled within the context of {} tokens",
                c.rope_theta, c.context
            )
        }
        RopeScaling::Yarn { factor, .. } => format!("base {}, yarn, factor {factor}", c.rope_theta),
        RopeScaling::Proportional { share, factor } => {
            let by = if *factor == 1.0 { String::new() } else { format!(", divided by {factor}") };
            format!("base {}, proportional: {share} of a head{by}", c.rope_theta)
        }
        RopeScaling::LongRope { original, .. } => {
            format!("base {}, longrope, other factors for rows longer than {original} tokens", c.rope_theta)
        }
        RopeScaling::Divided(_) => format!("base {}, factors from the file", c.rope_theta),
    };
    let part =
        if c.rotary == c.head_dim { String::new() } else { format!(", {} of a head's {}", c.rotary, c.head_dim) };
    let rope = rope + &part;
    let head = format!("{}.weight", names.head.hf);
    let facts = [
        ("class", c.family.class.to_owned()),
        ("layers", c.layers.to_string()),
        ("hidden", c.hidden.to_string()),
        ("heads", heads(c)),
        ("feed-forward", feed_forward(c)),
        ("vocabulary", format!("{}, the tokenizer has {} tokens", c.vocab, model.tokenizer.size())),
        ("embedding", stored(&format!("{}.weight", names.embedding.hf))),
        ("layer weights", stored(&format!("{}.weight", c.layer_name(0, c.linears()[0].name)))),
        ("head", if c.tied { "tied to the embedding".into() } else { stored(&head) }),
        if c.layer.positions { ("positions", "learned".to_owned()) } else { ("rope", rope) },
    ];
    let mut facts: Vec<(String, String)> = facts.map(|(name, value)| (name.to_owned(), value)).into();
    // The last module of the first layer with experts.
    if let Some(i) = (0..c.layers).find(|i| c.experts_of(*i).is_some())
        && let Some((module, _)) = c.modules_of_token(i).pop()
    {
        facts.push(("expert weights".into(), stored(&format!("{}.weight", c.linear_name(i, &module)))));
    }
    if let Some(local) = &c.local_rope {
        facts.push(("local rope".into(), format!("base {}", local.theta)));
    }
    if let Some(sharing) = c.layer.kinds.sharing {
        let (last, KeySharing { windowed, full, .. }) = (c.layers - sharing.first, sharing);
        facts.push((
            "shared keys".into(),
            format!("the last {last} layers read those of layers {windowed} and {full}, counted from 0"),
        ));
    }
    if let Some(spec) = c.layer.per_layer {
        let table = stored(&format!("{}.weight", names.per_layer.table.hf));
        facts.push(("second input".into(), format!("{} wide in each layer, its table {table}", spec.width)));
    }
    if let Some(window) = c.window {
        let windows = (0..c.layers).filter(|i| c.window_of(*i).is_some()).count();
        facts.push(("window".into(), format!("{window} tokens in {windows} of {} layers", c.layers)));
    }
    let variables = model.template.as_ref().map_or_else(|| Ok(Vec::new()), Template::variables)?;
    if !variables.is_empty() {
        facts.push(("template reads".into(), sanitise(&variables.join(", "))));
    }
    Ok(facts)
}

/// The heads, and those of the layers without a window where they are others.
fn heads(c: &Config) -> String {
    let usual = format!("{}, {} of keys and values, {} wide", c.heads, c.kv_heads, c.head_dim);
    let values = if c.layer.kinds.keys_as_values { ", whose values are the keys" } else { "" };
    match c.layer.kinds.global_heads {
        None => usual,
        Some(GlobalHeads { kv_heads, head_dim }) => {
            format!("{usual}; without a window {kv_heads} of keys and values, {head_dim} wide{values}")
        }
    }
}

/// The width of the feed-forward, and the experts of the layers that have some.
fn feed_forward(c: &Config) -> String {
    if let Some(KeySharing { first, double_ff: true, .. }) = c.layer.kinds.sharing {
        return format!("{}, twice as much in the last {} layers", c.ff, c.layers - first);
    }
    let Some(experts) = &c.layer.experts else { return c.ff.to_string() };
    let layers = (0..c.layers).filter(|i| c.experts_of(*i).is_some()).count();
    let shared = experts.shared.map_or_else(String::new, |width| format!(", and one of {width} for every token"));
    let rest = if layers < c.layers { format!(", {} in the others", c.ff) } else { String::new() };
    let ExpertSpec { count, chosen, width, .. } = experts;
    format!("{chosen} of {count} experts of {width}{shared}, in {layers} of {} layers{rest}", c.layers)
}

fn turn(role: &str, content: &str) -> Message {
    Message::new(role, content)
}

/// A prompt to answer, a pair's side, a conversation, and one with a system turn.
fn conversations(model: &LanguageModel) -> Result<Vec<MaskedRow>, Error> {
    let asked = vec![turn("user", "Hello")];
    let prompt = Prompt {
        id: PromptId::new("prompt"),
        body: PromptBody::Chat(asked.clone().into()),
        source: "".into(),
        tags: [].into(),
    };
    let text = |id: &str, body: SftBody| SftRow { id: PairId::new(id), prompt_id: PromptId::new(id), body };
    let mut several = asked.clone();
    several.extend([turn("assistant", "Hi."), turn("user", "Bye"), turn("assistant", "Good bye.")]);
    let mut with_system = vec![turn("system", "Be brief.")];
    with_system.extend(several.clone());
    let texts = vec![
        text("answer", SftBody::Completion { prompt: PromptBody::Chat(asked.into()), completion: "Hi.".into() }),
        text("conversation", SftBody::Messages(several.into())),
        text("with system", SftBody::Messages(with_system.into())),
    ];
    let mut out = as_read(model, &Rows::Prompts(vec![prompt]), 1)?;
    out.extend(as_read(model, &Rows::Examples(texts), MOST_ROWS)?);
    Ok(out)
}

/// `worker render PATH FILE FORMAT MOST VARIABLES`: a [`MaskedRow`] for each of the first rows of a file, as the model reads it. An empty
/// format is found out.
pub(super) fn render(path: &Path, file: &Path, format: &str, most: &str, variables: &str) -> Result<(), Error> {
    let format = if format.is_empty() { formats::recognise(file)? } else { formats::import_named(format)? };
    let most = most.parse().unwrap_or(MOST_ROWS);
    let imported = import::read(file, format, Some(most))?;
    let (model, _) = opened(path, variables)?;
    as_read(&model, &rows(imported.rows), most)?.iter().try_for_each(say)
}

fn rows(rows: ImportedRows) -> Rows {
    let prompt_id = PromptId::new("");
    let id = |i: usize| PairId::new(format!("row {}", i + 1));
    match rows {
        ImportedRows::Prompts(rows) => Rows::Prompts(
            rows.into_iter()
                .enumerate()
                .map(|(i, row)| Prompt {
                    id: PromptId::new(format!("row {}", i + 1)),
                    body: row.body,
                    source: "".into(),
                    tags: row.tags.into(),
                })
                .collect(),
        ),
        ImportedRows::Pairs(rows) => Rows::Pairs(
            rows.into_iter()
                .enumerate()
                .map(|(i, row)| PairRow {
                    turns: PairTurns::of(&row.chosen.turns, &row.rejected.turns),
                    pair: id(i),
                    prompt_id: prompt_id.clone(),
                    prompt: row.prompt,
                    chosen: row.chosen.text,
                    rejected: row.rejected.text,
                    margin: None,
                    agreed: None,
                    strategy: None,
                    rater: None,
                })
                .collect(),
        ),
        // Two answers whose order says nothing of which is better.
        ImportedRows::Votes(rows) => Rows::Examples(
            rows.into_iter()
                .enumerate()
                .flat_map(|(i, row)| {
                    [("a", row.a.0), ("b", row.b.0)].map(|(side, answer)| SftRow {
                        id: PairId::new(format!("row {}, answer {side}", i + 1)),
                        prompt_id: prompt_id.clone(),
                        body: answer.to_imitate(row.prompt.clone()),
                    })
                })
                .collect(),
        ),
        ImportedRows::Texts(_, rows) => Rows::Examples(
            rows.into_iter()
                .enumerate()
                .map(|(i, body)| SftRow { id: id(i), prompt_id: prompt_id.clone(), body })
                .collect(),
        ),
        ImportedRows::Ratings(rows) => Rows::Ratings(
            rows.into_iter()
                .enumerate()
                .map(|(i, row)| RatedRow {
                    cut: false,
                    turns: row.completion.turns,
                    id: id(i),
                    prompt_id: prompt_id.clone(),
                    prompt: row.prompt,
                    completion: row.completion.text,
                    good: row.good,
                })
                .collect(),
        ),
    }
}
