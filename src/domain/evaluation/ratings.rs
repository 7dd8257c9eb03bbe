//! Bradley–Terry ratings of several contenders, as base, SFT and checkpoints, with intervals. A tie is half a win each.

use super::super::bradley_terry::{BradleyTerry, Win, bradley_terry};
use super::super::stats::Picks;
use super::Undefined;
use super::interval::{ConfidenceInterval, DRAWS, percentiles};
use super::ties::{PSEUDO_WIN, first_apart};
use std::collections::BTreeMap;

/// One comparison on one prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Game {
    /// Any number that is the same for the same prompt.
    pub prompt: u64,
    /// One contender, from 0.
    pub first: usize,
    /// The other.
    pub second: usize,
    /// 1 where the first wins, 0.5 for a tie, 0 where the second wins.
    pub score: f64,
}

/// A contender's rating.
#[derive(Debug, Clone, PartialEq)]
pub struct RatedContender {
    /// Strength in nats; the sum over contenders is 0.
    pub strength: f64,
    /// On the Elo scale.
    pub elo: f64,
    /// The interval of `elo`, over samples of prompts.
    pub interval: Result<ConfidenceInterval, Undefined>,
}

/// The ratings of all contenders.
#[derive(Debug, Clone, PartialEq)]
pub struct Ratings {
    /// In the contenders' order.
    pub contenders: Vec<RatedContender>,
    /// Prompts.
    pub prompts: usize,
    /// Half a win was added in both directions between those that met, because some contender never lost or never won.
    pub pseudo_win: Option<f64>,
    /// Samples of the intervals that needed pseudo-wins.
    pub held_samples: usize,
    /// Samples left out because some contenders had no comparison in them.
    pub apart_samples: usize,
}

/// Rates `n` contenders. With an `anchor` its rating is exactly 1000; otherwise the mean of all is.
///
/// # Errors
/// No games, a score outside 0..=1, a number that names no contender, or contenders that never met.
pub fn ratings(n: usize, games: &[Game], anchor: Option<usize>, seed: u64) -> Result<Ratings, Undefined> {
    check(n, games)?;
    if let Some(given) = anchor.filter(|a| *a >= n) {
        return Err(Undefined::NoContender { row: 0, given: given + 1, contenders: n });
    }
    let (fit, pseudo_win) = fit(n, games.iter())?;
    let elo = scaled(&fit, anchor);
    let mut by_prompt: BTreeMap<u64, Vec<Game>> = BTreeMap::new();
    for game in games {
        by_prompt.entry(game.prompt).or_default().push(*game);
    }
    let prompts: Vec<Vec<Game>> = by_prompt.into_values().collect();
    let (mut held_samples, mut apart_samples) = (0, 0);
    let mut samples = vec![Vec::with_capacity(DRAWS); n];
    if prompts.len() > 1 {
        let mut picks = Picks::new(prompts.len(), seed);
        for _ in 0..DRAWS {
            let sample: Vec<usize> = picks.sample().collect();
            let Ok((drawn, held)) = self::fit(n, sample.iter().flat_map(|i| &prompts[*i])) else {
                apart_samples += 1;
                continue;
            };
            held_samples += usize::from(held.is_some());
            scaled(&drawn, anchor).into_iter().zip(&mut samples).for_each(|(elo, to)| to.push(elo));
        }
    }
    let interval = |values: Vec<f64>| if prompts.len() < 2 { Err(Undefined::OnePrompt) } else { percentiles(values) };
    let contenders = fit.strength.iter().zip(elo).zip(samples);
    Ok(Ratings {
        contenders: contenders
            .map(|((strength, elo), values)| RatedContender { strength: *strength, elo, interval: interval(values) })
            .collect(),
        prompts: prompts.len(),
        pseudo_win,
        held_samples,
        apart_samples,
    })
}

fn check(n: usize, games: &[Game]) -> Result<(), Undefined> {
    for (at, game) in games.iter().enumerate() {
        if let Some(given) = [game.first, game.second].into_iter().find(|i| *i >= n) {
            return Err(Undefined::NoContender { row: at + 1, given: given + 1, contenders: n });
        }
        if game.first == game.second {
            return Err(Undefined::OneSelf(at + 1));
        }
        if !(0.0..=1.0).contains(&game.score) {
            return Err(Undefined::Score { row: at + 1, value: game.score, expected: "a number from 0 to 1" });
        }
    }
    if games.is_empty() { Err(Undefined::Empty) } else { Ok(()) }
}

fn scaled(fit: &BradleyTerry, anchor: Option<usize>) -> Vec<f64> {
    let elo = fit.elo();
    let shift = anchor.map_or(0.0, |a| 1000.0 - elo[a]);
    let mut shifted: Vec<f64> = elo.into_iter().map(|e| e + shift).collect();
    if let Some(a) = anchor {
        shifted[a] = 1000.0;
    }
    shifted
}

fn fit<'a>(n: usize, games: impl Iterator<Item = &'a Game>) -> Result<(BradleyTerry, Option<f64>), Undefined> {
    let mut totals: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for game in games {
        *totals.entry((game.first, game.second)).or_default() += game.score;
        *totals.entry((game.second, game.first)).or_default() += 1.0 - game.score;
    }
    let wins = |more: f64| -> Vec<Win> {
        totals
            .iter()
            .map(|((winner, loser), weight)| Win { winner: *winner, loser: *loser, weight: weight + more })
            .collect()
    };
    if let Some(apart) = first_apart(n, &wins(0.0)) {
        return Err(Undefined::NeverMet(apart + 1));
    }
    let plain = bradley_terry(n, &wins(0.0));
    if !plain.regularised {
        return Ok((plain, None));
    }
    Ok((bradley_terry(n, &wins(PSEUDO_WIN)), Some(PSEUDO_WIN)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference's thirty games, ten prompts for each two models.
    fn reference() -> Vec<Game> {
        let pairs = [(0, 1, 7), (0, 2, 8), (1, 2, 6)];
        let games = |(first, second, wins)| {
            (0..10).map(move |i| Game { prompt: i, first, second, score: f64::from(u8::from(i < wins)) })
        };
        pairs.into_iter().flat_map(games).collect()
    }

    #[test]
    fn three_models_on_the_elo_scale() {
        let found = ratings(3, &reference(), None, 1).unwrap();
        for (got, want) in
            found.contenders.iter().zip([(0.740_570, 1128.650), (-0.149_102, 974.098), (-0.591_468, 897.252)])
        {
            assert!((got.strength - want.0).abs() < 1e-6 && (got.elo - want.1).abs() < 1e-3, "{got:?}");
            let interval = got.interval.as_ref().unwrap();
            assert!(interval.low <= got.elo && got.elo <= interval.high);
        }
        assert_eq!((found.pseudo_win, found.prompts), (None, 10));
        assert_eq!(ratings(3, &reference(), None, 1).unwrap(), found, "the same seed gives the same bits");
    }

    #[test]
    fn an_anchor_stays_at_one_thousand() {
        let found = ratings(3, &reference(), Some(2), 1).unwrap();
        let anchored = &found.contenders[2];
        let interval = anchored.interval.clone().unwrap();
        assert_eq!((anchored.elo, interval.low, interval.high), (1000.0, 1000.0, 1000.0));
        assert!((found.contenders[0].elo - found.contenders[2].elo - (1128.650 - 897.252)).abs() < 2e-3);
    }

    #[test]
    fn who_never_loses_is_held_by_half_a_win() {
        let games: Vec<Game> = (0..8).map(|prompt| Game { prompt, first: 0, second: 1, score: 1.0 }).collect();
        let found = ratings(2, &games, None, 1).unwrap();
        assert_eq!((found.pseudo_win, found.held_samples), (Some(0.5), DRAWS));
        // 8.5 wins against 0.5.
        assert!((found.contenders[0].strength - (17f64).ln() / 2.0).abs() < 1e-9);
    }

    #[test]
    fn identical_contenders_rate_the_same() {
        let games: Vec<Game> = (0..20).map(|prompt| Game { prompt, first: 0, second: 1, score: 0.5 }).collect();
        let found = ratings(2, &games, None, 1).unwrap();
        let interval = found.contenders[0].interval.clone().unwrap();
        assert_eq!((found.contenders[0].elo, interval.low, interval.high), (1000.0, 1000.0, 1000.0));
    }

    #[test]
    fn reasons_are_given() {
        assert_eq!(ratings(2, &[], None, 1), Err(Undefined::Empty));
        assert_eq!(ratings(4, &reference(), None, 1), Err(Undefined::NeverMet(4)));
        let one = [Game { prompt: 0, first: 0, second: 1, score: 0.5 }];
        assert_eq!(ratings(2, &one, None, 1).unwrap().contenders[0].interval, Err(Undefined::OnePrompt));
        assert!(matches!(ratings(1, &one, None, 1), Err(Undefined::NoContender { row: 1, given: 2, .. })));
    }
}
