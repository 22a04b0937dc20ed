"""Wrong uses of every command: each ends at once, with one sentence that names the value, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import Outcome

GOOD = "pretrain --recipe {good} --output_dir out"

USAGE = [  # what is wrong with the command line itself: exit status 2
    ("", "usage"),
    ("pretrian", "pretrian"),
    ("pretrain --nothing", "--nothing"),
    ("pretrain --learning_rat 1", "did you mean '--learning_rate'"),
    ("pretrain --recipe", "--recipe"),
    ("pretrain stray", "stray"),
    (f"{GOOD} --max_steps many", "many"),
    (f"{GOOD} --learning_rate fast", "fast"),
    (f"{GOOD} --per_device_train_batch_size 1.5", "1.5"),
    (f"{GOOD} --optim adammm", "adammm"),
    (f"{GOOD} --debug everything", "everything"),
    (f"{GOOD} --use_cpu perhaps", "perhaps"),
    (f"{GOOD} --hub_strategy sometimes", "sometimes"),
    (f"{GOOD} --seed", "--seed"),
    (f"{GOOD} --logging_strategy hourly", "hourly"),
    ("evaluate", "MODEL"),
    ("evaluate vit-micro-8 --task knn", "--tasks"),
    ("evaluate vit-micro-8 --max_images many", "many"),
    ("evaluate vit-micro-8 --knn-kay 3", "--knn-kay"),
    ("evaluate vit-micro-8 --seed 0.5", "0.5"),
    ("export", "directory"),
    ("export a b c", "'c'"),
    ("export a b --teachr", "--teacher"),
    ("push", "repo"),
    ("push a b c", "'c'"),
    ("push a b --privat", "--private"),
    ("sweep", "file"),
    ("sweep {here}/sweep.yaml --seeds one", "one"),
    ("sweep {here}/sweep.yaml --job 3", "--jobs"),
    ("demo --prot 1", "--port"),
    ("demo --port http", "http"),
]

VALUES = [  # options that no run can use
    ("--per_device_train_batch_size 0", "0"),
    ("--per_device_train_batch_size -4", "-4"),
    ("--gradient_accumulation_steps 0", "0"),
    ("--learning_rate nan", "nan"),
    ("--learning_rate inf", "inf"),
    ("--learning_rate -0.1", "-0.1"),
    ("--learning_rate 0", "learning_rate is 0"),
    ("--weight_decay -0.1", "-0.1"),
    ("--weight_decay nan", "nan"),
    ("--weight_decay_end -1", "-1"),
    ("--num_train_epochs 0", "num_train_epochs is 0"),
    ("--num_train_epochs -1", "-1"),
    ("--num_train_epochs nan", "nan"),
    ("--max_steps 0", "max_steps is 0"),
    ("--max_steps -5", "-5"),
    ("--adam_beta1 1", "adam_beta1 is 1"),
    ("--adam_beta2 -0.1", "-0.1"),
    ("--adam_epsilon 0", "adam_epsilon is 0"),
    ("--max_grad_norm -1", "-1"),
    ("--max_grad_norm nan", "nan"),
    ("--warmup_steps -1", "-1"),
    ("--logging_steps 0", "logging_steps is 0"),
    ("--save_steps 0", "save_steps is 0"),
    ("--save_total_limit 0", "save_total_limit is 0"),
    ("--seed -1", "-1"),
    ("--seed 4294967296", "4294967296"),
    ("--dataloader_num_workers -1", "-1"),
    ("--dataloader_prefetch_factor 0", "0"),
    ("--canvas_size 0", "canvas_size is 0"),
    ("--canvas_size 1", "canvas_size is 1"),
    ("--canvas_size 100000", "100000"),
    ("--image_size 0", "image_size is 0"),
    ("--image_size 1000000", "1000000"),
    ("--shuffle_block 0", "shuffle_block is 0"),
    ("--images_per_epoch 0", "images_per_epoch is 0"),
    ("--max_skipped -1", "-1"),
    ("--teacher_momentum 1.5 1", "1.5"),
    ("--teacher_momentum -0.1 1", "-0.1"),
    ("--teacher_momentum 0.9", "two numbers"),
    ("--probe_steps -1", "-1"),
    ("--probe_images 0", "probe_images is 0"),
    ("--collapse_std -1", "-1"),
    ("--eval_strategy steps", "eval_strategy steps"),
    ("--eval_steps 10", "--probe_steps"),
    ("--do_eval", "do_eval"),
    ("--per_device_eval_batch_size 4", "per_device_eval_batch_size 4"),
    ("--load_best_model_at_end", "load_best_model_at_end"),
    ("--metric_for_best_model loss", "metric_for_best_model loss"),
    ("--label_smoothing_factor 0.1", "label_smoothing_factor 0.1"),
    ("--neftune_noise_alpha 5", "models of text"),
    ("--use_liger_kernel", "models of text"),
    ("--train_sampling_strategy group_by_length", "group_by_length"),
    ("--remove_unused_columns True", "must stay False"),
    ("--ddp_broadcast_buffers True", "must stay False"),
    ("--save_only_model", "save_only_model"),
    ("--ignore_data_skip", "ignore_data_skip"),
    ("--auto_find_batch_size", "auto_find_batch_size"),
    ("--deepspeed nowhere.json", "deepspeed nowhere.json"),
    ("--save_strategy best", "best"),
    ("--lr_scheduler_type reduce_lr_on_plateau", "reduce_lr_on_plateau"),
    ("--lr_scheduler_kwargs {nonsense", "lr_scheduler_kwargs"),
    ('--lr_scheduler_kwargs {"min_lrr":1}', "min_lrr"),
    ("--lr_scheduler_type cosine_with_min_lr --lr_scheduler_kwargs {}", "cosine_with_min_lr"),
    ("--optim adamw_bnb_8bit", "adamw_bnb_8bit"),
    ("--optim_args x", "optim"),
    ("--report_to wandb", "pip install 'wandb'"),
    ("--report_to wandbb", "wandbb"),
    ("--report_to comet_ml", "comet_ml"),
    ("--output_dir {here}/file", "is a file"),
    ("--output_dir {here}/file/below", "is a file"),
    ("--hub_strategy all_checkpoints --push_to_hub", "all_checkpoints"),
    ("--resume_from_checkpoint last", "nothing to resume"),
    ("--resume_from_checkpoint nowhere", "nowhere is no checkpoint"),
    ("--resume_from_checkpoint {here}/empty", "is no checkpoint"),
    ("--streaming --max_steps -1", "--max_steps"),
    ("--fsdp nonsense", "nonsense"),
    ("--torch_compile_mode quick", "quick"),
    ("--lr_scheduler_type cosin", "cosin"),
]

OBJECTIVES = [
    ("--objectives dyno", "did you mean 'dino'"),
    ("--objectives dino=much", "much"),
    ("--objectives dino=0", "weight is 0"),
    ("--objectives dino=-1", "-1"),
    ("--objectives dino=nan", "nan"),
    ("--objectives dino=inf", "inf"),
    ("--objectives spatial_prediction spatial_prediction", "spatial_prediction"),
]

ENCODERS = [
    ("vit-smal-16", "vit-smal-16"),
    ("./nowhere", "nowhere"),
    ("{here}/nowhere/config.json", "nowhere"),
    ("{here}/truncated", "truncated or damaged"),
    ("{here}/garbage", "truncated or damaged"),
    ("{here}/no-weights-at-all", "truncated or damaged"),
    ("{here}/bad-json", "bad-json"),
    ("{here}/unknown-type", "vitt"),
    ("{here}/no-type", "no-type"),
    ("{here}/text-model", "gpt2"),
    ("{here}/other-size", "other-size"),
    ("{here}/deeper", "layer"),
    ("{here}/pickled", "safetensors"),
    ("{here}/empty", "config.json"),
    ("a/b/c", "a/b/c"),
]

DATASETS = [
    ("./nowhere", "nowhere"),
    ("{here}/empty", "empty"),
    ("{here}/words.txt", "words.txt"),
    ("{here}/*.nothing", "*.nothing"),
    ("{here}/bad.parquet", "a file of it may be damaged: copy or download it again"),
    ("{here}/bad.tar", "a file of it may be damaged: copy or download it again"),
    ("{here}/cut.tar", "a file of it may be damaged: copy or download it again"),
    ("{here}/one-image", "fewer than one batch"),
    ("part-scenes?sise=3", "sise"),
    ("part-scenes?size=0", "size"),
    ("part-scenes?size=big", "big"),
    ("ftp://nowhere/x.parquet", "ftp"),
    ("{here}/images --dataset_split tset", "tset"),
    ("{here}/images --image_column img", "img"),
    ("{here}/images --label_column lable", "lable"),
    ("{here}/images --dataset_config big", "big"),
    ("{here}/bad.parquet --streaming", "bad.parquet"),
    ("{here}/bad.tar --streaming", "bad.tar"),
]

RECIPES = [
    ("nowhere", "nowhere.yaml"),
    ("list", "mapping"),
    ("syntax", "not valid YAML"),
    ("twice", "'learning_rate' stands there a second time, in line 3"),
    ("unknown", "did you mean 'learning_rate'"),
    ("text-rate", "fast"),
    ("number-key", "1"),
    ("nameless", "name"),
    ("typo-option", "prototipes"),
    ("empty", "mapping"),
    ("binary", "UTF-8"),
]

ENTRIES = [
    ("number", "'3'"),
    ("one-view", "at least 2"),
    ("half-a-view", "2.5"),
    ("grid", "[3, 3]"),
    ("inside", "target_std"),
    ("boxes", "'objs'"),
    ("photometric", "'dinoo'"),
    ("area", "(2, 3)"),
    ("sice", "sice"),
    ("patches", "use 12 or 16"),
    ("reference", "'dino/local'"),
    ("views", "not list"),
    ("weight", "weight is True"),
    ("fraction", "prototypes is 2.5; it must be a whole number"),
    ("truth", "norm_last_layer is 'no'; it must be true or false"),
    ("momentum", "'a'"),
    ("temperature", "teacher_temperature is 0"),
    ("ratio", "1.5"),
    ("ratios", "[0.9, 0.1]"),
]

OTHERS = [
    ("evaluate vit-smal-16", "vit-smal-16"),
    ("evaluate ./nowhere", "nowhere"),
    ("evaluate {here}/truncated", "truncated or damaged"),
    ("evaluate {here}/bad-json", "bad-json"),
    ("evaluate vit-micro-8 --tasks knnn", "knnn"),
    ("evaluate vit-micro-8 --device gpu", "gpu"),
    ("evaluate vit-micro-8 --device cuda:99", "cuda:99"),
    ("evaluate vit-micro-8 --batch_size 0", "batch_size"),
    ("evaluate vit-micro-8 --num_workers -1", "num_workers"),
    ("evaluate vit-micro-8 --max_images -1", "max_images"),
    ("evaluate vit-micro-8 --size 0", "size"),
    ("evaluate vit-micro-8 --size 13", "13"),
    ("evaluate vit-micro-8 --seed -1", "seed"),
    ("evaluate vit-micro-8 --output_dir {here}/file --tasks knn", "file"),
    ("evaluate vit-micro-8 --cache_dir {here}/file --tasks knn", "file"),
    ("evaluate vit-micro-8 --tasks knn --knn_neighbours 0", "0"),
    ("evaluate vit-micro-8 --tasks knn --dataset ./nowhere --no_cache", "nowhere"),
    ("evaluate vit-micro-8 --tasks knn --dataset {here}/all-bad --no_cache", "all-bad"),
    ("evaluate vit-micro-8 --push_results a/b", "--output_dir"),
    ("export {here}/nowhere out", "nowhere"),
    ("export {here}/empty out", "empty"),
    ("export {here}/cut-run out", "truncated or damaged"),
    ("export {here}/run {here}/file", "is a file"),
    ("export {here}/run out --teacher", "no teacher"),
    ("export {here}/vit out", "no run"),
    ("push {here}/nowhere a/b", "nowhere"),
    ("push {here}/vit a/b", "no run"),
    ("push {here}/cut-run a/b --dry-run --no-card", "truncated or damaged"),
    ("sweep nowhere.yaml", "nowhere.yaml"),
    ("sweep {good}", "not a sweep"),
    ("sweep {here}/list.yaml", "mapping"),
    ("sweep {here}/sweep-runs.yaml", "runs"),
    ("sweep {here}/sweep-seeds.yaml", "seeds"),
    ("sweep {here}/sweep-measures.yaml", "measures"),
    ("sweep {here}/sweep-evaluations.yaml", "evaluations"),
    ("sweep {here}/sweep-evaluate.yaml", "evaluate"),
    ("sweep {here}/sweep-names.yaml", "'B'"),
    ("sweep {here}/sweep-key.yaml", "evaluatons"),
    ("sweep {here}/sweep-recipe.yaml", "nowhere.yaml"),
    ("sweep {here}/sweep.yaml --seeds 7", "7"),
    ("sweep {here}/sweep.yaml --only B", "'B'"),
    ("sweep {here}/sweep.yaml --jobs 0", "0"),
    ("sweep {here}/sweep.yaml --dataset ./nowhere", "nowhere"),
    ("sweep {here}/sweep.yaml --output_dir {here}/file", "file"),
    ("demo vit-smal-16", "vit-smal-16"),
    ("demo vit-micro-8 --scenes 0", "0"),
    ("demo vit-micro-8 --port 99999999", "99999999"),
]

REFUSED = [
    *((f"{GOOD} {flags}", named) for flags, named in VALUES + OBJECTIVES),
    *((f"{GOOD} --encoder {encoder}", named) for encoder, named in ENCODERS),
    *((f"{GOOD} --dataset {dataset}", named) for dataset, named in DATASETS),
    *((f"pretrain --recipe {{here}}/{name}.yaml --output_dir out", named) for name, named in RECIPES),
    *((f"pretrain --recipe {{here}}/entry-{name}.yaml --output_dir out", named) for name, named in ENTRIES),
    *OTHERS,
]


@pytest.mark.parametrize(("line", "named"), USAGE, ids=lambda text: text[:60])
def test_a_command_line_that_cannot_be_read(line: str, named: str, wrong: Callable[[str], Outcome]) -> None:
    outcome = wrong(line)
    assert outcome.status == 2
    check(outcome.error, named) if line else None


@pytest.mark.parametrize(("line", "named"), REFUSED, ids=lambda text: text[:90])
def test_what_cannot_be_done(line: str, named: str, wrong: Callable[[str], Outcome]) -> None:
    outcome = wrong(line)
    assert outcome.status == 1, outcome.error
    check(outcome.error, named)


def check(error: str, named: str) -> None:
    told = [line for line in error.splitlines() if line.startswith("sp-hf: ")]
    assert len(told) == 1, error
    assert named in told[0], error
    assert "Traceback" not in error and len(told[0]) < 900
