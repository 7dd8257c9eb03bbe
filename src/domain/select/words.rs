//! Quotas and hard negatives as they are written on the command line and in the form of pairs.

use super::{Against, Allocation};

impl Allocation {
    /// `proportional`, `equal`, `neyman`, or `STRATUM=N` for each stratum; nothing is proportional.
    ///
    /// # Errors
    /// When a word is none of these: the word.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        match words {
            [] => Ok(Self::Proportional),
            [one] if one == "proportional" => Ok(Self::Proportional),
            [one] if one == "equal" => Ok(Self::Equal),
            [one] if one == "neyman" => Ok(Self::Neyman),
            quotas => {
                let one = |word: &String| {
                    let (name, n) = word.rsplit_once('=')?;
                    Some((name.trim().to_owned(), n.trim().parse().ok()?))
                };
                let all: Result<Vec<(String, usize)>, String> =
                    quotas.iter().map(|word| one(word).ok_or_else(|| word.clone())).collect();
                Ok(Self::Fixed(all?))
            }
        }
    }
}

impl Against {
    /// `runner_up`, `middle`, or `LOW..HIGH`; none for other words.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "runner_up" => Some(Self::RunnerUp),
            "middle" => Some(Self::Middle),
            _ => {
                let (low, high) = word.split_once("..")?;
                let (low, high) = (low.trim().parse::<f64>().ok()?, high.trim().parse::<f64>().ok()?);
                (low >= 0.0 && low <= high).then_some(Self::Band(low, high))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_and_bands_are_read() {
        let words = |text: &[&str]| Allocation::parse(&text.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&[]), Ok(Allocation::Proportional));
        assert_eq!(words(&["neyman"]), Ok(Allocation::Neyman));
        assert_eq!(words(&["a=b=3", "c = 4"]), Ok(Allocation::Fixed(vec![("a=b".into(), 3), ("c".into(), 4)])));
        assert_eq!(words(&["equal", "a=3"]), Err("equal".into()));
        assert_eq!(words(&["a=x"]), Err("a=x".into()));
        assert_eq!(Against::parse("0.5..2"), Some(Against::Band(0.5, 2.0)));
        assert_eq!((Against::parse("2..1"), Against::parse("NaN..1"), Against::parse("best")), (None, None, None));
    }
}
