//! `tojson` as Python's `json.dumps(ensure_ascii=False)` writes it: chat templates print tools and
//! arguments with it, and models were trained on exactly that spacing.

use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Error, ErrorKind, State};

/// Deeper values would risk the stack; JSON that came over the border is shallower anyway.
const MAX_DEPTH: usize = 200;

struct Style {
    ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

fn invalid(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// `value|tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub fn tojson(state: &State, value: Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    const NAMES: [&str; 4] = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let args = args.into_values();
    let mut positional: &[Value] = &args;
    let mut kwargs = None;
    if let Some((last, rest)) = args.split_last() {
        if last.is_kwargs() {
            kwargs = Some(Kwargs::try_from(last.clone())?);
            positional = rest;
        }
    }
    if positional.len() > NAMES.len() {
        return Err(invalid("tojson takes at most four arguments"));
    }
    let mut given: [Option<Value>; 4] = Default::default();
    for (slot, value) in given.iter_mut().zip(positional) {
        *slot = Some(value.clone());
    }
    if let Some(kwargs) = kwargs {
        for (slot, name) in given.iter_mut().zip(NAMES) {
            if let Some(value) = kwargs.get::<Option<Value>>(name)? {
                *slot = Some(value);
            }
        }
        kwargs.assert_all_used()?;
    }
    let [ascii, indent, separators, sort_keys] = given;
    let indent = match indent {
        None => None,
        Some(v) if v.is_none() => None,
        Some(v) => Some(match v.as_str() {
            Some(s) => s.to_string(),
            None => " ".repeat(v.as_usize().filter(|&n| n <= 64).ok_or_else(|| {
                invalid("tojson: indent must be a string or a number up to 64")
            })?),
        }),
    };
    let mut style = Style {
        ascii: ascii.is_some_and(|v| v.is_true()),
        item_separator: if indent.is_some() { "," } else { ", " }.into(),
        key_separator: ": ".into(),
        indent,
        sort_keys: sort_keys.is_some_and(|v| v.is_true()),
    };
    if let Some(pair) = separators.filter(|v| !v.is_none()) {
        let item = pair.get_item_by_index(0)?;
        let key = pair.get_item_by_index(1)?;
        match (item.as_str(), key.as_str()) {
            (Some(item), Some(key)) => {
                style.item_separator = item.into();
                style.key_separator = key.into();
            }
            _ => return Err(invalid("tojson: separators must be two strings")),
        }
    }
    let mut out = String::new();
    write_value(&mut out, state, &style, &value, 0)?;
    Ok(Value::from(out))
}

fn write_value(
    out: &mut String,
    state: &State,
    style: &Style,
    value: &Value,
    depth: usize,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(invalid("tojson: the value is nested too deeply"));
    }
    state.consume_fuel(1)?;
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
        ValueKind::Number => out.push_str(&python_float(f64::try_from(value.clone())?)),
        ValueKind::String => write_string(out, state, style, value.as_str().unwrap_or(""))?,
        ValueKind::Seq | ValueKind::Iterable => {
            let mut n = 0;
            out.push('[');
            for item in value.try_iter()? {
                separate(out, state, style, n, depth + 1)?;
                write_value(out, state, style, &item, depth + 1)?;
                n += 1;
            }
            close(out, style, n, depth, ']');
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if style.sort_keys {
                keys.sort();
            }
            out.push('{');
            for (n, key) in keys.iter().enumerate() {
                separate(out, state, style, n, depth + 1)?;
                match key.kind() {
                    ValueKind::String => {
                        write_string(out, state, style, key.as_str().unwrap_or(""))?
                    }
                    ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                        out.push('"');
                        write_value(out, state, style, key, depth + 1)?;
                        out.push('"');
                    }
                    _ => return Err(invalid("tojson: a key must be a string")),
                }
                out.push_str(&style.key_separator);
                write_value(out, state, style, &value.get_item(key)?, depth + 1)?;
            }
            close(out, style, keys.len(), depth, '}');
        }
        kind => return Err(invalid(format!("tojson: a value of type {kind} is not JSON"))),
    }
    Ok(())
}

fn separate(
    out: &mut String,
    state: &State,
    style: &Style,
    n: usize,
    depth: usize,
) -> Result<(), Error> {
    if n > 0 {
        out.push_str(&style.item_separator);
    }
    if let Some(indent) = &style.indent {
        state.consume_fuel((indent.len() * depth / 64) as u64)?;
        out.push('\n');
        out.push_str(&indent.repeat(depth));
    }
    Ok(())
}

fn close(out: &mut String, style: &Style, n: usize, depth: usize, bracket: char) {
    if let (Some(indent), true) = (&style.indent, n > 0) {
        out.push('\n');
        out.push_str(&indent.repeat(depth));
    }
    out.push(bracket);
}

fn write_string(out: &mut String, state: &State, style: &Style, s: &str) -> Result<(), Error> {
    state.consume_fuel((s.len() / 64) as u64)?;
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || (style.ascii && !(' '..='~').contains(&c)) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(())
}

/// Python's `repr` of a float: the shortest digits that read back, with an exponent from 1e16 on
/// and below 1e-4.
fn python_float(v: f64) -> String {
    if v.is_nan() {
        return "NaN".into();
    }
    if v.is_infinite() {
        return if v > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let scientific = format!("{v:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let fixed = v.to_string();
        return if fixed.contains('.') { fixed } else { fixed + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
