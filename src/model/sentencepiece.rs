//! SentencePiece vocabularies (Kudo and Richardson 2018): `tokenizer.model`, and those inside GGUF files, as a tokenizer.json.
//!
//! Owns reading the file's protobuf (`sentencepiece_model.proto`), the merges that BPE scores stand for, and where `▁` is put in
//! front. Refuses what a tokenizer.json cannot say: word and character models, unused pieces, whitespace behind words, unescaped spaces.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use tokenizers::{DecoderWrapper, Tokenizer};

/// The kind of a piece; the numbers are those of both file formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl PieceKind {
    /// The kind of that number; a number that nobody uses is normal.
    pub(super) fn of(number: u64) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }

    /// Whether it is found as a whole before the rest of a text is split.
    fn is_added(self) -> bool {
        matches!(self, Self::Unknown | Self::Control | Self::UserDefined)
    }
}

/// An entry of a vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: PieceKind,
}

/// Where `▁` is put in front of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpacePrefix {
    /// Nowhere.
    Never,
    /// Before its first word: `legacy: false` of `transformers`, where a text that starts with a space gets no second one.
    First,
    /// Before every part between special tokens, as sentencepiece and llama.cpp do it for each text that they are given.
    EveryPart,
}

/// A SentencePiece model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SentencePiece {
    pub(super) pieces: Vec<Piece>,
    /// Whether pieces are chosen by their probability (Unigram); else by merges (BPE).
    pub(super) is_unigram: bool,
    pub(super) prefix: SpacePrefix,
    /// Whether runs of spaces become one, and those at the ends none.
    pub(super) drops_spaces: bool,
    /// The compiled normalisation rules; empty for none.
    pub(super) charsmap: Vec<u8>,
    /// The pieces that start and end a text, where the file names them.
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) pad: Option<u32>,
}

/// A tokenizer's decoder without the part that drops a text's first space, the counterpart of the one put in front.
pub(super) struct FollowingDecoder {
    pub(super) decoder: DecoderWrapper,
    /// Whether every part behind a special token has a space put in front, not only the text's first.
    pub(super) every_part: bool,
}

impl FollowingDecoder {
    /// That of a tokenizer; none where its decoder drops no space.
    pub(super) fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let mut spec = serde_json::to_value(tokenizer.get_decoder()?).ok()?;
        if !keep_first_space(&mut spec) {
            return None;
        }
        let part = |part: Option<Value>, list: &str| -> Vec<Value> {
            let part = part.unwrap_or_default();
            part.get(list).and_then(Value::as_array).cloned().unwrap_or_else(|| vec![part])
        };
        let normalizers = part(serde_json::to_value(tokenizer.get_normalizer()).ok(), "normalizers");
        let splits = part(serde_json::to_value(tokenizer.get_pre_tokenizer()).ok(), "pretokenizers");
        let every_part = normalizers.iter().any(|part| part["type"] == "Prepend")
            || splits.iter().any(|part| part["type"] == "Metaspace" && part["prepend_scheme"] == "always");
        Some(Self { decoder: serde_json::from_value(spec).ok()?, every_part })
    }
}

/// Takes out of a decoder what drops the first space; whether there was such a part.
fn keep_first_space(decoder: &mut Value) -> bool {
    if let Some(parts) = decoder.get_mut("decoders").and_then(Value::as_array_mut) {
        let count = parts.len();
        parts.retain(|part| !(part["type"] == "Strip" && part["content"] == " " && part["start"] != 0));
        let dropped = count != parts.len();
        return parts.iter_mut().fold(dropped, |found, part| keep_first_space(part) || found);
    }
    let drops = decoder["type"] == "Metaspace" && decoder["prepend_scheme"] != "never";
    if drops {
        decoder["prepend_scheme"] = "never".into();
    }
    drops
}

/// A field of a protobuf message: its number and its content.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed(u32),
}

/// The fields of a protobuf message.
fn fields(bytes: &[u8]) -> Result<Vec<(u64, Field<'_>)>, String> {
    let cut = || "it ends in the middle of a field".to_owned();
    let mut at = 0;
    let varint = |at: &mut usize| -> Result<u64, String> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *bytes.get(*at).ok_or_else(cut)?;
            *at += 1;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        Err(format!("it has a number without an end at byte {at}"))
    };
    let take = |at: &mut usize, count: u64| -> Result<&[u8], String> {
        let end = usize::try_from(count).ok().and_then(|count| at.checked_add(count));
        let taken = end.and_then(|end| bytes.get(*at..end)).ok_or_else(cut)?;
        *at += taken.len();
        Ok(taken)
    };
    let mut out = Vec::new();
    while at < bytes.len() {
        let key = varint(&mut at)?;
        let field = match key & 7 {
            0 => Field::Number(varint(&mut at)?),
            1 => {
                take(&mut at, 8)?;
                continue;
            }
            2 => {
                let count = varint(&mut at)?;
                Field::Bytes(take(&mut at, count)?)
            }
            5 => Field::Fixed(u32::from_le_bytes(take(&mut at, 4)?.try_into().map_err(|_| cut())?)),
            other => return Err(format!("it has a field of unknown type {other} at byte {at}")),
        };
        out.push((key >> 3, field));
    }
    Ok(out)
}

impl SentencePiece {
    /// Reads the bytes of a `tokenizer.model`.
    ///
    /// # Errors
    /// When they are none, or need something that a tokenizer.json cannot say; a clause about the file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let (mut model_type, mut bos, mut eos, mut pad) = (1, 1u64, 2u64, u64::MAX);
        let (mut dummy, mut drops_spaces, mut charsmap) = (true, true, Vec::new());
        for (number, field) in fields(bytes).map_err(|why| format!("is no SentencePiece model: {why}"))? {
            let Field::Bytes(inner) = field else { continue };
            if !(1..=3).contains(&number) {
                continue;
            }
            let inner = fields(inner).map_err(|why| format!("is no SentencePiece model: {why}"))?;
            if number == 1 {
                pieces.push(piece(&inner)?);
                continue;
            }
            for (key, field) in inner {
                match (number, key, field) {
                    (2, 3, Field::Number(value)) => model_type = value,
                    (2, 24, Field::Number(1)) => return Err("puts whitespace behind words, which is not read".into()),
                    (2, 41, Field::Number(id)) => bos = id,
                    (2, 42, Field::Number(id)) => eos = id,
                    (2, 43, Field::Number(id)) => pad = id,
                    (3, 2, Field::Bytes(map)) => charsmap = map.to_vec(),
                    (3, 3, Field::Number(on)) => dummy = on != 0,
                    (3, 4, Field::Number(on)) => drops_spaces = on != 0,
                    (3, 5, Field::Number(0)) => return Err("keeps spaces as they are, which is not read".into()),
                    _ => {}
                }
            }
        }
        if pieces.is_empty() {
            return Err("is no SentencePiece model: it has no pieces".into());
        }
        if !(1..=2).contains(&model_type) {
            let name = if model_type == 3 { "word" } else { "character" };
            return Err(format!("is a SentencePiece model of {name}s; Unigram and BPE are read"));
        }
        let unused = pieces.iter().filter(|piece| piece.kind == PieceKind::Unused).count();
        if unused > 0 && model_type == 2 {
            return Err(format!("has {unused} unused pieces, which are not read"));
        }
        let id = |id: u64| u32::try_from(id).ok().filter(|id| (*id as usize) < pieces.len());
        let prefix = if dummy { SpacePrefix::EveryPart } else { SpacePrefix::Never };
        let (bos, eos, pad) = (id(bos), id(eos), id(pad));
        let model = Self { pieces, is_unigram: model_type == 1, prefix, drops_spaces, charsmap, bos, eos, pad };
        model.check().map(|()| model)
    }

    /// The text of a piece.
    pub(super) fn text(&self, id: Option<u32>) -> Option<String> {
        self.pieces.get(id? as usize).map(|piece| piece.text.clone())
    }

    /// The first piece of the kind `Unknown`.
    pub(super) fn unknown(&self) -> Option<u32> {
        self.pieces.iter().position(|piece| piece.kind == PieceKind::Unknown).map(|id| id as u32)
    }

    /// The tokenizer.json; `start` and `end` are put around a text that is encoded with its special tokens.
    pub(super) fn tokenizer_json(&self, start: Option<u32>, end: Option<u32>) -> Value {
        let mut added = Vec::new();
        for (id, piece) in self.pieces.iter().enumerate().filter(|(_, piece)| piece.kind.is_added()) {
            added.push(json!({"id": id, "content": piece.text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": piece.kind != PieceKind::UserDefined}));
        }
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": self.normalizer(),
            "pre_tokenizer": self.pre_tokenizer(), "post_processor": self.around(start, end), "decoder": self.decoder(),
            "model": if self.is_unigram { self.unigram() } else { self.bpe() },
        })
    }

    fn normalizer(&self) -> Value {
        let mut parts = Vec::new();
        if !self.charsmap.is_empty() {
            parts.push(json!({"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(&self.charsmap)}));
        }
        if self.drops_spaces {
            parts.push(json!({"type": "Replace", "pattern": {"Regex": "^ +| +$"}, "content": ""}));
            parts.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}));
        }
        if self.prefix == SpacePrefix::EveryPart {
            parts.push(json!({"type": "Prepend", "prepend": "▁"}));
        }
        if self.prefix != SpacePrefix::First {
            parts.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}));
        }
        if parts.is_empty() { Value::Null } else { json!({"type": "Sequence", "normalizers": parts}) }
    }

    fn pre_tokenizer(&self) -> Value {
        match self.prefix {
            SpacePrefix::First => {
                json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false})
            }
            SpacePrefix::Never | SpacePrefix::EveryPart => Value::Null,
        }
    }

    fn decoder(&self) -> Value {
        let mut parts = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if self.prefix != SpacePrefix::Never {
            parts.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        json!({"type": "Sequence", "decoders": parts})
    }

    fn around(&self, start: Option<u32>, end: Option<u32>) -> Value {
        let special = |id: Option<u32>| Some((id?, self.text(id)?));
        let (start, end) = (special(start), special(end));
        let mut special_tokens = Map::new();
        for (id, text) in [&start, &end].into_iter().flatten() {
            special_tokens.insert(text.clone(), json!({"id": text, "ids": [id], "tokens": [text]}));
        }
        if special_tokens.is_empty() {
            return Value::Null;
        }
        let template = |text: &str, part: u32| {
            let special = |token: &Option<(u32, String)>| {
                token.as_ref().map(|(_, text)| json!({"SpecialToken": {"id": text, "type_id": part}}))
            };
            let text = json!({"Sequence": {"id": text, "type_id": part}});
            [special(&start), Some(text), special(&end)].into_iter().flatten().collect::<Vec<_>>()
        };
        let pair: Vec<Value> = template("A", 0).into_iter().chain(template("B", 1)).collect();
        json!({"type": "TemplateProcessing", "single": template("A", 0), "pair": pair, "special_tokens": special_tokens})
    }

    fn has_bytes(&self) -> bool {
        self.pieces.iter().any(|piece| piece.kind == PieceKind::Byte)
    }

    fn unigram(&self) -> Value {
        // sentencepiece does not find byte pieces in a text; the library would, so their score is worse than that of their six
        // letters.
        let least = self.pieces.iter().map(|piece| piece.score).fold(0.0f32, f32::min);
        let score = |piece: &Piece| match piece.kind {
            PieceKind::Byte => f64::from(8.0 * least - 10.0),
            _ => f64::from(piece.score),
        };
        let vocab: Vec<Value> = self.pieces.iter().map(|piece| json!([piece.text, score(piece)])).collect();
        json!({"type": "Unigram", "unk_id": self.unknown(), "vocab": vocab, "byte_fallback": self.has_bytes()})
    }

    /// The letters that pieces are made of and that are none themselves, with the numbers of their bytes; or how many pieces have
    /// letters without one. sentencepiece merges them, the library only what has a number, so they get their byte's.
    fn letters(&self) -> Result<BTreeMap<char, usize>, usize> {
        let known: HashMap<&str, usize> = found(&self.pieces).collect();
        let bytes: HashMap<&str, usize> = (self.pieces.iter().enumerate())
            .filter(|(_, piece)| piece.kind == PieceKind::Byte)
            .map(|(id, piece)| (piece.text.as_str(), id))
            .collect();
        let (mut letters, mut without) = (BTreeMap::new(), 0);
        for piece in self.pieces.iter().filter(|piece| piece.kind == PieceKind::Normal) {
            let missing =
                piece.text.chars().filter(|letter| !known.contains_key(letter.encode_utf8(&mut [0; 4]) as &str));
            let mut unread = false;
            for letter in missing {
                match bytes.get(format!("<0x{:02X}>", u32::from(letter)).as_str()).filter(|_| letter.is_ascii()) {
                    Some(id) => drop(letters.insert(letter, *id)),
                    None => unread = true,
                }
            }
            without += usize::from(unread);
        }
        if without == 0 { Ok(letters) } else { Err(without) }
    }

    /// Checks that a tokenizer.json splits texts as sentencepiece does.
    ///
    /// # Errors
    /// When pieces cannot be merged from letters; a clause about the file.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.letters() {
            Err(count) if !self.is_unigram => Err(format!(
                "holds {count} of its pieces with letters that are no pieces themselves, which are not read"
            )),
            _ => Ok(()),
        }
    }

    fn bpe(&self) -> Value {
        let letters: Vec<(String, usize)> =
            self.letters().unwrap_or_default().into_iter().map(|(letter, id)| (letter.to_string(), id)).collect();
        let mut vocab: Map<String, Value> =
            self.pieces.iter().enumerate().map(|(id, piece)| (piece.text.clone(), id.into())).collect();
        vocab.extend(letters.iter().map(|(letter, id)| (letter.clone(), (*id).into())));
        json!({"type": "BPE", "dropout": null, "unk_token": self.text(self.unknown()), "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": self.has_bytes(), "ignore_merges": false,
            "vocab": vocab, "merges": merges(&self.pieces, &letters)})
    }
}

fn piece(fields: &[(u64, Field<'_>)]) -> Result<Piece, String> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: PieceKind::Normal };
    for (number, field) in fields {
        match (number, field) {
            (1, Field::Bytes(text)) => {
                piece.text = String::from_utf8(text.to_vec()).map_err(|_| "has a piece that is not UTF-8")?;
            }
            (2, Field::Fixed(bits)) => piece.score = f32::from_bits(*bits),
            (3, Field::Number(kind)) => piece.kind = PieceKind::of(*kind),
            _ => {}
        }
    }
    Ok(piece)
}

/// The pieces that are found in texts, with their numbers.
fn found(pieces: &[Piece]) -> impl Iterator<Item = (&str, usize)> {
    let found = |piece: &Piece| matches!(piece.kind, PieceKind::Normal | PieceKind::UserDefined);
    let all = pieces.iter().enumerate();
    all.filter(move |(_, piece)| found(piece)).map(|(id, piece)| (piece.text.as_str(), id))
}

/// The merges that the scores of a BPE vocabulary stand for: a piece is made of every two pieces that spell it, the best score first.
fn merges<'a>(pieces: &'a [Piece], letters: &'a [(String, usize)]) -> Vec<[&'a str; 2]> {
    let letters = letters.iter().map(|(letter, id)| (letter.as_str(), *id));
    let known: HashMap<&str, usize> = found(pieces).chain(letters).collect();
    let mut merges = Vec::new();
    for (id, piece) in pieces.iter().enumerate().filter(|(_, piece)| piece.kind == PieceKind::Normal) {
        for (at, _) in piece.text.char_indices().skip(1) {
            let (left, right) = piece.text.split_at(at);
            if known.contains_key(left) && known.contains_key(right) {
                merges.push((piece.score, id, [left, right]));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2[0].len().cmp(&b.2[0].len())));
    merges.into_iter().map(|(.., merge)| merge).collect()
}

#[cfg(test)]
mod tests;
