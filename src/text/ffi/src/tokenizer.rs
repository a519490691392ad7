//! The `tokenizers` crate behind a few functions over plain integers and bytes.

use crate::ffi::PlacedToken;
use crate::guard::{guarded, utf8};
use std::collections::HashSet;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{Encoding, PostProcessor, Token, Tokenizer};

pub struct TokenizerHandle {
    tokenizer: Tokenizer, // without its post-processor, which adds these ids around a text:
    before: Vec<i32>,
    after: Vec<i32>,
    special: HashSet<u32>,
    vocab_size: usize,
    longest_token_bytes: usize,
}

pub fn load_tokenizer(json: &[u8]) -> Result<Box<TokenizerHandle>, String> {
    guarded(|| {
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(|e| e.to_string())?;
        // What a tokenizer.json says about cutting and padding was meant for training batches;
        // `transformers` ignores it too unless asked.
        tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
        tokenizer.with_padding(None);
        let (before, after) = added_around(tokenizer.get_post_processor())?;
        tokenizer.with_post_processor(None::<PostProcessorWrapper>);
        let added = tokenizer.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, t)| t.special).map(|(id, _)| *id).collect();
        let byte_level = serde_json::to_string(&tokenizer.get_decoder())
            .is_ok_and(|d| d.contains("\"ByteLevel\""));
        let longest_token_bytes = tokenizer
            .get_vocab(true)
            .iter()
            // A byte-level token spells each byte as one character.
            .map(|(text, id)| match byte_level && !added.contains_key(id) {
                true => text.chars().count(),
                false => text.len(),
            })
            .max()
            .unwrap_or(0);
        Ok(Box::new(TokenizerHandle {
            vocab_size: tokenizer.get_vocab_size(true),
            tokenizer,
            before,
            after,
            special,
            longest_token_bytes,
        }))
    })
}

/// What the post-processor puts around a token.
fn added_around(
    processor: Option<&PostProcessorWrapper>,
) -> Result<(Vec<i32>, Vec<i32>), String> {
    let Some(processor) = processor else { return Ok((vec![], vec![])) };
    let token = Encoding::from_tokens(vec![Token::new(0, "a".into(), (0, 1))], 0);
    let all = processor.process(token, None, true).map_err(|e| e.to_string())?;
    let ids: Vec<i32> = all.get_ids().iter().map(|&id| id as i32).collect();
    let at = all.get_special_tokens_mask().iter().position(|&added| added == 0);
    let at = at.ok_or("its post-processor leaves the text out")?;
    Ok((ids[..at].to_vec(), ids[at + 1..].to_vec()))
}

pub fn check_utf8(text: &[u8]) -> Result<(), String> {
    utf8(text).map(|_| ())
}

impl TokenizerHandle {
    pub fn surround(&mut self, before: &[u8], after: &[u8]) -> Result<(), String> {
        (self.before, self.after) = guarded(|| {
            let ids = |token: &[u8]| -> Result<Vec<i32>, String> {
                let id = self.tokenizer.token_to_id(utf8(token)?);
                Ok(id.into_iter().map(|id| id as i32).collect())
            };
            Ok((ids(before)?, ids(after)?))
        })?;
        Ok(())
    }

    pub fn before(&self) -> &[i32] {
        &self.before
    }

    pub fn after(&self) -> &[i32] {
        &self.after
    }

    pub fn encode(&self, text: &[u8]) -> Result<Vec<i32>, String> {
        guarded(|| {
            let encoding =
                self.tokenizer.encode_fast(utf8(text)?, false).map_err(|e| e.to_string())?;
            Ok(encoding.get_ids().iter().map(|&id| id as i32).collect())
        })
    }

    pub fn encode_places(&self, text: &[u8]) -> Result<Vec<PlacedToken>, String> {
        guarded(|| {
            let encoding = self.tokenizer.encode(utf8(text)?, false).map_err(|e| e.to_string())?;
            let places = encoding.get_ids().iter().zip(encoding.get_offsets());
            Ok(places.map(|(&id, &(begin, end))| PlacedToken { id: id as i32, begin, end }).collect())
        })
    }

    pub fn decode(&self, ids: &[i32], skip_special_tokens: bool) -> Result<String, String> {
        guarded(|| {
            let ids = ids
                .iter()
                .map(|&id| match self.has_token(id) {
                    true => Ok(id as u32),
                    false => Err(self.unknown(id)),
                })
                .collect::<Result<Vec<u32>, String>>()?;
            self.tokenizer
                .decode(&ids, skip_special_tokens)
                .map_err(|e| e.to_string())
        })
    }

    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    pub fn token_to_id(&self, token: &[u8]) -> Result<i32, String> {
        guarded(|| Ok(self.tokenizer.token_to_id(utf8(token)?).map_or(-1, |id| id as i32)))
    }

    pub fn id_to_token(&self, id: i32) -> Result<String, String> {
        guarded(|| self.lookup(id).ok_or_else(|| self.unknown(id)))
    }

    pub fn has_token(&self, id: i32) -> bool {
        guarded(|| Ok(self.lookup(id).is_some())).unwrap_or(false)
    }

    pub fn is_special(&self, id: i32) -> bool {
        u32::try_from(id).is_ok_and(|id| self.special.contains(&id))
    }

    pub fn longest_token_bytes(&self) -> usize {
        self.longest_token_bytes
    }

    fn lookup(&self, id: i32) -> Option<String> {
        self.tokenizer.id_to_token(u32::try_from(id).ok()?)
    }

    fn unknown(&self, id: i32) -> String {
        format!("token id {id} is not in the vocabulary of {} tokens", self.vocab_size)
    }
}
