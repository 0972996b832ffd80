"""GenS's language model in vLLM: frames are looked at here, and what was seen goes to vLLM as image embeddings.

``--sampler vllm:CHECKPOINT`` runs vLLM in this process, ``--sampler vllm:http://HOST:PORT/v1#CHECKPOINT``
asks a server (``vllm serve CHECKPOINT --enable-mm-embeds``). Either way the vision tower, the
preprocessing, the prompt and the tokenizer are hybrid's own, so that the features are those of the
same checkpoint under its own name: the feature store serves both, and neither pixels nor the tower
are needed in vLLM.

**No run of vLLM itself on a GPU was made.** What is sent was put through the Python code of vLLM 0.33 on
a CPU, up to its engine: it reads hybrid's own token ids, and the features bit for bit
(tests/gens/test_vllm_itself.py). Replies were compared, token for token, with a stand-in and with a
small HTTP server that run transformers on the embeddings they are given. Speed, memory and the
rounding of vLLM's kernels are unknown.

Two things differ from hybrid's own loop: with ``constrained`` a reply that meets the limit of tokens is
cut, where the own loop leads it to its end; and entries are not told of before a reply is finished.
"""
