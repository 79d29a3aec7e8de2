"""A trained model in the forms that other tools open: a GPT-2 folder, ONNX, GGUF, OpenVINO."""
