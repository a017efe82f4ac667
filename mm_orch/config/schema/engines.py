"""Options of the inference engines, one section an engine."""

from __future__ import annotations

from typing import Literal

from mm_orch.config.schema.section import Section, option
from mm_orch.config.schema.values import (  # noqa: TC001 - pydantic reads them
    AtLeastOne,
    AtLeastZero,
    Dtype,
    FilePath,
    PositiveRatio,
    Texts,
)


class VllmSettings(Section):
    """vLLM, for NVIDIA and AMD GPUs."""

    enabled: bool = option("false: vLLM is passed over.", default=True)
    python: FilePath | None = option(
        "Interpreter of a virtual environment that has vLLM, where this one does not; null is"
        " this one.",
        default=None,
    )
    tensor_parallel_size: AtLeastOne = option("GPUs that share each layer.", default=1)
    pipeline_parallel_size: AtLeastOne = option(
        "GPUs, or groups of them, that share the depth.", default=1
    )
    dtype: Literal["auto", "fp16", "bf16", "fp32"] = option(
        "Number format of the weights; auto takes the model's own.", default="auto"
    )
    max_model_len: AtLeastOne | None = option(
        "Longest context in tokens; null takes the model's own.", default=None
    )
    gpu_memory_utilization: PositiveRatio = option(
        "Share of the GPU's memory that vLLM may take.", default=0.9
    )
    swap_space: AtLeastZero = option(
        "GiB of host memory for KV blocks that leave the GPU, where this vLLM has the option.",
        default=4,
    )


class DeepSpeedSettings(Section):
    """DeepSpeed inference."""

    enabled: bool = option("false: DeepSpeed is passed over.", default=True)
    python: FilePath | None = option(
        "Interpreter of a virtual environment that has DeepSpeed, where this one does not; null is"
        " this one.",
        default=None,
    )
    tensor_parallel: AtLeastOne = option(
        "Processes that share each layer, one a GPU, or one a core.", default=1
    )
    pipeline_parallel: AtLeastOne = option(
        "Devices that share the depth; DeepSpeed's inference engine refuses more than 1.", default=1
    )
    dtype: Literal["fp16", "bf16", "fp32"] = option(
        "Number format of the weights; on a CPU fp32 takes the place of fp16.",
        default="fp16",
    )
    replace_with_kernel_inject: bool = option(
        "Use DeepSpeed's own kernels where the device has them and the model allows it.",
        default=True,
    )


class OpenVinoSettings(Section):
    """OpenVINO, for Intel and AMD CPUs and Intel's GPUs and NPUs."""

    enabled: bool = option("false: OpenVINO is passed over.", default=True)
    python: FilePath | None = option(
        "Interpreter of a virtual environment that has OpenVINO GenAI, where this one does not;"
        " null is this one.",
        default=None,
    )
    device: Literal["CPU", "GPU", "NPU", "AUTO"] = option("OpenVINO's device.", default="AUTO")
    precision: Literal["auto", "fp32", "bf16", "int8", "int4"] = option(
        "Precision of weights and arithmetic.", default="auto"
    )


class OnnxSettings(Section):
    """ONNX Runtime."""

    enabled: bool = option("false: ONNX Runtime is passed over.", default=True)
    python: FilePath | None = option(
        "Interpreter of a virtual environment that has ONNX Runtime, where this one does not; null"
        " is this one.",
        default=None,
    )
    execution_providers: Texts = option(
        "Execution providers, the preferred one first; absent ones are skipped with a warning.",
        default=("CUDAExecutionProvider", "CPUExecutionProvider"),
    )
    optimization_level: Literal["none", "basic", "extended", "all"] = option(
        "How far ONNX Runtime rewrites the graph.", default="all"
    )
    enable_quantization: bool = option(
        "Quantise the weights to int8 when a model is exported, where the model's own dtype and"
        " quantization leave it open.",
        default=False,
    )


class PyTorchSettings(Section):
    """PyTorch, the engine that is always there."""

    dtype: Dtype = option(
        "Number format of the weights; auto takes the fastest that keeps the answers the same,"
        " measured once. int8 and int4 need a CPU with AVX512_BF16 and a C++ compiler.",
        default="auto",
    )
    compile: bool = option(
        "Compile with torch.compile: faster steps of models outside of the Llama family, for a"
        " first start that takes minutes and later ones that take longer too. Of that family only"
        " norm, activation and rotation are compiled, and nothing where the engine's own C++"
        " kernels run, as they do on most CPUs.",
        default=False,
    )
