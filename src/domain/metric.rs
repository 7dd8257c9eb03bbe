//! Metric values under their TRL names, in logged order.

use super::common_text::CommonText;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number that survives JSON when it is not finite: `"NaN"`, `"Infinity"`, `"-Infinity"`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Num(pub f64);

impl Serialize for Num {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.0.is_nan() {
            s.serialize_str("NaN")
        } else if self.0 == f64::INFINITY {
            s.serialize_str("Infinity")
        } else if self.0 == f64::NEG_INFINITY {
            s.serialize_str("-Infinity")
        } else {
            s.serialize_f64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Num {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Number;
        impl serde::de::Visitor<'_> for Number {
            type Value = Num;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
            }

            fn visit_f64<E>(self, x: f64) -> Result<Num, E> {
                Ok(Num(x))
            }

            fn visit_u64<E>(self, x: u64) -> Result<Num, E> {
                Ok(Num(x as f64))
            }

            fn visit_i64<E>(self, x: i64) -> Result<Num, E> {
                Ok(Num(x as f64))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Num, E> {
                match text {
                    "NaN" => Ok(Num(f64::NAN)),
                    "Infinity" => Ok(Num(f64::INFINITY)),
                    "-Infinity" => Ok(Num(f64::NEG_INFINITY)),
                    _ => Err(E::custom(format!("`{text}` is not a number"))),
                }
            }
        }
        d.deserialize_any(Number)
    }
}

/// The metrics of one step, in the order they were logged: `loss`, `rewards/chosen`, … (TRL's names, letter by letter).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics(Vec<(CommonText, Num)>);

impl Metrics {
    /// No metrics.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a metric, replacing an earlier value of the same name.
    pub fn set(&mut self, name: &str, value: f64) {
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some((_, v)) => *v = Num(value),
            None => self.0.push((name.into(), Num(value))),
        }
    }

    /// The value of a metric, if logged.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.0)
    }

    /// Names and values in logged order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.0))
    }

    /// Whether nothing was logged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.iter().map(|(n, v)| (n, v)))
    }
}

impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Metrics;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map of metric names to numbers")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Metrics, A::Error> {
                let mut out = Metrics::new();
                while let Some((name, value)) = map.next_entry::<CommonText, Num>()? {
                    match out.0.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, known)) => *known = value,
                        None => out.0.push((name, value)),
                    }
                }
                Ok(out)
            }
        }
        d.deserialize_map(Visitor)
    }
}
