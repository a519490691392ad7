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

/// Empties what this thread's rendering made. Every circle has an edge that an assignment made, and
/// only templates can assign.
pub fn empty_namespaces() {
    let environment = Environment::empty();
    for made in MADE.take() {
        let Ok(keys) = made.try_iter() else { continue };
        for key in keys {
            let Some(name) = key.as_str() else { continue };
            let holds = made.get_item(&key).map(|v| v.kind());
            if matches!(holds, Ok(ValueKind::Map | ValueKind::Seq | ValueKind::Iterable | ValueKind::Plain)) {
                // What is no name in a template was not assigned there, and may stay.
                let ns = &made;
                let _ = environment.render_str(&format!("{{% set ns.{name} = 0 %}}"), context!(ns));
            }
        }
    }
}
