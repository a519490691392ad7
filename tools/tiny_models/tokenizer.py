"""Makes the tiny tokenizers: byte-level BPE trained on text of `world`, in the form of each family.

Vocabulary ids: bytes and merges first, special tokens after them, as the families do.
"""

import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tools.tiny_models import world

# The split patterns are facts of the formats: text must be cut as the families cut it.
LLAMA3_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+")

LLAMA3_SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|finetune_right_pad_id|>",
                  "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"]
QWEN2_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN2_ADDED = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]  # added, not special
QWEN3_ADDED = QWEN2_ADDED + ["<think>", "</think>"]

LLAMA3_TEMPLATE = """\
{%- if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_text = messages[0]['content'] | trim %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set system_text = '' %}
    {%- set turns = messages %}
{%- endif %}
{%- if system_text or tools %}
    {{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
    {%- if tools %}
        {{- 'Tools, one a line. To use one, answer with {"name": its name, "parameters": its arguments} and nothing else.\\n' }}
        {%- for tool in tools %}
            {{- tool | tojson }}
            {{- '\\n' }}
        {%- endfor %}
    {%- endif %}
    {{- system_text }}
    {{- '<|eot_id|>' }}
{%- endif %}
{%- for message in turns %}
    {%- if message['role'] in ['tool', 'ipython'] %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}
        {%- if message['content'] is string %}{{- message['content'] }}{% else %}{{- message['content'] | tojson }}{% endif %}
        {{- '<|eot_id|>' }}
    {%- elif message['tool_calls'] %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
        {%- for call in message['tool_calls'] %}
            {%- set call = call['function'] if call['function'] else call %}
            {{- '{"name": "' + call['name'] + '", "parameters": ' }}
            {%- if call['arguments'] is string %}{{- call['arguments'] }}{% else %}{{- call['arguments'] | tojson }}{% endif %}
            {{- '}' }}
        {%- endfor %}
        {{- '<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

# What both templates of Qwen put behind a message: its calls of tools and the end of the turn.
QWEN_CALLS = """\
        {%- for call in message['tool_calls'] or [] %}
            {%- set call = call['function'] if call['function'] else call %}
            {{- '\\n<tool_call>\\n{"name": "' + call['name'] + '", "arguments": ' }}
            {%- if call['arguments'] is string %}{{- call['arguments'] }}{% else %}{{- call['arguments'] | tojson }}{% endif %}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
"""

QWEN2_TEMPLATE = """\
{%- if messages[0]['role'] == 'system' %}
    {%- set system_text = messages[0]['content'] %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set system_text = 'You are a helpful assistant.' %}
    {%- set turns = messages %}
{%- endif %}
{{- '<|im_start|>system\\n' + system_text }}
{%- if tools %}
    {{- '\\n\\nTools, one a line:\\n<tools>' }}
    {%- for tool in tools %}
        {{- '\\n' }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '\\n</tools>\\nTo use one, answer with\\n<tool_call>\\n{"name": its name, "arguments": its arguments}\\n</tool_call>' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for message in turns %}
    {%- if message['role'] == 'tool' %}
        {%- if loop.first or turns[loop.index0 - 1]['role'] != 'tool' %}{{- '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' + message['content'] + '\\n</tool_response>' }}
        {%- if loop.last or turns[loop.index0 + 1]['role'] != 'tool' %}{{- '<|im_end|>\\n' }}{% endif %}
    {%- else %}
        {{- '<|im_start|>' + message['role'] }}
        {%- if message['content'] %}{{- '\\n' + message['content'] }}{% endif %}
""" + QWEN_CALLS + """\
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

# Qwen3's form: no system message by default, thoughts in <think>, of earlier turns left out; without thinking the answer
# begins behind an empty thought.
QWEN3_TEMPLATE = """\
{%- set ns = namespace(asked=-1) %}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}{%- set ns.asked = loop.index0 %}{% endif %}
{%- endfor %}
{%- if messages[0]['role'] == 'system' or tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] }}{% endif %}
    {%- if tools %}
        {{- '\\n\\nTools, one a line:\\n<tools>' }}
        {%- for tool in tools %}
            {{- '\\n' }}
            {{- tool | tojson }}
        {%- endfor %}
        {{- '\\n</tools>\\nTo use one, answer with\\n<tool_call>\\n{"name": its name, "arguments": its arguments}\\n</tool_call>' }}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message['role'] == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1]['role'] != 'tool' %}{{- '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' + message['content'] + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1]['role'] != 'tool' %}{{- '<|im_end|>\\n' }}{% endif %}
    {%- elif message['role'] == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.asked and message['reasoning_content'] is string %}
            {{- '<think>\\n' + message['reasoning_content'].strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {%- if message['content'] %}{{- message['content'].split('</think>')[-1].lstrip('\\n') }}{% endif %}
""" + QWEN_CALLS + """\
    {%- elif not (message['role'] == 'system' and loop.first) %}
        {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}
"""


def corpus(documents=6000, seed=7):
    """Training text for the merges: documents of the world, chats as their bare contents and tools as JSON."""
    stream = world.training_docs(seed)
    for _ in range(documents):
        doc = next(stream)
        if doc.messages is None:
            yield doc.text
        else:
            yield from (m["content"] for m in doc.messages)
            yield from (json.dumps(t) for t in doc.tools or [])


def _train(split, entries, normalizer):
    """A byte-level BPE tokenizer with `entries` ids (256 bytes among them) and the family's split."""
    tok = Tokenizer(models.BPE())
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(split), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=entries, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                  show_progress=False)
    tok.train_from_iterator(corpus(), trainer)
    return tok


def _write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _save(tok, folder, template, tokenizer_class, special_map, extra):
    """Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json into `folder`."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tok.save(str(folder / "tokenizer.json"))
    added = {str(i): {"content": t.content, "lstrip": t.lstrip, "normalized": t.normalized, "rstrip": t.rstrip,
                      "single_word": t.single_word, "special": t.special}
             for i, t in sorted(tok.get_added_tokens_decoder().items())}
    _write_json(folder / "tokenizer_config.json", {
        "added_tokens_decoder": added, "chat_template": template, "clean_up_tokenization_spaces": False,
        "model_max_length": 2048, "tokenizer_class": tokenizer_class, **special_map, **extra})
    _write_json(folder / "special_tokens_map.json", {k: v for k, v in special_map.items() if v is not None})


def make_llama3(folder, vocabulary=2024):
    """Llama 3's form: BOS from the post-processor, ignore_merges, digits in groups of up to three."""
    base = _train(LLAMA3_SPLIT, vocabulary - len(LLAMA3_SPECIAL), normalizer=None)
    base.model.ignore_merges = True
    base.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in LLAMA3_SPECIAL])
    bos = LLAMA3_SPECIAL[0]
    base.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1",
                                      special_tokens=[(bos, base.token_to_id(bos))])])
    assert base.get_vocab_size() == vocabulary
    _save(base, folder, LLAMA3_TEMPLATE, "PreTrainedTokenizerFast",
          {"bos_token": bos, "eos_token": "<|eot_id|>", "pad_token": "<|finetune_right_pad_id|>"},
          {"model_input_names": ["input_ids", "attention_mask"]})
    return base


def _make_qwen(folder, template, added, vocabulary=2040):
    """The form of Qwen2 and Qwen3: NFC, digits one by one, no BOS; the embedding has 2048 rows, the last ones are
    padding."""
    base = _train(QWEN2_SPLIT, vocabulary - len(QWEN2_SPECIAL) - len(added), normalizer=normalizers.NFC())
    base.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in QWEN2_SPECIAL])
    base.add_tokens([AddedToken(t, special=False, normalized=False) for t in added])
    base.post_processor = processors.ByteLevel(trim_offsets=False)
    assert base.get_vocab_size() == vocabulary
    _save(base, folder, template, "Qwen2Tokenizer",
          {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None},
          {"add_bos_token": False, "add_prefix_space": False, "errors": "replace", "split_special_tokens": False})
    return base


def make_qwen2(folder):
    return _make_qwen(folder, QWEN2_TEMPLATE, QWEN2_ADDED)


def make_qwen3(folder):
    return _make_qwen(folder, QWEN3_TEMPLATE, QWEN3_ADDED)
