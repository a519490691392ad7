//! Chat templates: minijinja set up as `transformers` sets up Jinja, with fuel and output limits.

use crate::guard::{guarded, utf8};
use crate::json_text::tojson;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{from_args, Value};
use minijinja::{Environment, Error, ErrorKind, State};
use std::cell::Cell;
use std::ffi::CString;

const NAME: &str = "chat_template";

pub struct TemplateHandle {
    environment: Environment<'static>,
}

thread_local! {
    /// The time that `strftime_now` shows during the render on this thread.
    static NOW: Cell<i64> = const { Cell::new(i64::MIN) };
}

/// What `raise_exception` throws: kept apart from the engine's own errors, because its text goes to
/// the user as it stands.
#[derive(Debug)]
struct Raised(String);

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

pub fn compile_template(source: &[u8], fuel: u64) -> Result<Box<TemplateHandle>, String> {
    guarded(|| {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|e| e.to_string())?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(fuel));
        environment.set_unknown_method_callback(python_method);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment
            .add_template_owned(NAME, without_generation_tags(utf8(source)?))
            .map_err(|e| describe(&e))?;
        Ok(Box::new(TemplateHandle { environment }))
    })
}

impl TemplateHandle {
    pub fn render(
        &self,
        variables: &[u8],
        max_output_bytes: usize,
        now: i64,
    ) -> Result<String, String> {
        on_deep_stack(|| {
            let variables: Value = serde_json::from_slice(variables).map_err(|e| e.to_string())?;
            let template = self.environment.get_template(NAME).map_err(|e| describe(&e))?;
            let mut out = Limited { bytes: Vec::new(), limit: max_output_bytes };
            NOW.with(|n| n.set(now));
            let result = template.render_captured_to(variables, &mut out).map(|_| ());
            match result {
                Ok(()) => String::from_utf8(out.bytes).map_err(|e| e.to_string()),
                Err(e) if e.kind() == ErrorKind::WriteFailure => Err(format!(
                    "the chat template wrote more than {max_output_bytes} bytes"
                )),
                Err(e) if e.kind() == ErrorKind::OutOfFuel => {
                    Err("the chat template took more steps than allowed".into())
                }
                Err(e) => Err(describe(&e)),
            }
        })
    }
}

/// Fuel bounds how deep a loop can nest lists, but dropping, comparing or printing them takes stack by
/// the level: hence a stack that the deepest fit. Its pages are taken only when they are used.
const STACK_BYTES: usize = 256 << 20;

fn on_deep_stack<T: Send>(body: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || guarded(body))
            .map_err(|e| format!("no thread for the chat template: {e}"))?
            .join()
            .unwrap_or_else(|_| Err("the chat template failed".into()))
    })
}

/// A buffer that refuses to grow beyond its limit.
struct Limited {
    bytes: Vec<u8>,
    limit: usize,
}

impl std::io::Write for Limited {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        if data.len() > self.limit - self.bytes.len() {
            return Err(std::io::Error::other("output limit"));
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The message of `raise_exception` alone, or the engine's description with the template's line.
fn describe(error: &Error) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = cause {
        if let Some(raised) = e.downcast_ref::<Raised>() {
            return raised.0.clone();
        }
        cause = e.source();
    }
    let mut text = match error.detail() {
        Some(detail) => format!("chat template: {}: {detail}", error.kind()),
        None => format!("chat template: {}", error.kind()),
    };
    if let Some(line) = error.line() {
        text += &format!(" (line {line})");
    }
    text
}

fn raise_exception(message: Value) -> Result<Value, Error> {
    let text = message.to_string();
    Err(Error::new(ErrorKind::InvalidOperation, text.clone()).with_source(Raised(text)))
}

/// `strftime_now("%d %b %Y")`, with the C library's strftime as Python has it.
fn strftime_now(format: &str) -> Result<String, Error> {
    let invalid = |what: &'static str| Error::new(ErrorKind::InvalidOperation, what);
    let c_format = CString::new(format).map_err(|_| invalid("strftime_now: bad format"))?;
    let fixed = NOW.with(|n| n.get());
    let mut buffer = [0u8; 512];
    // SAFETY: all pointers are to live locals; strftime writes at most buffer.len() bytes and
    // returns how many, without the end mark; 0 when they do not fit (or nothing was to write).
    let written = unsafe {
        let mut parts: libc::tm = std::mem::zeroed();
        let now: libc::time_t = match fixed {
            i64::MIN => libc::time(std::ptr::null_mut()),
            at => at as libc::time_t,
        };
        let filled = match fixed {
            i64::MIN => libc::localtime_r(&now, &mut parts),
            _ => libc::gmtime_r(&now, &mut parts),
        };
        if filled.is_null() {
            return Err(invalid("strftime_now: the time is out of range"));
        }
        libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), c_format.as_ptr(), &parts)
    };
    if written == 0 && !format.is_empty() {
        return Err(invalid("strftime_now: the format is too long"));
    }
    Ok(String::from_utf8_lossy(&buffer[..written]).into_owned())
}

/// The Python methods that templates use: those of minijinja-contrib and a few that it lacks.
fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(s) = value.as_str() {
        charge_for_parts(state, s, method, args)?;
        match method {
            "removeprefix" => {
                let (prefix,): (&str,) = from_args(args)?;
                return Ok(Value::from(s.strip_prefix(prefix).unwrap_or(s)));
            }
            "removesuffix" => {
                let (suffix,): (&str,) = from_args(args)?;
                return Ok(Value::from(s.strip_suffix(suffix).unwrap_or(s)));
            }
            "title" => {
                // The filter `title` of Jinja keeps "don't" whole; Python's method does not.
                let () = from_args(args)?;
                let mut out = String::with_capacity(s.len());
                let mut in_word = false;
                for c in s.chars() {
                    match in_word {
                        true => out.extend(c.to_lowercase()),
                        false => out.extend(c.to_uppercase()),
                    }
                    in_word = c.is_alphabetic();
                }
                return Ok(Value::from(out));
            }
            "rsplit" => {
                let (separator, max): (&str, Option<usize>) = from_args(args)?;
                if separator.is_empty() {
                    return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
                }
                let mut parts: Vec<&str> =
                    s.rsplitn(max.map_or(usize::MAX, |n| n.saturating_add(1)), separator).collect();
                parts.reverse();
                return Ok(Value::from_iter(parts));
            }
            _ => {}
        }
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

/// Methods look through the whole string, and some make a list of its parts: the crate charges for
/// neither.
fn charge_for_parts(state: &State, s: &str, method: &str, args: &[Value]) -> Result<(), Error> {
    const UNIT: usize = 64; // bytes, as for other data
    state.consume_fuel((s.len() / UNIT) as u64)?;
    let parts = match method {
        "split" | "rsplit" => match args.first().and_then(|a| a.as_str()) {
            Some(separator) if !separator.is_empty() => s.matches(separator).count(),
            _ => s.split_whitespace().count(),
        },
        "splitlines" => s.lines().count(),
        _ => 0,
    };
    state.consume_fuel(parts as u64)
}

/// `{% generation %}` marks what the assistant said, for training only; minijinja does not know the
/// tag. It becomes an `if` that is always true, which keeps the whitespace control of the tag.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        out.push_str(before);
        rest = tag;
        let Some(end) = tag.find("%}") else { break };
        let inner = &tag[..end];
        let word = inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        let replacement = match word {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => continue,
        };
        out.push_str(&inner.replacen(word, replacement, 1));
        rest = &tag[end..];
    }
    out + rest
}

// Handles are shared between threads by the C++ side.
const _: () = {
    const fn shareable<T: Send + Sync>() {}
    shareable::<TemplateHandle>();
    shareable::<crate::tokenizer::TokenizerHandle>();
};
