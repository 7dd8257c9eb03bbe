//! Rows of a Parquet file as JSON objects.
//!
//! Owns the translation of Parquet's values. Refuses to read a part of a damaged file.

use crate::foreign::contained;
use crate::storage::error::{Error, Result};
use crate::storage::record::{Object, Record};
use parquet::column::page::Page;
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
/// When the file is damaged, packed in a way that is not read, or holds more at once than the limit.
pub(super) fn each(
    path: &Path,
    file: File,
    take: &mut dyn FnMut(usize, std::result::Result<Record, String>) -> bool,
) -> Result<()> {
    each_within(path, file, LARGEST_GROUP, take)
}

/// The same with another limit of a group of rows, in bytes.
fn each_within(
    path: &Path,
    file: File,
    largest: i64,
    take: &mut dyn FnMut(usize, std::result::Result<Record, String>) -> bool,
) -> Result<()> {
    let refuse = |reason: String| Error::Import { path: path.to_owned(), reason };
    let unreadable = |e: parquet::errors::ParquetError| {
        let said = e.to_string();
        match said.rsplit_once("compile time: ") {
            Some((_, codec)) => refuse(format!(
                "is a Parquet file compressed by {codec}, which is not read: write it with `compression=\"zstd\"`"
            )),
            None => refuse(format!("is a Parquet file that cannot be read: {said}")),
        }
    };
    // The library panics on some damage.
    let damaged = || refuse("is a damaged Parquet file: download or write it again".into());
    let reader = contained(|| SerializedFileReader::new(file)).ok_or_else(damaged)?.map_err(unreadable)?;
    for group in reader.metadata().row_groups() {
        let columns = group.columns().iter().map(|column| column.uncompressed_size().max(0));
        let size = columns.fold(0, i64::saturating_add).max(group.total_byte_size());
        if size > largest {
            return Err(refuse(format!(
                "is a Parquet file with {} MiB in one group of rows, more than the {} MiB held in memory: write it with smaller \
                 groups (pyarrow: `row_group_size=1000`)",
                size >> 20,
                largest >> 20
            )));
        }
    }
    if !contained(|| dictionaries_are_whole(&reader)).ok_or_else(damaged)?.map_err(unreadable)? {
        return Err(damaged());
    }
    let mut rows = contained(|| reader.get_row_iter(None)).ok_or_else(damaged)?.map_err(unreadable)?;
    for at in 1.. {
        let Some(row) = contained(|| rows.next()).ok_or_else(damaged)? else { break };
        let columns = row.map_err(unreadable)?.into_columns();
        let object: Object = columns.into_iter().map(|(name, field)| (name, value(field))).collect();
        if !take(at, Ok(Record::json(Value::Object(object)))) {
            break;
        }
    }
    Ok(())
}

/// Whether every dictionary is as long as it says: the library makes room for what it says, which may be gigabytes.
fn dictionaries_are_whole(reader: &SerializedFileReader<File>) -> parquet::errors::Result<bool> {
    for at in 0..reader.num_row_groups() {
        let group = reader.get_row_group(at)?;
        for column in 0..group.num_columns() {
            let first = group.get_column_page_reader(column)?.get_next_page()?;
            // A value takes a byte or more.
            if let Some(Page::DictionaryPage { buf, num_values, .. }) = first
                && num_values as usize > buf.len()
            {
                return Ok(false);
            }
        }
    }
    Ok(true)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_group_of_rows_that_memory_cannot_hold_is_refused_with_the_remedy() {
        let rows: Vec<[&str; 1]> = vec![["a text"]; 200_000];
        let rows: Vec<&[&str]> = rows.iter().map(<[&str; 1]>::as_slice).collect();
        let written = crate::storage::container::written_parquet(&["prompt"], &rows);
        let file = file(&written);
        let read = |largest| {
            let mut n = 0;
            let done = each_within(file.path(), file.reopen().unwrap(), largest, &mut |_, row| {
                n += usize::from(row.is_ok());
                true
            });
            done.map(|()| n).map_err(|e| e.to_string())
        };
        assert_eq!(read(1 << 30), Ok(200_000));
        let said = read(0).unwrap_err();
        assert!(said.contains("in one group of rows") && said.contains("row_group_size=1000"), "{said}");
    }

    #[test]
    fn damage_on_which_the_library_panics_is_an_error() {
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, DAMAGED).unwrap();
        let file = file(&bytes);
        let said = each(file.path(), file.reopen().unwrap(), &mut |_, _| true).unwrap_err().to_string();
        assert!(said.contains("damaged Parquet file"), "{said}");
    }

    /// A file of two rows with a byte changed in a dictionary page.
    const DAMAGED: &str = "UEFSMRUEFRQVFEwVBBUAEgAAAQAAAGEBAAAAZBUAFRIVEiwVBBUQFQYVBgAAAgAAAAQBAQMCFQQVFBUUTBUEFQASAAABAAAAYgEAAABlFQAVEhUSLBUEFRAVBhUGAAACAAAABAEBAwIVBBUUFRRMFfSQgIAEFQASAAABAAAAYwEAAABmFQAVEhUSLBUEFRAVBhUGAAACAAAABAEBAwIZEgIZGAFhGRgBZBUCGRYAKSYABAAZEgIZGAFiGRgBZRUCGRYAKSYABAAZEgIZGAFjGRgBZhUCGRYAKSYABAAZHBY4FTQWAAAZFgQAGRwWnAEVNBYAABkWBAAZHBaAAhU0FgAAGRYEABUCGUxIBHJvd3MVBgAVDCUCGAZwcm9tcHQlAAAVDCUCGAZjaG9zZW4lAAAVDCUCGAhyZWplY3RlZCUAABYEGRwZPCYAHBUMGTUABhAZGAZwcm9tcHQVABYEFmQWZCY4JggcNgAoAWQYAWEREQAZLBUEFQAVAgAVABUQFQIAPBYEKSYABAAAFrIDFRoWtAIVKgAmABwVDBk1AAYQGRgGY2hvc2VuFQAWBBZkFmQmnAEmbBw2ACgBZRgBYhERABksFQQVABUCABUAFRAVAgA8FgQpJgAEAAAWzAMVHBbeAhUqACYAHBUMGTUABhAZGAhyZWplY3RlZBUAFgQWZBZkJoACJtABHDYAKAFmGAFjEREAGSwVBBUAFQIAFQAVEBUCADwWBCkmAAQAABboAxUcFogDFSoAFqwCFgQmCBasAhQAACgZcGFycXVldC1ycyB2ZXJzaW9uIDYwLjEuMBk8HAAAHAAAHAAAAGgBAABQQVIx";
}
