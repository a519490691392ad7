//! The `tokenizers` crate behind a few functions over plain integers and bytes.

use crate::guard::{guarded, utf8};
use serde_json::json;
use std::collections::HashSet;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::Tokenizer;

pub struct TokenizerHandle {
    tokenizer: Tokenizer,
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
            special,
            longest_token_bytes,
        }))
    })
}

impl TokenizerHandle {
    pub fn surround(&mut self, before: &[u8], after: &[u8]) -> Result<(), String> {
        let processor = guarded(|| {
            let (before, after) = (utf8(before)?, utf8(after)?);
            let mut special = serde_json::Map::new();
            let mut piece = |token: &str, kind: u32| {
                let id = self.tokenizer.token_to_id(token)?;
                special.insert(token.into(), json!({"id": token, "ids": [id], "tokens": [token]}));
                Some(json!({"SpecialToken": {"id": token, "type_id": kind}}))
            };
            let mut sequence = |name: &str, kind: u32| {
                let text = Some(json!({"Sequence": {"id": name, "type_id": kind}}));
                let pieces = [piece(before, kind), text, piece(after, kind)];
                pieces.into_iter().flatten().collect::<Vec<_>>()
            };
            let single = sequence("A", 0);
            let pair = [single.clone(), sequence("B", 1)].concat();
            serde_json::from_value::<PostProcessorWrapper>(json!({
                "type": "TemplateProcessing",
                "single": single,
                "pair": pair,
                "special_tokens": special,
            }))
            .map_err(|e| e.to_string())
        })?;
        self.tokenizer.with_post_processor(Some(processor));
        Ok(())
    }

    pub fn encode(&self, text: &[u8], add_special_tokens: bool) -> Result<Vec<i32>, String> {
        guarded(|| {
            let text = utf8(text)?;
            let encoding = self
                .tokenizer
                .encode_fast(text, add_special_tokens)
                .map_err(|e| e.to_string())?;
            Ok(encoding.get_ids().iter().map(|&id| id as i32).collect())
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
