//! The scores of given texts: log-probs of answers and texts, rewards, and how far the two contestants differ on a text.
//!
//! Owns the passes in which they are computed and the loading of contestants for them: one at a time, both only where they are
//! compared token by token. Contestants that differ by an adapter share one model. Refuses to know suites and the log.
//!
//! **Invariant.** The passes depend on the suites and the models, not on what is already logged: an evaluation that was stopped
//! gives the same bits.

use super::given_text::{GivenText, given_answer, given_text};
use super::item::{ChoiceScore, Given, Item, ItemRequest, TextScore};
use crate::domain::{Contestant, PromptBody};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::trained::Trained;
use crate::model::tune::Tune;
use crate::nn::divergence::{TokenComparison, compare, wide};
use crate::nn::policy::{Batch, Policy, Row};
use crate::protocol::Rendering;
use crate::train::RewardScorer;
use candle_core::{Device, Tensor};
use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;

/// Fewest and most tokens of a pass.
const PASS_TOKENS: (usize, usize) = (128, 1024);

/// Parameters times tokens of a pass: about a second of a small CPU.
const PASS_WORK: u64 = 1 << 36;

/// Whose scores a phase computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScoringScope {
    /// One contestant's.
    Alone(Contestant),
    /// Both on the same texts.
    Together,
}

/// A contestant to be loaded.
#[derive(Debug, Clone)]
pub(super) struct ScoringSide {
    /// As the user named it.
    pub(super) name: String,
    /// Its model's folder or file.
    pub(super) path: PathBuf,
    /// Its checkpoint.
    pub(super) checkpoint: Option<PathBuf>,
    /// What identifies its weights.
    pub(super) identity: String,
    /// What the template of a reward run renders besides conversations; none for a model that writes.
    pub(super) reward_rendering: Option<Rendering>,
}

/// An item by the numbers of its suite and itself.
pub(super) type ItemPlace = (usize, usize);

/// An item that is asked, and for whom it is already logged.
#[derive(Debug, Clone, Copy)]
pub(super) struct AskedItem<'a> {
    pub(super) place: ItemPlace,
    pub(super) item: &'a Item,
    pub(super) logged: [bool; 2],
}

/// What a contestant gave for an item.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ScoredItem {
    pub(super) place: ItemPlace,
    pub(super) side: Contestant,
    pub(super) scores: Scores,
}

/// Scores of an item.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scores {
    Choices(Vec<ChoiceScore>),
    Text(TextScore),
    Rewards(Vec<f64>),
    /// Why there are none.
    Unscored(String),
}

impl Scores {
    /// The scores as a suite reads them; otherwise why there are none.
    pub(super) fn given(&self) -> Result<Given<'_>, &str> {
        match self {
            Self::Choices(choices) => Ok(Given::Choices(choices)),
            Self::Text(text) => Ok(Given::Text(text)),
            Self::Rewards(rewards) => Ok(Given::Rewards(rewards)),
            Self::Unscored(why) => Err(why),
        }
    }

    /// The tokens that were scored.
    pub(super) fn tokens(&self) -> usize {
        match self {
            Self::Choices(choices) => choices.iter().map(|choice| choice.tokens).sum(),
            Self::Text(text) => text.tokens,
            Self::Rewards(_) | Self::Unscored(_) => 0,
        }
    }
}

/// An item as tokens.
struct EncodedItem {
    place: ItemPlace,
    /// Its answers, or the text alone.
    texts: Vec<GivenText>,
    /// Whether it asks for a text of its own, not for answers.
    alone: bool,
}

/// Items that go through the model together.
enum ScoringPass {
    /// Log-probs of one or more texts of each item.
    Texts(Vec<EncodedItem>),
    /// Rewards of an item's answers.
    Rewards(ItemPlace, PromptBody, Vec<String>),
}

/// Loaded contestants.
enum Loaded {
    Policy(Box<Policy>),
    Reward(Box<RewardScorer>),
    /// Both; the second one is the first without or with its adapter where it has no policy of its own.
    Both {
        first: Box<Policy>,
        second: Option<Box<Policy>>,
        adapters: [bool; 2],
        /// Their heads (V, H), in f32 or wider.
        heads: [Tensor; 2],
    },
}

/// A phase of scoring.
pub(super) struct ItemScoring {
    scope: ScoringScope,
    sides: Vec<ScoringSide>,
    passes: VecDeque<ScoringPass>,
    /// Items without scores.
    unscored: Vec<ScoredItem>,
    logged: BTreeSet<(ItemPlace, Contestant)>,
    loaded: Option<Loaded>,
    device: Device,
}

impl ItemScoring {
    /// Encodes what is asked of `sides`, with their models without weights. Loads nothing.
    ///
    /// # Errors
    /// When a template or a tokenizer rejects a text.
    pub(super) fn open(
        scope: ScoringScope,
        sides: Vec<ScoringSide>,
        readers: &[&LanguageModel],
        asked: &[AskedItem],
        device: &Device,
    ) -> Result<Self, Error> {
        let Some(reader) = readers.first() else {
            return Err(Error::Invalid("there is no model to score with".into()));
        };
        let whose = match scope {
            ScoringScope::Alone(side) => vec![side],
            ScoringScope::Together => Contestant::BOTH.to_vec(),
        };
        let logged = asked.iter().flat_map(|a| whose.iter().filter(|s| a.logged[s.index()]).map(|s| (a.place, *s)));
        let mut out = Self {
            scope,
            passes: VecDeque::new(),
            unscored: Vec::new(),
            logged: logged.collect(),
            loaded: None,
            device: device.clone(),
            sides,
        };
        let rewards = out.sides.iter().any(|side| side.reward_rendering.is_some());
        let context = readers.iter().map(|r| r.config.context).filter(|n| *n > 0).min().unwrap_or(usize::MAX);
        let parameters = readers.iter().map(|r| r.config.parameters()).max().unwrap_or(1).max(1);
        let most = usize::try_from(PASS_WORK / parameters).unwrap_or(usize::MAX).clamp(PASS_TOKENS.0, PASS_TOKENS.1);
        let (mut pass, mut tokens) = (Vec::new(), 0);
        for AskedItem { place, item, .. } in asked {
            let texts = match &item.ask {
                ItemRequest::Choices(answers) | ItemRequest::Rewards(answers) if rewards => {
                    out.passes.push_back(ScoringPass::Rewards(*place, item.prompt.clone(), answers.clone()));
                    continue;
                }
                ItemRequest::Choices(answers) => {
                    let given = answers.iter().map(|answer| given_answer(reader, &item.prompt, answer));
                    given.collect::<Result<Vec<_>, Error>>()?
                }
                ItemRequest::Text => vec![given_text(reader, &item.prompt)?],
                ItemRequest::Answer | ItemRequest::Rewards(_) => continue,
            };
            if let Some(why) = unscorable(&texts, context) {
                let one = |side: &Contestant| ScoredItem {
                    place: *place,
                    side: *side,
                    scores: Scores::Unscored(why.clone()),
                };
                out.unscored.extend(whose.iter().map(one));
                continue;
            }
            let more: usize = texts.iter().map(|text| text.row.ids.len()).sum();
            if !pass.is_empty() && tokens + more > most {
                out.passes.push_back(ScoringPass::Texts(std::mem::take(&mut pass)));
                tokens = 0;
            }
            tokens += more;
            pass.push(EncodedItem { place: *place, texts, alone: item.ask == ItemRequest::Text });
        }
        if !pass.is_empty() {
            out.passes.push_back(ScoringPass::Texts(pass));
        }
        let Self { passes, unscored, logged, .. } = &mut out;
        let done = |place: &ItemPlace| whose.iter().all(|side| logged.contains(&(*place, *side)));
        passes.retain(|pass| match pass {
            ScoringPass::Texts(items) => !items.iter().all(|item| done(&item.place)),
            ScoringPass::Rewards(place, ..) => !done(place),
        });
        unscored.retain(|scored| !logged.contains(&(scored.place, scored.side)));
        Ok(out)
    }

    /// Whether a model must be loaded before the next pass.
    pub(super) fn must_load(&self) -> bool {
        self.loaded.is_none() && !self.passes.is_empty()
    }

    /// Who is loaded.
    pub(super) fn names(&self) -> String {
        self.sides.iter().map(|side| side.name.as_str()).collect::<Vec<_>>().join(" and ")
    }

    /// Loads the contestants.
    ///
    /// # Errors
    /// When a model cannot be loaded, or a checkpoint does not fit it.
    pub(super) fn load(&mut self) -> Result<(), Error> {
        self.loaded = Some(match self.sides.as_slice() {
            [side] => match (&side.reward_rendering, &side.checkpoint) {
                (Some(rendering), Some(checkpoint)) => {
                    let scorer = RewardScorer::open(&side.path, checkpoint, &self.device)?;
                    Loaded::Reward(Box::new(scorer.rendering(rendering)?))
                }
                _ => Loaded::Policy(Box::new(policy(side, &self.device)?)),
            },
            [a, b] => both(a, b, &self.device)?,
            _ => return Err(Error::Invalid("one or two models are scored at once".into())),
        });
        Ok(())
    }

    /// The next scores that are not logged; none when all are.
    ///
    /// # Errors
    /// When a tensor operation fails, or a score is not finite.
    pub(super) fn next(&mut self) -> Result<Option<Vec<ScoredItem>>, Error> {
        if !self.unscored.is_empty() {
            return Ok(Some(std::mem::take(&mut self.unscored)));
        }
        let Some(pass) = self.passes.pop_front() else { return Ok(None) };
        let Some(loaded) = &self.loaded else { return Err(Error::Invalid("no model is loaded to score with".into())) };
        let side = match self.scope {
            ScoringScope::Alone(side) => side,
            ScoringScope::Together => Contestant::A,
        };
        let mut scored = match (loaded, pass) {
            (Loaded::Policy(policy), ScoringPass::Texts(items)) => log_probs(policy, side, items)?,
            (Loaded::Both { first, second, adapters, heads }, ScoringPass::Texts(items)) => {
                let models = [(&**first, adapters[0]), (second.as_deref().unwrap_or(first), adapters[1])];
                divergences(models, heads, items)?
            }
            (Loaded::Reward(scorer), ScoringPass::Rewards(place, prompt, answers)) => {
                let rewards: Option<Vec<f64>> = scorer.scores(&prompt, &answers)?.into_iter().collect();
                let scores = match rewards {
                    Some(rewards) if rewards.iter().all(|r| r.is_finite()) => Scores::Rewards(rewards),
                    Some(_) => return Err(Error::NotFinite("The reward model's rewards are infinite or NaN.".into())),
                    None => Scores::Unscored("an answer is longer than the context".into()),
                };
                vec![ScoredItem { place, side, scores }]
            }
            _ => return Err(Error::Invalid("a reward model scores answers, and other models score texts".into())),
        };
        scored.retain(|one| !self.logged.contains(&(one.place, one.side)));
        Ok(Some(scored))
    }
}

/// Why an item's texts cannot be scored.
fn unscorable(texts: &[GivenText], context: usize) -> Option<String> {
    let longest = texts.iter().map(|text| text.row.ids.len()).max().unwrap_or(0);
    if longest > context {
        return Some(format!("it has {longest} tokens, the context {context}"));
    }
    let empty = texts.is_empty() || texts.iter().any(|text| text.row.scored.is_empty());
    empty.then(|| "it has no token to score".into())
}

/// A contestant with its checkpoint.
fn policy(side: &ScoringSide, device: &Device) -> Result<Policy, Error> {
    let trained = side.checkpoint.as_deref().map(Trained::read).transpose()?;
    let model = LanguageModel::open(&side.path)?;
    let decoder = model.decoder(device, trained.as_ref().map_or(&Tune::None, |t| &t.tune))?;
    if let Some(trained) = &trained {
        trained.put_on(decoder.trainables())?;
    }
    Policy::new(decoder)
}

/// Both contestants: one model where they have the same weights or differ by an adapter.
fn both(a: &ScoringSide, b: &ScoringSide, device: &Device) -> Result<Loaded, Error> {
    let shared = |adapted: &ScoringSide, adapters: [bool; 2]| -> Result<Loaded, Error> {
        let first = Box::new(policy(adapted, device)?);
        let head = wide(&first.decoder().head()?)?;
        Ok(Loaded::Both { first, second: None, adapters, heads: [head.clone(), head] })
    };
    let adapter = |side: &ScoringSide| -> Result<bool, Error> {
        let trained = side.checkpoint.as_deref().map(Trained::read).transpose()?;
        Ok(trained.is_some_and(|t| matches!(t.tune, Tune::Lora(_))))
    };
    if a.path == b.path {
        match (&a.checkpoint, &b.checkpoint) {
            _ if a.identity == b.identity && a.checkpoint.is_some() == b.checkpoint.is_some() => {
                return shared(a, [true, true]);
            }
            (Some(_), None) if adapter(a)? => return shared(a, [true, false]),
            (None, Some(_)) if adapter(b)? => return shared(b, [false, true]),
            _ => {}
        }
    }
    let (first, second) = (Box::new(policy(a, device)?), Box::new(policy(b, device)?));
    let heads = [wide(&first.decoder().head()?)?, wide(&second.decoder().head()?)?];
    Ok(Loaded::Both { first, second: Some(second), adapters: [true, true], heads })
}

/// Passes of a policy: all items at once where rows are packed, otherwise one at a time, so that no item changes another's
/// scores. The texts of an item share their prefix.
fn batches(policy: &Policy, items: Vec<EncodedItem>) -> Vec<(Vec<EncodedItem>, Batch)> {
    let groups = if policy.packs() { vec![items] } else { items.into_iter().map(|item| vec![item]).collect() };
    let with_batch = |group: Vec<EncodedItem>| {
        let rows: Vec<Row> = group.iter().flat_map(|item| item.texts.iter().map(|text| text.row.clone())).collect();
        let families = group.iter().map(|item| item.texts.len()).collect();
        (group, Batch { families, ..Batch::new(rows) })
    };
    groups.into_iter().map(with_batch).collect()
}

/// The log-probs of one contestant.
fn log_probs(policy: &Policy, side: Contestant, items: Vec<EncodedItem>) -> Result<Vec<ScoredItem>, Error> {
    let mut out = Vec::new();
    for (group, batch) in batches(policy, items) {
        let scores = policy.score(&batch, true)?;
        let mut rows = scores.rows.iter();
        for EncodedItem { place, texts, alone } in group {
            let mut choices = Vec::with_capacity(texts.len());
            for (text, row) in texts.iter().zip(rows.by_ref()) {
                let logp: f64 = row.logp.iter().sum();
                if !logp.is_finite() {
                    return Err(Error::NotFinite("The model's log-probs are infinite or NaN.".into()));
                }
                choices.push(ChoiceScore { logp, tokens: text.row.scored.len(), chars: text.chars });
            }
            let scores = match choices.first() {
                Some(text) if alone => Scores::Text(TextScore {
                    nll: -text.logp,
                    tokens: text.tokens,
                    chars: text.chars,
                    kl: None,
                    reverse_kl: None,
                    top1: None,
                }),
                _ => Scores::Choices(choices),
            };
            out.push(ScoredItem { place, side, scores });
        }
    }
    Ok(out)
}

/// The log-probs of both contestants on the same texts, and how far they differ.
fn divergences(
    models: [(&Policy, bool); 2],
    heads: &[Tensor; 2],
    items: Vec<EncodedItem>,
) -> Result<Vec<ScoredItem>, Error> {
    let mut out = Vec::new();
    for (group, batch) in batches(models[0].0, items) {
        let (a, targets) = models[0].0.states(&batch, models[0].1)?;
        let (b, _) = models[1].0.states(&batch, models[1].1)?;
        let mut start = 0;
        for EncodedItem { place, texts, .. } in group {
            for text in texts {
                let tokens = text.row.scored.len();
                let (own_a, own_b) = (a.narrow(0, start, tokens)?, b.narrow(0, start, tokens)?);
                let curves = models.map(|(policy, _)| policy.decoder().logits());
                let found = compare([&own_a, &own_b], [&heads[0], &heads[1]], curves, &targets[start..start + tokens])?;
                start += tokens;
                for side in Contestant::BOTH {
                    let scores = Scores::Text(text_score(&found, side, text.chars));
                    out.push(ScoredItem { place, side, scores });
                }
            }
        }
    }
    Ok(out)
}

fn text_score(found: &[TokenComparison], side: Contestant, chars: usize) -> TextScore {
    let n = found.len() as f64;
    let mean = |of: fn(&TokenComparison) -> f64| found.iter().map(of).sum::<f64>() / n;
    // b does not differ from itself.
    let (kl, reverse_kl, top1) = match side {
        Contestant::A => (mean(|t| t.kl), mean(|t| t.reverse_kl), mean(|t| f64::from(u8::from(t.same_top)))),
        Contestant::B => (0.0, 0.0, 1.0),
    };
    TextScore {
        nll: -found.iter().map(|t| t.logp[side.index()]).sum::<f64>(),
        tokens: found.len(),
        chars,
        kl: Some(kl),
        reverse_kl: Some(reverse_kl),
        top1: Some(top1),
    }
}
