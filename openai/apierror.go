package openai

import (
	"strconv"
	"strings"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/retry"
)

// maxErrorBytes is how much of an error's body is read.
const maxErrorBytes = 8 << 10

// An apiError is what a provider says went wrong: the codes, never the
// message, which may quote the request. The nil one says nothing.
type apiError struct {
	status int    // of the response that it came with; 0 if that was a 2xx
	code   string // error.code; a number as text
	kind   string // error.type
	inner  string // error.innererror.code, Azure's more exact one
}

// parseAPIError returns the error that a body or the data of an event tells
// of, nil if it tells of none. What stands before the point where data is cut
// off counts. These are the shapes:
//
//	{"error":{"code":"…","type":"…"}}                 OpenAI, and most others
//	{"error":{"code":"429","innererror":{"code":"…"}}} Azure
//	{"error":{"code":429,"metadata":{…}}}             OpenRouter, vLLM
//	{"error":"…","error_type":"…"}                    Ollama, TGI
//	{"object":"error","type":"…","code":400}          vLLM before 0.10.1, SGLang
//	{"type":"error","code":"…"}                       an event of the Responses API
//	{"type":"response.failed","response":{"error":{}}} another one
//	[{"error":{"code":429,"status":"…"}}]             Gemini
func parseAPIError(data []byte) *apiError {
	s := lookup{data: data}
	s.take('[')
	s.space()
	return parseErrorObject(s.data[s.at:], 1)
}

// parseErrorObject goes no deeper than one response within an event.
func parseErrorObject(data []byte, deeper int) *apiError {
	var outer, nested apiError
	var isError, hasNested bool
	var response []byte
	cutMembers(data, func(key, value []byte) {
		switch string(key) {
		case "error":
			switch value[0] {
			case '{':
				nested, isError, hasNested = apiError{}, true, true
				nested.read(value)
			case '"':
				isError = true
			}
		case "object", "type":
			isError = isError || text(value) == "error"
			outer.member(key, value)
		case "error_type":
			outer.kind = label(value)
		case "response":
			response = value
		default:
			outer.member(key, value)
		}
	})
	switch {
	case hasNested:
		return &nested
	case isError:
		if outer.kind == "error" {
			outer.kind = "" // says what the event is, not what went wrong
		}
		return &outer
	case response != nil && deeper > 0:
		return parseErrorObject(response, deeper-1)
	}
	return nil
}

func (e *apiError) read(object []byte) {
	cutMembers(object, e.member)
}

func (e *apiError) member(key, value []byte) {
	switch string(key) {
	case "code":
		e.code = label(value)
	case "type":
		e.kind = label(value)
	case "status":
		if value[0] == '"' && e.kind == "" {
			e.kind = label(value)
		}
	case "innererror":
		var inner apiError
		cutMembers(value, func(key, value []byte) {
			if string(key) == "code" {
				inner.code = label(value)
			}
		})
		e.inner = inner.code
	}
}

// cutMembers is members for data that may be cut off. The object or array that
// the cut goes through is visited as far as it goes; half a string or number
// is not.
func cutMembers(data []byte, visit func(key, value []byte)) {
	s := lookup{data: data}
	for more := s.open('{', '}'); more; more = s.more('}') {
		key, value := s.member()
		switch {
		case len(value) == 0:
			return
		case value[0] == '{', value[0] == '[':
		case s.bad, value[0] != '"' && s.at == len(data):
			return
		}
		visit(unquoted(key), value)
	}
}

// maxLabel bounds a code: what is longer is none.
const maxLabel = 64

// label returns a code from a JSON string or number. What has other characters
// than a code's is a sentence, and could quote anything: it is no label.
func label(value []byte) string {
	s := string(value[:min(len(value), maxLabel+1)])
	switch {
	case value[0] == '"':
		s = text(value)
	case s == "null":
		return ""
	}
	if len(s) > maxLabel {
		return ""
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '.', c == '-':
		default:
			return ""
		}
	}
	return s
}

// Error says which error it is, by its codes alone.
func (e *apiError) Error() string {
	var b strings.Builder
	b.WriteString("the provider reported an error")
	if e == nil {
		return b.String()
	}
	for _, part := range [...]struct{ name, value string }{{"code", e.code}, {"type", e.kind}, {"inner code", e.inner}} {
		if part.value != "" {
			b.WriteString(", " + part.name + " " + part.value)
		}
	}
	return b.String()
}

// ErrorType returns the value of the error.type attribute.
func (e *apiError) ErrorType() string {
	if e == nil || e.status == 0 {
		return fault.StreamError
	}
	return fault.StatusType(e.status)
}

// Codes that say that no repetition helps before somebody pays, raises a limit
// or a month is over. OpenAI documents them at
// https://developers.openai.com/api/docs/guides/error-codes: error.code is the
// exact one, error.type may be insufficient_quota with any of them.
var quotaCodes = map[string]bool{
	"insufficient_quota":         true,
	"credit_balance_exhausted":   true,
	"billing_hard_limit_reached": true,
	"billing_not_active":         true,
}

// quotaSuffixes match organization_…, project_… and whatever is added.
var quotaSuffixes = []string{"spend_limit_exceeded", "usage_limit_exceeded"}

// isQuota reports whether it says "do not repeat", whatever the status is.
func (e *apiError) isQuota() bool {
	return e != nil && (isQuotaCode(e.code) || isQuotaCode(e.kind) || isQuotaCode(e.inner))
}

func isQuotaCode(code string) bool {
	code = strings.ToLower(code)
	if quotaCodes[code] {
		return true
	}
	for _, suffix := range quotaSuffixes {
		if strings.HasSuffix(code, suffix) {
			return true
		}
	}
	return false
}

// Codes of errors that come in a 2xx or in a stream, where no status says what
// they are, in lower case. With a reason, another attempt may help; with
// retry.NotRetryable, it will fail the same way. A number is taken for a
// status; see statusReasons.
var answerCodes = map[string]retry.Reason{
	"server_error":          retry.ReasonServerError, // OpenAI
	"internal_error":        retry.ReasonServerError,
	"internal_server_error": retry.ReasonServerError,
	"internalservererror":   retry.ReasonServerError, // vLLM, Azure
	"internal":              retry.ReasonServerError, // Gemini
	"api_error":             retry.ReasonServerError, // Anthropic, Mistral

	"overloaded_error":          retry.ReasonOverloaded, // Anthropic
	"overloaded":                retry.ReasonOverloaded, // TGI
	"server_overloaded":         retry.ReasonOverloaded,
	"server_is_overloaded":      retry.ReasonOverloaded, // OpenAI, with a 503
	"engine_overloaded":         retry.ReasonOverloaded,
	"engine_overloaded_error":   retry.ReasonOverloaded, // Moonshot
	"provider_overloaded":       retry.ReasonOverloaded, // OpenRouter
	"service_unavailable":       retry.ReasonOverloaded,
	"service_unavailable_error": retry.ReasonOverloaded,
	"serviceunavailable":        retry.ReasonOverloaded,
	"serviceunavailableerror":   retry.ReasonOverloaded,
	"unavailable":               retry.ReasonOverloaded, // Gemini
	"flex_unavailable":          retry.ReasonOverloaded,
	"resource_unavailable":      retry.ReasonOverloaded,
	"nocapacity":                retry.ReasonOverloaded, // Azure

	"rate_limit_exceeded": retry.ReasonRateLimited, // OpenAI
	"rate_limit_error":    retry.ReasonRateLimited,
	"slow_down":           retry.ReasonRateLimited, // OpenAI, with a 429
	"requests":            retry.ReasonRateLimited, // OpenAI's type: of what the limit is
	"tokens":              retry.ReasonRateLimited,
	"rate_limited":        retry.ReasonRateLimited,
	"ratelimitreached":    retry.ReasonRateLimited, // Azure
	"ratelimiterror":      retry.ReasonRateLimited,
	"too_many_requests":   retry.ReasonRateLimited,
	"toomanyrequests":     retry.ReasonRateLimited,
	"resource_exhausted":  retry.ReasonRateLimited, // Gemini

	"timeout":              retry.ReasonTimeout,
	"timeout_error":        retry.ReasonTimeout, // Anthropic
	"timeouterror":         retry.ReasonTimeout,
	"request_timeout":      retry.ReasonTimeout,
	"requesttimeout":       retry.ReasonTimeout,
	"gateway_timeout":      retry.ReasonTimeout,
	"gatewaytimeout":       retry.ReasonTimeout, // vLLM
	"deadline_exceeded":    retry.ReasonTimeout, // Gemini
	"vector_store_timeout": retry.ReasonTimeout, // OpenAI's Responses API

	"content_filter":              retry.NotRetryable,
	"content_policy_violation":    retry.NotRetryable,
	"moderation_blocked":          retry.NotRetryable,
	"bio_policy":                  retry.NotRetryable,
	"cyber_policy":                retry.NotRetryable,
	"data_residency_mismatch":     retry.NotRetryable,
	"responsibleaipolicy":         retry.NotRetryable,
	"context_length_exceeded":     retry.NotRetryable,
	"string_above_max_length":     retry.NotRetryable,
	"array_above_max_length":      retry.NotRetryable,
	"integer_above_max_value":     retry.NotRetryable,
	"max_tokens_exceeded":         retry.NotRetryable, // OpenRouter
	"token_limit_exceeded":        retry.NotRetryable,
	"string_too_long":             retry.NotRetryable,
	"request_too_large":           retry.NotRetryable, // Anthropic
	"image_too_large":             retry.NotRetryable,
	"image_too_small":             retry.NotRetryable,
	"image_parse_error":           retry.NotRetryable,
	"image_file_too_large":        retry.NotRetryable,
	"image_file_not_found":        retry.NotRetryable,
	"empty_image_file":            retry.NotRetryable,
	"failed_to_download_image":    retry.NotRetryable,
	"badrequesterror":             retry.NotRetryable, // vLLM
	"badrequest":                  retry.NotRetryable,
	"bad_request":                 retry.NotRetryable,
	"validation":                  retry.NotRetryable, // TGI
	"validation_error":            retry.NotRetryable,
	"authentication_error":        retry.NotRetryable,
	"authenticationerror":         retry.NotRetryable,
	"unauthenticated":             retry.NotRetryable,
	"unauthorized":                retry.NotRetryable,
	"permission_error":            retry.NotRetryable,
	"permission_denied":           retry.NotRetryable,
	"insufficient_permissions":    retry.NotRetryable,
	"billing_error":               retry.NotRetryable, // Anthropic
	"insufficient_balance":        retry.NotRetryable,
	"failed_precondition":         retry.NotRetryable,
	"account_deactivated":         retry.NotRetryable,
	"not_found_error":             retry.NotRetryable,
	"notfounderror":               retry.NotRetryable,
	"not_found":                   retry.NotRetryable,
	"model_not_found":             retry.NotRetryable,
	"deploymentnotfound":          retry.NotRetryable, // Azure
	"previous_response_not_found": retry.NotRetryable,
}

// callersMistakes are how codes of wrong requests begin or end.
var callersMistakes = struct{ prefixes, suffixes []string }{
	prefixes: []string{"invalid_", "invalid-", "unsupported_", "missing_", "unknown_parameter"},
	suffixes: []string{"_policy_violation", "_unsupported", "_not_supported"},
}

// reason says whether an error in a 2xx may be mended by another attempt, and
// why it is made. The exact code goes before the type. known is false if
// nothing in it is in the tables.
func (e *apiError) reason() (reason retry.Reason, known bool) {
	if e == nil {
		return retry.NotRetryable, false
	}
	if e.isQuota() {
		return retry.NotRetryable, true
	}
	for _, code := range [...]string{e.inner, e.code, e.kind} {
		if reason, known := codeReason(code); known {
			return reason, true
		}
	}
	return retry.NotRetryable, false
}

func codeReason(code string) (reason retry.Reason, known bool) {
	if code == "" {
		return retry.NotRetryable, false
	}
	if status, err := strconv.Atoi(code); err == nil && status >= 400 && status < 600 {
		reason, _ := statusReason(status)
		return reason, true
	}
	code = strings.ToLower(code)
	if reason, known := answerCodes[code]; known {
		return reason, true
	}
	for _, prefix := range callersMistakes.prefixes {
		if strings.HasPrefix(code, prefix) {
			return retry.NotRetryable, true
		}
	}
	for _, suffix := range callersMistakes.suffixes {
		if strings.HasSuffix(code, suffix) {
			return retry.NotRetryable, true
		}
	}
	return retry.NotRetryable, false
}
