//! `namespace()` of a chat template. A template may store one in itself (`{% set ns.me = ns %}`), and
//! what counts references never frees such a circle: so what a rendering made is emptied at its end.

use minijinja::value::{Value, ValueKind, ValueOrKwargs};
use minijinja::{context, Environment, Error};
use std::cell::RefCell;

thread_local! {
    /// Those of the rendering on this thread.
    static MADE: RefCell<Vec<Value>> = const { RefCell::new(Vec::new()) };
}

/// minijinja's own, remembered.
pub fn namespace(defaults: Option<ValueOrKwargs>) -> Result<Value, Error> {
    let made = minijinja::functions::namespace(defaults)?;
    MADE.with_borrow_mut(|all| all.push(made.clone()));
    Ok(made)
}

/// Empties what this thread's rendering made. A circle of namespaces has an edge that an assignment made,
/// and what is assigned has a name. (A template that passes its own `loop` to `loop.changed` keeps that
/// rendering's values for ever; nothing outside of minijinja can mend it.)
pub fn empty_namespaces() {
    let environment = Environment::empty();
    for made in MADE.take() {
        let Ok(keys) = made.try_iter() else { continue };
        for key in keys {
            let Some(name) = key.as_str().filter(|k| is_name(k)) else { continue };
            let kind = made.get_item(&key).map(|v| v.kind());
            if let Ok(ValueKind::Map | ValueKind::Seq | ValueKind::Iterable | ValueKind::Plain) = kind {
                let ns = &made;
                let _ = environment.render_str(&format!("{{% set ns.{name} = 0 %}}"), context!(ns));
            }
        }
    }
}

fn is_name(key: &str) -> bool {
    key.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric())
        && !key.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// A key that would be a program is no name, and stays.
    #[test]
    fn keys_are_not_run() {
        let many: Vec<u32> = (0..2000).collect();
        let loops = "a = 0 %}{% for i in ns.l %}{% for j in ns.l %}{% for k in ns.l %}{% endfor %}{% endfor %}{% endfor %}{% set ns.a";
        let values: Value =
            serde_json::from_str(&format!("{{\"l\": {many:?}, {loops:?}: [1]}}")).unwrap();
        let mut environment = Environment::new();
        environment.add_function("namespace", namespace);
        let begin = Instant::now();
        environment
            .render_str("{% set ns = namespace(x) %}{% set ns.me = ns %}", context!(x => values))
            .unwrap();
        empty_namespaces();
        assert!(begin.elapsed() < Duration::from_secs(5));
        for (key, expected) in [
            ("me", true),
            ("_a1", true),
            ("1a", false),
            ("a b", false),
            ("\u{e4}", false),
            ("a%}", false),
        ] {
            assert_eq!(is_name(key), expected, "{key}");
        }
    }
}
