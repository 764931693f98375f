"""Every name and enum value that rootspan writes on a span, once.

The names follow the OpenTelemetry and GenAI semantic conventions, the handful of OpenInference keys that Phoenix needs,
a few keys of our own under `rootspan.`, and the vendors' keys that `extras` switches on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Final

# OTLP numbers
INTERNAL: Final = 1
SERVER: Final = 2
CLIENT: Final = 3
STATUS_UNSET: Final = 0
STATUS_ERROR: Final = 2

# GenAI: operation, model, provider, agent
GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
GEN_AI_REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
GEN_AI_REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
GEN_AI_REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
GEN_AI_REQUEST_SEED: Final = "gen_ai.request.seed"
GEN_AI_REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
GEN_AI_REQUEST_STREAM: Final = "gen_ai.request.stream"
GEN_AI_REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
GEN_AI_REQUEST_TOP_K: Final = "gen_ai.request.top_k"
GEN_AI_REQUEST_TOP_P: Final = "gen_ai.request.top_p"
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"  # seconds
GEN_AI_RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_CONVERSATION_ID: Final = "gen_ai.conversation.id"
GEN_AI_AGENT_NAME: Final = "gen_ai.agent.name"

# GenAI: content
GEN_AI_INPUT_MESSAGES: Final = "gen_ai.input.messages"
GEN_AI_OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
GEN_AI_SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
GEN_AI_RETRIEVAL_DOCUMENTS: Final = "gen_ai.retrieval.documents"
GEN_AI_RETRIEVAL_QUERY_TEXT: Final = "gen_ai.retrieval.query.text"

# GenAI: usage and cost
GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
GEN_AI_USAGE_COST: Final = "gen_ai.usage.cost"

# GenAI: tools and evaluation
GEN_AI_TOOL_NAME: Final = "gen_ai.tool.name"
GEN_AI_TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
GEN_AI_TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
GEN_AI_TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
GEN_AI_TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
GEN_AI_TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
GEN_AI_EVALUATION_NAME: Final = "gen_ai.evaluation.name"
GEN_AI_EVALUATION_SCORE_VALUE: Final = "gen_ai.evaluation.score.value"
GEN_AI_EVALUATION_SCORE_LABEL: Final = "gen_ai.evaluation.score.label"
GEN_AI_EVALUATION_EXPLANATION: Final = "gen_ai.evaluation.explanation"
GEN_AI_EVALUATION_RESULT: Final = "gen_ai.evaluation.result"  # a span name

# General OpenTelemetry
SESSION_ID: Final = "session.id"
USER_ID: Final = "user.id"
ERROR_TYPE: Final = "error.type"
ERROR_TYPE_OTHER: Final = "_OTHER"
EXCEPTION: Final = "exception"  # an event name
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
CLIENT_ADDRESS: Final = "client.address"
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_REQUEST_METHOD_ORIGINAL: Final = "http.request.method_original"
HTTP_ROUTE: Final = "http.route"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
HTTP_REQUEST_HEADER: Final = "http.request.header"  # a prefix
HTTP_RESPONSE_HEADER: Final = "http.response.header"  # a prefix
URL_SCHEME: Final = "url.scheme"
URL_QUERY: Final = "url.query"
URL_FULL: Final = "url.full"

# OpenInference
OPENINFERENCE_SPAN_KIND: Final = "openinference.span.kind"
INPUT_VALUE: Final = "input.value"
INPUT_MIME_TYPE: Final = "input.mime_type"
OUTPUT_VALUE: Final = "output.value"
OUTPUT_MIME_TYPE: Final = "output.mime_type"
AGENT_NAME: Final = "agent.name"
LLM_COST_TOTAL: Final = "llm.cost.total"
METADATA: Final = "metadata"
TAG_TAGS: Final = "tag.tags"
TEXT_PLAIN: Final = "text/plain"
APPLICATION_JSON: Final = "application/json"

# rootspan's own
ROOTSPAN: Final = "rootspan"  # the prefix that is ours
ROOTSPAN_EVENT_NAME: Final = "rootspan.event.name"
ROOTSPAN_OUTCOME: Final = "rootspan.outcome"
ROOTSPAN_DECISION_REASONING: Final = "rootspan.decision.reasoning"
ROOTSPAN_DECISION_ALTERNATIVES: Final = "rootspan.decision.alternatives"
ROOTSPAN_DECISION_CONFIDENCE: Final = "rootspan.decision.confidence"
ROOTSPAN_SESSION_NAME: Final = "rootspan.session.name"
ROOTSPAN_SESSION_INPUT_TOKENS: Final = "rootspan.session.input_tokens"
ROOTSPAN_SESSION_OUTPUT_TOKENS: Final = "rootspan.session.output_tokens"
ROOTSPAN_SESSION_CACHE_READ_TOKENS: Final = "rootspan.session.cache_read_tokens"
ROOTSPAN_SESSION_CACHE_CREATION_TOKENS: Final = "rootspan.session.cache_creation_tokens"
ROOTSPAN_SESSION_REASONING_TOKENS: Final = "rootspan.session.reasoning_tokens"
ROOTSPAN_SESSION_COST: Final = "rootspan.session.cost"
ROOTSPAN_METRIC: Final = "rootspan.metric"  # a prefix
ROOTSPAN_TARGET_SPAN_ID: Final = "rootspan.target.span_id"
ROOTSPAN_TARGET_TRACE_ID: Final = "rootspan.target.trace_id"
ROOTSPAN_DROPPED_FIELDS: Final = "rootspan.dropped_fields"
ROOTSPAN_RUN_ID: Final = "rootspan.run.id"  # the framework's own
ROOTSPAN_RUN_ATTEMPT: Final = "rootspan.run.attempt"
ROOTSPAN_EVENT_DATA: Final = "rootspan.event.data"
ROOTSPAN_RESPONSE_CACHED: Final = "rootspan.response.cached"
ROOTSPAN_USAGE_INPUT_AUDIO_TOKENS: Final = "rootspan.usage.input_audio_tokens"
ROOTSPAN_USAGE_OUTPUT_AUDIO_TOKENS: Final = "rootspan.usage.output_audio_tokens"
ROOTSPAN_INTERRUPT_PAYLOAD: Final = "rootspan.interrupt.payload"
ROOTSPAN_INTERRUPT_ANSWER: Final = "rootspan.interrupt.answer"
ROOTSPAN_INTERRUPT_WAITED: Final = "rootspan.interrupt.waited"  # seconds
LANGGRAPH_NODE: Final = "rootspan.langgraph.node"
LANGGRAPH_STEP: Final = "rootspan.langgraph.step"
LANGGRAPH_THREAD_ID: Final = "rootspan.langgraph.thread_id"
LANGGRAPH_CHECKPOINT_ID: Final = "rootspan.langgraph.checkpoint_id"
LANGGRAPH_CHECKPOINT_NS: Final = "rootspan.langgraph.checkpoint_ns"
STREAM_CHUNKS: Final = "rootspan.stream.chunks"
STREAM_BYTES: Final = "rootspan.stream.bytes"
STREAM_TIME_TO_FIRST_BYTE: Final = "rootspan.stream.time_to_first_byte"  # seconds
STREAM_TIME_TO_LAST_BYTE: Final = "rootspan.stream.time_to_last_byte"  # seconds; the span's end unless it was cut
STREAM_LONGEST_STALL: Final = "rootspan.stream.longest_stall"  # seconds
WEBSOCKET_CLOSE_CODE: Final = "rootspan.websocket.close_code"
WEBSOCKET_RECEIVED: Final = "rootspan.websocket.received"  # messages
WEBSOCKET_SENT: Final = "rootspan.websocket.sent"  # messages
WEBSOCKET_BYTES_RECEIVED: Final = "rootspan.websocket.bytes_received"
WEBSOCKET_BYTES_SENT: Final = "rootspan.websocket.bytes_sent"

# Vendors' own, written only when `extras` names the vendor
MLFLOW_LLM_COST: Final = "mlflow.llm.cost"
MLFLOW_TRACE_TAG: Final = "mlflow.traceTag"  # a prefix
LANGFUSE_TRACE_METADATA: Final = "langfuse.trace.metadata"  # a prefix
LANGSMITH_SPAN_TAGS: Final = "langsmith.span.tags"
TRACELOOP_PROPERTIES: Final = "traceloop.association.properties"  # a prefix
GEN_AI_SYSTEM: Final = "gen_ai.system"
GEN_AI_USER_ID: Final = "gen_ai.user.id"


class Operation:
    """Values of `gen_ai.operation.name`; a value of one's own gives kind `unknown` in Phoenix."""

    CHAT: Final = "chat"
    GENERATE_CONTENT: Final = "generate_content"
    TEXT_COMPLETION: Final = "text_completion"
    EMBEDDINGS: Final = "embeddings"
    RETRIEVAL: Final = "retrieval"
    CREATE_AGENT: Final = "create_agent"
    INVOKE_AGENT: Final = "invoke_agent"
    EXECUTE_TOOL: Final = "execute_tool"
    INVOKE_WORKFLOW: Final = "invoke_workflow"


class SpanKind:
    """Values of `openinference.span.kind`."""

    LLM: Final = "LLM"
    AGENT: Final = "AGENT"
    TOOL: Final = "TOOL"
    CHAIN: Final = "CHAIN"
    EMBEDDING: Final = "EMBEDDING"
    RETRIEVER: Final = "RETRIEVER"


SPAN_KINDS: Final = {
    Operation.CHAT: SpanKind.LLM,
    Operation.GENERATE_CONTENT: SpanKind.LLM,
    Operation.TEXT_COMPLETION: SpanKind.LLM,
    Operation.EMBEDDINGS: SpanKind.EMBEDDING,
    Operation.RETRIEVAL: SpanKind.RETRIEVER,
    Operation.CREATE_AGENT: SpanKind.AGENT,
    Operation.INVOKE_AGENT: SpanKind.AGENT,
    Operation.EXECUTE_TOOL: SpanKind.TOOL,
    Operation.INVOKE_WORKFLOW: SpanKind.CHAIN,
}
"""The OpenInference kind of each known operation."""

PROVIDERS: Final = frozenset(
    {
        "anthropic",
        "aws.bedrock",
        "azure.ai.inference",
        "azure.ai.openai",
        "cohere",
        "deepseek",
        "gcp.gemini",
        "gcp.gen_ai",
        "gcp.vertex_ai",
        "groq",
        "ibm.watsonx.ai",
        "mistral_ai",
        "openai",
        "perplexity",
        "x_ai",
    }
)
"""The published values of `gen_ai.provider.name`."""

# Keys are folded: lower case, every separator an underscore. `google` alone is the Gemini API: that is what its own SDK
# calls, and Vertex AI is always named.
_PROVIDER_ALIASES: Final = {
    "amazon_bedrock": "aws.bedrock",
    "aws": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "azureopenai": "azure.ai.openai",
    "az_ai_openai": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "azure_inference": "azure.ai.inference",
    "az_ai_inference": "azure.ai.inference",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "google_ai": "gcp.gemini",
    "google_gemini": "gcp.gemini",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "google_vertex_ai": "gcp.vertex_ai",
    "google_anthropic_vertex": "gcp.vertex_ai",
    "vertex": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "ibm": "ibm.watsonx.ai",
    "ibm_watsonx": "ibm.watsonx.ai",
    "watsonx": "ibm.watsonx.ai",
    "watsonx_ai": "ibm.watsonx.ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
    "grok": "x_ai",
    "deep_seek": "deepseek",
    "perplexity_ai": "perplexity",
    "pplx": "perplexity",
}
_FOLD: Final = str.maketrans(dict.fromkeys(".-/: ", "_"))
_FOLDED: Final = {name.translate(_FOLD): name for name in PROVIDERS} | _PROVIDER_ALIASES


@lru_cache(maxsize=256)
def normalise_provider(name: str) -> str:
    """Return the `gen_ai.provider.name` value for a provider's everyday name.

    Args:
        name: what the caller wrote, such as `aws_bedrock`, `Azure OpenAI` or `google`.

    Returns:
        The value of the published enum when one is known, else the name in lower case.

    Example:
        >>> normalise_provider("aws_bedrock")
        'aws.bedrock'
    """
    lowered = name.strip().lower()
    return _FOLDED.get(lowered.translate(_FOLD), lowered)


CONTENT: Final = frozenset(
    {
        INPUT_VALUE,
        INPUT_MIME_TYPE,
        OUTPUT_VALUE,
        OUTPUT_MIME_TYPE,
        GEN_AI_INPUT_MESSAGES,
        GEN_AI_OUTPUT_MESSAGES,
        GEN_AI_SYSTEM_INSTRUCTIONS,
        GEN_AI_TOOL_CALL_ARGUMENTS,
        GEN_AI_TOOL_CALL_RESULT,
        GEN_AI_TOOL_DEFINITIONS,
        GEN_AI_RETRIEVAL_DOCUMENTS,
        GEN_AI_RETRIEVAL_QUERY_TEXT,
        GEN_AI_EVALUATION_EXPLANATION,
        ROOTSPAN_DECISION_REASONING,
        ROOTSPAN_DECISION_ALTERNATIVES,
        ROOTSPAN_SESSION_NAME,
        ROOTSPAN_EVENT_DATA,
        ROOTSPAN_INTERRUPT_PAYLOAD,
        ROOTSPAN_INTERRUPT_ANSWER,
        EXCEPTION_MESSAGE,
        EXCEPTION_STACKTRACE,
        URL_QUERY,
        URL_FULL,
    }
)
"""The attributes that `capture_content=False` switches off."""

PREFIXES: Final = frozenset(
    {
        ROOTSPAN,
        ROOTSPAN_METRIC,
        HTTP_REQUEST_HEADER,
        HTTP_RESPONSE_HEADER,
        MLFLOW_TRACE_TAG,
        LANGFUSE_TRACE_METADATA,
        TRACELOOP_PROPERTIES,
    }
)
"""Names that never stand alone: what follows the dot is the caller's."""

_OTHER: Final = frozenset({EXCEPTION, GEN_AI_EVALUATION_RESULT, TEXT_PLAIN, APPLICATION_JSON, ERROR_TYPE_OTHER})

NAMES: Final = frozenset(
    value
    for name, value in list(globals().items())
    if name.isupper() and not name.startswith("_") and type(value) is str
) - (_OTHER | PREFIXES)
"""Every attribute name that is written in full."""

_LONGEST_HEAD: Final = 256  # characters: a text that is used as a name may hold any number of dots


def heads(name: str) -> Iterator[str]:
    """Yield every dotted prefix of a name: `user` and `user.id` of `user.id.hash`."""
    end = name.find(".", 1, _LONGEST_HEAD)
    while end > 0:
        yield name[:end]
        end = name.find(".", end + 1, _LONGEST_HEAD)


def near(names: Iterable[str]) -> Callable[[str], bool]:
    """Return what tells whether a key equals, prefixes or extends (at a dot) one of these names.

    Backends that nest attributes at their dots lose one of the two.
    """
    known = frozenset(names)
    taken = known.union(head for name in known for head in heads(name))
    return lambda key: key in taken or not known.isdisjoint(heads(key))


_is_ours: Final = near(NAMES | PREFIXES)


@lru_cache(maxsize=4096)
def is_free(key: str) -> bool:
    """Return whether a property may stand under its own key beside the names that we write.

    Args:
        key: the property's key.

    Returns:
        False if the key is empty, or equals, prefixes or extends (at a dot) one of our names.

    Example:
        >>> is_free("plan"), is_free("user"), is_free("user.id.hash")
        (True, False, False)
    """
    return bool(key) and not _is_ours(key)
