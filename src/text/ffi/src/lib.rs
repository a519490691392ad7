//! What src/text/*.cc calls. Text crosses the border as bytes, because C++ strings need not be
//! UTF-8; every function that can fail returns a `Result`, which C++ sees as an exception, and
//! panics are turned into such results (guard.rs).

mod bounded;
mod guard;
mod json_text;
mod namespaces;
mod template;
mod tokenizer;

use template::{compile_template, TemplateHandle};
use tokenizer::{check_utf8, load_tokenizer, TokenizerHandle};

#[cxx::bridge(namespace = "octet::text::ffi")]
mod ffi {
    /// A token that stands for the bytes [begin, end) of its text. Several have the same bytes when
    /// they are inside a character.
    struct PlacedToken {
        id: i32,
        begin: usize,
        end: usize,
    }

    extern "Rust" {
        type TokenizerHandle;
        /// Parses the bytes of a tokenizer.json.
        fn load_tokenizer(json: &[u8]) -> Result<Box<TokenizerHandle>>;
        /// Fails where the text is not UTF-8.
        fn check_utf8(text: &[u8]) -> Result<()>;
        /// From now on these tokens of the vocabulary go around a text that gets special tokens;
        /// empty ones do not. In place of those of the post-processor that the file has.
        fn surround(&mut self, before: &[u8], after: &[u8]) -> Result<()>;
        /// The ids that go around a text.
        fn before(&self) -> &[i32];
        fn after(&self) -> &[i32];
        /// The text's own tokens.
        fn encode(&self, text: &[u8]) -> Result<Vec<i32>>;
        /// The same, each with where it stands in the text.
        fn encode_places(&self, text: &[u8]) -> Result<Vec<PlacedToken>>;
        fn decode(&self, ids: &[i32], skip_special_tokens: bool) -> Result<String>;
        fn vocab_size(&self) -> usize;
        /// -1 when no token has this text.
        fn token_to_id(&self, token: &[u8]) -> Result<i32>;
        fn id_to_token(&self, id: i32) -> Result<String>;
        fn has_token(&self, id: i32) -> bool;
        fn is_special(&self, id: i32) -> bool;
        fn longest_token_bytes(&self) -> usize;
    }

    /// What one rendering may use up beside the fuel.
    struct RenderLimits {
        output_bytes: usize,
        memory_bytes: usize,
        milliseconds: u64,
    }

    struct Rendered {
        text: String,
        /// The text says why not now: others hold what one rendering may use up.
        busy: bool,
    }

    extern "Rust" {
        type TemplateHandle;
        fn compile_template(source: &[u8], fuel: u64) -> Result<Box<TemplateHandle>>;
        /// `variables` is a JSON object; `now` is a Unix time in UTC, or i64::MIN for the clock's
        /// local time.
        fn render(&self, variables: &[u8], limits: RenderLimits, now: i64) -> Result<Rendered>;
    }
}
