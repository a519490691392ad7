"""Writes expected.json and golden/logits.safetensors of one tiny model: what transformers computes in float32.

    python -m tools.tiny_models.expected models/llama3_tiny_bf16

The definitions of the figures stand in models/README.md. Nothing here is Octet's own output.
"""

import argparse
import json
import math
import pathlib

import safetensors.torch
import torch
import transformers
from tokenizers import Tokenizer

from tools.tiny_models import world
from tools.tiny_models.train import write_json, yesno_accuracy

NEW_TOKENS = 32
PROMPTS = [
    "On Monday it was rainy in Arden. Anna went to the",
    "Deep Learning -- Deep learning is",
    "Rain -- Rain is water that",
    "Frog -- The frog is an amphibian. It has",
    "7 + 5 = 12\n9 - 4 =",
    "Belmont -- Belmont is a town near Fairview.",
    "The diary of Oscar\nFriday: it was",
    "猫喜欢吃鱼。今天",
    "Mia -- Mia likes rice. Leo likes soup.\nQuestion: does Leo like soup?\nAnswer:",
    "Once there was a baker who was called Hugo. He owned a blue kite. The duck",
]
GOLDEN_PROMPTS = [
    "Nora had a green lamp and a horse. Every Sunday she walked to the library. The horse took the lamp and ran away. "
    "Nora looked for it in the library, but only Peter was there.",
    "Sam -- Sam lives in Dunwick. Iris lives in Eastport. 月亮在晚上出来。 8 + 9 = 17 😀\n"
    "Question: does Iris live in Dunwick?\nAnswer:",
]
CHATS = [
    {"messages": [{"role": "user", "content": "What's Deep Learning?"}]},
    {"messages": [{"role": "system", "content": "Answer in one sentence."}, {"role": "user", "content": "Hello!"},
                  {"role": "assistant", "content": "Hello! How can I help you today?"},
                  {"role": "user", "content": "How much is 6 plus 7?"}]},
    {"messages": [{"role": "user", "content": "什么是深度学习？"}]},
    {"messages": [{"role": "user", "content": "Show me an emoji for cat."}]},
    {"messages": [{"role": "system", "content": "You are a friendly guide."},
                  {"role": "user", "content": "How is the weather in Fairview?"},
                  {"role": "assistant", "content": "", "tool_calls": [
                      {"type": "function", "function": {"name": "get_weather", "arguments": {"town": "Fairview"}}}]},
                  {"role": "tool", "name": "get_weather", "content": "{\"weather\": \"foggy\"}"}],
     "tools": [world.WEATHER_TOOL, world.SUM_TOOL]},
]


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@torch.no_grad()
def logits(model, ids):
    return model(torch.tensor([ids])).logits[0].float()


def greedy(model, ids):
    """The NEW_TOKENS most likely continuation ids; an end token does not stop it."""
    ids = list(ids)
    for _ in range(NEW_TOKENS):
        ids.append(int(logits(model, ids)[-1].argmax()))
    return ids[-NEW_TOKENS:]


def continuation(model, tok, text, add_special_tokens=True):
    ids = tok.encode(text, add_special_tokens=add_special_tokens).ids
    new = greedy(model, ids)
    best = logits(model, ids)[-1].topk(5)
    return {"prompt": text, "prompt_ids": ids, "ids": new, "text": tok.decode(new, skip_special_tokens=True),
            "top5": [{"id": i, "logit": round(v, 5)} for i, v in zip(best.indices.tolist(), best.values.tolist())]}


def perplexity(model, tok, items):
    """exp of the mean loss over all predicted tokens of all passages."""
    loss, count = 0.0, 0
    for item in items:
        ids = tok.encode(item["inputs_pretokenized"]).ids
        log_probs = logits(model, ids).log_softmax(-1)[:-1]
        loss -= log_probs.gather(1, torch.tensor(ids[1:])[:, None]).double().sum().item()
        count += len(ids) - 1
    return math.exp(loss / count)


def renderings(model, tok, chat_tok):
    """The chats of CHATS as text, ids, and their greedy answers; of a template with thoughts also without them."""
    chats = CHATS
    if "enable_thinking" in chat_tok.chat_template:
        chats = CHATS + [chat | {"chat_template_kwargs": {"enable_thinking": False}} for chat in CHATS[:3]]
    result = []
    for chat in chats:
        text = chat_tok.apply_chat_template(chat["messages"], tools=chat.get("tools"), tokenize=False,
                                            add_generation_prompt=True, **chat.get("chat_template_kwargs", {}))
        made = continuation(model, tok, text, add_special_tokens=False)
        result.append(chat | {"text": text, "ids": made["prompt_ids"], "answer_ids": made["ids"], "answer": made["text"]})
    return result


def write_golden(model, tok, folder):
    tensors = {}
    for i, prompt in enumerate(GOLDEN_PROMPTS):
        ids = tok.encode(prompt).ids
        tensors[f"prompt{i}.ids"] = torch.tensor(ids, dtype=torch.int32)
        tensors[f"prompt{i}.logits"] = logits(model, ids).contiguous()
    (folder / "golden").mkdir(exist_ok=True)
    safetensors.torch.save_file(tensors, folder / "golden" / "logits.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    tok = Tokenizer.from_file(str(folder / "tokenizer.json"))
    chat_tok = transformers.AutoTokenizer.from_pretrained(folder)
    held_out = folder.parent
    expected = {
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0],
                      "compute": "float32"},
        "perplexity": perplexity(model, tok, read_jsonl(held_out / "text.jsonl")),
        "yesno_accuracy": yesno_accuracy(model, tok, read_jsonl(held_out / "yesno.jsonl")),
        "yes_id": tok.encode(" yes", add_special_tokens=False).ids[0],
        "no_id": tok.encode(" no", add_special_tokens=False).ids[0],
        "greedy": [continuation(model, tok, prompt) for prompt in PROMPTS],
        "chat": renderings(model, tok, chat_tok),
    }
    write_json(folder / "expected.json", expected)
    write_golden(model, tok, folder)
    print(folder, {k: expected[k] for k in ("perplexity", "yesno_accuracy")})


if __name__ == "__main__":
    main()
