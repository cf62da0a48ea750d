"""Fine-tunes a model on your own text by script, with nothing but the public API; change it as you need.

python scripts/finetune.py my.txt runs/mine
python scripts/finetune.py my.txt runs/mine --model Qwen/Qwen2.5-0.5B --lora-rank 8 --prompt "Once upon a time"
"""

import argparse

from aigc_text import UserError, load, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="text or JSONL file")
    parser.add_argument("output", help="the run's folder")
    parser.add_argument("--backend", help="gpt2 (prose), code, or any other; by default the model's own")
    parser.add_argument("--model", help="hub id or folder; by default the backend's own")
    parser.add_argument("--max-steps", type=int, default=500)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--lora-rank", type=int, help="train an adapter of this rank instead of all weights")
    parser.add_argument("--prompt", default="", help="what the trained model continues at the end")
    args = parser.parse_args()

    progress = train(
        load(args.backend, args.model),
        args.data,
        args.output,
        max_steps=args.max_steps,
        learning_rate=args.learning_rate,
        lora_rank=args.lora_rank,
        eval_on_start=True,
        eval_every=max(1, args.max_steps // 10),
    )
    for report in progress:
        if "eval_bits_per_byte" in report.logs:
            print(f"step {report.step}: {report.logs['eval_bits_per_byte']:.3f} bits a byte of held-out text")

    for completion in load(args.output).generate([args.prompt], max_new_tokens=100, num_return_sequences=3, seed=0):
        print(f"\n--- {completion.index + 1}\n{completion.prompt}{completion.text}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"Error: {error.message}\n{error.cure}") from None
