//! Deserialises a record from its kind and its data, without the other fields of its line: `{"k":kind,"d":data}`.

use serde::de::value::{BorrowedStrDeserializer, MapAccessDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, MapAccess};
use serde_json::{Deserializer, Error};

/// The record of that kind.
///
/// # Errors
/// When the kind is unknown, or the data is not JSON of its shape.
pub(super) fn record<T: DeserializeOwned>(kind: &str, data: &[u8]) -> Result<T, Error> {
    T::deserialize(MapAccessDeserializer::new(Tagged { kind, data, field: 0 }))
}

struct Tagged<'de> {
    kind: &'de str,
    data: &'de [u8],
    /// How many fields were asked for.
    field: u8,
}

impl<'de> MapAccess<'de> for Tagged<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.field += 1;
        match self.field {
            1 => seed.deserialize(BorrowedStrDeserializer::new("k")).map(Some),
            2 => seed.deserialize(BorrowedStrDeserializer::new("d")).map(Some),
            _ => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        if self.field == 1 {
            return seed.deserialize(BorrowedStrDeserializer::new(self.kind));
        }
        let mut data = Deserializer::from_slice(self.data);
        let value = seed.deserialize(&mut data)?;
        data.end()?;
        Ok(value)
    }
}
