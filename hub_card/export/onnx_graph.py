"""A GPT-2 as an ONNX graph with a key-value cache, in the form that transformers.js and Optimum run.

    input_ids, position_ids (B, T), attention_mask (B, S), past_key_values.N.key and .value (B, H, S - T, D)
    -> logits (B, T, V), present.N.key and .value (B, H, S, D)

The graph is text in ONNX's own syntax. One that torch traces is larger, and its head has a second copy of the
embedding. In 8 bits, the weights of one output share a scale, and so do all inputs of a product, as they come.
"""

from pathlib import Path

import numpy as np
from onnx import numpy_helper, parser
from transformers import GPT2LMHeadModel


MOST = 127  # of the whole numbers that stand for weights in 8 bits
MOST_BYTES = 2**31 - 1  # of one ONNX file


class GPT2Graph:
    """The graph of a model, with its weights. Each method but `save` returns lines of text."""

    def __init__(self, model: GPT2LMHeadModel, eight_bits: bool):
        self.config = model.config
        self.eight_bits = eight_bits
        state = model.state_dict()
        self.weights = {name.removeprefix("transformer."): state[name].float().numpy(force=True) for name in state}
        self.head = "wte.weight" if model.config.tie_word_embeddings else "lm_head.weight"
        self.tensors: dict[str, np.ndarray] = {}

    def save(self, file: Path) -> None:
        """Write the graph with its weights; a `ValueError` where they are more than an ONNX file can hold."""
        model = parser.parse_model(self.text())
        model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in self.tensors.items())
        if model.ByteSize() > MOST_BYTES:
            raise ValueError(f"{file.name} would have {model.ByteSize():,} bytes, and {MOST_BYTES:,} are the limit.")
        file.write_bytes(model.SerializeToString())

    def text(self) -> str:
        config = self.config
        width = config.n_embd // config.n_head
        caches = [f"{layer}.{part}" for layer in range(config.n_layer) for part in ("key", "value")]
        past, present = (
            ", ".join(f'float[batch_size, {config.n_head}, {length}, {width}] "{kind}.{name}"' for name in caches)
            for kind, length in (("past_key_values", "past_length"), ("present", "total_length"))
        )
        return f"""
            <ir_version: 9, opset_import: ["": 20]>
            gpt2 (int64[batch_size, length] input_ids, int64[batch_size, total_length] attention_mask,
                  int64[batch_size, length] position_ids, {past})
                => (float[batch_size, length, {config.vocab_size}] logits, {present}) {{
            zero = Constant<value = int64 {{0}}>()
            one = Constant<value = int64 {{1}}>()
            axis_1 = Constant<value_ints = [1]>()
            axes_1_2 = Constant<value_ints = [1, 2]>()
            by_head = Constant<value_ints = [0, 0, {config.n_head}, {width}]>()
            joined = Constant<value_ints = [0, 0, -1]>()
            scale = Constant<value_float = {width**-0.5}>()
            {self.mask()}
            {self.embedding()}
            positions = Gather({self.keep("wpe.weight")}, position_ids)
            x_0 = Add(tokens, positions)
            {"".join(map(self.block, range(config.n_layer)))}
            {self.norm("ln_f", f"x_{config.n_layer}", "last")}
            {self.multiply("last", self.head, "logits", is_transposed=True)} }}"""

    def mask(self) -> str:
        """`bias` (B, 1, T, S): 0 where a query may look, a large negative number elsewhere."""
        return """
            mask_shape = Shape(attention_mask)
            ids_shape = Shape(input_ids)
            total = Gather(mask_shape, one)
            asked = Gather(ids_shape, one)
            past = Sub(total, asked)
            keys = Range(zero, total, one)
            queries_row = Range(past, total, one)
            queries = Unsqueeze(queries_row, axis_1)
            causal = LessOrEqual(keys, queries)
            kept = Cast<to = 9>(attention_mask)
            kept_keys = Unsqueeze(kept, axes_1_2)
            visible = And(causal, kept_keys)
            shown = Constant<value_float = 0.0>()
            hidden = Constant<value_float = -1000000000.0>()
            bias = Where(visible, shown, hidden)"""

    def embedding(self) -> str:
        """`tokens` (B, T, C). In 8 bits they come from the same bytes as the head's weights."""
        if not self.eight_bits:
            return f"tokens = Gather({self.keep('wte.weight')}, input_ids)"
        codes, scales = self.quantise("wte.weight", axis=1)
        return f"""
            codes = Gather({codes}, input_ids)
            numbers = Cast<to = 1>(codes)
            row_scales = Gather({scales}, input_ids)
            last_axis = Constant<value_ints = [-1]>()
            scales = Unsqueeze(row_scales, last_axis)
            tokens = Mul(numbers, scales)"""

    def block(self, n: int) -> str:
        heads = "".join(
            f"""
            {part}_rows_{n} = Reshape({part}_{n}, by_head)
            {part}_heads_{n} = Transpose<perm = [0, 2, 1, 3]>({part}_rows_{n})"""
            for part in ("query", "key", "value")
        )
        return f"""
            {self.norm(f"h.{n}.ln_1", f"x_{n}", f"normed_{n}")}
            {self.linear(f"normed_{n}", f"h.{n}.attn.c_attn", f"qkv_{n}")}
            query_{n}, key_{n}, value_{n} = Split<axis = -1, num_outputs = 3>(qkv_{n}){heads}
            "present.{n}.key" = Concat<axis = 2>("past_key_values.{n}.key", key_heads_{n})
            "present.{n}.value" = Concat<axis = 2>("past_key_values.{n}.value", value_heads_{n})
            scaled_{n} = Mul(query_heads_{n}, scale)
            turned_{n} = Transpose<perm = [0, 1, 3, 2]>("present.{n}.key")
            scores_{n} = MatMul(scaled_{n}, turned_{n})
            masked_{n} = Add(scores_{n}, bias)
            shares_{n} = Softmax<axis = -1>(masked_{n})
            found_heads_{n} = MatMul(shares_{n}, "present.{n}.value")
            found_rows_{n} = Transpose<perm = [0, 2, 1, 3]>(found_heads_{n})
            found_{n} = Reshape(found_rows_{n}, joined)
            {self.linear(f"found_{n}", f"h.{n}.attn.c_proj", f"attended_{n}")}
            y_{n} = Add(x_{n}, attended_{n})
            {self.norm(f"h.{n}.ln_2", f"y_{n}", f"normed_again_{n}")}
            {self.linear(f"normed_again_{n}", f"h.{n}.mlp.c_fc", f"up_{n}")}
            active_{n} = Gelu<approximate = "tanh">(up_{n})
            {self.linear(f"active_{n}", f"h.{n}.mlp.c_proj", f"down_{n}")}
            x_{n + 1} = Add(y_{n}, down_{n})"""

    def norm(self, name: str, x: str, to: str) -> str:
        scale, bias = self.keep(f"{name}.weight"), self.keep(f"{name}.bias")
        return f"{to} = LayerNormalization<epsilon = {self.config.layer_norm_epsilon:.10f}>({x}, {scale}, {bias})"

    def linear(self, x: str, name: str, to: str) -> str:
        product = self.multiply(x, f"{name}.weight", f"{to}_product", is_transposed=False)
        return f"{product}\n{to} = Add({to}_product, {self.keep(f'{name}.bias')})"

    def multiply(self, x: str, name: str, to: str, is_transposed: bool) -> str:
        """`x` times a weight of (in, out), or of (out, in) where it `is_transposed`."""
        codes, scales = self.quantise(name, axis=int(is_transposed)) if self.eight_bits else (self.keep(name), "")
        turned = f"{to}_turned = Transpose({codes})\n" if is_transposed else ""
        weight = f"{to}_turned" if is_transposed else codes
        if not self.eight_bits:
            return f"{turned}{to} = MatMul({x}, {weight})"
        return f"""{turned}
            {to}_x, {to}_x_scale, {to}_x_zero = DynamicQuantizeLinear({x})
            {to}_whole = MatMulInteger({to}_x, {weight}, {to}_x_zero)
            {to}_numbers = Cast<to = 1>({to}_whole)
            {to}_scale = Mul({to}_x_scale, {scales})
            {to} = Mul({to}_numbers, {to}_scale)"""

    def quantise(self, name: str, axis: int) -> tuple[str, str]:
        """The names of a weight's bytes, and of its scales: one for the numbers along this axis."""
        weight = self.weights[name]
        scales = np.maximum(np.abs(weight).max(axis=axis, keepdims=True) / MOST, np.finfo(np.float32).tiny)
        codes = np.rint(weight / scales).astype(np.int8)
        return self.keep(f"{name}.codes", codes), self.keep(f"{name}.scales", scales.squeeze(axis))

    def keep(self, name: str, tensor: np.ndarray | None = None) -> str:
        """Note a tensor of the graph, once; returns its name as text."""
        self.tensors[name] = np.ascontiguousarray(self.weights[name] if tensor is None else tensor)
        return f'"{name}"'
