//! Chat templates: minijinja set up as `transformers` sets up Jinja, within limits. Fuel pays for steps
//! and data; what the engine does not charge for (comparing strings, joining lists by `+`) ends at the
//! limits of time and memory (bounded.rs).

use crate::bounded::{count_memory, run, Limits, Stop, Strays};
use crate::ffi::{RenderLimits, Rendered};
use crate::guard::{guarded, utf8};
use crate::json_text::tojson;
use crate::namespaces::{empty_namespaces, namespace};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{from_args, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};
use std::cell::Cell;
use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "chat_template";
const REMEDY: &str = "give another template with --chat-template";

/// Shared with renderings that were given up, which may outlive the handle.
pub struct TemplateHandle {
    environment: Arc<Environment<'static>>,
    strays: Arc<Strays>,
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
        environment.add_function("namespace", namespace);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment
            .add_template_owned(NAME, without_generation_tags(utf8(source)?))
            .map_err(|e| describe(&e))?;
        Ok(Box::new(TemplateHandle { environment: Arc::new(environment), strays: Arc::default() }))
    })
}

impl TemplateHandle {
    pub fn render(
        &self,
        variables: &[u8],
        limits: RenderLimits,
        now: i64,
    ) -> Result<Rendered, String> {
        let environment = self.environment.clone();
        // Before the clock begins: what callers send takes its time.
        let values: Value =
            guarded(|| serde_json::from_slice(variables).map_err(|e| e.to_string()))?;
        let max_output_bytes = limits.output_bytes;
        let bounds = Limits {
            time: Duration::from_millis(limits.milliseconds),
            memory_bytes: limits.memory_bytes,
        };
        let work = move || rendered(&environment, values, max_output_bytes, now);
        match run(&bounds, &self.strays, work) {
            Ok(text) => Ok(Rendered { text, busy: false }),
            Err(Stop::Failed(text)) => Err(text),
            Err(Stop::Time) => Err(format!(
                "the chat template took longer than its limit of {} s: {REMEDY}",
                bounds.time.as_secs_f64()
            )),
            Err(Stop::Memory) => Err(format!(
                "the chat template needed more than its limit of {} MiB of memory: {REMEDY}",
                bounds.memory_bytes >> 20
            )),
            Err(Stop::Strays(count)) => Ok(Rendered {
                text: format!(
                    "{count} chats still run beyond the chat template's limits of time or memory, \
                     and no more are begun beside them: {REMEDY}"
                ),
                busy: true,
            }),
        }
    }
}

fn rendered(
    environment: &Environment<'static>,
    values: Value,
    max_output_bytes: usize,
    now: i64,
) -> Result<String, String> {
    count_memory();
    let template = environment.get_template(NAME).map_err(|e| describe(&e))?;
    let mut out = Limited { bytes: Vec::new(), limit: max_output_bytes };
    NOW.with(|n| n.set(now));
    let result = template.render_captured_to(values, &mut out).map(|_| ());
    empty_namespaces();
    match result {
        Ok(()) => String::from_utf8(out.bytes).map_err(|e| e.to_string()),
        Err(e) if e.kind() == ErrorKind::WriteFailure => Err(format!(
            "the chat template wrote more than its limit of {max_output_bytes} bytes: {REMEDY}"
        )),
        Err(e) if e.kind() == ErrorKind::OutOfFuel => Err(format!(
            "the chat template took more than its limit of {} steps: {REMEDY}",
            environment.fuel().unwrap_or(0)
        )),
        Err(e) => Err(describe(&e)),
    }
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
            "join" => return join(state, s, args),
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
    if value.kind() == ValueKind::Seq && method == "count" {
        state.consume_fuel(value.len().unwrap_or(0) as u64)?;
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

const UNIT: usize = 64; // bytes that one step pays for, as for other data

/// The crate's charges for the separators only: a list joined with itself by `+` is cheap to make and
/// long to go through.
fn join(state: &State, separator: &str, args: &[Value]) -> Result<Value, Error> {
    let (values,): (&Value,) = from_args(args)?;
    let mut out = String::new();
    for (n, value) in values.try_iter()?.checked().enumerate() {
        let value = value?;
        if n > 0 {
            out.push_str(separator);
        }
        let before = out.len();
        match value.as_str() {
            Some(s) => out.push_str(s),
            None => out.push_str(&value.to_string()),
        }
        let bytes = separator.len() + out.len() - before;
        state.consume_fuel(1 + (bytes / UNIT) as u64)?;
    }
    Ok(Value::from(out))
}

/// Methods look through the whole string, and some make a list of its parts, or a longer string: the
/// crate charges for none of it.
fn charge_for_parts(state: &State, s: &str, method: &str, args: &[Value]) -> Result<(), Error> {
    state.consume_fuel((s.len() / UNIT) as u64)?;
    let parts = match method {
        "split" | "rsplit" => match args.first().and_then(|a| a.as_str()) {
            Some(separator) if !separator.is_empty() => s.matches(separator).count(),
            _ => s.split_whitespace().count(),
        },
        "splitlines" => s.lines().count(),
        "format" => {
            let (fields, widths) = format_fields(s);
            let longest = args.iter().filter_map(|a| a.as_str()).map(str::len).max().unwrap_or(0);
            fields.saturating_mul(1 + longest / UNIT).saturating_add(widths / UNIT)
        }
        _ => 0,
    };
    state.consume_fuel(parts as u64)
}

/// How many fields a format of `str.format` has, and the sum of their widths and precisions.
fn format_fields(format: &str) -> (usize, usize) {
    let (mut fields, mut widths) = (0usize, 0usize);
    let mut rest = format;
    while let Some(start) = rest.find('{') {
        rest = &rest[start + 1..];
        if let Some(literal) = rest.strip_prefix('{') {
            rest = literal;
            continue;
        }
        fields += 1;
        // The name, whose keys in brackets may hold anything.
        while let Some(at) = rest.find([':', '}', '[']) {
            let stop = rest.as_bytes()[at];
            rest = &rest[at + 1..];
            match stop {
                b'[' => rest = rest.find(']').map_or("", |end| &rest[end + 1..]),
                b'}' => break,
                _ => {
                    let mut chars = rest.chars();
                    let fill = chars.next().map_or(0, char::len_utf8);
                    if matches!(chars.next(), Some('<' | '>' | '^')) {
                        rest = &rest[fill + 1..];
                    }
                    let end = rest.find('}').unwrap_or(rest.len());
                    for number in rest[..end].split(|c: char| !c.is_ascii_digit()) {
                        if !number.is_empty() {
                            widths = widths.saturating_add(number.parse().unwrap_or(usize::MAX));
                        }
                    }
                    rest = &rest[end..];
                    break;
                }
            }
        }
    }
    (fields, widths)
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RenderLimits =
        RenderLimits { output_bytes: 1 << 20, memory_bytes: 64 << 20, milliseconds: 30_000 };

    fn render(source: &str, limits: RenderLimits) -> Result<String, String> {
        Ok(compile_template(source.as_bytes(), 2_000_000)?.render(b"{}", limits, 0)?.text)
    }

    #[test]
    fn widths_of_formats() {
        for (format, expected) in [
            ("", (0, 0)),
            ("a }} b {{ 77 }} {{:>9}}", (0, 0)),
            ("{} {0} {name}", (3, 0)),
            ("{:>999999999}", (1, 999999999)),
            ("{:*>5}{:}>6}{:{>7}{:9<8}", (4, 26)),
            ("{0[}:{]:4}", (1, 4)),
            ("{{{:3}}} 1234", (1, 3)),
            ("{:+010,.20f}", (1, 30)),
            ("{:é>5}", (1, 5)),
            ("{:99999999999999999999999}", (1, usize::MAX)),
            ("{", (1, 0)),
            ("{:", (1, 0)),
            ("{:é", (1, 0)),
            ("{0[x", (1, 0)),
        ] {
            assert_eq!(format_fields(format), expected, "{format}");
        }
    }

    #[derive(Debug)]
    struct Probe;
    impl minijinja::value::Object for Probe {}

    #[test]
    fn nothing_stays_of_what_refers_to_itself() {
        for circle in [
            "{% set ns = namespace() %}{% set ns.me = ns %}{% set ns.probe = probe %}",
            "{% set a = namespace(probe=probe) %}{% set b = namespace(a=a) %}{% set a.b = b %}",
            "{% set ns = namespace(probe=probe) %}{% set ns.list = [1, {'x': ns}] %}",
            "{% macro m(x) %}{{ x }}{% endmacro %}{% set ns = namespace(probe=probe) %}{% set ns.m = m %}\
             {% set ns.ns = ns %}",
            "{% set ns = namespace(probe=probe) %}{% set ns.ns = ns %}{{ raise_exception('no') }}",
        ] {
            let handle = compile_template(circle.as_bytes(), 10_000).unwrap();
            let probe = Value::from_object(Probe);
            let values = minijinja::context!(probe => probe.clone());
            let _ = rendered(&handle.environment, values, 1 << 20, 0);
            let held = probe.downcast_object::<Probe>().unwrap();
            assert_eq!(Arc::strong_count(&held), 2, "{circle}");
        }
    }

    #[test]
    fn what_makes_long_strings_is_paid_for_before() {
        let huge = "{% set ns = namespace(x=[1]) %}{% for i in range(22) %}{% set ns.x = ns.x + ns.x %}\
                    {% endfor %}";
        for source in [
            "{{ '{:>999999999}'.format(1) }}",
            "{{ '{:.999999999}'.format(1.5) }}",
            "{{ '%999999999d'|format(1) }}",
            "{% set s = 'a' * 9000000 %}{{ ('{0}' * 1000).format(s)|length }}",
            &format!("{huge}{{{{ ''.join(ns.x) }}}}"),
            "{% set x = range(10000)|list %}{% for i in range(1000) %}{% set y = x.count(2) %}\
             {% endfor %}",
        ] {
            let error = render(source, LIMITS).unwrap_err();
            assert!(error.contains("limit of 2000000 steps"), "{source}: {error}");
            assert!(error.contains("--chat-template"), "{error}");
        }
        let small = "{{ '{:>9}|{}'.format(1, 'b') }}{{ ', '.join(['a', 2]) }}{{ [1, 1].count(1) }}";
        assert_eq!(render(small, LIMITS), Ok("        1|ba, 22".into()));
    }
}
