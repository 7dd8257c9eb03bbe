//! A model on disk: configuration, tokenizer, chat template, and access to its weights.
//!
//! Owns opening a path: a Hugging Face folder or a `.gguf` file. Opening reads no weights. Refuses a chat prompt for a
//! model without a chat template.

use super::config::Config;
use super::error::Error;
use super::gguf::Gguf;
use super::template::Template;
use super::thought_channel;
use super::tokenizer::Tokenizer;
use super::weights::Weights;
use crate::domain::{Conversation, Fold64, JsonFields, Message, PromptBody, sanitise};
use crate::protocol::Rendering;
use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// An opened model: ready to tokenise, and to load weights.
pub struct LanguageModel {
    /// The folder or file.
    pub path: PathBuf,
    /// Its configuration.
    pub config: Config,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its chat template; none for a base model.
    pub template: Option<Template>,
    /// What a person should know of how its files are read, a sentence each.
    pub notes: Vec<String>,
    /// Those of [`LanguageModel::notes`] that name parts of the files which are not used though they could be meant: tensors, and fields
    /// of config.json.
    pub unread: Vec<String>,
}

/// How texts become tokens. Scores are comparable only with equal encoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The chat template's source, which also ends conversations; none for plain texts only.
    pub template: Option<String>,
    /// The end token's text of plain texts.
    pub end_of_text: Option<String>,
    /// Hash of the tokenizer.
    pub tokenizer: String,
}

impl LanguageModel {
    /// Opens a Hugging Face folder or a `.gguf` file without reading its weights.
    ///
    /// # Errors
    /// When something is missing, malformed or not supported; the message names it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if path.is_dir() {
            let mut config = Config::read(path)?;
            let mut notes = Vec::new();
            notes.extend(both_forms(path));
            notes.extend(untie(path, &mut config));
            let unread: Vec<String> =
                unused_tensors(path, &config).into_iter().chain(unread_fields(path, &config)).collect();
            notes.extend(unread.iter().cloned());
            notes.extend(without_dropout(path));
            notes.extend(experts(&config));
            notes.extend(quantised(path));
            notes.extend(kinds(&config));
            let tokenizer = Tokenizer::read(path, &config)?;
            let template = Template::read(path, &tokenizer.special)?;
            return Self { path: path.into(), config, tokenizer, template, notes, unread }.completed();
        }
        if !path.exists() {
            return Err(Error::file(path, "does not exist"));
        }
        let gguf = Gguf::open(path)?;
        let config = gguf.config()?;
        let tokenizer = gguf.tokenizer(&config)?;
        let model = path.display().to_string();
        let template = match gguf.template() {
            Some(source) => Some(Template::new(source, &model, &tokenizer.special)?.for_tools(gguf.tool_template())?),
            None => None,
        };
        let unread: Vec<String> = unused_in_gguf(&gguf, &config).into_iter().collect();
        Self { path: path.into(), config, tokenizer, template, notes: unread.clone(), unread }.completed()
    }

    /// Ends turns where the template ends them, and checks that tokenizer and weights belong together.
    fn completed(mut self) -> Result<Self, Error> {
        if let Some(end) = self.turn_end().filter(|id| !self.tokenizer.stops().contains(id)) {
            let name = self.tokenizer.token(end).unwrap_or_default();
            self.notes.push(format!(
                "The chat template ends turns with `{name}`, which the model's files do not name as an end token: answers end with it too."
            ));
            self.tokenizer.add_stop(end);
        }
        let vocab = self.config.vocab;
        let opening = [Message::new("user", "a")];
        let opening = self.template.as_ref().and_then(|template| template.render(&opening, true).ok());
        self.template.as_ref().map_or(Ok(()), Template::check)?;
        let opening = opening.map_or(Ok(Vec::new()), |text| self.tokenizer.encode(&text, false))?;
        let ends = self.tokenizer.stops().iter().chain(&opening).max().copied().unwrap_or(0) as usize;
        if self.tokenizer.base_size() > vocab || ends >= vocab {
            return Err(Error::file(
                &self.path,
                format!(
                    "the tokenizer has {} tokens, but the embedding only {vocab} rows: they do not belong together; take \
                     tokenizer.json and the weights from one version of the model",
                    self.tokenizer.size()
                ),
            ));
        }
        Ok(self)
    }

    /// The control token that the template puts behind an answer, if it puts one.
    fn turn_end(&self) -> Option<u32> {
        const ANSWER: &str = "tiebreak";
        let turn = |role: &str, content: &str| Message::new(role, content);
        let text = self.template.as_ref()?.render(&[turn("user", "a"), turn("assistant", ANSWER)], false).ok()?;
        let (_, behind) = text.rsplit_once(ANSWER)?;
        let first = *self.tokenizer.encode(behind.trim_start(), false).ok()?.first()?;
        self.tokenizer.is_special(first).then_some(first)
    }

    /// Renders as a run does: with the local date and time of its launch (`2026-11-28T22:55:28`) and its template variables.
    /// Without a date that of opening is kept.
    ///
    /// # Errors
    /// When it is not a date.
    pub fn rendering(mut self, how: &Rendering) -> Result<Self, Error> {
        let Some(template) = &mut self.template else { return Ok(self) };
        if let Some(text) = how.date.as_deref().filter(|date| !date.is_empty()) {
            template.set_date(text.parse().map_err(|e| {
                Error::Invalid(format!(
                    "invalid date `{text}` of the run: expected a date like 2026-11-28T22:55:28 ({e})"
                ))
            })?);
        }
        template.set_variables(how.variables.clone());
        Ok(self)
    }

    /// What to say of variables that the template never reads, a sentence each.
    #[must_use]
    pub fn unread_variables(&self, variables: &JsonFields) -> Vec<String> {
        let Some(template) = &self.template else {
            let sentence =
                |name: &String| format!("The model has no chat template, so `{}` changes nothing.", sanitise(name));
            return variables.keys().map(sentence).collect();
        };
        if variables.is_empty() {
            return Vec::new();
        }
        let read = match template.variables() {
            Ok(read) => read,
            Err(e) => return vec![format!("Which variables the chat template reads cannot be said: {e}.")],
        };
        let reads = match read.as_slice() {
            [] => "it reads none".to_owned(),
            names => format!("it reads {}", names.join(", ")),
        };
        let unread = variables.keys().filter(|name| !read.contains(name));
        unread.map(|name| format!("The chat template never reads `{}`: {reads}.", sanitise(name))).collect()
    }

    /// Opens the weights; tensors become `dtype` on `device`.
    ///
    /// # Errors
    /// When the files are missing or malformed.
    pub fn weights(&self, device: &Device, dtype: DType) -> Result<Weights, Error> {
        if self.path.is_dir() {
            return Weights::open(&self.path, device, dtype);
        }
        Ok(Weights::gguf(Gguf::open(&self.path)?, &self.config, device, dtype))
    }

    /// In which type each tensor is stored, by its Hugging Face name.
    ///
    /// # Errors
    /// As [`LanguageModel::weights`].
    pub fn stored_types(&self) -> Result<impl Fn(&str) -> Option<String>, Error> {
        let weights = self.weights(&Device::Cpu, DType::F32)?;
        Ok(move |name: &str| weights.stored_type(name))
    }

    /// The text of a conversation by the model's chat template.
    ///
    /// # Errors
    /// When there is no template, or it refuses the conversation.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, Error> {
        let Some(template) = &self.template else {
            return Err(Error::Template {
                model: self.path.display().to_string(),
                why: "there is none: this is a base model; use an instruct model, or prompts of plain text".into(),
            });
        };
        template.render(messages, add_generation_prompt)
    }

    /// The same of a conversation with its tools and its template variables.
    ///
    /// # Errors
    /// As [`LanguageModel::render`].
    pub fn render_conversation(&self, talk: &Conversation, add_generation_prompt: bool) -> Result<String, Error> {
        match &self.template {
            Some(template) => template.render_conversation(talk, add_generation_prompt),
            None => self.render(&talk.turns, add_generation_prompt),
        }
    }

    /// The tokens of a prompt for the model to continue: a conversation rendered by the template with the generation
    /// prompt, or plain text with the tokenizer's own prefix.
    ///
    /// # Errors
    /// When the template or the tokenizer refuses it.
    pub fn encode_prompt(&self, body: &PromptBody) -> Result<Vec<u32>, Error> {
        match body {
            PromptBody::Chat(talk) => self.tokenizer.encode(&self.render_conversation(talk, true)?, false),
            PromptBody::Text(text) => self.tokenizer.encode(text, true),
        }
    }

    /// The text of an answer's tokens to a prompt, such that prompt and answer are encoded as those tokens again.
    ///
    /// # Errors
    /// As [`LanguageModel::encode_prompt`].
    pub fn answer_text(&self, body: &PromptBody, drawn: &[u32]) -> Result<String, Error> {
        if !self.tokenizer.drops_first_space() {
            return self.tokenizer.decode(drawn);
        }
        self.tokenizer.decode_after(self.encode_prompt(body)?.last().copied(), drawn)
    }

    /// Whether the template opens a thought in front of the answer to this prompt.
    ///
    /// # Errors
    /// When the template refuses it.
    pub fn opens_thought(&self, prompt: &PromptBody) -> Result<bool, Error> {
        let PromptBody::Chat(talk) = prompt else { return Ok(false) };
        let text = self.render_conversation(talk, true)?;
        let tags = ["<think>", "<thinking>", "<thought>", "<reasoning>"];
        Ok(tags.iter().any(|tag| text.trim_end().ends_with(tag)) || thought_channel::opens(&text))
    }

    /// How this model's texts become tokens.
    ///
    /// # Errors
    /// When the tokenizer cannot be serialised.
    pub fn reading(&self) -> Result<Reading, Error> {
        let mut tokenizer = Fold64::default();
        tokenizer.add(self.tokenizer.to_json()?.as_bytes());
        Ok(Reading {
            template: self.template.as_ref().map(Template::sources),
            end_of_text: self.tokenizer.eos_text().map(str::to_owned),
            tokenizer: tokenizer.hex(),
        })
    }
}

/// Says which weights are read of a folder that holds them in one file and in shards.
fn both_forms(path: &Path) -> Option<String> {
    let [one, index] = ["model.safetensors", "model.safetensors.index.json"];
    let both = [one, index].iter().all(|name| path.join(name).is_file());
    both.then(|| {
        format!("The folder holds {one} and {index}: {one} is read, as in `transformers`, and the shards are not.")
    })
}

/// Says which tensors of a folder are not used: those of the other parts of a whole model, keys and values of layers that read those
/// of others, and those that the class does not have.
fn unused_tensors(path: &Path, config: &Config) -> Vec<String> {
    let whole = super::fields::json(&path.join("config.json")).ok().flatten();
    let whole = whole.is_some_and(|config| config.get("text_config").is_some());
    let Ok(weights) = Weights::open(path, &Device::Cpu, DType::F32) else { return Vec::new() };
    let keys: Vec<String> = config.unread_keys().into_iter().filter(|name| weights.has(name)).collect();
    let head = format!("{}.weight", config.family.names.head.hf);
    let known = config.tensors().map(|(name, _)| name).chain([head]).chain(keys.iter().cloned());
    let mut notes = Vec::new();
    if let Some((count, first)) = weights.others(config.layers, known) {
        let what = if whole {
            format!("Only the text model is used: {count} tensors of its other parts (such as vision) are not read")
        } else {
            let tensors = if count == 1 { "tensor is" } else { "tensors are" };
            format!(
                "{count} {tensors} not read, as in `transformers`, since the model has no such part by config.json (`{first}`)"
            )
        };
        notes.push(format!("{what}, and a merged folder has none of them."));
    }
    if !keys.is_empty() {
        notes.push(format!(
            "{} tensors of keys and values are not read, as in `transformers`: their layers read those of earlier ones. A merged \
             folder has none of them.",
            keys.len()
        ));
    }
    notes
}

/// Says which tensors of a GGUF file are not used.
fn unused_in_gguf(gguf: &Gguf, config: &Config) -> Option<String> {
    let others = gguf.unread(config);
    let first = others.first()?;
    let tensors = if others.len() == 1 { "tensor is" } else { "tensors are" };
    Some(format!("{} {tensors} not read, since the model has no such part here (`{first}`).", others.len()))
}

/// Says which fields of config.json are not read.
fn unread_fields(path: &Path, config: &Config) -> Option<String> {
    let json = super::fields::json(&path.join("config.json")).ok()??;
    let map = json.as_object()?;
    let part = super::config::text_part(map);
    super::class_fields::unread(part.as_ref().unwrap_or(map), config.family)
}

/// Says how a model with experts is trained.
fn experts(config: &Config) -> Option<String> {
    config.layer.experts.as_ref()?;
    Some(
        "The model's layers have experts: adapters go on attention alone, the loss that balances the experts is not added (as TRL \
         with router_aux_loss_coef=0), and a GPU trains and scores it on the reference path, which is slow."
            .to_owned(),
    )
}

/// Says how quantised weights are read.
fn quantised(path: &Path) -> Option<String> {
    let weights = Weights::open(path, &Device::Cpu, DType::F32).ok()?;
    let count = weights.quantised();
    if count > 0 {
        return Some(format!(
            "{count} tensors of experts are stored in MXFP4 (4 bits) and dequantised on load, as `transformers` does: in memory the \
             model is as large as an unquantised one, and a merged folder is unquantised."
        ));
    }
    let config = super::fields::json(&path.join("config.json")).ok()??;
    let unmet = "config.json names a quantisation, but no tensor is quantised: all are read as they are.";
    config.get("quantization_config").filter(|value| value.is_object()).map(|_| unmet.to_owned())
}

/// Says where a model whose layers differ is computed on a GPU.
fn kinds(config: &Config) -> Option<String> {
    (config.needs_reference() && config.layer.experts.is_none()).then(|| {
        "The model's layers differ in their heads or read more than the stream: a GPU trains and scores it on the reference path, \
         which is slow."
            .to_owned()
    })
}

/// Says which dropout the configuration asks for.
fn without_dropout(path: &Path) -> Option<String> {
    let config = super::fields::json(&path.join("config.json")).ok()??;
    let asked = |key: &str| Some(format!("{key}={}", config.get(key)?.as_f64().filter(|share| *share > 0.0)?));
    let keys = [
        "attn_pdrop",
        "resid_pdrop",
        "embd_pdrop",
        "attention_dropout",
        "hidden_dropout",
        "residual_dropout",
        "embedding_dropout",
    ];
    let all: Vec<String> = keys.into_iter().filter_map(asked).collect();
    if all.is_empty() {
        return None;
    }
    let all = all.join(", ");
    Some(format!(
        "config.json asks for dropout in training ({all}), which is not applied; `lora_dropout` is that of adapters."
    ))
}

/// Unties the head of a folder that holds one of its own, whatever its flag says, as `transformers` 5 does.
fn untie(path: &Path, config: &mut Config) -> Option<String> {
    if !config.tied {
        return None;
    }
    let names = &config.family.names;
    let [head, embedding] = [names.head, names.embedding].map(|name| format!("{}.weight", name.hf));
    let weights = Weights::open(path, &Device::Cpu, DType::F32).ok()?;
    if weights.are_equal(&head, &embedding)? {
        return None;
    }
    config.tied = false;
    Some(format!(
        "config.json ties the output head to the embedding, but the weights hold another `{head}`: the saved head is used."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Encode;

    #[test]
    fn a_completion_follows_its_prompt_and_ends_with_the_end_token() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        let model = LanguageModel::open(&dir).unwrap();
        let chat = PromptBody::user("Hello");
        let (prompt, whole) = (model.prompt(&chat).unwrap(), model.answered(&chat, "Well.").unwrap());
        assert!(whole.starts_with(&prompt));
        let text = model.tokenizer.decode(&whole[prompt.len()..]).unwrap();
        assert_eq!((text.as_str(), whole.iter().filter(|id| **id == 2).count()), ("Well.\n", 2));
        let plain = PromptBody::Text("Once".into());
        let whole = model.answered(&plain, " more").unwrap();
        assert_eq!(whole.last(), Some(&2));
        assert_eq!(whole, model.answered(&plain, " more<|im_end|>").unwrap());
    }

    #[test]
    fn whitespace_after_the_end_of_a_turn_is_not_part_of_it() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        let model = LanguageModel::open(&dir).unwrap();
        let separator = |text: &str| model.separator(&model.tokenizer.encode(text, false).unwrap());
        assert_eq!(separator("Well.<|im_end|>\n"), 1);
        assert_eq!(separator("Well.<|im_end|>"), 0);
        assert_eq!(separator("Well.<|im_end|>\nAnd"), 0, "what is no whitespace is no separator");
        assert_eq!(separator("Well.\n\n"), 0, "nothing ends this turn but its whitespace");
    }

    /// Turns and a thought channel, as those of Gemma 4.
    const CHANNEL: &str = "{{ bos_token }}{%- for m in messages -%}\
        {{ '<|turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}\
        {%- if m.reasoning is defined and loop.last -%}{{ '<|channel>thought\n' + m.reasoning + '\n<channel|>' }}{%- endif -%}\
        {{ m.content | trim + '<turn|>\n' }}{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|turn>model\n' }}{%- endif -%}";

    /// What the model drew is what a run reads of it again, with its thought; a turn ends with the template's token.
    #[test]
    fn a_thought_in_its_channel_is_read_back_as_it_was_drawn() {
        let (from, to) =
            (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama"), tempfile::tempdir().unwrap());
        let read = |name: &str| -> serde_json::Value {
            serde_json::from_str(&std::fs::read_to_string(from.join(name)).unwrap()).unwrap()
        };
        let (mut config, mut tokenizer) = (read("config.json"), read("tokenizer.json"));
        let names = ["<|turn>", "<turn|>", "<|channel>", "<channel|>"];
        for (i, name) in names.iter().enumerate() {
            let token = serde_json::json!({"id": 304 + i, "content": name, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true});
            tokenizer["added_tokens"].as_array_mut().unwrap().push(token);
        }
        config["vocab_size"] = (304 + names.len()).into();
        for (name, text) in [
            ("config.json", config.to_string()),
            ("tokenizer.json", tokenizer.to_string()),
            ("chat_template.jinja", CHANNEL.to_owned()),
        ] {
            std::fs::write(to.path().join(name), text).unwrap();
        }
        let model = LanguageModel::open(to.path()).unwrap();
        let id = |text: &str| model.tokenizer.encode(text, false).unwrap();
        let end = id("<turn|>");
        assert!(model.tokenizer.stops().contains(&end[0]), "{:?}", model.notes);
        let prompt = PromptBody::user("Why?");
        let before = model.prompt(&prompt).unwrap();
        let drawn = id("<|channel>thought\nSo it is.\n<channel|>Well.");
        let text = model.answer_text(&prompt, &drawn).unwrap();
        assert_eq!(text, "<think>\nSo it is.\n</think>\n\nWell.");
        let whole = model.answered(&prompt, &text).unwrap();
        assert!(
            whole.starts_with(&[&before[..], &drawn, &end].concat()),
            "{}",
            model.tokenizer.decode_all(&whole).unwrap()
        );
        assert_eq!(model.answer_text(&prompt, &id("<|channel>thought\n<channel|>Well.")).unwrap(), "Well.");
        let open = model.render(&[Message::new("user", "a")], true).unwrap() + "<|channel>thought\n";
        assert!(thought_channel::opens(&open) && !model.opens_thought(&prompt).unwrap());
        // A template that writes no thought behind the last prompt leaves the answer as it is.
        std::fs::write(to.path().join("chat_template.jinja"), CHANNEL.replace("m.reasoning is defined", "false"))
            .unwrap();
        let plain = LanguageModel::open(to.path()).unwrap();
        let whole = plain.tokenizer.decode(&plain.answered(&prompt, &text).unwrap()).unwrap();
        assert!(whole.contains("<think>\nSo it is."), "{whole}");
    }
}
