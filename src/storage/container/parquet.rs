//! Rows of a Parquet file as JSON objects.
//!
//! Owns the translation of Parquet's values. Refuses to read a part of a damaged file.

use crate::storage::error::{Error, Result};
use crate::storage::record::{Object, Record};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;
use std::fs::File;
use std::path::Path;

/// The most bytes of one group of rows, unpacked: its columns are held in memory.
const LARGEST_GROUP: i64 = 2 << 30;

/// Calls `take` with the number (from 1) of each row and its record, until it returns false.
///
/// # Errors
/// When the file is damaged, or packed in a way that is not read.
pub(super) fn each(
    path: &Path,
    file: File,
    take: &mut dyn FnMut(usize, std::result::Result<Record, String>) -> bool,
) -> Result<()> {
    let refuse = |e: parquet::errors::ParquetError| Error::Import {
        path: path.to_owned(),
        reason: format!("is a Parquet file that cannot be read: {e}"),
    };
    let reader = SerializedFileReader::new(file).map_err(refuse)?;
    for group in reader.metadata().row_groups() {
        let columns = group.columns().iter().map(|column| column.uncompressed_size().max(0));
        let size = columns.fold(group.total_byte_size(), i64::saturating_add);
        if size > LARGEST_GROUP {
            let (has, most) = (size >> 20, LARGEST_GROUP >> 20);
            return Err(Error::Import {
                path: path.to_owned(),
                reason: format!(
                    "is a Parquet file with {has} MiB in one group of rows, more than the {most} MiB held in memory: write it \
                     with smaller groups (pyarrow: `row_group_size=1000`)"
                ),
            });
        }
    }
    for (at, row) in reader.get_row_iter(None).map_err(refuse)?.enumerate() {
        let columns = row.map_err(refuse)?.into_columns();
        let object: Object = columns.into_iter().map(|(name, field)| (name, value(field))).collect();
        if !take(at + 1, Ok(Record::json(Value::Object(object)))) {
            return Ok(());
        }
    }
    Ok(())
}

fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(x) => x.into(),
        Field::Byte(x) => x.into(),
        Field::Short(x) => x.into(),
        Field::Int(x) => x.into(),
        Field::Long(x) => x.into(),
        Field::UByte(x) => x.into(),
        Field::UShort(x) => x.into(),
        Field::UInt(x) => x.into(),
        Field::ULong(x) => x.into(),
        Field::Float16(x) => f64::from(x.to_f32()).into(),
        Field::Float(x) => f64::from(x).into(),
        Field::Double(x) => x.into(),
        Field::Str(text) => text.into(),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => text.into(),
            // Not a text, and no other column is: an image, for one.
            Err(_) => serde_json::json!({ "bytes": bytes.len() }),
        },
        Field::Group(row) => row.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect(),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        Field::MapInternal(map) => {
            let entries = map.entries().iter().cloned().map(|(key, entry)| {
                let key = match value(key) {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                (key, value(entry))
            });
            entries.collect()
        }
        other => other.to_string().into(),
    }
}
