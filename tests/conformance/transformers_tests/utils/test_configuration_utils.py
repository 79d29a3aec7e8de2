"""Stand-in: settings that all configurations have, each with a value that is not its default."""

config_common_kwargs = {
    "architectures": ["SomeModel"],
    "dtype": "float16",
    "id2label": {0: "only"},
    "label2id": {"only": 0},
    "output_attentions": True,
    "output_hidden_states": True,
    "problem_type": "regression",
    "return_dict": False,
}
