//! Lines of a text: their numbers, invalid UTF-8, overlong lines.
//!
//! Owns what a line is: it ends at a newline alone, so that U+2028 within a JSON string is none.

use std::io::{self, BufRead};

/// The longest line read into memory. A longer one would not fit into a log record anyway.
const LONGEST: usize = 16 << 20;

/// Calls `take` with the number (from 1) and the text or error of each line that is not blank, until it returns false.
pub(super) fn each(
    mut reader: Box<dyn BufRead>,
    take: &mut dyn FnMut(usize, Result<&str, String>) -> bool,
) -> io::Result<()> {
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let (length, ended) = read_line(&mut reader, &mut line)?;
        if length == 0 && ended {
            return Ok(());
        }
        number += 1;
        let mut bytes = line.as_slice();
        if number == 1 {
            bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        }
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let text = if length > LONGEST {
            Err(format!("is {length} bytes long, longer than the limit of {LONGEST}"))
        } else {
            std::str::from_utf8(bytes)
                .map_err(|e| format!("is not valid UTF-8 from byte {} on: save the file as UTF-8", e.valid_up_to() + 1))
        };
        if text.as_ref().is_ok_and(|t| t.trim().is_empty()) {
            continue;
        }
        if !take(number, text) {
            return Ok(());
        }
    }
}

/// Reads a line without its newline, keeping at most [`LONGEST`] bytes of it. Returns its full length and whether the
/// file ended without a newline.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<(usize, bool)> {
    let mut length = 0;
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok((length, true));
        }
        let newline = bytes.iter().position(|b| *b == b'\n');
        let part = &bytes[..newline.unwrap_or(bytes.len())];
        let room = LONGEST.saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        length += part.len();
        let used = part.len() + usize::from(newline.is_some());
        reader.consume(used);
        if newline.is_some() {
            return Ok((length, false));
        }
    }
}
