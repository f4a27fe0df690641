"""Train the embedded demonstration model (`pip install '.[train]'`); hours on two cores, seldom run, never in CI.

    python scripts/train_demo_model.py run/state.pt --start node/demo/model.safetensors --minutes 120
    python scripts/train_demo_model.py run/state.pt --minutes 120                      # goes on
    cp run/state.pt run/final.pt; python scripts/train_demo_model.py run/final.pt --minutes 30 --decay 30
    python scripts/train_demo_model.py run/final.pt --export node/demo

Without `--start` the model begins as an induction circuit with random weights around it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from demo_model.export import export
from demo_model.training import Plan, load_model, train

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Read the command line, train or export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--tokenizer", type=Path, default=ROOT / "node/demo/tokenizer.json")
    parser.add_argument("--start", type=Path, help="weights to begin from (model.safetensors)")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--decay", type=float, default=0, help="minutes at the end in which the rate falls to nothing")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--tokens", type=int, default=4096, help="tokens in a worker's batch")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--easy", type=float, default=0, help="share of easy documents, for the beginning")
    parser.add_argument(
        "--plain", type=float, default=0, help="share of documents with the best-known tools, for the end"
    )
    parser.add_argument("--adam", action="store_true", help="AdamW for everything in place of Muon for the matrices")
    parser.add_argument(
        "--export", type=Path, metavar="FOLDER", help="write the averaged weights as a folder for mlx-lm"
    )
    parser.add_argument("--template", type=Path, default=ROOT / "node/demo/templates/qwen.jinja")
    args = parser.parse_args()
    if args.export:
        model = load_model(args.checkpoint)
        weights = {name: value.numpy() for name, value in model.state_dict().items()}
        export(weights, model.shape, args.export, args.tokenizer, args.template)
        return
    plan = Plan(args.checkpoint, args.tokenizer, args.start, args.minutes, args.decay, args.lr, args.tokens)
    plan.workers, plan.seed, plan.easy, plan.plain, plan.muon = (
        args.workers,
        args.seed,
        args.easy,
        args.plain,
        not args.adam,
    )
    train(plan)


if __name__ == "__main__":
    main()
