//! How much longer a tokenizer may make a text, read from its tokenizer.json.
//!
//! Owns an upper bound for each step of the normalizer, the pre-tokenizer and the decoder, and the limit. Refuses a text whose
//! bound is beyond it: ten replacements of one letter by a hundred ask for more memory than any machine has.

use serde_json::Value;

/// A text may grow this many times, whatever its length: more than Unicode's normal forms do.
const TIMES: f64 = 16.0;

/// And to this many bytes in any case. The library keeps 16 more for each.
const BYTES: f64 = (16 << 20) as f64;

/// The longest entry of a character map for which a third is a bound: what three bytes become in Unicode's own tables.
const LONGEST_ENTRY: usize = 64;

/// One step: a text of n bytes has at most `times * n + more` afterwards.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    times: f64,
    more: f64,
}

/// The bounds of a tokenizer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Growth {
    reading: Vec<Step>,
    writing: Vec<Step>,
}

impl Growth {
    /// Of a tokenizer.json; a file that is none has no steps.
    pub(super) fn of(spec: &[u8]) -> Self {
        #[derive(serde::Deserialize, Default)]
        struct Steps {
            #[serde(default)]
            normalizer: Value,
            #[serde(default)]
            pre_tokenizer: Value,
            #[serde(default)]
            decoder: Value,
        }
        let spec: Steps = serde_json::from_slice(spec).unwrap_or_default();
        let mut growth = Self::default();
        add(&spec.normalizer, &mut growth.reading);
        add(&spec.pre_tokenizer, &mut growth.reading);
        add(&spec.decoder, &mut growth.writing);
        growth
    }

    /// Whether a text of so many bytes can be made into tokens; otherwise a sentence.
    pub(super) fn check_reading(&self, bytes: usize) -> Result<(), String> {
        check(&self.reading, bytes)
    }

    /// Whether tokens whose texts have so many bytes can be made into a text; otherwise a sentence.
    pub(super) fn check_writing(&self, bytes: usize) -> Result<(), String> {
        check(&self.writing, bytes)
    }

    /// Whether the decoder makes texts longer at all.
    pub(super) fn writes_longer(&self) -> bool {
        self.writing.iter().any(|step| step.times > 1.0 || step.more > BYTES)
    }
}

fn check(steps: &[Step], bytes: usize) -> Result<(), String> {
    let bytes = bytes as f64;
    let grown = steps.iter().fold(bytes, |n, step| n.mul_add(step.times, step.more));
    if grown <= (bytes * TIMES).max(BYTES) {
        return Ok(());
    }
    let times = grown / bytes.max(1.0);
    Err(format!(
        "its steps may make a text of {bytes} bytes {times:.0} times as long, and the limit is {TIMES} times: take \
         tokenizer.json from where the model came from"
    ))
}

/// Adds the steps of a part, one within another first to last.
fn add(part: &Value, steps: &mut Vec<Step>) {
    let length = |name: &str| part.get(name).and_then(Value::as_str).map_or(0, str::len) as f64;
    let mut step = |times: f64, more: f64| steps.push(Step { times, more });
    match part.get("type").and_then(Value::as_str).unwrap_or_default() {
        "Sequence" => {
            let parts =
                ["normalizers", "pretokenizers", "decoders"].iter().find_map(|name| part.get(*name)?.as_array());
            parts.into_iter().flatten().for_each(|part| add(part, steps));
        }
        "Replace" => {
            let content = length("content");
            let literal = part.pointer("/pattern/String").and_then(Value::as_str).map_or(0, str::len);
            // A regular expression may match a byte, or the place between two.
            if literal > 0 { step((content / literal as f64).max(1.0), 0.0) } else { step(content + 1.0, content) }
        }
        "Prepend" => step(1.0, length("prepend")),
        "Metaspace" => step(4.0, 4.0),
        "ByteLevel" => step(2.0, 1.0),
        "NFC" | "NFD" => step(4.0, 0.0),
        "NFKC" | "NFKD" => step(11.0, 0.0),
        "BertNormalizer" | "Lowercase" | "WordPiece" => step(3.0, 2.0),
        "Precompiled" => step(longest_entry(part), 0.0),
        _ => {}
    }
}

/// What one byte may become by a SentencePiece character map: a search tree with its length in front, then texts that end in 0.
fn longest_entry(part: &Value) -> f64 {
    use base64::Engine as _;
    let text = part.get("precompiled_charsmap").and_then(Value::as_str).unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    let tree = bytes.first_chunk::<4>().map_or(0, |n| u32::from_le_bytes(*n) as usize).saturating_add(4);
    let texts = bytes.get(tree..).unwrap_or_default();
    match texts.split(|b| *b == 0).map(<[u8]>::len).max().unwrap_or(0) {
        longest if longest <= LONGEST_ENTRY => (longest as f64 / 3.0).max(1.0),
        longest => longest as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn growth(normalizer: &Value, decoder: &Value) -> Growth {
        Growth::of(json!({ "normalizer": normalizer, "decoder": decoder }).to_string().as_bytes())
    }

    #[test]
    fn steps_that_blow_a_text_up_are_refused_and_usual_ones_are_not() {
        let replace = |n: usize| json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "a".repeat(n) });
        let ten = json!({ "type": "Sequence", "normalizers": vec![replace(100); 10] });
        let why = growth(&ten, &Value::Null).check_reading(1000).unwrap_err();
        assert!(why.contains("1000 bytes") && why.contains("the limit is 16 times"), "{why}");
        assert!(growth(&replace(100_000_000), &Value::Null).check_reading(1).is_err());
        let prepend = json!({ "type": "Sequence", "normalizers": vec![json!({ "type": "Prepend", "prepend": "a".repeat(1 << 20) }); 17] });
        assert!(growth(&prepend, &Value::Null).check_reading(1).is_err());
        let regex = json!({ "type": "Replace", "pattern": { "Regex": "" }, "content": "a".repeat(20) });
        assert!(growth(&regex, &Value::Null).check_reading(1 << 20).is_err());
        let decoders = json!({ "type": "Sequence", "decoders": vec![replace(100); 10] });
        assert!(growth(&Value::Null, &decoders).check_writing(1000).is_err());
        // Gemma's and Llama's.
        let usual = json!({ "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" }, { "type": "Replace", "pattern": { "String": " " }, "content": "▁" }] });
        for normalizer in [usual, json!({ "type": "NFKC" }), Value::Null] {
            assert_eq!(growth(&normalizer, &Value::Null).check_reading(64 << 20), Ok(()), "{normalizer}");
        }
    }
}
