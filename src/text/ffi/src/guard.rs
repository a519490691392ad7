//! No panic crosses the border, and none is printed: the message becomes the error's text.

use std::cell::RefCell;
use std::panic::{catch_unwind, set_hook, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static PANIC_TEXT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `body`; a panic inside becomes `Err`. The handles that `body` reads are not changed by the
/// calls, so that a caught panic leaves them usable.
pub fn guarded<T>(body: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        // The hook is this static library's own: only Rust code of this crate can reach it.
        set_hook(Box::new(|info| {
            // Without the place in the source, which says nothing to who sent the text.
            let what = info.payload();
            let text = what.downcast_ref::<String>().cloned();
            let text = text.or_else(|| what.downcast_ref::<&str>().map(|s| s.to_string()));
            let text = text.unwrap_or_else(|| "unknown".into());
            PANIC_TEXT.with(|t| t.replace(text));
        }));
    });
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        Err(format!("internal panic: {}", PANIC_TEXT.with(|t| t.take())))
    })
}

/// `bytes` as UTF-8, or an error that says where they are not.
pub fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes)
        .map_err(|e| format!("the text is not valid UTF-8 at byte {}", e.valid_up_to()))
}
